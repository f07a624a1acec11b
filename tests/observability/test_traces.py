"""Traces: one message's way through client, server, worker and push is one trace, whichever process made a span."""

from __future__ import annotations

import sys
from collections.abc import Sequence
from typing import Any

import anyio
import pytest
from opentelemetry import trace
from opentelemetry.sdk.trace import ReadableSpan, TracerProvider
from opentelemetry.sdk.trace.export import SimpleSpanProcessor
from opentelemetry.sdk.trace.export.in_memory_span_exporter import InMemorySpanExporter
from opentelemetry.sdk.trace.sampling import ALWAYS_OFF, ParentBased, Sampler, TraceIdRatioBased
from opentelemetry.trace import SpanKind, StatusCode

from chatkit import ChatClient, MemoryConnector, MessageReceived, Traces
from chatkit.errors import ConfigurationError, RefusedError
from chatkit.ports import Ports
from chatkit.push.base import Delivered, Push, Result, Retry
from chatkit.server.delivery.worker import DeliveryWorker
from chatkit.storage.base import Mute, RegisterPush
from chatkit.testing.virtual_time import VirtualClock

from ..server.delivery.world import World
from ..server.harness import GatedStore, HarnessServer, group, login, serving, text


class Process:
    """One process' own SDK, and what it has exported."""

    def __init__(self, sampler: Sampler | None = None, **options: Any) -> None:
        self.exporter = InMemorySpanExporter()
        self.provider = TracerProvider(sampler=sampler, shutdown_on_exit=False)
        self.provider.add_span_processor(SimpleSpanProcessor(self.exporter))
        self.traces = Traces(self.provider, **options)

    @property
    def spans(self) -> Sequence[ReadableSpan]:
        return self.exporter.get_finished_spans()

    def named(self, name: str) -> list[ReadableSpan]:
        return [it for it in self.spans if it.name == name]

    def one(self, name: str) -> ReadableSpan:
        (found,) = self.named(name)
        return found


def trace_of(span: ReadableSpan) -> int:
    assert span.context is not None
    return span.context.trace_id


def attributes(span: ReadableSpan) -> dict[str, Any]:
    return dict(span.attributes or {})


def client(server: HarnessServer, user: str, process: Process) -> ChatClient:
    return ChatClient(
        "ws://x",
        token=user,
        device_id="phone",
        connector=MemoryConnector(server),
        ports=Ports(VirtualClock()),
        instruments=[process.traces],
    )


async def next_message(chat: ChatClient) -> str:
    """The id of the next text."""
    async for event in chat.events():
        if isinstance(event, MessageReceived) and event.message.type == "TEXT":
            return event.message.message_id
    raise AssertionError("the events do not end")


class Provider:
    """Takes every push."""

    async def send(self, batch: Sequence[Push]) -> list[Result]:
        return [Delivered() for _ in batch]

    async def aclose(self) -> None: ...


async def test_one_message_is_one_trace_across_four_processes() -> None:
    sender, receiver, node, pusher = (Process() for _ in range(4))
    async with serving(instruments=[node.traces]) as server:
        name = await group(server, "ann", "ben", "cat")
        await server.store.commit([RegisterPush("cat", "phone", "log", "token", False, 0)])
        async with client(server, "ann", sender) as ann, client(server, "ben", receiver) as ben:
            await ann.wait_connected()
            await ben.wait_connected()
            sent = await ann.send(name, "secret-canary", client_msg_id="k1")
            assert await next_message(ben) == sent.message_id
        clock = VirtualClock()
        worker = DeliveryWorker(
            server.store, {"log": Provider()}, ports=Ports(clock), instruments=[pusher.traces]
        )
        await anyio.sleep(10)
        await worker.run_once()

    spans = {
        "send": sender.one("send"),
        "accept": node.one("accept"),
        "commit": node.one("commit"),
        "fan out": node.one("fan out"),
        "receive": receiver.one("receive"),
        "push": pusher.one("push"),
    }
    assert len({trace_of(it) for it in spans.values()}) == 1
    assert sender.named("receive") == [], "its own"
    accept = spans["accept"]
    assert accept.context is not None
    for inner in ("commit", "fan out"):
        parent = spans[inner].parent
        assert parent is not None
        assert parent.span_id == accept.context.span_id
    roots = {
        it.parent.span_id for name, it in spans.items() if name not in ("commit", "fan out") and it.parent
    }
    assert len(roots) == 1, "all of them are children of the message"
    assert {attributes(it).get("messaging.message.id") for it in spans.values()} == {sent.message_id, None}
    assert {attributes(it)["messaging.system"] for it in spans.values()} == {"chatkit"}
    assert [spans[it].kind for it in ("send", "accept", "receive", "push")] == [
        SpanKind.PRODUCER,
        SpanKind.SERVER,
        SpanKind.CONSUMER,
        SpanKind.CLIENT,
    ]
    every = [*sender.spans, *receiver.spans, *node.spans, *pusher.spans]
    shown = " ".join(it.to_json() for it in every)
    for secret in ("canary", "k1", name, "ann", "ben", "cat", "token"):
        assert f'"{secret}' not in shown.replace('"token_', ""), secret


