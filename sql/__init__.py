"""The contract of both programs: the schema's migrations and functions, and typed calls on them."""
