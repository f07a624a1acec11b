"""What each operation and event is asked with foreign ids, and the answer that it must give.

In an ask `{c}` is a conversation, `{m}` a message, `{b}` a file, `{u}` and `{d}` a user and device, `{me}` the one who
asks. It is sent twice: with the ids of things that are there, and with ids of the same form that name nothing. An
operation or event of the code that has no row here fails a test; so does a path with an id that no ask fills.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any, Final, Literal

Answer = Literal["NOT_FOUND", "NO_PATH", "SAME", "REFUSED", "OWN"]
"""What outsiders must be told.

`NOT_FOUND`: that code, to the byte as for a thing that does not exist. `NO_PATH`: to the byte as a path that does not
exist. `SAME`: whatever it is, the same for a thing that exists as for one that does not. `REFUSED`: an error, also
where that says that the id is taken. `OWN`: only of the one who asks; no foreign id goes in.
"""

FAKE_TOKEN: Final = "a push token of somebody"


@dataclass(frozen=True)
class Ask:
    """One request or event.

    Attributes:
        answer: What outsiders are to be told.
        query: Behind the path.
        body: JSON, or the fields of the event.
        path: In place of the operation's own path, which is filled in otherwise.
        insiders: Whether current members are asked too: they have not seen the message, and have no other rights.
    """

    answer: Answer = "NOT_FOUND"
    query: str = ""
    body: Any = None
    path: str = ""
    insiders: bool = False


_TEXT: Final = {"type": "TEXT", "text": "x"}
_SEND: Final = {"conversationId": "{c}", "clientMsgId": "k", "type": "TEXT", "content": "x"}
_NEW: Final = {"type": "GROUP", "title": "x"}
_FORGED: Final = "user={u}&bytes=20&type=image/png&expires=1800000060000&signature=" + "0" * 43
"""A link to a file as the server makes them, in the name of its owner, but for the signature."""

HTTP: Final[dict[str, tuple[Ask, ...]]] = {
    "POST /v1/messages/send": (
        Ask(body=_SEND),
        Ask("REFUSED", body={**_SEND, "senderId": "{u}"}, insiders=True),
    ),
    "GET /v1/conversations/{conversation_id}/messages": (
        Ask(),
        Ask(query="fromSeq=2&limit=1"),
        Ask(query="fromSeq=999"),
    ),
    "POST /v1/messages/{message_id}/delivered": (Ask(insiders=True),),
    "POST /v1/conversations/{conversation_id}/read": (Ask(query="upToSeq=1"), Ask(query="upToSeq=999")),
    "GET /v1/sync": (
        Ask(query="conversationId={c}&lastSeq=0"),
        Ask(query="conversationId={c}&lastSeq=3&limit=1"),
        Ask(query="conversationId={c}&lastSeq=999"),
    ),
    "GET /v1/messages/{message_id}/status": (
        Ask(insiders=True),
        Ask(query="cursor={u}/{d}", insiders=True),
    ),
    "POST /v1/messages/{message_id}/recall": (Ask(insiders=True),),
    "POST /v1/messages/{message_id}/report": (Ask(body={"reason": "spam"}, insiders=True),),
    "POST /v1/conversations": (
        Ask("REFUSED", body={**_NEW, "memberIds": ["{me}"], "conversationId": "{c}"}),
        Ask("REFUSED", body={"type": "SINGLE", "memberIds": ["{me}", "{u}", "{x}"]}),
    ),
    "GET /v1/conversations": (Ask("OWN"), Ask("SAME", query="cursor={c}")),
    "GET /v1/conversations/{conversation_id}": (Ask(),),
    "PATCH /v1/conversations/{conversation_id}": (
        Ask(body={"title": "mine"}),
        Ask(body={"ownerId": "{me}"}),
        Ask(body={"history": "FROM_START"}),
        Ask("REFUSED", body={"title": "mine"}, insiders=True),
        Ask("REFUSED", body={"ownerId": "{me}"}, insiders=True),
        Ask("REFUSED", body={"history": "FROM_START"}, insiders=True),
    ),
    "GET /v1/conversations/{conversation_id}/pins": (Ask(),),
    "GET /v1/conversations/{conversation_id}/members": (Ask(), Ask(query="cursor={u}")),
    "GET /v1/conversations/{conversation_id}/receipts": (Ask(), Ask(query="cursor={u}")),
    "POST /v1/conversations/{conversation_id}/members": (
        Ask(body={"userIds": ["{me}"]}),
        Ask(body={"userIds": ["{x}"]}),
        Ask("REFUSED", body={"userIds": ["{x}"]}, insiders=True),
    ),
    "DELETE /v1/conversations/{conversation_id}/members/{user_id}": (
        Ask(),
        Ask(path="/v1/conversations/{c}/members/{me}"),
        Ask("REFUSED", insiders=True),
    ),
    "PUT /v1/conversations/{conversation_id}/members/{user_id}/role": (
        Ask(body={"role": "ADMIN"}),
        Ask(body={"role": "ADMIN"}, path="/v1/conversations/{c}/members/{me}/role"),
        Ask("REFUSED", body={"role": "MEMBER"}, insiders=True),
        Ask("REFUSED", body={"role": "ADMIN"}, path="/v1/conversations/{c}/members/{me}/role", insiders=True),
    ),
    "PUT /v1/conversations/{conversation_id}/members/{user_id}/silence": (
        Ask(body={"until": None}),
        Ask("REFUSED", body={"until": None}, insiders=True),
    ),
    "DELETE /v1/conversations/{conversation_id}/members/{user_id}/silence": (
        Ask(),
        Ask("REFUSED", path="/v1/conversations/{c}/members/member-1/silence", insiders=True),
    ),
    "GET /v1/conversations/{conversation_id}/bans": (
        Ask(),
        Ask(query="cursor={u}"),
        Ask("REFUSED", insiders=True),
    ),
    "PUT /v1/conversations/{conversation_id}/bans/{user_id}": (
        Ask(),
        Ask("REFUSED", insiders=True),
    ),
    "DELETE /v1/conversations/{conversation_id}/bans/{user_id}": (
        Ask(),
        Ask(path="/v1/conversations/{c}/bans/{me}"),
        Ask("REFUSED", insiders=True),
    ),
    "GET /v1/presence": (Ask("SAME", query="users={u}"),),
    "GET /v1/search": (
        Ask(query="q=x&conversationId={c}"),
        Ask("SAME", query="q=x&senderId={u}"),
        Ask("SAME", query="q=x&cursor=7fffffffffffffff"),
    ),
    "POST /v1/blobs": (Ask("OWN", body={"key": "k", "bytes": 3, "mime": "image/png"}),),
    "GET /v1/blobs/{blob_id}": (Ask(insiders=True),),
    "PUT /v1/blobs/{blob_id}/content": (Ask("SAME"), Ask("SAME", query=_FORGED)),
    "GET /v1/blobs/{blob_id}/content": (Ask("SAME"), Ask("SAME", query=_FORGED)),
    "GET /v1/blocks": (Ask("OWN"), Ask("SAME", query="cursor={u}")),
    "POST /v1/blocks/{user_id}": (Ask("SAME"),),
    "DELETE /v1/blocks/{user_id}": (Ask("SAME"),),
    "GET /v1/push": (Ask("OWN"),),
    "POST /v1/devices": (Ask("SAME", body={"provider": "log", "token": FAKE_TOKEN, "deviceId": "{d}"}),),
    "DELETE /v1/devices/{device_id}/push": (Ask("SAME"),),
    "PUT /v1/conversations/{conversation_id}/mute": (Ask(body={"until": None}),),
    "DELETE /v1/conversations/{conversation_id}/mute": (Ask(),),
    "GET /v1/admin/openapi.json": (Ask("NO_PATH"),),
    "GET /v1/admin/messages/{message_id}": (Ask("NO_PATH"), Ask("NO_PATH", query="user={u}")),
    "GET /v1/admin/audit": (Ask("NO_PATH"),),
    "GET /v1/admin/users/{user_id}/export": (Ask("NO_PATH"),),
    "POST /v1/admin/users/{user_id}/erase": (Ask("NO_PATH", body={}),),
    "GET /v1/admin/moderation/held": (Ask("NO_PATH"),),
    "POST /v1/admin/moderation/held/{held_id}/release": (Ask("NO_PATH", body={}),),
    "POST /v1/admin/moderation/held/{held_id}/refuse": (Ask("NO_PATH", body={"reason": "x"}),),
    "GET /v1/admin/moderation/reports": (Ask("NO_PATH"),),
    "POST /v1/admin/moderation/reports/{message_id}/resolve": (Ask("NO_PATH", body={"resolution": "x"}),),
}

EVENTS: Final[dict[str, tuple[Ask, ...]]] = {
    "HELLO": (
        Ask("SAME", body={"token": "{me}/pad", "deviceId": "{d}"}),
        Ask("SAME", body={"resumeToken": "{resume}", "deviceId": "pad"}),
    ),
    "SEND_MSG": (Ask(body={"conversationId": "{c}", "clientMsgId": "k", "payload": _TEXT}),),
    "DELIVERED_ACK": (
        Ask(body={"conversationId": "{c}", "upToSeq": 1}),
        Ask(body={"conversationId": "{c}", "upToSeq": 999}),
        Ask(body={"conversationId": "{c}", "messageId": "{m}"}, insiders=True),
    ),
    "READ": (
        Ask(body={"conversationId": "{c}", "upToSeq": 1}),
        Ask(body={"conversationId": "{c}", "upToSeq": 999}),
    ),
    "SYNC": (
        Ask(body={"conversationId": "{c}", "lastSeq": 0}),
        Ask(body={"conversationId": "{c}", "lastSeq": 3, "limit": 1}),
        Ask(body={"conversationId": "{c}", "lastSeq": 0, "epoch": "e"}),
    ),
    "RECALL": (Ask(body={"messageId": "{m}"}, insiders=True),),
    "STREAM_PART": (
        Ask(body={"conversationId": "{c}", "messageId": "{m}", "part": 1, "text": "x"}, insiders=True),
        Ask(body={"conversationId": "{c}", "messageId": "{m}", "part": 0, "text": ""}, insiders=True),
    ),
    "TYPING": (Ask(body={"conversationId": "{c}"}),),
    "PRESENCE": (Ask("OWN", body={"state": "AWAY"}),),
    "AUTH_REFRESH": (
        Ask("SAME", body={"token": "{u}"}),
        Ask("SAME", body={"token": "{me}/{d}"}),
    ),
    "PING": (Ask("OWN", body={}),),
}