async def test_times_are_those_of_the_clock_and_in_order() -> None:
    node = Process()
    async with serving(instruments=[node.traces]) as server:
        name = await group(server, "ann", "ben")
        ann = await login(server, "ann")
        now_ms = server.ports.clock.now_ms()
        ann.say(text(name, "k"))
        await ann.hear("MSG_ACK")

    accept, commit, out = node.one("accept"), node.one("commit"), node.one("fan out")
    assert accept.start_time is not None
    assert accept.start_time // 1_000_000 == now_ms
    times = [accept.start_time, commit.start_time, commit.end_time, out.start_time, out.end_time]
    assert times == sorted(times, key=lambda it: it or 0)
    assert accept.end_time == out.end_time
    assert attributes(out)["chatkit.sessions"] == 0, "not to the sender itself"
    assert attributes(accept)["messaging.message.body.size"] == len('{"text":"hello","type":"TEXT"}')


async def test_a_message_that_comes_again_is_in_the_trace_of_the_first() -> None:
    node = Process()
    async with serving(instruments=[node.traces]) as server:
        name = await group(server, "ann")
        ann = await login(server, "ann")
        ann.say(text(name, "k"))
        await ann.hear("MSG_ACK")
        ann.say(text(name, "k"))
        (ack,) = await ann.hear("MSG_ACK")
        ann.say({"event": "RECALL", "messageId": ack["messageId"]})
        await ann.hear("MSG_ACK")

    first, again, recall = node.named("accept")
    assert trace_of(first) == trace_of(again) != trace_of(recall)
    assert [attributes(it)["chatkit.repeat"] for it in (first, again)] == [False, True]
    assert attributes(recall)["chatkit.entry"] == "recall"
    assert len(node.named("fan out")) == 2, "what comes again is pushed to nobody"


async def test_the_span_in_which_an_app_sends_is_linked_to() -> None:
    app = Process()
    tracer = app.provider.get_tracer("app")
    async with serving() as server:
        name = await group(server, "ann")
        async with client(server, "ann", app) as chat:
            await chat.wait_connected()
            with tracer.start_as_current_span("order") as order:
                await chat.send(name, "hello")
            await chat.send(name, "by itself")

    linked, alone = app.named("send")
    assert [it.context for it in linked.links] == [order.get_span_context()]
    assert list(alone.links) == []
    assert app.traces._senders == {}


async def test_an_apps_own_span_can_be_a_part_of_the_trace() -> None:
    app = Process()
    tracer = app.provider.get_tracer("app")
    async with serving(instruments=[app.traces]) as server:
        name = await group(server, "ann")
        ann = await login(server, "ann")
        ann.say(text(name, "k"))
        (ack,) = await ann.hear("MSG_ACK")
    with tracer.start_as_current_span("answer", context=app.traces.context_of(ack["messageId"])):
        pass

    assert trace_of(app.one("answer")) == trace_of(app.one("accept"))


async def test_what_is_refused_is_an_error() -> None:
    app, node = Process(), Process()
    store = GatedStore()
    async with serving(store, instruments=[node.traces]) as server:
        name = await group(server, "ann")
        async with client(server, "ann", app) as chat:
            await chat.wait_connected()
            with pytest.raises(RefusedError):
                await chat.send("nowhere", "hello")
        ann = await login(server, "ann", "pad")
        store.break_for(1)
        ann.say(text(name, "k"))
        await ann.hear("ERROR")

    refused = app.one("send")
    assert refused.status.status_code is StatusCode.ERROR
    assert attributes(refused)["error.type"] == "NOT_FOUND"
    (failed,) = [it for it in node.named("commit") if it.status.status_code is StatusCode.ERROR]
    assert (attributes(failed)["error.type"], attributes(failed)["chatkit.messages"]) == ("UNAVAILABLE", 1)


