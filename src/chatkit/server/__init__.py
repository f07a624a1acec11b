"""The server engine, to embed. `server` holds the parts, `engine` the verbs of users, `host` those of hosts."""
