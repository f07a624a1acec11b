"""What a message may cost: a little above what it costs today. Whoever makes it cheaper lowers the ceiling.

For one durable message of a pair: stored, acknowledged, pushed, and confirmed with 15 others of the same turn; 20 pairs
that send 16 messages each in a turn. A ceiling is at most 10 % above the figure it was set by, so that 15 % more fail.
"""

from __future__ import annotations

PAIRS = {
    "statements": 0.23,  # 0.213: a turn of 320 messages and 20 confirmations takes 68
    "transactions": 0.0068,  # 0.0063: one for the messages of a turn, and one for its confirmations
    "encodes": 2.2,  # 2.06: MSG_ACK, NEW_MSG, and a RECEIPT for 16 of them
    "socket writes": 0.21,  # 0.194: one for each connection and turn, and receipts
    "kept blocks": 0.1,  # 0: nothing stays in memory of a message that is done
}

INSTRUCTIONS = {
    "pairs": 164_000,  # 152,000
    "group": 23_500,  # 21,400 to 21,900
    "return": 4_450_000,  # 4,056,000 to 4,215,000
}
"""Of a message of the pairs above, of a delivery in a group of 50, and of one of 40 clients that come back and fetch 21
entries; user space alone, with CPython 3.11."""
