"""This version and the former one: each one's client against the other one's server, and each one's frames."""
