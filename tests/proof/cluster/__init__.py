"""Three nodes on one PostgreSQL, joined by NATS, under faults: `python -m tests.proof.cluster`."""
