"""The ways to a server: ASGI (WebSocket and HTTP on one port), uvicorn's protocols with bounds, and one process's memory."""
