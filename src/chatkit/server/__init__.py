"""The server engine: what a host embeds. `server` is the facade, `engine` holds the verbs."""
