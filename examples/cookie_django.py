"""A Django site whose users log in by Django's own session, with the chat under /chat.

Django has no lifespan, so a Starlette app holds both: the chat, then Django for all other paths. Whoever logs out of
Django, by whatever view, is logged out of the chat.

Run: `pip install django`, then `python examples/cookie_django.py 8000`. Open http://127.0.0.1:8000/ and log in as lina
(lighthouse) or omar (orchard), who have a conversation, the lobby. The page is in `site_users.py` beside it.
"""

from __future__ import annotations

import json
import secrets
import sys
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from typing import Any

import django
import uvicorn
from asgiref.sync import async_to_sync, sync_to_async
from django.conf import settings
from django.contrib.auth import authenticate, get_user, get_user_model, login, logout
from django.contrib.auth.signals import user_logged_out
from django.core.asgi import get_asgi_application
from django.core.management import call_command
from django.db import close_old_connections, transaction
from django.http import HttpRequest, HttpResponse, JsonResponse
from django.middleware.csrf import get_token
from django.urls import path
from django.views.decorators.http import require_POST
from site_users import DEMO_USERS, PAGE
from starlette.applications import Starlette
from starlette.routing import Mount

from chatkit import (
    ChatServer,
    Identity,
    LoginRequest,
    RequestLogin,
    UnauthenticatedError,
    asgi_app,
    open_store,
    user_id_from,
)
from chatkit.gateway.websocket_protocol import ChatHttpProtocol, ChatWebSocketProtocol

SETTINGS: dict[str, Any] = {  # your site has a settings.py
    "SECRET_KEY": secrets.token_hex(32),
    "ALLOWED_HOSTS": ["127.0.0.1"],
    "ROOT_URLCONF": __name__,
    "DATABASES": {"default": {"ENGINE": "django.db.backends.sqlite3", "NAME": "site.db"}},
    "INSTALLED_APPS": [
        "django.contrib.auth",
        "django.contrib.contenttypes",
        "django.contrib.sessions",
    ],
    "MIDDLEWARE": [
        "django.contrib.sessions.middleware.SessionMiddleware",
        "django.middleware.csrf.CsrfViewMiddleware",
        "django.contrib.auth.middleware.AuthenticationMiddleware",
    ],
    "PASSWORD_HASHERS": ["django.contrib.auth.hashers.ScryptPasswordHasher"],
}


def page(request: HttpRequest) -> HttpResponse:
    """The login and the chat."""
    csrf = f'<meta name="csrf" content="{get_token(request)}">'
    return HttpResponse(PAGE.replace("<title>", f"{csrf}<title>", 1))


@require_POST
def log_in(request: HttpRequest) -> HttpResponse:
    """Django's session for a right password."""
    try:
        given = json.loads(request.body)
        user = authenticate(request, username=given["user"], password=given["password"])
    except (ValueError, TypeError, KeyError):
        return JsonResponse({"error": "user and password are needed"}, status=400)
    if user is None:
        return JsonResponse({"error": "wrong user or password"}, status=401)
    login(request, user)
    return HttpResponse(status=204)


@require_POST
def log_out(request: HttpRequest) -> HttpResponse:
    """The end of the session; the signal that Django sends tells the chat."""
    logout(request)
    return HttpResponse(status=204)


urlpatterns = [path("", page), path("login", log_in), path("logout", log_out)]


def user_of(session_key: str) -> Identity | None:
    """Whose session it is. Django's tables are read in a thread, and its connections closed as after a request."""
    from django.contrib.sessions.backends.db import SessionStore
    from django.contrib.sessions.models import Session

    request = HttpRequest()
    request.session = SessionStore(session_key)
    close_old_connections()
    try:
        user = get_user(request)  # None for a user who was deleted, or has another password since
        stored = Session.objects.filter(session_key=session_key).first()
        if stored is None or not user.is_authenticated or not user.is_active:
            return None
    finally:
        close_old_connections()
    ends_ms = int(stored.expire_date.timestamp() * 1000)  # `get_expiry_date()` counts from now
    return Identity(user_id_from(user.get_username()), expires_ms=ends_ms)


async def by_session(request: LoginRequest) -> Identity:
    """Who a login is: a browser brings Django's cookie, an app the same words as its token."""
    session_key = request.token or request.cookies.get(settings.SESSION_COOKIE_NAME, "")
    identity = await sync_to_async(user_of, thread_sensitive=False)(session_key)
    if identity is None:
        raise UnauthenticatedError("log in on the page first")
    return identity


def set_up() -> None:
    """The tables, and two users; `manage.py migrate` and your sign-up do it in a site."""
    call_command("migrate", verbosity=0)
    users = get_user_model()
    for name, password in DEMO_USERS.items():
        if not users.objects.filter(username=name).exists():
            users.objects.create_user(name, password=password)


def create_app(origin: str) -> Starlette:
    """The site and the chat on one port.

    Args:
        origin: Where the site is reached; only its pages may connect with the cookie.
    """
    settings.configure(**SETTINGS)
    django.setup()
    server = ChatServer(store=open_store("sqlite:///chat.db"), authenticate=RequestLogin(by_session))

    def end_chat(sender: object, request: HttpRequest, user: Any, **_: object) -> None:
        """Django sends this before it ends the session, by which the chat's client would come back at once."""
        if user is None:
            return
        # Durable: an error within a transaction of the view, until whose end the chat would find the session.
        with transaction.atomic(durable=True):
            request.session.delete()  # Django does it again, which does no harm
        try:  # who is logged in elsewhere comes back: Django still knows them
            async_to_sync(server.revoke)(user_id=user_id_from(user.get_username()))
        except BaseException:
            request.session.save(must_create=True)  # still logged in: a second try revokes
            raise

    user_logged_out.connect(end_chat, weak=False)

    @asynccontextmanager
    async def lifespan(_: Starlette) -> AsyncIterator[None]:
        await sync_to_async(set_up)()
        async with server:
            await server.ensure_conversation("lobby", "GROUP", "lina", ["omar"], title="Lobby")
            yield

    chat = Mount("/chat", asgi_app(server, origins=[origin]))
    return Starlette(lifespan=lifespan, routes=[chat, Mount("/", get_asgi_application())])


def main(port: int = 8000) -> None:
    """Serve until SIGTERM or Ctrl-C."""
    app = create_app(f"http://127.0.0.1:{port}")
    uvicorn.run(app, port=port, http=ChatHttpProtocol, ws=ChatWebSocketProtocol, log_level="warning")


if __name__ == "__main__":
    main(*(int(argument) for argument in sys.argv[1:]))
