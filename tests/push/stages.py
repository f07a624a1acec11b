"""Each provider with a gateway that speaks as its service does."""

from __future__ import annotations

import json
import time
from base64 import urlsafe_b64encode
from collections import defaultdict, deque
from collections.abc import Callable
from functools import cache
from typing import Any, ClassVar

import anyio
import http_ece
from cryptography.hazmat.primitives.asymmetric import ec
from cryptography.hazmat.primitives.serialization import Encoding, NoEncryption, PrivateFormat, PublicFormat
from google.auth.credentials import Credentials

from chatkit.ports import Ports
from chatkit.push.apns import ApnsPushProvider
from chatkit.push.base import Push
from chatkit.push.fcm import FcmPushProvider
from chatkit.push.webhook import WebhookPushProvider
from chatkit.push.webpush import WebPushProvider
from chatkit.testing.contracts.push import BUSY_S, Act
from tests.servers.push_gateway import Fault, PushGateway, Reply, Request

TIMEOUT_S = 1.5
SECRET = "s" * 32
FAULTS = {Act.HANG: Fault.HANG, Act.CUT: Fault.CUT}
KEY = ec.generate_private_key(ec.SECP256R1())
PEM = KEY.private_bytes(Encoding.PEM, PrivateFormat.PKCS8, NoEncryption()).decode()
BUSY = {"retry-after": str(BUSY_S)}


class PassableClock:
    """The machine's clock, which a test may let go on."""

    def __init__(self) -> None:
        self.ahead_s = 0.0

    def now_s(self) -> float:
        return time.monotonic() + self.ahead_s

    def now_ms(self) -> int:
        return int((time.time() + self.ahead_s) * 1000)


class Stage:
    """`contracts.push.Stage` for one provider; each kind says how its service speaks."""

    answers: ClassVar[dict[Act, Reply]]
    timeout_s = TIMEOUT_S

    def __init__(self, **gateway: Any) -> None:
        self.clock = PassableClock()
        self.ports = Ports(clock=self.clock)
        self.gateway = PushGateway(self.answer, **gateway)
        self.arrived: list[str] = []
        self.planned: dict[str, deque[Act]] = defaultdict(deque)
        self.provider: Any = None

    async def __aenter__(self) -> Any:
        await self.gateway.__aenter__()
        self.provider = self.made()
        return self

    async def __aexit__(self, *_: object) -> None:
        await self.provider.aclose()
        with anyio.fail_after(5.0):
            while self.gateway.connections:
                await anyio.sleep(0.005)
        await self.gateway.__aexit__()

    def made(self, **settings: Any) -> Any:
        """A provider for this gateway."""
        raise NotImplementedError

    def common(self) -> dict[str, Any]:
        """What every provider is given."""
        return {"timeout_s": TIMEOUT_S, "ssl_context": self.gateway.trusting(), "ports": self.ports}

    def token(self, number: int) -> str:
        return f"{number:064x}"

    def push(
        self,
        number: int = 0,
        *,
        title: str | None = "Ann",
        body: str | None = "hello",
        expires_at_ms: int | None = None,
        **changes: Any,
    ) -> Push:
        return Push(
            **{
                "token": self.token(number),
                "collapse_id": f"c-{number}",
                "conversation_id": f"c-{number}",
                "message_id": f"m-{number}",
                "expires_at_ms": 2**50 if expires_at_ms is None else expires_at_ms,
                "title": title,
                "body": body,
            }
            | changes
        )

    def plan(self, push: Push, *acts: Act) -> None:
        self.planned[push.id] = deque(acts)

    def pass_s(self, seconds: float) -> None:
        self.clock.ahead_s += seconds

    def id_of(self, request: Request) -> str:
        raise NotImplementedError

    def answer(self, request: Request) -> Reply | Fault:
        name = self.id_of(request)
        self.arrived.append(name)
        acts = self.planned[name]
        act = acts.popleft() if acts else Act.ACCEPT
        return FAULTS[act] if act in FAULTS else self.reply(act, request)

    def reply(self, act: Act, request: Request) -> Reply:
        return self.answers[act]


def problem(status: int, reason: str, headers: dict[str, str] | None = None, **more: Any) -> Reply:
    """APNs says no."""
    return Reply(status, headers or {}, json.dumps({"reason": reason} | more).encode())


class ApnsStage(Stage):
    answers: ClassVar = {
        Act.BUSY: problem(429, "TooManyRequests", BUSY),
        Act.FAIL: problem(503, "ServiceUnavailable"),
        Act.DEAD: problem(410, "Unregistered", timestamp=1_700_000_000_000),
        Act.REFUSE: problem(400, "BadTopic"),
    }

    def made(self, **settings: Any) -> ApnsPushProvider:
        mine = {"key": PEM, "key_id": "ABC123DEFG", "team_id": "TEAM123456", "topic": "org.example.chat"}
        return ApnsPushProvider(**mine, url=self.gateway.url, **(self.common() | settings))

    def id_of(self, request: Request) -> str:
        return request.headers["apns-id"]

    def reply(self, act: Act, request: Request) -> Reply:
        return taken(request) if act is Act.ACCEPT else self.answers[act]


