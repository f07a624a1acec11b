#!/bin/sh
# msgspec 0.22.0 and 0.23.0: what decoding bad UTF-8 raises depends on the version.
#
# Expected: one error for text that is no UTF-8, a subclass of msgspec.MsgspecError as for everything else that cannot be
# decoded, so that `except msgspec.MsgspecError` is enough around a decoder that is fed by strangers.
# Seen: 0.22.0 raises the built-in UnicodeDecodeError, which is no MsgspecError; 0.23.0 raises msgspec.DecodeError with the
# words "Invalid UTF-8 encoded string". Code that tells the peer what was wrong has to know both.
set -eu
folder=$(mktemp -d)
trap 'rm -rf "$folder"' EXIT
python3 -m venv "$folder/venv"
for version in 0.22.0 0.23.0; do
    "$folder/venv/bin/pip" install --quiet --disable-pip-version-check "msgspec==$version"
    "$folder/venv/bin/python" - <<'PYTHON'
from importlib.metadata import version

import msgspec

seen = {}
for name, data, kind in [
    ("JSON, str", b'"\xff"', str),
    ("JSON, any", b'"\xff"', object),
    ("MessagePack, str", b"\xa1\xff", str),
]:
    decode = msgspec.msgpack.decode if name.startswith("Message") else msgspec.json.decode
    try:
        decode(data, type=kind) if kind is not object else decode(data)
    except Exception as error:
        seen[name] = (type(error).__name__, isinstance(error, msgspec.MsgspecError), str(error)[:40])
print("msgspec", version("msgspec"))
for name, what in seen.items():
    print(f"  {name}: {what}")
is_msgspec = {what[1] for what in seen.values()}
print("  always an error of msgspec's own:", is_msgspec == {True})
assert is_msgspec == {version("msgspec") == "0.23.0"}, "this has changed"
PYTHON
done
