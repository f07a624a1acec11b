"""Devices register for push, and members mute conversations: hostile values, other people's devices, and what it does.

What it does is seen at a server in this process, whose push provider notes what it is given; it is asked from outside.
"""

from __future__ import annotations

import time
from collections.abc import AsyncIterator, Sequence
from typing import Any

import anyio
import httpx
import msgspec
import pytest

from chatkit.push.base import Delivered, Push, Result
from chatkit.push.webpush import WebPushProvider
from chatkit.server.delivery.config import DeliveryConfig
from tests.push.stages import PEM, encoded, subscription

from .hosted import HostedServer, hosted
from .tokens import token
from .values import ABSENT, NO_STRINGS, without_absent
from .world import World, fresh, ok, refused

FOR_EVER = 2**53 - 1
SOUND: dict[str, Any] = {"provider": "apns", "token": "740f", "hideBody": False}
PUBLIC = "https://push.example.org/1"


def send_json(world: World, user: str, method: str, path: str, body: Any) -> httpx.Response:
    headers = {"Content-Type": "application/json"}
    return world.api(user).request(method, path, content=msgspec.json.encode(body), headers=headers)


# --- values ---

BAD: list[tuple[str, dict[str, Any]]] = [
    ("provider", NO_STRINGS | {"empty": "", "upper case": "APNS", "space": "a b", "33": "a" * 33, "NUL": "a\x00"}),
    ("provider", {"newline": "apns\n", "slash": "../apns", "wide": "到"}),
    ("token", NO_STRINGS | {"empty": "", "NUL": "a\x00b", "4097": "a" * 4097, "100 kB": "a" * 100_000}),
    ("hideBody", {"null": None, "int": 1, "text": "true", "list": []}),
    ("deviceId", {"null": None, "int": 1, "empty": "", "space": "a b", "dots": "..", "129": "x" * 129}),
]  # fmt: skip


@pytest.mark.parametrize(
    ("field", "value"),
    [pytest.param(field, value, id=f"{field}-{name}") for field, cases in BAD for name, value in cases.items()],
)  # fmt: skip
def test_a_wrong_value_registers_nothing(world: World, field: str, value: Any) -> None:
    body = without_absent(SOUND | {field: value})
    refused(send_json(world, world.user(), "POST", "/v1/devices", body), "BAD_REQUEST")


@pytest.mark.parametrize(
    "value", ["a" * 4096, "到" * 4096, '{"endpoint":"x"}', "a\nb", " "], ids=lambda it: it[:9]
)
def test_a_token_may_be_any_text(world: World, value: str) -> None:
    answer = world.api(world.user()).post("/v1/devices", json=SOUND | {"token": value})
    assert (answer.status_code, answer.content) == (204, b"")


@pytest.mark.parametrize(
    "value",
    [ABSENT, "5", 5.5, True, [], {}, 0, -1, 2**53, 10**30, "2026-01-01T00:00:00Z"],
    ids=str,
)
def test_a_wrong_end_mutes_nothing(world: World, value: Any) -> None:
    ann = world.user()
    group = world.group(ann)
    path = f"/v1/conversations/{group}/mute"
    refused(send_json(world, ann, "PUT", path, without_absent({"until": value})), "BAD_REQUEST")
    assert "mutedUntil" not in world.api(ann).row(group)


# --- whose device ---


def test_the_device_is_the_tokens_or_the_headers_or_the_bodys(world: World) -> None:
    ann = world.user()
    named, unnamed = world.api(ann, "phone"), world.api(ann, None)
    assert named.post("/v1/devices", json=SOUND).status_code == 204
    assert named.post("/v1/devices", json=SOUND | {"deviceId": "phone"}).status_code == 204
    assert unnamed.post("/v1/devices", json=SOUND, headers={"X-Device-Id": "tablet"}).status_code == 204
    assert unnamed.post("/v1/devices", json=SOUND | {"deviceId": "web"}).status_code == 204
    refused(unnamed.post("/v1/devices", json=SOUND), "BAD_REQUEST")


def test_a_body_that_names_another_device_is_refused(world: World) -> None:
    ann = world.user()
    body = SOUND | {"deviceId": "tablet"}
    refused(world.api(ann, "phone").post("/v1/devices", json=body), "FORBIDDEN")
    header = {"X-Device-Id": "phone"}
    refused(world.api(ann, None).post("/v1/devices", json=body, headers=header), "FORBIDDEN")
    refused(
        world.api(ann, None).post("/v1/devices", json=SOUND, headers={"X-Device-Id": "a b"}), "BAD_REQUEST"
    )


def test_no_registration_is_none_twice(world: World) -> None:
    for _ in range(2):
        assert world.api(world.user()).delete("/v1/devices/never-seen/push").status_code == 204


# --- mute ---


