"""The ways to a server: ASGI (WebSocket and HTTP on one port), bounds for uvicorn, and the memory of one process."""
