"""What a server, a worker and a client say of their work: the port, and its adapters."""
