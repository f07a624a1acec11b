"""Telling devices that are not connected that there is news. The port is in `base`; each provider is a module."""
