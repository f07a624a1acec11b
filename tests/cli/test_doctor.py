"""Each check of `chatkit doctor` says that all is well where it is, and bites where it is not."""

from __future__ import annotations

import json
import os
import sqlite3
from collections.abc import AsyncIterator, Iterator
from contextlib import asynccontextmanager, closing
from pathlib import Path
from typing import Any

import anyio
import anyio.abc
import pytest
import trustme
from click.testing import CliRunner

from chatkit import ServerConfig, open_store
from chatkit.cli.checks import base, certificates, disk, machine, services, versions
from chatkit.cli.checks.base import Finding, Subject, run_all
from chatkit.cli.commands import chatkit
from chatkit.cli.doctor import CHECKS
from chatkit.drivers.sqlite_releases import faults_of
from tests.servers.issuer import SigningKey, issuing
from tests.servers.kafka import kafka_server  # noqa: F401 -- a fixture
from tests.servers.nats import nats_process
from tests.servers.postgres import PostgresServer, serving
from tests.servers.process import ServerProcess, running

MEMORY = Subject(storage="memory://")


def on_file(folder: Path, **more: Any) -> Subject:
    return Subject(storage=f"sqlite:///{folder / 'chat.db'}", **more)


def of(findings: list[Finding]) -> list[tuple[str, str]]:
    return [(it.check, it.status) for it in findings]


def root_with(tmp_path: Path, **files: str) -> Path:
    """A place with files as `/` has them; two underscores for a slash."""
    for name, text in files.items():
        file = tmp_path / "root" / name.replace("__", "/").replace("_DOT_", ".")
        file.parent.mkdir(parents=True, exist_ok=True)
        file.write_text(text)
    return tmp_path / "root"


# versions


@pytest.mark.parametrize(
    ("version", "words"),
    [
        ((3, 51, 3), []),
        ((3, 53, 1), []),
        ((3, 50, 7), []),
        ((3, 44, 6), []),
        ((3, 51, 2), ["same moment"]),
        ((3, 50, 6), ["same moment"]),
        ((3, 45, 1), ["same moment"]),
        ((3, 40, 1), ["same moment"]),
        ((3, 37, 1), ["same moment", "savepoint"]),
        ((3, 37, 2), ["same moment"]),
        ((3, 52, 0), ["withdrawn"]),
    ],
)
def test_releases_of_sqlite_that_are_known_to_be_broken(
    version: tuple[int, int, int], words: list[str]
) -> None:
    found = [it.words for it in faults_of(version)]
    assert len(found) == len(words) and all(word in it for word, it in zip(words, found, strict=True))


