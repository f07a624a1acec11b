"""What the vectors do: named scripts, and random walks from fixed seeds. `record` adds what they lead to."""

from __future__ import annotations

from collections.abc import Callable, Generator, Iterable, Iterator
from random import Random
from typing import Any

Step = dict[str, Any]
Scripts = dict[str, Iterable[Step] | Generator[Step, dict[str, Any], None]]
"""By name. A generator is sent what its last step led to."""

WALKS = 6


def _at(now_ms: int, do: str, **fields: Any) -> Step:
    return {"do": do, "nowMs": now_ms, **fields}


def _add(*keys: str, size: int = 20) -> list[Step]:
    return [_at(0, "add", key=key, bytes=size) for key in keys]


def _put_back(now_ms: int, key: str, ready_at_ms: int, too_fast_ms: int | None = None) -> Step:
    return _at(now_ms, "putBack", key=key, readyAtMs=ready_at_ms, tooFastMs=too_fast_ms)


def _resolve(now_ms: int, key: str, *, answered: bool = True) -> Step:
    return _at(now_ms, "resolve", key=key, answered=answered)


def backoff() -> Scripts:
    """Every attempt with and without a wait that the server asked for."""
    asked = (None, 0, 400, 15_000, 10**9)
    steps = [
        {
            "do": "delay",
            "attempt": attempt,
            "random": random,
            "retryAfterMs": ms,
            "baseMs": 500,
            "maxMs": 20_000,
        }
        for attempt in (1, 2, 5, 6, 7, 40, 2_000)
        for random in (0.0, 0.25, 0.75)
        for ms in asked
    ]
    return {"full jitter, never shorter than asked, believed up to five minutes": steps}


def resend() -> Scripts:
    """The rules of order under refusal, review and lost connections."""
    held = [*_add("c a"), _at(0, "take"), _at(0, "hold", key="c a", askAtMs=5_000)]
    scripts: Scripts = {
        "refused for now, then seen in the log: it is sent once more, for the server waits for it": [
            *_add("c a", "c b"),
            _at(0, "take"),
            _put_back(10, "c a", 1_000),
            _resolve(20, "c a", answered=False),
            _put_back(30, "c b", 1_000),
            _at(999, "take"),
            _at(1_001, "take"),
            _resolve(1_010, "c a"),
            _resolve(1_020, "c b"),
        ],
        "seen in the log before its refusal comes": [
            *_add("c a", "c b"),
            _at(0, "take"),
            _resolve(10, "c a", answered=False),
            _put_back(20, "c a", 1_000),
            _put_back(30, "c b", 1_000),
            _at(1_001, "take"),
        ],
        "what the log showed is owed nothing by the next connection": [
            *_add("c a", "c b", "c c"),
            _at(0, "take"),
            _put_back(10, "c a", 1_000),
            _resolve(20, "c a", answered=False),
            _resolve(20, "c b", answered=False),
            _at(30, "disconnected"),
            _at(1_001, "take"),
        ],
        "refusals wait for every answer under way, then all goes in order": [
            *_add("c a", "c b", "c c", "d x"),
            _at(0, "take"),
            _put_back(10, "c a", 5_000),
            *_add("c e"),
            _at(9_000, "take"),
            _put_back(9_001, "c b", 5_000),
            _put_back(9_001, "c c", 9_500),
            _at(9_499, "take"),
            _at(9_501, "take"),
        ],
        "who was too fast goes on one by one": [
            *_add("c a", "c b", "c c"),
            _at(0, "take"),
            *(_put_back(1, key, 2_000, 1_600) for key in ("c a", "c b", "c c")),
            _at(2_001, "take"),
            _resolve(2_100, "c a"),
            _at(3_600, "take"),
            _at(3_602, "take"),
            _put_back(3_700, "c b", 6_000, 1_600),
            _at(6_001, "take"),
            _resolve(6_100, "c b"),
            _at(9_000, "take"),
            _at(9_202, "take"),
        ],
        "held: the rest goes on, and it is asked about after a wait": [
            *held,
            *_add("c b"),
            _at(10, "take"),
            _resolve(20, "c b"),
            _at(4_999, "take"),
            _at(5_001, "take"),
            _at(5_100, "hold", key="c a", askAtMs=9_000),
            _at(9_001, "take"),
            _resolve(9_100, "c a"),
        ],
        "held: nothing is asked while anything of the conversation is unanswered or refused": [
            *held,
            *_add("c b"),
            _at(10, "take"),
            _at(5_001, "take"),
            _put_back(5_010, "c b", 7_000),
            _at(6_000, "take"),
            _at(7_001, "take"),
            _resolve(7_100, "c b"),
            _at(7_101, "take"),
        ],
        "the end of a review answers no send: the server may still wait for that key": [
            *_add("c a", "c b"),
            _at(0, "take"),
            _put_back(1, "c a", 500),
            _resolve(2, "c a", answered=False),
            _put_back(3, "c b", 500),
            _at(501, "take"),
            _at(510, "hold", key="c a", askAtMs=9_000),
            _resolve(520, "c b"),
            _at(9_001, "take"),
        ],
        "held: each connection asks once": [
            *held,
            _at(10, "disconnected"),
            _at(11, "take"),
            _resolve(20, "c a"),
        ],
        "what was under way when three connections ended goes alone": [
            *_add("c a", "d x"),
            *[_at(0, "take"), _at(1, "disconnected")] * 3,
            _at(2, "take"),
            _resolve(3, "c a"),
            _at(4, "take"),
        ],
        "a frame was too large: each that was under way goes alone": [
            *_add("c a", "c b"),
            _at(0, "take"),
            _at(1, "suspectAll"),
            _at(1, "disconnected"),
            _at(2, "take"),
            _resolve(3, "c a"),
            _at(4, "take"),
            _at(5, "disconnected"),
            _at(5, "pause", conversation="c", readyAtMs=900),
            _at(6, "take"),
            _at(901, "take"),
        ],
        "large messages fill the window by their bytes": [
            *_add("c a", "c b", "c c", size=65_535),
            _at(0, "take"),
            *_add("d x"),
            _at(1, "take"),
            _resolve(2, "c a"),
            _resolve(3, "c b"),
            _at(4, "take"),
        ],
    }
    return scripts | {f"walk {seed}": list(_resend_walk(Random(seed))) for seed in range(WALKS)}


