"""The Python machines, driven by the steps of a vector: what each step led to, in the words of `spec/README.md`."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

from chatkit.client.events import MessageEdited, MessageReceived, StreamGrew
from chatkit.client.open_streams import OpenStreams
from chatkit.core.backoff import next_delay
from chatkit.core.marks import marked
from chatkit.core.media_types import SHOWN, likely, may_be, types_of
from chatkit.core.renewal import Renewal
from chatkit.core.resend import PendingSend, ResendQueue
from chatkit.core.timeline import Step as TimelineStep
from chatkit.core.timeline import Timeline
from chatkit.types import Edit, Marks, Message, Reaction, StreamProgress
from chatkit.wire.events import StreamPartPush

Step = dict[str, Any]
Machine = Callable[[Step], dict[str, Any]]


class BackoffMachine:
    """Waits, one by one."""

    def __call__(self, step: Step) -> dict[str, Any]:
        retry_after_ms = step["retryAfterMs"]
        delay_s = next_delay(
            step["attempt"],
            step["random"],
            None if retry_after_ms is None else retry_after_ms / 1000,
            base_s=step["baseMs"] / 1000,
            max_s=step["maxMs"] / 1000,
        )
        return {"ms": round(delay_s * 1000, 6)}


class TimelineMachine:
    """One timeline, and what an app shows of it."""

    def __init__(self) -> None:
        self._timeline = Timeline("e")
        self._shown: dict[int, str] = {}

    def __call__(self, step: Step) -> dict[str, Any]:
        timeline = self._timeline
        match step["do"]:
            case "push":
                self._take(timeline.push(_message(step["entry"])))
            case "page":
                messages = [_message(entry) for entry in step["entries"]]
                self._take(timeline.page(step["lastSeq"], step["upToSeq"], messages))
                timeline.rise(step["headSeq"])
            case "head":
                timeline.rise(step["seq"])
        held = [seq for seq in range(1, timeline.head + 1) if timeline.holds(seq)]
        shown = [[seq, kind] for seq, kind in sorted(self._shown.items())]
        return {"prefix": timeline.prefix, "head": timeline.head, "held": held, "shown": shown}

    def _take(self, taken: TimelineStep) -> None:
        self._shown.update((placed.message.seq, placed.message.type) for placed in taken.placed)
        self._shown.update((seq, "RECALLED") for seq in taken.recalled_seqs if seq in self._shown)


def _message(entry: dict[str, Any]) -> Message:
    payload = {"type": entry["type"], **({"seq": entry["target"]} if "target" in entry else {})}
    payload |= {"edits": entry["edits"]} if "edits" in entry else {}
    return Message("c", entry["seq"], f"m-{entry['seq']}", "ben", 0, payload)


class ResendMachine:
    """One queue of unacknowledged messages."""

    def __init__(self) -> None:
        self._queue = ResendQueue(window=4)

    def __call__(self, step: Step) -> dict[str, Any]:
        queue, now_s = self._queue, step["nowMs"] / 1000
        then = self._do(step, now_s)
        wait_s = queue.wait_s(now_s)
        alone = queue.alone_under_way
        return {
            **then,
            "size": len(queue),
            "waitMs": None if wait_s is None else round(wait_s * 1000, 6),
            "alone": None if alone is None else " ".join(alone.key),
        }

    def _do(self, step: Step, now_s: float) -> dict[str, Any]:
        queue = self._queue
        conversation_id, _, client_msg_id = step.get("key", "").partition(" ")
        match step["do"]:
            case "add":
                queue.add(PendingSend(conversation_id, client_msg_id, b"x" * step["bytes"], queue.next_order))
            case "take":
                return {"sent": [" ".join(send.key) for send in queue.take(now_s)]}
            case "putBack":
                too_fast_ms = step["tooFastMs"]
                too_fast_s = None if too_fast_ms is None else too_fast_ms / 1000
                ready_at_s = step["readyAtMs"] / 1000
                return {"was": queue.put_back(conversation_id, client_msg_id, ready_at_s, too_fast_s)}
            case "resolve":
                send = queue.resolve(conversation_id, client_msg_id, answered=step["answered"])
                return {"was": send is not None}
            case "hold":
                return {"isNews": queue.hold(conversation_id, client_msg_id, step["askAtMs"] / 1000)}
            case "pause":
                queue.pause(step["conversation"], step["readyAtMs"] / 1000)
            case "suspectAll":
                queue.suspect_all()
            case "disconnected":
                queue.disconnected()
        return {}


class MarksMachine:
    """What entries say of the message at seq 1, put on top of what a page said of it."""

    def __call__(self, step: Step) -> dict[str, Any]:
        page = step["page"]
        reactions = tuple(
            Reaction(it["reaction"], it["count"], tuple(it["userIds"])) for it in page["reactions"]
        )
        marks = Marks(page["headSeq"], None, reactions) if page["headSeq"] else None
        message = Message("c", 1, "m-1", "u-1", 1, {"type": step["type"]}, marks=marks)
        naming = [
            Message("c", it["seq"], "", it["senderId"], it["seq"], it["payload"]) for it in step["naming"]
        ]
        now = marked([message], naming)[0].marks or Marks(0)
        told = [
            {"reaction": it.reaction, "count": it.count, "userIds": list(it.user_ids)} for it in now.reactions
        ]
        return {"edit": None if now.edit is None else now.edit.payload, "reactions": told}


class MediaTypesMachine:
    """One file after the other."""

    def __call__(self, step: Step) -> dict[str, Any]:
        mimes = step["mimes"]
        if step["do"] == "show":
            return {"shown": [mime for mime in mimes if mime in SHOWN]}
        head = bytes.fromhex(step["head"])
        return {
            "types": list(types_of(head)),
            "mayBe": [mime for mime in mimes if may_be(mime, head)],
            "guessed": [mime for mime in mimes if likely(head, mime) == mime],
            "alone": likely(head, None),
        }


class StreamsMachine:
    """What is known of streamed messages: each as it was shown first, and all that was said of it since."""

    def __init__(self) -> None:
        self._streams = OpenStreams()
        self._held: dict[int, Message] = {}
        self._naming: list[Message] = []
        self._asked: list[int] = []
        self._connected()

    def __call__(self, step: Step) -> dict[str, Any]:
        grew = self._do(step)
        asks, self._asked = self._asked, []
        shown = [self._streams.shown(it) for it in marked([*self._held.values()], self._naming)]
        return {
            "grew": None if grew is None else [grew.seq, grew.parts, grew.text],
            "asks": asks,
            "shown": [[it.seq, it.text, it.is_open, it.is_cut_off] for it in shown],
        }

    def _do(self, step: Step) -> StreamGrew | None:
        seq = step["seq"]
        match step["do"]:
            case "begin":
                self._held.setdefault(seq, _stream(seq))
                self._streams.note(MessageReceived(self._held[seq]))
            case "part":
                return self._streams.part(
                    StreamPartPush("c", "e", f"m-{seq}", seq, step["part"], step["text"])
                )
            case "page":
                said = step["stream"]
                progress = None if said is None else StreamProgress(said["parts"], said["text"])
                message = _stream(seq, Marks(step["headSeq"], stream=progress))
                self._held.setdefault(seq, message)
                return self._streams.see(message)
            case "reaction":
                self._said(step, {"type": "REACTION", "reaction": "+"})
            case "end":
                text = {"type": "TEXT", "text": f"all of {seq}"}
                self._said(step, {"type": "EDIT", "payload": text, "ends": step["ends"]})
                edit = Edit(step["at"], 0, text, step["ends"])
                self._streams.note(MessageEdited("c", f"m-{seq}", seq, "u-1", edit))
            case "connected":
                self._connected()
            case "dropped":
                self._streams.dropped("c")
        return None

    def _said(self, step: Step, payload: dict[str, Any]) -> None:
        named = {**payload, "messageId": f"m-{step['seq']}", "seq": step["seq"]}
        self._naming.append(Message("c", step["at"], f"m-{step['at']}", "u-1", 0, named))

    def _connected(self) -> None:
        self._streams.connected(self._take)

    def _take(self) -> None:
        while (place := self._streams.take()) is not None:
            self._asked.append(place[1])


def _stream(seq: int, marks: Marks | None = None) -> Message:
    return Message("c", seq, f"m-{seq}", "u-1", 0, {"type": "STREAM", "text": ""}, None, marks)


class RenewalMachine:
    """One search for the last entry that two logs have in common."""

    def __init__(self) -> None:
        self._renewal = Renewal("", 0, 0, 0, 0)

    def __call__(self, step: Step) -> dict[str, Any]:
        is_over = False
        if step["do"] == "begin":
            self._renewal = Renewal("f", step["upToSeq"], step["floor"], step["deliveredSeq"], 0)
        else:
            held, listed = ({int(seq): id_ for seq, id_ in step[name].items()} for name in ("held", "listed"))
            is_over = self._renewal.compare(step["lastSeq"], step["upToSeq"], held, listed)
        return {"lastSeq": self._renewal.last_seq, "keptSeq": self._renewal.kept_seq, "over": is_over}


MACHINES: dict[str, Callable[[], Machine]] = {
    "backoff": BackoffMachine,
    "timeline": TimelineMachine,
    "resend": ResendMachine,
    "renewal": RenewalMachine,
    "marks": MarksMachine,
    "media_types": MediaTypesMachine,
    "streams": StreamsMachine,
}
