"""The side of the Mac: claim a job, deliver it to the OpenClaw gateway on loopback, complete it."""