def _resend_walk(rng: Random) -> Iterator[Step]:
    """A server that refuses, holds, answers and breaks as it likes. Times never meet, so that no rounding decides."""
    keys: list[str] = []
    now_ms = 0
    for number in range(160):
        now_ms += 2 * rng.randrange(1, 400)
        key = rng.choice(keys) if keys else "c none"
        later_ms = now_ms + 1 + 2 * rng.randrange(1, 3_000)
        kind = rng.choices(
            ("add", "take", "putBack", "resolve", "hold", "disconnected", "pause"), (20, 34, 14, 20, 6, 5, 1)
        )[0]
        match kind:
            case "add":
                keys.append(f"{rng.choice('cd')} k{number}")
                yield _at(now_ms, "add", key=keys[-1], bytes=rng.choice((20, 20, 60_000)))
            case "putBack":
                yield _put_back(now_ms, key, later_ms, rng.choice((None, None, 401, 1_601)))
            case "resolve":
                yield _resolve(now_ms, key, answered=rng.random() < 0.7)
            case "hold":
                yield _at(now_ms, "hold", key=key, askAtMs=later_ms)
            case "pause":
                yield _at(now_ms, "pause", conversation=rng.choice("cd"), readyAtMs=later_ms)
            case _:
                yield _at(now_ms, kind)


def timeline() -> Scripts:
    """Order, gaps, repeats and early recalls."""
    text = {"type": "TEXT"}
    recall = {"seq": 3, "type": "RECALL", "target": 2}
    page = {"do": "page", "lastSeq": 0, "upToSeq": 3, "headSeq": 5, "entries": [{"seq": 2, **text}]}
    scripts: Scripts = {
        "a recall that comes before what it names": [
            {"do": "push", "entry": recall},
            {"do": "push", "entry": {"seq": 2, **text}},
            {"do": "push", "entry": {"seq": 1, **text}},
        ],
        "a page passes over what is not visible": [
            {"do": "head", "seq": 4},
            page,
            {"do": "push", "entry": {"seq": 5, **text}},
            page,
            {"do": "page", "lastSeq": 3, "upToSeq": 5, "headSeq": 5, "entries": [{"seq": 5, **text}]},
        ],
        "a page that starts above the prefix is passed over": [
            {"do": "page", "lastSeq": 2, "upToSeq": 4, "headSeq": 4, "entries": [{"seq": 3, **text}]}
        ],
        "a page's tombstone wins over a body that is held": [
            {"do": "push", "entry": {"seq": 2, **text}},
            {
                "do": "page",
                "lastSeq": 0,
                "upToSeq": 2,
                "headSeq": 2,
                "entries": [{"seq": 1, **text}, {"seq": 2, "type": "RECALLED"}],
            },
        ],
    }
    return scripts | {f"walk {seed}": list(_timeline_walk(Random(seed))) for seed in range(WALKS)}


