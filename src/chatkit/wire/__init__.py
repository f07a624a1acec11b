"""What travels between client and server. Pure: bytes in, values out, and back."""
