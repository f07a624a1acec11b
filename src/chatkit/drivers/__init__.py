"""Thin seams over libraries that do I/O, shared by the server's storage and the client's local store."""
