"""A soak: one real server under a steady load for hours, with clients that come and go, and faults; nothing may grow.

`python -m tests.proof.soak --hours 1`. `server` is the server's process, `clients` those of the clients, `figures` says
what its samples come to.
"""
