"""The store on PostgreSQL, for several nodes on one log (extra `postgres`)."""

from .store import PostgresStore as PostgresStore
