"""strace beside a running process: what system calls its threads make, and faults put into them.

strace counts per thread: a fault with `when=3` hits the third such call of each traced thread.
"""

from __future__ import annotations

import os
import re
import shutil
import signal
import subprocess
from collections.abc import Iterable
from dataclasses import dataclass
from pathlib import Path

STRINGS_SHOWN = 256
"""Bytes of each buffer in the trace: enough to see what kind of event a frame begins with."""

_LINE = re.compile(r"(?P<thread>\d+) +(?:<\.\.\. )?(?P<name>\w+)(?P<rest>.*)")
_PATH = re.compile(r"""<(?P<open>[^<>]*)>|"(?P<named>[^"]*)\"""")


@dataclass
class Call:
    """One system call.

    Attributes:
        arguments: As strace prints them, open files with their paths.
        result: As strace prints it; empty if the call had not returned when the trace ended.
        entered: Place in the trace where it began.
        returned: Place in the trace where it ended; None if it had not.
    """

    thread: int
    name: str
    arguments: str
    entered: int
    result: str = ""
    returned: int | None = None

    @property
    def path(self) -> str:
        """The first file in it: its path, or the likes of `TCP:[...]`."""
        found = _PATH.search(self.arguments)
        return (found["open"] or found["named"] or "") if found else ""


def parse(trace: str) -> list[Call]:
    """The system calls of a trace, in the order in which they began."""
    calls: list[Call] = []
    begun: dict[int, Call] = {}
    for place, line in enumerate(trace.splitlines()):
        found = _LINE.fullmatch(line)
        if found is None:
            continue  # a signal, or the end of a thread
        thread, name, rest = int(found["thread"]), found["name"], found["rest"]
        if rest.startswith(" resumed>"):
            _end(begun.pop(thread), rest.removeprefix(" resumed>"), place)
            continue
        call = Call(thread, name, rest, place)
        calls.append(call)
        if rest.endswith(("<unfinished ...>", "<detached ...>")):
            begun[thread] = call
        else:
            _end(call, "", place)
    return calls


def _end(call: Call, rest: str, place: int) -> None:
    call.arguments, _, call.result = (call.arguments + rest).rpartition(" = ")
    call.returned = None if call.result == "?" else place


def missing() -> str | None:
    """Why strace cannot be used here; None if it can."""
    program = shutil.which("strace")
    if program is None:
        return "no strace found: run scripts/strace"
    options = ["-qq", "-o", os.devnull, "-e", "trace=fsync", "-e", "inject=fsync:error=EIO:when=1"]
    tried = subprocess.run([program, *options, "true"], capture_output=True, text=True, check=False)
    return f"strace does not work here: {tried.stderr.strip()}" if tried.returncode else None


def threads_of(process_id: int) -> list[int]:
    """The threads of a process; the first is the one that its program began with, and runs the event loop."""
    threads = [int(entry.name) for entry in Path(f"/proc/{process_id}/task").iterdir()]
    return [process_id, *sorted(thread for thread in threads if thread != process_id)]


def traced(output: Path, calls: str, *faults: str, path: Path | None = None) -> list[str]:
    """What to put before a program to trace it from its start; the process is the program's own.

    Args:
        output: Where the trace goes.
        calls: Names of the system calls to record, separated by commas.
        faults: What follows `inject=`, such as `fdatasync:error=EIO:when=1`.
        path: Record and hit only calls on this file.
    """
    return [*_options(output, calls, faults, path), "-D", "-f", "-qq"]


def _options(output: Path, calls: str, faults: Iterable[str], path: Path | None) -> list[str]:
    options = ["strace", f"-s{STRINGS_SHOWN}", "-yy", "-o", str(output)]
    for expression in ("signal=none", f"trace={calls}", *(f"inject={fault}" for fault in faults)):
        options += ["-e", expression]
    return options if path is None else [*options, "-P", str(path)]


class Strace:
    """strace on some threads of a running process, from entering it until `detach` or the end of the threads.

    Args:
        threads: Thread ids.
        output, calls, faults, path: As in `traced`.
        follow: Trace also the threads that come later.
    """

    def __init__(
        self,
        threads: Iterable[int],
        output: Path,
        calls: str,
        *faults: str,
        path: Path | None = None,
        follow: bool = False,
    ) -> None:
        self._threads = list(threads)
        self._output = output
        self._command = [*_options(output, calls, faults, path), *(["-f"] if follow else [])]
        self._process: subprocess.Popen[str] | None = None

    def __enter__(self) -> Strace:
        attached = [option for thread in self._threads for option in ("-p", str(thread))]
        self._process = subprocess.Popen([*self._command, *attached], stderr=subprocess.PIPE, text=True)
        self._wait_attached(self._process)
        return self

    def __exit__(self, *_: object) -> None:
        self.detach()

    def detach(self) -> list[Call]:
        """Let the threads go on untraced, also one that is held in a delay. Returns all calls recorded."""
        if self._process is not None:
            if self._process.poll() is None:
                self._process.send_signal(signal.SIGINT)
            self._process.communicate()
            self._process = None
        return self.calls()

    def calls(self) -> list[Call]:
        """The calls recorded so far."""
        return parse(self._output.read_text(encoding="utf-8", errors="replace"))

    def _wait_attached(self, process: subprocess.Popen[str]) -> None:
        assert process.stderr is not None
        for _ in self._threads:
            line = process.stderr.readline()
            assert "attached" in line, f"strace could not attach: {line}{process.stderr.read()}"
