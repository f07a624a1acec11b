"""Work for delivery workers: at least once. The port is in `base`; each adapter is a module of its own."""
