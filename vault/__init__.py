"""The public side: a signed webhook in, an audit row and a job out, and the jobs and learnings API."""