def test_a_mute_is_listed_until_its_end_for_its_user_alone(world: World) -> None:
    ann, bob = world.users(2)
    group = world.group(ann, bob)
    path, soon = f"/v1/conversations/{group}/mute", round(time.time() * 1000) + 600_000
    for until, listed in ((soon, soon), (None, FOR_EVER), (FOR_EVER, FOR_EVER), (1, None)):
        answer = send_json(world, ann, "PUT", path, {"until": until})
        assert (answer.status_code, answer.content) == (204, b"")
        assert world.api(ann).row(group).get("mutedUntil") == listed
        assert "mutedUntil" not in world.api(bob).row(group)
    send_json(world, ann, "PUT", path, {"until": None})
    for _ in range(2):
        assert world.api(ann).delete(path).status_code == 204
        assert "mutedUntil" not in world.api(ann).row(group)


def test_a_mute_ends_with_the_membership(world: World) -> None:
    ann, bob = world.users(2)
    group = world.group(ann, bob)
    assert send_json(world, bob, "PUT", f"/v1/conversations/{group}/mute", {"until": None}).status_code == 204
    ok(world.remove(ann, group, bob))
    refused(world.api(bob).delete(f"/v1/conversations/{group}/mute"), "NOT_FOUND")
    ok(world.add(ann, group, bob))
    assert "mutedUntil" not in world.api(bob).row(group)


# --- what it does ---


class NotingProvider:
    """Takes every push; `until` waits for the one about a message."""

    def __init__(self) -> None:
        self.pushes: list[Push] = []
        self._changed = anyio.Event()

    async def send(self, batch: Sequence[Push]) -> list[Result]:
        self.pushes += batch
        changed, self._changed = self._changed, anyio.Event()
        changed.set()
        return [Delivered(push.id) for push in batch]

    async def aclose(self) -> None:
        """There is nothing to close."""

    async def until(self, message_id: str, device_token: str) -> dict[str, Push]:
        """Wait for the push to this token; all pushes about the message, which leave together, by token."""
        with anyio.fail_after(20):
            while True:
                found = {it.token: it for it in self.pushes if it.message_id == message_id}
                if device_token in found:
                    return found
                await self._changed.wait()


class Site:
    """A server with push, and HTTP to it as anybody."""

    def __init__(self, host: HostedServer, provider: NotingProvider, http: httpx.AsyncClient) -> None:
        self.host = host
        self.provider = provider
        self.http = http

    async def ask(
        self, user: str, device: str | None, method: str, path: str, body: Any = None
    ) -> httpx.Response:
        headers = {"authorization": f"Bearer {token(user, device, iat=time.time())}"}
        return await self.http.request(method, path, json=body, headers=headers)

    async def register(self, user: str, device: str, device_token: str, **more: Any) -> None:
        body = {"provider": "apns", "token": device_token, **more}
        assert (await self.ask(user, device, "POST", "/v1/devices", body)).status_code == 204

    async def pushed(self, group: str, text: str = "hello") -> dict[str, Push]:
        """Who is woken when ben says something: cat always is, so whoever is missing was left out."""
        body = {"conversationId": group, "clientMsgId": fresh("k"), "type": "TEXT", "content": text}
        sent = ok(await self.ask("ben", "pc", "POST", "/v1/messages/send", body))
        return await self.provider.until(sent["messageId"], "of cat")


@pytest.fixture
async def site() -> AsyncIterator[Site]:
    provider = NotingProvider()
    push = {
        "apns": provider,
        "webpush": WebPushProvider(key=PEM, contact="mailto:ops@example.org", services=None),
    }
    delivery = DeliveryConfig(push_after_s=0, poll_s=0.02)
    async with (
        hosted(push=push, delivery=delivery) as host,
        httpx.AsyncClient(base_url=f"http://127.0.0.1:{host.port}", trust_env=False) as http,
    ):
        site = Site(host, provider, http)
        body = {"type": "GROUP", "memberIds": ["ann", "cat"], "conversationId": "g"}
        assert (await site.ask("ben", "pc", "POST", "/v1/conversations", body)).status_code == 201
        await site.register("cat", "phone", "of cat")
        yield site
    await push["webpush"].aclose()


async def test_a_registered_device_is_woken_until_it_takes_that_back(site: Site) -> None:
    await site.register("ann", "phone", "first")
    await site.register("ann", "tablet", "other")
    assert set(await site.pushed("g")) == {"of cat", "first", "other"}
    await site.register("ann", "phone", "second", hideBody=True)
    pushed = await site.pushed("g", "a secret")
    assert set(pushed) == {"of cat", "second", "other"}
    assert ("secret" in str(pushed["other"].body), "secret" in str(pushed["second"].body)) == (True, False)
    assert (await site.ask("ann", "phone", "DELETE", "/v1/devices/phone/push")).status_code == 204
    assert set(await site.pushed("g")) == {"of cat", "other"}


async def test_one_of_ones_own_devices_is_taken_back_from_another(site: Site) -> None:
    await site.register("ann", "phone", "lost")
    assert (await site.ask("ann", "tablet", "DELETE", "/v1/devices/phone/push")).status_code == 204
    assert set(await site.pushed("g")) == {"of cat"}


