"""The wire contract, held against a real server process by bare websockets, httpx and PyJWT.

Nothing here imports chatkit (`test_purity.py` holds that): what passes is what a client in any language may rely on.
"""
