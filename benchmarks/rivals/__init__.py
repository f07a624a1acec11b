"""Chat servers that people use today, as their own users write them, and what a machine allows at best.

Each says hello over WebSocket, stores a message durably before it acknowledges it, and sends it to whoever is online.
Nobody confirms what came, and nobody numbers anything: what chatkit does more is in its figures and not in theirs.
"""