def _timeline_walk(rng: Random) -> Iterator[Step]:
    """A log of 40 entries, some invisible, some recalls; pushes in any order, and pages as a server makes them."""
    log: dict[int, dict[str, Any]] = {}
    for seq in range(1, 41):
        texts = [one["seq"] for one in log.values() if one["type"] == "TEXT"]
        if rng.random() < 0.12:
            continue
        log[seq] = {"seq": seq, "type": "TEXT"}
        if texts and rng.random() < 0.2:
            log[seq] = {"seq": seq, "type": "RECALL", "target": rng.choice(texts)}
            edits = [one for one in texts if one > log[seq]["target"]]
            if edits and rng.random() < 0.5:
                log[seq]["edits"] = [rng.choice(edits)]
    recalls = [one for one in log.values() if one["type"] == "RECALL"]
    recalled = {seq for one in recalls for seq in (one["target"], *one.get("edits", ()))}
    reached = 0
    for _ in range(90):
        reached = min(40, reached + rng.randrange(3))
        near = [log[seq] for seq in log if seq <= reached + 1]
        if rng.random() < 0.75 and near:
            yield {"do": "push", "entry": rng.choice(near[-8:])}
            continue
        last_seq = rng.randrange(0, max(1, reached))
        up_to_seq = min(40, last_seq + rng.randrange(1, 9))
        entries = [log[seq] for seq in log if last_seq < seq <= up_to_seq]
        entries = [one if one["seq"] not in recalled else {**one, "type": "RECALLED"} for one in entries]
        yield {
            "do": "page",
            "lastSeq": last_seq,
            "upToSeq": up_to_seq,
            "headSeq": max(reached, up_to_seq),
            "entries": entries,
        }


def marks() -> Scripts:
    """Edits and reactions of few users, in any order, some twice; on top of pages, of which some name only a part."""
    return {f"walk {seed}": list(_marks_walk(Random(seed))) for seed in range(WALKS)}


def _marks_walk(rng: Random) -> Iterator[Step]:
    for _ in range(12):
        users = [f"u-{number}" for number in range(rng.choice((2, 4, 60)))]
        named = users[: rng.randrange(len(users))][:50]
        count = len(named) + rng.choice((0, 0, 9))
        head_seq = rng.choice((0, 6))
        naming = [_naming(rng, seq, rng.choice(users)) for seq in range(2, 2 + rng.choice((0, 6, 70)))]
        naming += rng.sample(naming, min(2, len(naming)))
        rng.shuffle(naming)
        reactions = [{"reaction": "+", "count": count, "userIds": named}] if head_seq and count else []
        yield {
            "do": "read",
            "type": rng.choice(("TEXT", "TEXT", "TEXT", "RECALLED")),
            "page": {"headSeq": head_seq, "reactions": reactions},
            "naming": naming,
        }


def _naming(rng: Random, seq: int, user_id: str) -> Step:
    named = {"messageId": "m-1", "seq": rng.choice((1, 1, 1, 1, 99))}
    if rng.random() < 0.3:
        author = rng.choice(("u-1", "u-1", user_id))
        payload = {"type": "EDIT", **named, "payload": {"type": "TEXT", "text": f"t{seq}"}}
        return {"seq": seq, "senderId": author, "payload": payload}
    removed = {"removed": True} if rng.random() < 0.3 else {}
    payload = {"type": "REACTION", **named, "reaction": rng.choice("+-"), **removed}
    return {"seq": seq, "senderId": user_id, "payload": payload}


def renewal() -> Scripts:
    """Two logs that part somewhere."""
    return {f"walk {seed}": _renewal_walk(Random(seed)) for seed in range(WALKS)}


def _renewal_walk(rng: Random) -> Generator[Step, dict[str, Any], None]:
    """Pages of two logs that part somewhere, asked for where the search says or, late, elsewhere."""
    up_to_seq, floor = rng.randrange(60, 200), rng.randrange(0, 40)
    parted = rng.choice((0, rng.randrange(0, up_to_seq), up_to_seq))
    hidden = {seq for seq in range(1, up_to_seq + 1) if rng.random() < 0.2}
    held = {seq: f"m-{seq}" for seq in range(floor + 1, up_to_seq + 1) if rng.random() < 0.9}
    listed = {seq: f"m-{seq}" if seq <= parted else f"n-{seq}" for seq in range(1, up_to_seq + 1)}
    then = yield {
        "do": "begin",
        "upToSeq": up_to_seq,
        "floor": floor,
        "deliveredSeq": rng.randrange(0, up_to_seq),
    }
    while not then["over"]:
        last_seq = then["lastSeq"] if rng.random() < 0.8 else rng.randrange(0, up_to_seq)
        window = range(last_seq + 1, last_seq + rng.choice((20, 50)) + 1)
        then = yield {
            "do": "compare",
            "lastSeq": last_seq,
            "upToSeq": window[-1],
            "held": {str(seq): held[seq] for seq in window if seq in held},
            "listed": {str(seq): listed[seq] for seq in window if seq in listed and seq not in hidden},
        }


