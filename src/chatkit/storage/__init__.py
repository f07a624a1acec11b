"""Where the log lives. `base` is the port; each sibling is one implementation of it."""
