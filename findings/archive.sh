#!/bin/sh
# obstore 0.12.1: LocalStore.put returns before the object is on the disk. CPython's sqlite3: PRAGMA incremental_vacuum(N) frees one page, whatever N is.
#
# Expected: what a put of an object store has answered outlives a power cut, as with the stores behind a network, or the
# documentation says that it does not. A PRAGMA that is told to free N pages frees N, as in the shell of SQLite.
# Seen: LocalStore writes to NAME#1 and renames it; there is no fsync of the file or of its folder. cursor.execute takes
# one step of a statement whose rows have no columns, and fetchall() takes none; a step of incremental_vacuum frees a page.
set -eu
folder=$(mktemp -d)
trap 'rm -rf "$folder"' EXIT
python3 -m venv "$folder/venv"
"$folder/venv/bin/pip" install --quiet --disable-pip-version-check obstore==0.12.1
cat > "$folder/put.py" <<'PYTHON'
import sys

import obstore
from obstore.store import LocalStore

obstore.put(LocalStore(sys.argv[1]), "object", b"x" * 100_000)
PYTHON
mkdir "$folder/objects"
if command -v strace > /dev/null; then
    strace -f -o "$folder/calls" -e trace=fsync,fdatasync,sync_file_range,rename,renameat,renameat2 \
        "$folder/venv/bin/python" "$folder/put.py" "$folder/objects"
    renames=$(grep -c 'rename.*object#1.*object' "$folder/calls")
    syncs=$(grep -c 'sync' "$folder/calls" || true)
    echo "obstore 0.12.1: $renames rename, $syncs fsync"
    test "$renames" = 1 && test "$syncs" = 0
else
    echo "obstore: strace is not here, so its system calls cannot be shown"
fi
python3 - "$folder/chat.db" <<'PYTHON'
import platform
import sqlite3
import sys

connection = sqlite3.connect(sys.argv[1], isolation_level=None)
connection.execute("PRAGMA auto_vacuum = INCREMENTAL")
connection.execute("CREATE TABLE t (a BLOB)")
connection.executemany("INSERT INTO t VALUES (?)", [(b"x" * 3_000,)] * 100)
connection.execute("DELETE FROM t")


def free():
    return connection.execute("PRAGMA freelist_count").fetchone()[0]


before = free()
connection.execute("PRAGMA incremental_vacuum(50)").fetchall()
print(f"CPython {platform.python_version()}, SQLite {sqlite3.sqlite_version}: {before - free()} of 50 pages were freed")
assert before - free() == 1, "it frees what it is told to by now"
PYTHON