def streams() -> Scripts:
    """Streamed messages: parts in any order, some twice, some lost, with pages, reactions and ends in between."""
    return {f"walk {seed}": list(_streams_walk(Random(seed))) for seed in range(WALKS)}


def _streams_walk(rng: Random) -> Iterator[Step]:
    parts = {seq: [f"{seq}.{number} " for number in range(1, 13)] for seq in (1, 2, 3)}
    reached = dict.fromkeys(parts, 0)
    ended: set[int] = set()
    for number in range(120):
        seq = rng.choice((1, 2, 3))
        reached[seq] = min(12, reached[seq] + rng.randrange(2))
        kinds = {"begin": 12, "part": 60, "page": 10, "reaction": 8, "end": 3, "connected": 4, "dropped": 4}
        kind = rng.choices([*kinds], [*kinds.values()])[0]
        if seq in ended and kind in ("begin", "end"):
            continue
        match kind:
            case "part":
                part = max(1, reached[seq] + rng.choice((0, 0, 0, 0, -1, 1)))
                yield {"do": "part", "seq": seq, "part": part, "text": f"{seq}.{part} "}
            case "page":
                text = "".join(parts[seq][: reached[seq]])
                stream = {"parts": reached[seq], "text": text} if rng.random() < 0.8 else None
                yield {"do": "page", "seq": seq, "headSeq": 10 + number, "stream": stream}
            case "reaction" | "end":
                ended |= {seq} if kind == "end" else set()
                yield {"do": kind, "seq": seq, "at": 10 + number, "ends": rng.choice(("WHOLE", "CUT_OFF"))}
            case _:
                yield {"do": kind, "seq": seq}


_HEADS = (
    b"",
    b"hello",
    b"<svg>",
    b"<html>",
    b"\x89PNG\r\n\x1a\n\0",
    b"\x89PNG",
    b"\xff\xd8\xff\xe0",
    b"GIF87a",
    b"GIF89a!",
    *(b"RIFF\x10\0\0\0" + form for form in (b"WEBPVP8 ", b"WAVEfmt ", b"AVI LIST", b"????", b"")),
    *(
        b"\0\0\0\x18ftyp" + brand
        for brand in (b"isom", b"M4A ", b"heic", b"heix", b"mif1", b"msf1", b"avif", b"avis", b"qt  ", b"")
    ),
    b"\xff\xfb\x90\x64",
    b"\xff\xf1\x50\x80",
    b"\xff\xf9",
    b"\xff\xeb\x00",
    b"\xff\xfd",
    b"\xff",
    b"\xff\xfeh\0i\0",
    b"ID3\x04",
    b"OggS\0",
    b"fLaC",
    b"#!AMR",
    b"II*\0",
    b"MM\0*",
    b"BM",
    b"%PDF-1.7",
    b"PK\x03\x04",
    b"\x1a\x45\xdf\xa3",
)
_DECLARED = (
    *(
        "image/png",
        "image/apng",
        "image/jpeg",
        "image/gif",
        "image/webp",
        "image/avif",
        "image/heic",
        "image/heif",
    ),
    *(
        "image/tiff",
        "image/bmp",
        "image/svg+xml",
        "audio/mpeg",
        "audio/aac",
        "audio/mp4",
        "audio/wav",
        "audio/ogg",
    ),
    *(
        "audio/flac",
        "audio/amr",
        "audio/webm",
        "video/mp4",
        "video/quicktime",
        "video/webm",
        "video/avi",
        "video/3gpp",
    ),
    *("application/pdf", "application/ogg", "application/octet-stream", "text/plain", "text/html", "x"),
)


def media_types() -> Scripts:
    """Every beginning under every type."""
    steps = [{"do": "look", "head": head.hex(), "mimes": list(_DECLARED)} for head in _HEADS]
    return {"what a file is, and what may be said of it": [{"do": "show", "mimes": list(_DECLARED)}, *steps]}


SCRIPTS: dict[str, Callable[[], Scripts]] = {
    "backoff": backoff,
    "timeline": timeline,
    "resend": resend,
    "renewal": renewal,
    "marks": marks,
    "media_types": media_types,
    "streams": streams,
}
