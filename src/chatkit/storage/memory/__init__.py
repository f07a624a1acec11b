"""The store in plain Python: `MemoryStore`."""

from .store import MemoryStore as MemoryStore
