"""Where a client keeps what must outlive its process: the port, and its two stores."""
