#!/bin/sh
# SQLAlchemy 2.1.9, asyncio: looking whether an AsyncConnection has an attribute raises.
#
# Expected: `hasattr(connection, "connection")` and `getattr(connection, "connection", None)` answer: libraries tell by such
# looks what kind of connection they were given (asyncpg's pool proxy, a session, a driver's connection).
# Seen: AsyncConnection has a property of this name that raises InvalidRequestError, which is no AttributeError, so both
# looks raise, and with them code that only wanted to know. The type has to be looked at instead.
set -eu
folder=$(mktemp -d)
trap 'rm -rf "$folder"' EXIT
python3 -m venv "$folder/venv"
"$folder/venv/bin/pip" install --quiet --disable-pip-version-check "sqlalchemy[asyncio]==2.1.9" aiosqlite==0.22.1
"$folder/venv/bin/python" - <<'PYTHON'
import asyncio
from importlib.metadata import version

from sqlalchemy.ext.asyncio import create_async_engine


async def main():
    engine = create_async_engine("sqlite+aiosqlite://")
    async with engine.connect() as connection:
        seen = {}
        for name, look in [
            ("hasattr", lambda: hasattr(connection, "connection")),
            ("getattr with a default", lambda: getattr(connection, "connection", None)),
            ("hasattr of the type", lambda: hasattr(type(connection), "connection")),
        ]:
            try:
                seen[name] = repr(look())
            except Exception as error:
                seen[name] = f"raises {type(error).__name__}"
    await engine.dispose()
    print("SQLAlchemy", version("sqlalchemy"))
    for name, what in seen.items():
        print(f"  {name}: {what}")
    assert list(seen.values()) == ["raises InvalidRequestError"] * 2 + ["True"], "this has changed"


asyncio.run(main())
PYTHON
