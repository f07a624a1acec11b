"""How a client reaches a server. `base` is the port; each sibling is one transport."""
