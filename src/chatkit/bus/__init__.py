"""What nodes tell each other: lossy by contract. The port is in `base`; each adapter is a module of its own."""
