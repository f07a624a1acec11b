"""The store on one SQLite file: `SqliteStore`."""

from .store import SqliteStore as SqliteStore