def taken(request: Request) -> Reply:
    """APNs takes it, and repeats its name."""
    return Reply(200, {"apns-id": request.headers["apns-id"]})


def fcm_error(status: int, word: str, code: str, headers: dict[str, str] | None = None) -> Reply:
    """FCM says no."""
    kind = "type.googleapis.com/google.firebase.fcm.v1.FcmError"
    details = [{"@type": kind, "errorCode": code}] if code else []
    error = {"code": status, "message": "no", "status": word, "details": details}
    return Reply(status, headers or {}, json.dumps({"error": error}).encode())


class FakeCredentials(Credentials):  # type: ignore[misc]
    """Credentials that count how often they are refreshed."""

    def __init__(self) -> None:
        super().__init__()
        self.refreshed = 0

    def refresh(self, request: Any) -> None:
        self.refreshed += 1
        self.token = f"access-{self.refreshed}"


class FcmStage(Stage):
    answers: ClassVar = {
        Act.ACCEPT: Reply(200, {}, b'{"name": "projects/chat/messages/0:1"}'),
        Act.BUSY: fcm_error(429, "RESOURCE_EXHAUSTED", "QUOTA_EXCEEDED", BUSY),
        Act.FAIL: fcm_error(503, "UNAVAILABLE", "UNAVAILABLE"),
        Act.DEAD: fcm_error(404, "NOT_FOUND", "UNREGISTERED"),
        Act.REFUSE: fcm_error(400, "INVALID_ARGUMENT", "INVALID_ARGUMENT"),
    }

    def __init__(self, credentials: Any = None, **gateway: Any) -> None:
        super().__init__(**gateway)
        self.credentials = credentials or FakeCredentials()

    def made(self, **settings: Any) -> FcmPushProvider:
        mine = {"project_id": "chat", "credentials": self.credentials, "url": self.gateway.url}
        return FcmPushProvider(**(mine | self.common() | settings))

    def id_of(self, request: Request) -> str:
        return str(json.loads(request.body)["message"]["data"]["pushId"])


@cache
def browser(number: int) -> tuple[Any, bytes]:
    """A browser's key and secret."""
    return ec.generate_private_key(ec.SECP256R1()), b"%016d" % number


def encoded(value: bytes) -> str:
    return urlsafe_b64encode(value).rstrip(b"=").decode()


def subscription(endpoint: str, number: int = 0) -> str:
    """What a browser gives the app."""
    key, secret = browser(number)
    point = key.public_key().public_bytes(Encoding.X962, PublicFormat.UncompressedPoint)
    keys = {"p256dh": encoded(point), "auth": encoded(secret)}
    return json.dumps({"endpoint": endpoint, "expirationTime": None, "keys": keys})


def decrypted(request: Request) -> dict[str, Any]:
    """What the browser of this endpoint reads."""
    key, secret = browser(int(request.path.rpartition("/")[2]))
    plain = http_ece.decrypt(request.body, private_key=key, auth_secret=secret, version="aes128gcm")
    return dict(json.loads(plain))


class WebPushStage(Stage):
    answers: ClassVar = {
        Act.ACCEPT: Reply(201, {"location": "https://push.test/m/1"}),
        Act.BUSY: Reply(429, BUSY),
        Act.FAIL: Reply(500),
        Act.DEAD: Reply(410),
        Act.REFUSE: Reply(413),
    }

    def made(self, **settings: Any) -> WebPushProvider:
        mine = {
            "key": PEM,
            "contact": "mailto:ops@example.org",
            "services": None,
            "private_addresses": True,
        }
        return WebPushProvider(**(mine | self.common() | settings))

    def token(self, number: int) -> str:
        return subscription(f"{self.gateway.url}/push/{number}", number)

    def id_of(self, request: Request) -> str:
        return str(decrypted(request)["id"])


class WebhookStage(Stage):
    answers: ClassVar = {
        Act.ACCEPT: Reply(204),
        Act.BUSY: Reply(429, BUSY),
        Act.FAIL: Reply(502),
        Act.DEAD: Reply(410),
        Act.REFUSE: Reply(422),
    }

    def made(self, **settings: Any) -> WebhookPushProvider:
        return WebhookPushProvider(
            url=f"{self.gateway.url}/hook", secret=SECRET, **(self.common() | settings)
        )

    def id_of(self, request: Request) -> str:
        return request.headers["chatkit-push-id"]


STAGES: dict[str, Callable[..., Stage]] = {
    "apns": ApnsStage,
    "fcm": FcmStage,
    "webpush": WebPushStage,
    "webhook": WebhookStage,
}
