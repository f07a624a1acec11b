"""Uploaded files: links to them, their bytes on the way in and out, and their collection."""
