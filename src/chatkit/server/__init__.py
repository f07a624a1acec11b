"""The server engine: what a host embeds. `server` holds the parts, `engine` the verbs of users, `host` those of hosts."""
