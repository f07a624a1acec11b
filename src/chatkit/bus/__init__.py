"""Messages between nodes: lossy by contract. The port is in `base`; each adapter is a module of its own."""
