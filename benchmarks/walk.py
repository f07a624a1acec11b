"""One message from ann to ben in memory, and the modules of chatkit it enters on its way. Prints JSON.

`house` runs this file with the interpreter and the sources of the tree that is measured; it uses public names of
chatkit only. Each frame is held on the line until its phase begins, and time moves only when nobody has anything to do,
so that two runs record the same.

What is recorded is a visit: a module is entered from another one. Either one of its functions is called from another
module, or one that a background task waited in takes up work (it counts once it calls anything). No visits: a call
that returns, an `await` that goes on within a phase, and a call of the app's that goes on.
"""

from __future__ import annotations

import asyncio
import dis
import inspect
import json
import selectors
import sys
from collections.abc import Callable, Coroutine
from pathlib import Path
from types import FrameType
from typing import Any

import chatkit
from chatkit import ChatClient, ChatServer, Identity, MemoryConnector, MessageReceived, open_store

CONVERSATION = "walk"
WARM_UP = 3
"""Messages before the measured one: what happens only once, such as an import, is over then."""

QUIET_S = 5.3
"""Virtual seconds between messages, for all that follows one; no timer of whole seconds falls due at their end."""

_COROUTINES = inspect.CO_COROUTINE | inspect.CO_ASYNC_GENERATOR | inspect.CO_ITERABLE_COROUTINE
_RESUME = dis.opmap["RESUME"]


class JumpingSelector(selectors.DefaultSelector):
    """Instead of waiting for a timer it moves the time of its loop there."""

    now_s = 0.0

    def select(self, timeout: float | None = None) -> list[tuple[selectors.SelectorKey, int]]:
        if timeout is not None and timeout > 0:
            self.now_s += timeout
            timeout = 0
        return super().select(timeout)


class JumpingLoop(asyncio.SelectorEventLoop):
    """An event loop whose timers fall due at once, but only when nothing else is ready."""

    def __init__(self) -> None:
        self._jumping = JumpingSelector()
        super().__init__(self._jumping)

    def time(self) -> float:
        return self._jumping.now_s


class Recorder:
    """Visits to the modules of chatkit, between `start` and `stop`, in order."""

    def __init__(self) -> None:
        self.visits: list[str] = []
        self._ran: set[FrameType] = set()
        self._woken: set[FrameType] = set()
        self._of_app: set[asyncio.Task[Any]] = set()
        self._unseen: set[asyncio.Task[Any]] = set()

    def app(self, work: Coroutine[Any, Any, Any], *, unseen: bool = False) -> asyncio.Task[Any]:
        """A task of the app's own; an `unseen` one belongs to the line, and nothing of it is recorded."""
        task = asyncio.get_running_loop().create_task(work)
        (self._unseen if unseen else self._of_app).add(task)
        return task

    def start(self) -> None:
        self.visits = []
        self._ran.clear()
        self._woken.clear()
        sys.setprofile(self._happened)

    def stop(self) -> None:
        sys.setprofile(None)

    def _happened(self, frame: FrameType, kind: str, _: object) -> None:
        task = _task()
        if kind not in ("call", "c_call") or task in self._unseen:
            return
        if kind == "call" and _resumes(frame):
            if task not in self._of_app:
                self._woken.add(frame)
            return
        caller = _nearest(frame.f_back if kind == "call" else frame)
        if caller in self._woken and caller not in self._ran:
            self._enter(caller)
        if kind == "call" and _module(frame) is not None:
            self._ran.add(frame)
            if caller is None or _module(frame) != _module(caller):
                self._enter(frame)

    def _enter(self, frame: FrameType) -> None:
        self._ran.add(frame)
        self.visits.append(str(_module(frame)))


def _task() -> asyncio.Task[Any] | None:
    try:
        return asyncio.current_task()
    except RuntimeError:  # between two runs of the loop
        return None


def _module(frame: FrameType) -> str | None:
    name = str(frame.f_globals.get("__name__", ""))
    return name if name.partition(".")[0] == "chatkit" else None


def _nearest(frame: FrameType | None) -> FrameType | None:
    """The function of chatkit that is running: this one, or the one that waits for it."""
    while frame is not None and _module(frame) is None:
        frame = frame.f_back
    return frame


def _resumes(frame: FrameType) -> bool:
    """Whether a coroutine goes on where it waited. A generator is called for each value: that is a call."""
    code, at = frame.f_code, frame.f_lasti
    if not code.co_flags & _COROUTINES or at < 0:
        return False
    return code.co_code[at] == _RESUME and code.co_code[at + 1] & 3 != 0


