"""Roads to a server: ASGI (WebSocket and HTTP on one port), and the memory network for one process."""
