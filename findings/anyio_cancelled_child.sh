#!/bin/sh
# anyio 4.16.0, asyncio backend: a child that is cancelled with its task group is not freed when the group has ended.
#
# Expected: once `async with create_task_group()` is left, nothing holds the local variables of its children; version
# 4.7.0 removed the cycles of a group's exceptions (agronholm/anyio pull request 806).
# Seen: the CancelledError of a child stays in a cycle with a frame of the group's done callback, and holds the child's
# frames with all their variables until the garbage collector runs. A server that ends a connection by cancelling a child
# keeps the whole connection that long: minutes or hours where collections are rare. A child that is cancelled in a scope
# of its own is freed at once.
set -eu
folder=$(mktemp -d)
trap 'rm -rf "$folder"' EXIT
python3 -m venv "$folder/venv"
"$folder/venv/bin/pip" install --quiet --disable-pip-version-check anyio==4.16.0
"$folder/venv/bin/python" - <<'PYTHON'
import gc
import platform
import weakref
from importlib.metadata import version

import anyio


class Connection:
    """Stands for what a task holds."""


async def child(seen, scope):
    connection = Connection()
    seen.append(weakref.ref(connection))
    with scope:
        await anyio.sleep_forever()


async def freed_at_once(of_its_own):
    seen, scope = [], anyio.CancelScope()
    async with anyio.create_task_group() as tasks:
        tasks.start_soon(child, seen, scope)
        while not seen:
            await anyio.sleep(0)
        await anyio.sleep(0)
        (scope if of_its_own else tasks.cancel_scope).cancel()
    await anyio.sleep(0)
    freed = seen[0]() is None
    gc.collect()
    assert seen[0]() is None
    return freed


gc.disable()
print("Python", platform.python_version(), "anyio", version("anyio"))
with_group, in_own_scope = anyio.run(freed_at_once, False), anyio.run(freed_at_once, True)
print("cancelled with the group: freed at once", with_group)
print("cancelled in a scope of its own: freed at once", in_own_scope)
assert (with_group, in_own_scope) == (False, True), "this has changed"
PYTHON