async def test_nobody_touches_the_device_of_another_user(site: Site) -> None:
    await site.register("ann", "phone", "of ann")
    assert (await site.ask("eve", "pc", "DELETE", "/v1/devices/phone/push")).status_code == 204
    assert (await site.ask("eve", None, "DELETE", "/v1/devices/phone/push")).status_code == 204
    await site.register("eve", "phone", "of eve")
    assert set(await site.pushed("g")) == {"of cat", "of ann"}


async def test_a_token_belongs_to_who_registered_it_last(site: Site) -> None:
    await site.register("ann", "phone", "shared phone")
    await site.register("eve", "phone", "shared phone")
    assert set(await site.pushed("g")) == {"of cat"}


async def test_a_revoked_device_is_woken_no_more(site: Site) -> None:
    await site.register("ann", "phone", "phone")
    await site.register("ann", "tablet", "tablet")
    await site.host.revoke(user_id="ann", device_id="phone")
    assert set(await site.pushed("g")) == {"of cat", "tablet"}
    await site.host.revoke(user_id="ann")
    assert set(await site.pushed("g")) == {"of cat"}


async def test_a_login_that_was_revoked_registers_nothing(site: Site) -> None:
    signed = token("ann", "phone", iat=time.time())
    await site.host.revoke(token=signed)
    headers = {"authorization": f"Bearer {signed}"}
    for method, path, body in (
        ("POST", "/v1/devices", SOUND),
        ("DELETE", "/v1/devices/phone/push", None),
        ("PUT", "/v1/conversations/g/mute", {"until": None}),
        ("DELETE", "/v1/conversations/g/mute", None),
    ):
        refused(await site.http.request(method, path, json=body, headers=headers), "TOKEN_REVOKED")
    assert set(await site.pushed("g")) == {"of cat"}


async def test_a_muted_conversation_wakes_nobody_who_muted_it(site: Site) -> None:
    await site.register("ann", "phone", "of ann")
    assert (
        await site.ask("ann", None, "PUT", "/v1/conversations/g/mute", {"until": None})
    ).status_code == 204
    assert set(await site.pushed("g")) == {"of cat"}
    assert (await site.ask("ann", None, "DELETE", "/v1/conversations/g/mute")).status_code == 204
    assert set(await site.pushed("g")) == {"of cat", "of ann"}


# --- what there is ---


async def test_what_there_is_to_register_with_is_told_without_a_token(site: Site) -> None:
    key = site.host.push["webpush"].application_server_key  # type: ignore[index,attr-defined]
    assert ok(await site.http.get("/v1/push")) == {
        "providers": ["apns", "webpush"],
        "webPushProvider": "webpush",
        "vapidPublicKey": key,
    }


def test_a_server_without_providers_says_so(world: World) -> None:
    assert ok(world.http.get("/v1/push")) == {"providers": []}


async def test_an_unknown_provider_is_refused_and_the_others_are_named(site: Site) -> None:
    answer = await site.ask("ann", "phone", "POST", "/v1/devices", SOUND | {"provider": "fcm"})
    assert refused(answer, "BAD_REQUEST")["detail"].endswith(": apns, webpush")


NO_POINT = {
    "endpoint": PUBLIC,
    "keys": {"p256dh": encoded(b"\4" + b"\1" * 64), "auth": encoded(b"%016d" % 0)},
}
BAD_SUBSCRIPTIONS = {
    "no JSON": "740f",
    "nothing": "{}",
    "list": "[]",
    "no keys": '{"endpoint": "https://push.example.org/1"}',
    "http": subscription("http://push.example.org/1"),
    "user and password": subscription("https://a:b@push.example.org/1"),
    "no host": subscription("https:///1"),
    "no port": subscription("https://push.example.org:99999/1"),
    "newline": subscription("https://push.example.org/1\nX: y"),
    "loopback": subscription("https://127.0.0.1/1"),
    "loopback of IPv6": subscription("https://[::1]:8443/1"),
    "link local": subscription("https://169.254.169.254/latest/meta-data"),
    "inside": subscription("https://10.1.2.3/1"),
    "short secret": subscription(PUBLIC).replace(encoded(b"%016d" % 0), "AAAA"),
    "no point of the curve": msgspec.json.encode(NO_POINT).decode(),
}


async def test_what_is_no_subscription_is_refused_at_once(site: Site) -> None:
    codes = {}
    for name, subscribed in BAD_SUBSCRIPTIONS.items():
        body = {"provider": "webpush", "token": subscribed}
        codes[name] = (await site.ask("ann", "web", "POST", "/v1/devices", body)).json()["code"]
    assert codes == dict.fromkeys(BAD_SUBSCRIPTIONS, "BAD_REQUEST")


async def test_a_subscription_is_taken(site: Site) -> None:
    body = {"provider": "webpush", "token": subscription(PUBLIC)}
    assert (await site.ask("ann", "web", "POST", "/v1/devices", body)).status_code == 204