class Line:
    """A connector and its only transport: frames wait on it, each way, while it is held.

    `notice` is called with each frame that the client has written ("NAME up") or the server queued ("NAME down").
    """

    def __init__(
        self, name: str, server: ChatServer, recorder: Recorder, notice: Callable[[str, str], None]
    ) -> None:
        self._name = name
        self._connector = MemoryConnector(server)
        self._recorder = recorder
        self._notice = notice
        self._up: asyncio.Queue[str] = asyncio.Queue()
        self._down: asyncio.Queue[str] = asyncio.Queue()
        self.held = False

    async def connect(self, subprotocol: str) -> Line:
        self._transport = await self._connector.connect(subprotocol)
        self._pumps = [self._recorder.app(pump(), unseen=True) for pump in (self._pump_up, self._pump_down)]
        return self

    async def send(self, frame: str) -> None:
        self._notice(f"{self._name} up", frame)
        self._up.put_nowait(frame)

    async def receive(self) -> str:
        return await self._down.get()

    async def aclose(self, code: int = 1000, reason: str = "") -> None:
        for pump in self._pumps:
            pump.cancel()
        await self._transport.aclose(code, reason)

    async def to_server(self, frame: str) -> None:
        """Let a frame through that was held."""
        await self._transport.send(frame)

    async def to_client(self, frame: str) -> None:
        """Let a frame through that was held."""
        self._down.put_nowait(frame)

    async def _pump_up(self) -> None:
        while True:
            frame = await self._up.get()
            if not self.held:
                await self._transport.send(frame)

    async def _pump_down(self) -> None:
        while True:
            frame = await self._transport.receive()
            self._notice(f"{self._name} down", frame)
            if not self.held:
                self._down.put_nowait(frame)


class Walk:
    """The two clients, their lines, and the phases of one message."""

    def __init__(self, server: ChatServer) -> None:
        self._recorder = Recorder()
        self._lines = [Line(name, server, self._recorder, self._notice) for name in ("ann", "ben")]
        self._ann, self._ben = (
            ChatClient("ws://memory", token=name, device_id="walk", connector=line, **_at_once())
            for name, line in zip(("ann", "ben"), self._lines, strict=True)
        )
        self._phases: dict[str, list[str]] = {}
        self._expected: dict[str, str] = {}
        self._found: dict[str, str] = {}
        self._over = asyncio.Event()

    async def run(self) -> dict[str, list[str]]:
        """The visits of each phase, in order."""
        async with self._ann, self._ben:
            consuming = self._recorder.app(self._consume())
            for number in range(WARM_UP):
                await self._ann.send(CONVERSATION, f"warm-up {number}")
                await asyncio.sleep(QUIET_S)
            for line in self._lines:
                line.held = True
            await self._measured()
            for line in self._lines:
                line.held = False
            consuming.cancel()
        return self._phases

    async def _measured(self) -> None:
        ann, ben = self._lines
        sent = await self._phase("client, send", self._begin_sending(), {"ann up": "SEND_MSG"})
        queued = await self._phase(
            "server, SEND_MSG", ann.to_server(sent["ann up"]), {"ann down": "MSG_ACK", "ben down": "NEW_MSG"}
        )
        await self._phase("client, NEW_MSG", ben.to_client(queued["ben down"]), {"ben app": ""})
        await self._phase("client, MSG_ACK", ann.to_client(queued["ann down"]), {"ann app": ""})

    async def _phase(
        self, name: str, begin: Coroutine[Any, Any, None], until: dict[str, str]
    ) -> dict[str, str]:
        """Record from `begin` until everything expected was noticed. Returns the frames that were."""
        self._expected, self._found, self._over = dict(until), {}, asyncio.Event()
        self._recorder.start()
        await begin
        await self._over.wait()
        self._phases[name] = self._recorder.visits
        return self._found

    def _notice(self, where: str, frame: str) -> None:
        if where not in self._expected or self._expected[where] not in frame:
            return
        del self._expected[where]
        self._found[where] = frame
        if not self._expected:
            self._recorder.stop()
            self._over.set()

    async def _begin_sending(self) -> None:
        self._sending = self._recorder.app(self._send())

    async def _send(self) -> None:
        await self._ann.send(CONVERSATION, "measured")
        self._notice("ann app", "")

    async def _consume(self) -> None:
        async for event in self._ben.events():
            if isinstance(event, MessageReceived):
                self._notice("ben app", "")


async def authenticate(token: str) -> Identity:
    """Every token is the name of a user."""
    return Identity(token)


def _at_once() -> dict[str, Any]:
    """A client that waits with no confirmation: whether it leaves within a phase must not depend on the machine."""
    from chatkit import ClientConfig

    known = "confirm_wait_s" in ClientConfig.__struct_fields__  # older trees never wait
    return {"config": ClientConfig(confirm_wait_s=0.0)} if known else {}


async def main() -> dict[str, list[str]]:
    async with ChatServer(store=open_store("memory://"), authenticate=authenticate) as server:
        await server.create_conversation("SINGLE", "ann", ["ben"], conversation_id=CONVERSATION)
        return await Walk(server).run()


if __name__ == "__main__":
    with asyncio.Runner(loop_factory=JumpingLoop) as runner:
        phases = runner.run(main())
    print(json.dumps({"package": str(Path(chatkit.__file__).parent), "phases": phases}))