async def test_a_push_says_how_it_went() -> None:
    pusher = Process(with_names=True)
    store = GatedStore()
    await store.migrate()
    world = World(store, instruments=[pusher.traces])
    for user in ("ann", "ben"):
        await world.device(user)
    await world.group("g", "ann", "ben")
    name = await world.send("g", "ann", "hello")

    async def busy(push: Push) -> Result:
        return Retry(1.0, "busy") if len(world.provider.sent) == 1 else Delivered()

    world.provider.answer = busy
    await world.work(60)
    await store.aclose()

    first, second = pusher.named("push")
    assert [attributes(it)["chatkit.push.outcome"] for it in (first, second)] == ["retry", "delivered"]
    assert first.status.status_code is StatusCode.ERROR
    assert second.status.status_code is StatusCode.UNSET
    assert trace_of(first) == trace_of(second)
    assert attributes(first)["messaging.message.id"] == name
    names = ("messaging.destination.name", "user.id", "chatkit.device.id", "chatkit.push.provider")
    assert [attributes(first)[it] for it in names] == ["g", "ben", "phone", "scripted"]


# --- how many ---


def followed(ratio: float, count: int = 4_000) -> set[str]:
    traces = Traces(TracerProvider(shutdown_on_exit=False), ratio=ratio)
    names = (f"1-9d79d6b75e-{seq:x}" for seq in range(1, count + 1))
    return {it for it in names if traces.context_of(it) is not None}


def test_the_ratio_is_kept_and_is_the_same_choice_everywhere() -> None:
    tenth = followed(0.1)
    assert 320 < len(tenth) < 480
    assert tenth == followed(0.1)
    assert tenth < followed(0.2)
    assert (followed(0.0), len(followed(1.0))) == (set(), 4_000)


@pytest.mark.parametrize(
    ("sampler", "spans"),
    [
        (ALWAYS_OFF, 0),
        (ParentBased(ALWAYS_OFF), 3),
        (TraceIdRatioBased(0.0), 0),
        (TraceIdRatioBased(1.0), 3),
    ],
)
async def test_the_sampler_of_the_sdk_has_the_last_word(sampler: Sampler, spans: int) -> None:
    node = Process(sampler)
    async with serving(instruments=[node.traces]) as server:
        name = await group(server, "ann")
        ann = await login(server, "ann")
        ann.say(text(name, "k"))
        await ann.hear("MSG_ACK")
    assert len(node.spans) == spans


async def test_what_is_not_followed_makes_no_span() -> None:
    node = Process(ratio=0)
    async with serving(instruments=[node.traces]) as server:
        name = await group(server, "ann")
        ann = await login(server, "ann")
        ann.say(text(name, "k"))
        await ann.hear("MSG_ACK")
        await server.store.commit([Mute(name, "ann", 0)])
    assert node.spans == ()


def test_senders_are_forgotten_beyond_a_bound(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("chatkit.observability.traces._SENDERS_MAX", 2)
    app = Process()
    with app.provider.get_tracer("app").start_as_current_span("order"):
        for key in "abc":
            app.traces.on_client_queued("g", key)
    assert list(app.traces._senders) == [("g", "b"), ("g", "c")]
    app.traces.on_client_queued("g", "d")
    assert len(app.traces._senders) == 2, "no span was current"


# --- set up ---


def test_without_an_sdk_spans_go_nowhere() -> None:
    traces = Traces(trace.NoOpTracerProvider())
    assert traces.context_of("1-e-1") is not None


@pytest.mark.parametrize("ratio", [-0.1, 1.1, "all", None, float("nan")])
def test_a_ratio_is_a_part(ratio: Any) -> None:
    with pytest.raises(ConfigurationError, match="from 0 to 1"):
        Traces(ratio=ratio)


def test_a_missing_extra_is_named(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setitem(sys.modules, "opentelemetry", None)
    with pytest.raises(ConfigurationError, match=r"chatkit-engine\[otel\]"):
        Traces()
