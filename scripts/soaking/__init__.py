"""A soak: mixed load at a fixed rate for minutes, and whether the server is after it as it was before."""