async def test_a_broken_sqlite_is_a_warning_where_there_is_a_file(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    assert await versions.sqlite(MEMORY) == []
    monkeypatch.setattr(versions, "SQLITE_VERSION", (3, 53, 1))
    assert of(await versions.sqlite(on_file(tmp_path))) == [("sqlite", "ok")]
    monkeypatch.setattr(versions, "SQLITE_VERSION", (3, 37, 0))
    assert of(await versions.sqlite(on_file(tmp_path))) == [("sqlite", "warning")] * 2


async def test_an_old_python_is_a_failure(monkeypatch: pytest.MonkeyPatch) -> None:
    assert of(await versions.python(MEMORY)) == [("python", "ok")]
    monkeypatch.setattr(versions, "PYTHON_MIN", (9, 0))
    assert of(await versions.python(MEMORY)) == [("python", "failure")]


async def test_a_missing_extra_is_named_with_what_installs_it(monkeypatch: pytest.MonkeyPatch) -> None:
    subject = Subject(storage="postgresql://db/chat", bus="redis://h", queue="kafka://h", pushes=["apns"])
    found = await versions.extras(subject)
    assert {it.words.partition(":")[0] for it in found} == {"kafka", "postgres", "push", "redis", "server"}
    more = await versions.extras(Subject(storage="memory://", features=["metrics", "otel"]))
    assert [(it.words.partition(":")[0], it.status) for it in more] == [
        ("metrics", "ok"),
        ("otel", "ok"),
        ("server", "ok"),
    ]
    monkeypatch.setitem(versions.NEEDS, "redis", ("no_such_module",))

    (failed,) = [it for it in await versions.extras(subject) if it.status == "failure"]

    assert failed.words == "redis lacks no_such_module"
    assert failed.advice == "pip install 'chatkit-engine[redis]'"
    assert "nats" not in {it.words.partition(":")[0] for it in found}


# the machine


async def test_few_descriptors_are_a_warning(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(machine, "descriptors_max", lambda: 40_000)
    assert of(await machine.descriptors(MEMORY)) == [("descriptors", "ok")]
    monkeypatch.setattr(machine, "descriptors_max", lambda: 1024)
    (found,) = await machine.descriptors(MEMORY)
    assert found.status == "warning" and "room for 512 sessions of the 20000" in found.words


@pytest.mark.parametrize(
    ("files", "status"),
    [
        ({"proc__meminfo": "MemTotal:       16000000 kB\n"}, "ok"),
        ({"sys__fs__cgroup__memory_DOT_max": "max\n", "proc__meminfo": "MemTotal: 16000000 kB\n"}, "ok"),
        ({"sys__fs__cgroup__memory_DOT_max": "268435456\n"}, "warning"),
        ({"sys__fs__cgroup__memory__memory.limit_in_bytes": "268435456\n"}, "warning"),
        ({"sys__fs__cgroup__memory__memory.limit_in_bytes": "9223372036854771712\n"}, "ok"),
        ({"proc__meminfo": "MemTotal: 500000 kB\n"}, "warning"),
        ({}, "ok"),
    ],
)
async def test_little_memory_is_a_warning(tmp_path: Path, files: dict[str, str], status: str) -> None:
    subject = Subject(storage="memory://", root=root_with(tmp_path, **files))
    assert of(await machine.memory(subject)) == [("memory", status)]


async def test_memory_is_wanted_for_each_process(tmp_path: Path) -> None:
    root = root_with(tmp_path, proc__meminfo="MemTotal: 4000000 kB\n")
    assert of(await machine.memory(Subject(storage="memory://", root=root))) == [("memory", "ok")]
    (found,) = await machine.memory(Subject(storage="memory://", root=root, workers=8))
    assert found.status == "warning" and "in each of 8 processes" in found.words


async def test_a_clock_that_is_moved_is_a_warning(monkeypatch: pytest.MonkeyPatch) -> None:
    class Leaping:
        def __init__(self) -> None:
            self.ms = 0

        def now_s(self) -> float:
            return 0.0

        def now_ms(self) -> int:
            self.ms += 500
            return self.ms

    monkeypatch.setattr(machine, "_SAMPLE_S", 0.0)
    assert of(await machine.clocks(MEMORY)) == [("clocks", "ok")]
    monkeypatch.setattr(machine, "SystemClock", Leaping)
    assert of(await machine.clocks(MEMORY)) == [("clocks", "warning")]


# the disk


async def test_a_good_folder(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(disk, "FREE_WARNING_BYTES", 1)
    monkeypatch.setattr(disk, "FREE_FAILURE_BYTES", 1)
    monkeypatch.setattr(disk, "FSYNC_SLOW_S", 1e9)
    root = root_with(tmp_path, proc__self__mountinfo="1 0 8:1 / / rw - ext4 /dev/sda1 rw\n")

    found = await disk.disk(on_file(tmp_path, root=root))

    assert of(found) == [("disk", "ok"), ("file system", "ok"), ("fsync", "ok"), ("rights", "ok")]
    assert not list(tmp_path.glob(".chatkit*")), "what was written is removed"
    assert await disk.disk(MEMORY) == []


def test_a_full_disk(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(disk, "FREE_WARNING_BYTES", 2**62)
    monkeypatch.setattr(disk, "FREE_FAILURE_BYTES", 1)
    assert disk.free_space(tmp_path).status == "warning"
    monkeypatch.setattr(disk, "FREE_FAILURE_BYTES", 2**62)
    assert disk.free_space(tmp_path).status == "failure"


@pytest.mark.parametrize(
    ("mounts", "status"),
    [
        ("/ ext4", "ok"),
        ("/ ext4,/data nfs4", "failure"),
        ("/ ext4,/data fuse.sshfs", "failure"),
        ("/ overlay", "warning"),
        ("/ overlay,/data ext4", "ok"),
        ("/ ext4,/data tmpfs", "warning"),
        ("/ ext4,/data nfs,/data/log xfs", "ok"),
        ("/ ext4,/dat nfs", "ok"),
        ("/ ext4,/data nfs,/data ext4", "ok"),
    ],
)
def test_file_systems_that_cannot_be_relied_on(tmp_path: Path, mounts: str, status: str) -> None:
    lines = [
        f"{number} 0 8:1 / {place} rw,relatime shared:1 - {kind} source rw"
        for number, (place, kind) in enumerate(it.split() for it in mounts.split(","))
    ]
    root = root_with(tmp_path, proc__self__mountinfo="\n".join(lines))
    assert disk.file_system(Path("/data/log"), root).status == status


def test_a_disk_that_does_not_sync(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    def fail(handle: int) -> None:
        raise OSError(5, "Input/output error")

    monkeypatch.setattr(disk, "FSYNC_SLOW_S", -1)
    assert disk.fsync(tmp_path).status == "warning"
    monkeypatch.setattr(os, "fsync", fail)
    assert (disk.fsync(tmp_path).status, disk.fsync(tmp_path).words[-18:]) == (
        "failure",
        "Input/output error",
    )
    assert not list(tmp_path.iterdir())


async def test_a_folder_that_is_not_there(tmp_path: Path) -> None:
    assert of(await disk.disk(on_file(tmp_path / "none"))) == [("disk", "failure")]


async def test_a_log_that_everybody_may_open(tmp_path: Path) -> None:
    tmp_path.chmod(0o755)
    (tmp_path / "chat.db").write_bytes(b"")
    (tmp_path / "chat.db").chmod(0o644)
    assert ("rights", "warning") in of(await disk.disk(on_file(tmp_path)))
    tmp_path.chmod(0o700)
    assert ("rights", "ok") in of(await disk.disk(on_file(tmp_path)))
    (tmp_path / "chat.db").chmod(0o600)
    tmp_path.chmod(0o755)
    assert ("rights", "ok") in of(await disk.disk(on_file(tmp_path)))


# files of TLS


async def test_files_of_tls(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    for name in ("SSL_CERT_FILE", "PGSSLROOTCERT", "PGSSLCERT", "PGSSLKEY"):
        monkeypatch.delenv(name, raising=False)
    authority = trustme.CA()
    authority.cert_pem.write_to_path(tmp_path / "ca.pem")
    key = tmp_path / "key.pem"
    key.write_bytes(b"a key")
    key.chmod(0o600)
    (tmp_path / "empty.pem").write_text("")

    async def look(address: str) -> list[tuple[str, str]]:
        return [(it.status, it.words) for it in await certificates.certificates(Subject(storage=address))]

    postgres = "postgresql://db/chat?sslmode=verify-full"
    assert await look(postgres) == await look(f"{postgres}&sslrootcert=system") == []
    good = await look(f"{postgres}&sslrootcert={tmp_path}/ca.pem&sslkey={key}")
    assert [status for status, _ in good] == ["ok", "ok"]
    assert [it for it, _ in await look(f"{postgres}&sslrootcert={tmp_path}/none.pem")] == ["failure"]
    assert [it for it, _ in await look(f"{postgres}&sslrootcert={tmp_path}/empty.pem")] == ["failure"]
    key.chmod(0o644)
    assert [it for it, _ in await look(f"rediss://bus?ssl_keyfile={key}")] == ["warning"]
    monkeypatch.setenv("SSL_CERT_FILE", str(tmp_path / "none.pem"))
    assert [it for it, _ in await look("memory://")] == ["failure"]
    monkeypatch.setenv("SSL_CERT_FILE", str(tmp_path / "ca.pem"))
    assert [it for it, _ in await look("memory://")] == ["ok"]


# what the addresses lead to


async def test_a_file_that_is_a_log_and_one_that_is_none(tmp_path: Path) -> None:
    assert of(await services.storage(on_file(tmp_path))) == [("storage", "ok")]
    assert not (tmp_path / "chat.db").exists(), "nothing is made"
    store = open_store(on_file(tmp_path).storage)
    await store.migrate()
    (while_served,) = await services.storage(on_file(tmp_path))
    await store.aclose()
    (found,) = await services.storage(on_file(tmp_path))
    assert while_served.words == found.words == f"{tmp_path / 'chat.db'} is a log of chatkit"

    (tmp_path / "chat.db").unlink()
    with closing(sqlite3.connect(tmp_path / "chat.db")) as other:
        other.execute("PRAGMA application_id = 7")
    assert of(await services.storage(on_file(tmp_path))) == [("storage", "failure")]
    with closing(sqlite3.connect(tmp_path / "chat.db")) as other:
        other.execute("PRAGMA application_id = 0")
        assert of(await services.storage(on_file(tmp_path))) == [("storage", "ok")], "it is empty"
        other.execute("CREATE TABLE invoices (number)")
    assert of(await services.storage(on_file(tmp_path))) == [("storage", "failure")]
    (tmp_path / "chat.db").write_bytes(b"no database" * 1000)
    assert of(await services.storage(on_file(tmp_path))) == [("storage", "failure")]


async def test_a_log_in_memory_is_a_warning() -> None:
    assert of(await services.storage(MEMORY)) == [("storage", "warning")]


@pytest.fixture(scope="module")
def server() -> Iterator[PostgresServer]:
    with serving() as server:
        yield server


async def test_postgresql(server: PostgresServer, monkeypatch: pytest.MonkeyPatch) -> None:
    subject = Subject(storage=server.new_database())
    found = await services.storage(subject)
    assert of(found) == [("storage", "ok"), ("offset", "ok")]
    assert "which has no log yet" in found[0].words
    store = open_store(subject.storage)
    await store.migrate()
    await store.aclose()
    assert "which holds a log" in (await services.storage(subject))[0].words

    (_, crowded, _) = await services.storage(Subject(storage=subject.storage, workers=4))
    assert crowded.status == "warning" and "4 processes open up to 80" in crowded.words

    off = subject.storage + ("&" if "?" in subject.storage else "?") + "options=-csynchronous_commit%3Doff"
    (failed, _) = await services.storage(Subject(storage=off))
    assert failed.status == "failure" and "synchronous_commit off" in failed.words
    monkeypatch.setattr(services, "POSTGRES_MIN", 990000)
    assert ("storage", "failure") in of(await services.storage(subject))


async def test_postgresql_that_is_not_there() -> None:
    (found,) = await services.storage(Subject(storage="postgresql://ann:hunter2@127.0.0.1:1/chat"))
    assert found.status == "failure" and "hunter2" not in found.words + found.advice


@pytest.mark.parametrize(
    ("offset_s", "status"), [(0, "ok"), (5, "warning"), (-5, "warning"), (60, "failure")]
)
def test_a_clock_that_is_far_off(offset_s: float, status: str) -> None:
    now_s = services.SystemClock().now_ms() / 1000
    assert services._offset("somebody", now_s + offset_s, MEMORY).status == status


async def test_a_real_nats_server(tmp_path: Path) -> None:
    with running(nats_process(tmp_path)) as process:
        address = f"nats://127.0.0.1:{process.port}"
        found = await services.bus(Subject(storage="memory://", bus=address))
        without_jetstream = await services.queue(
            Subject(storage="memory://", queue=address.replace("nats", "jetstream"))
        )
    assert of(found) == [("bus", "ok"), ("bus", "ok")]
    assert of(without_jetstream) == [("queue", "ok"), ("queue", "failure")]
    assert of(await services.bus(Subject(storage="memory://", bus=address))) == [("bus", "failure")]
    assert await services.bus(MEMORY) == []


@asynccontextmanager
async def answering(answer: bytes, *, reads: bool = False) -> AsyncIterator[int]:
    """A server that says one thing to everybody, after it was asked or at once."""

    async def serve(stream: anyio.abc.SocketStream) -> None:
        async with stream:
            if reads:
                await stream.receive()
            await stream.send(answer)
            await anyio.sleep_forever()

    listener = await anyio.create_tcp_listener(local_host="127.0.0.1")
    async with listener, anyio.create_task_group() as tasks:
        tasks.start_soon(listener.serve, serve)
        yield listener.extra(anyio.abc.SocketAttribute.local_port)
        tasks.cancel_scope.cancel()


@pytest.mark.parametrize(
    ("greeting", "statuses"),
    [
        (b'INFO {"version":"2.12.6","jetstream":true}\r\n', ["ok"]),
        (b'INFO {"version":"2.12.5","jetstream":true}\r\n', ["warning"]),
        (b'INFO {"version":"2.15.1-beta","jetstream":true}\r\n', ["ok"]),
        (b'INFO {"version":"2.15.1"}\r\n', ["ok", "failure"]),
        (b"INFO nothing\r\n", ["warning", "failure"]),
        (b"HTTP/1.1 400 Bad Request\r\n", ["failure"]),
    ],
)
async def test_what_nats_says_of_itself(greeting: bytes, statuses: list[str]) -> None:
    async with answering(greeting) as port:
        found = await services.queue(Subject(storage="memory://", queue=f"jetstream://a:b@127.0.0.1:{port}"))
    assert [it.status for it in found] == statuses
    assert "a:b" not in str(found)


@pytest.mark.parametrize(
    ("answer", "status"),
    [
        (b"\x00\x00\x00\x0a\x00\x00\x00\x07\x00\x00\x00\x00\x00\x00", "ok"),
        (b"HTTP/1.1 400 Bad\r\n", "failure"),
    ],
)
async def test_what_kafka_answers(answer: bytes, status: str) -> None:
    async with answering(answer, reads=True) as port:
        found = await services.queue(
            Subject(storage="memory://", queue=f"kafka://127.0.0.1:1,127.0.0.1:{port}")
        )
    assert of(found) == [("queue", status)]
    assert of(await services.queue(Subject(storage="memory://", queue="kafka://127.0.0.1:1"))) == [
        ("queue", "failure")
    ]


async def test_a_real_kafka(kafka_server: ServerProcess) -> None:  # noqa: F811
    subject = Subject(storage="memory://", queue=f"kafka://127.0.0.1:{kafka_server.port}?topic=chat")
    assert of(await services.queue(subject)) == [("queue", "ok")]


async def test_an_archive_that_lets_us_in_and_one_that_does_not(tmp_path: Path) -> None:
    async def look(address: str | None) -> list[tuple[str, str]]:
        return of(await services.archive(Subject(storage="memory://", archive=address)))

    assert await look(None) == []
    assert await look("memory://") == [("archive", "warning")]
    assert await look(f"file://{tmp_path}/archive") == [("archive", "ok")]
    (tmp_path / "file").write_text("no folder")
    assert await look(f"file://{tmp_path}/file/archive") == [("archive", "failure")]
    assert await look("ftp://ann:hunter2@host") == [("archive", "failure")]
    needed = await versions.extras(Subject(storage="memory://", archive=f"file://{tmp_path}/archive"))
    assert "archive" in {it.words.partition(":")[0] for it in needed}


async def test_a_place_for_files_that_lets_us_in_and_one_that_does_not(tmp_path: Path) -> None:
    async def look(address: str | None) -> list[tuple[str, str]]:
        return of(await services.blobs(Subject(storage="memory://", blobs=address)))

    assert await look(None) == []
    assert await look("memory://") == [("blobs", "warning")]
    assert await look(f"dir://{tmp_path}/files") == [("blobs", "ok")]
    assert not (tmp_path / "files").exists(), "nothing is changed"
    (tmp_path / "file").write_text("no folder")
    assert await look(f"dir://{tmp_path}/file/files") == [("blobs", "failure")]
    for address, is_needed in ((f"dir://{tmp_path}", False), ("s3://bucket/files", True)):
        needed = await versions.extras(Subject(storage="memory://", blobs=address))
        assert ("archive" in {it.words.partition(":")[0] for it in needed}) == is_needed


async def test_the_issuers_keys() -> None:
    assert await services.issuer(MEMORY) == []
    with issuing() as issuer:
        issuer.publish(SigningKey("a"))
        subject = Subject(storage="memory://", jwks_url=issuer.url)
        assert of(await services.issuer(subject)) == [("issuer", "ok"), ("offset", "ok")]
        issuer.status = 500
        assert of(await services.issuer(subject)) == [("issuer", "failure")]


# all of them together


async def test_a_check_that_hangs_is_a_failure_and_holds_nobody_up() -> None:
    async def hangs(_: Subject) -> list[Finding]:
        await anyio.sleep_forever()
        raise AssertionError

    async def breaks(_: Subject) -> list[Finding]:
        raise PermissionError(13, "Permission denied")

    found = await run_all([hangs, breaks, services.storage], MEMORY, check_s=0.01)
    assert of(found) == [("hangs", "failure"), ("breaks", "failure"), ("storage", "warning")]
    assert found[1].words == "cannot be looked at: Permission denied"


async def test_what_nobody_foresaw_is_a_failure_of_one_check_and_shows_no_address() -> None:
    wrong = Subject(storage="memory://", queue="kafka://ann:hunter2@host:port")
    found = await run_all([services.queue, services.storage], wrong)
    assert of(found) == [("queue", "failure"), ("storage", "warning")]
    assert "hunter2" not in repr(found)


def test_every_check_is_run() -> None:
    modules = (versions, machine, disk, certificates, services)
    named = {
        value
        for module in modules
        for value in vars(module).values()
        if getattr(value, "__module__", "") == module.__name__
        and getattr(value, "__annotations__", {}).get("return") == "list[Finding]"
        and not value.__name__.startswith("_")
    }
    assert named == set(CHECKS)


@pytest.fixture
def quiet(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    monkeypatch.chdir(tmp_path)
    for name in list(os.environ):
        if name.startswith("CHATKIT_"):
            monkeypatch.delenv(name)
    monkeypatch.setenv("CHATKIT_JWT_SECRET", "s" * 40)
    return tmp_path


def test_the_command_tells_and_ends_with_what_it_found(quiet: Path) -> None:
    good = CliRunner().invoke(chatkit, ["doctor", "--json", "serve", "--storage", "sqlite:///chat.db"])
    found = {it["check"]: it for it in json.loads(good.stdout)}
    assert good.exit_code == 0 and {"settings", "python", "extras", "disk", "fsync", "storage"} <= set(found)
    assert {it["status"] for it in found.values()} <= {"ok", "warning"}

    address = "postgresql://ann:hunter2@127.0.0.1:1/chat"
    bad = CliRunner().invoke(
        chatkit, ["doctor", "serve", "--storage", address, "--bus", "nats://TOK@127.0.0.1:1"]
    )
    assert bad.exit_code == 1 and "FAILURE  storage" in bad.output and "FAILURE  bus" in bad.output
    assert [it for it in ("hunter2", "TOK", "ssss") if it in bad.output] == []

    wrong = CliRunner().invoke(
        chatkit, ["doctor", "serve", "--storage", "memory://", "--jwt-key", "none.pem"]
    )
    assert wrong.exit_code == 1 and "FAILURE  settings" in wrong.output and "none.pem" in wrong.output
    misuse = CliRunner().invoke(chatkit, ["doctor", "serve", "--port", "x"])
    assert misuse.exit_code == 2
    worker = CliRunner().invoke(chatkit, ["doctor", "worker", "--storage", address])
    assert worker.exit_code == 1 and "FAILURE  storage" in worker.output
    assert "give --push FILE" in worker.output


def test_nothing_is_left_behind(quiet: Path) -> None:
    CliRunner().invoke(chatkit, ["doctor"])
    assert list(quiet.iterdir()) == []
    assert base.CHECK_S <= 10 and ServerConfig().sessions_max == 20_000
