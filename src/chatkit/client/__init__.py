"""The client SDK: one connection that heals itself, one local store, and typed events."""
