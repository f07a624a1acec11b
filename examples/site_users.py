"""What the sites of the `cookie_...` examples have in common: users and logins in a SQLite database, and a page.

It stands for the user table that your site has. A password is kept as a slow hash, a login as the digest of its cookie.
`PAGE` is the site's only page, with chatkit's JavaScript client.

Run: `python examples/site_users.py site.db lina` asks for a password and adds a user, or changes their password. A chat
that is open then goes on until its connection ends; to end it at once, restart the site.
"""

from __future__ import annotations

import getpass
import hashlib
import hmac
import secrets
import sqlite3
import sys
import time
from collections.abc import Iterator, Mapping
from contextlib import closing, contextmanager
from pathlib import Path

import anyio.to_thread

from chatkit import Identity, LoginRequest, UnauthenticatedError

COOKIE = "session"
SESSION_S = 14 * 24 * 3600
DAY_MS = 24 * 3600 * 1000
DEMO_USERS = {"lina": "lighthouse", "omar": "orchard"}
SCHEMA = """
CREATE TABLE IF NOT EXISTS user (name TEXT PRIMARY KEY, salt BLOB NOT NULL, hash BLOB NOT NULL);
CREATE TABLE IF NOT EXISTS login (digest BLOB PRIMARY KEY, name TEXT NOT NULL, ends_ms INTEGER NOT NULL);
"""
PAGE = """<!doctype html><meta charset="utf-8"><title>A site with a chat</title><link rel="icon" href="data:,">
<form id="in">
  <input name="user" placeholder="your name"><input name="password" type="password"><button>Log in</button>
</form>
<button id="out">Log out</button><p id="state"></p>
<ul id="log"></ul>
<form id="write"><input name="text" autocomplete="off"><button>Send</button></form>
<script type="module">
import { ChatClient, contentOf } from "/chat/v1/client/chatkit.js";
const at = id => document.getElementById(id);
const client = new ChatClient();  // without a token the browser's cookie is the login

client.addEventListener("change", () => {
  const { state, reason } = client.status;
  at("state").textContent = client.online ? `logged in as ${client.me}` : reason || state;
  const messages = [...(client.conversation("lobby")?.messages ?? []), ...client.pending("lobby")];
  at("log").replaceChildren(...messages.map(message => {
    const line = document.createElement("li");
    line.textContent = `${message.senderId ?? client.me}: ${contentOf(message).text ?? contentOf(message).type}`;
    return line;
  }));
});
at("write").onsubmit = event => {
  event.preventDefault();
  client.send("lobby", new FormData(event.target).get("text")).catch(error => at("state").textContent = error.message);
  event.target.reset();
};
await client.start();

async function post(path, body) {
  const csrf = document.querySelector("meta[name=csrf]")?.content ?? "";  // where the framework asks for one
  const headers = {"Content-Type": "application/json", "X-CSRFToken": csrf};
  const answer = await fetch(path, {method: "POST", headers, body: JSON.stringify(body)});
  if (answer.ok) location.reload();
  else at("state").textContent = answer.status < 500 ? "wrong name or password" : "that failed, try again";
}
at("in").onsubmit = event => {
  event.preventDefault();
  post("/login", Object.fromEntries(new FormData(event.target)));
};
at("out").onclick = async () => {
  await client.forget();
  await post("/logout", {});
};
</script>"""


def is_of_own_page(headers: Mapping[str, str], origin: str) -> bool:
    """Whether a POST is from a script on a page of the site. No other page can send JSON there under that origin, so
    none can log a visitor in as somebody else, or out (login CSRF)."""
    kind = headers.get("content-type", "").partition(";")[0].strip().lower()
    return kind == "application/json" and headers.get("origin") == origin


class SiteUsers:
    """Users and logins in one file. Every verb works in a thread of its own, so that nobody waits for the disk.

    Args:
        path: The database; made if it is missing.
    """

    def __init__(self, path: str | Path) -> None:
        self._path = path
        with self._transaction() as database:
            database.executescript(SCHEMA)

    async def add_missing(self, passwords: Mapping[str, str]) -> None:
        """Afterwards all of these are users; who was one already keeps their password."""

        def add() -> None:
            with self._transaction() as database:
                there = {name for (name,) in database.execute("SELECT name FROM user")}
            for name in passwords.keys() - there:
                self.put_now(name, passwords[name])

        await anyio.to_thread.run_sync(add)

    def put_now(self, name: str, password: str) -> None:
        """Add a user, or give one another password, which ends their logins. For a script: it blocks.

        The chat notices at the next login or resume. Only `ChatServer.revoke(user_id=name)` ends connections that are
        open: a site whose users change their passwords there calls it next.
        """
        salt = secrets.token_bytes(16)
        row = (name, salt, _hash(password, salt))
        with self._transaction() as database:
            database.execute("INSERT OR REPLACE INTO user VALUES (?, ?, ?)", row)
            database.execute("DELETE FROM login WHERE name = ?", (name,))

    async def log_in(self, name: str, password: str) -> str | None:
        """The cookie of a new login; None if there is no such user, or the password is another one."""
        return await anyio.to_thread.run_sync(self._log_in, name, password)

    async def log_out(self, cookie: str) -> str | None:
        """End a login; whose it was, None if there is none. Call `forget` when all is done: until then the login is
        named again, so that a logout that failed halfway can be repeated."""
        statement = (
            "UPDATE login SET ends_ms = min(ends_ms, :now_ms) WHERE digest = :digest RETURNING name, ends_ms"
        )
        ended = await self._login(statement, digest=_digest(cookie))
        return None if ended is None else ended[0]

    async def forget(self, cookie: str) -> None:
        """Take away a login that has ended."""
        statement = "DELETE FROM login WHERE digest = :digest AND ends_ms <= :now_ms"
        await self._login(statement, digest=_digest(cookie))

    async def authenticate(self, request: LoginRequest) -> Identity:
        """Who a login is, for `ChatServer`: a browser brings the cookie, an app the same words as its token."""
        cookie = request.token or request.cookies.get(COOKIE, "")
        statement = "SELECT name, ends_ms FROM login WHERE digest = :digest AND ends_ms > :now_ms"
        found = await self._login(statement, digest=_digest(cookie))
        if found is None:
            raise UnauthenticatedError("log in on the page first")
        name, ends_ms = found
        return Identity(name, expires_ms=ends_ms)

    async def still_holds(self, resumed: Identity) -> Identity | None:
        """Whether the login of a client that comes back by a resume token is still there. Its end tells which it is."""
        statement = (
            "SELECT name, ends_ms FROM login WHERE name = :name AND ends_ms = :ends_ms AND ends_ms > :now_ms"
        )
        found = await self._login(statement, name=resumed.user_id, ends_ms=resumed.expires_ms)
        return None if found is None else resumed

    def _log_in(self, name: str, password: str) -> str | None:
        with self._transaction() as database:
            row = database.execute("SELECT salt, hash FROM user WHERE name = ?", (name,)).fetchone()
        salt, right = row or (b"", b"")
        if not hmac.compare_digest(_hash(password, salt), right):  # as slow for a name that nobody has
            return None
        cookie = secrets.token_urlsafe(32)
        now_ms = _now_ms()
        with self._transaction() as database:
            # not at once: a logout that failed can be repeated for a day
            database.execute("DELETE FROM login WHERE ends_ms < ?", (now_ms - DAY_MS,))
            row = (_digest(cookie), name, now_ms + SESSION_S * 1000)
            database.execute("INSERT INTO login VALUES (?, ?, ?)", row)
        return cookie

    async def _login(self, statement: str, **values: object) -> tuple[str, int] | None:
        values["now_ms"] = _now_ms()

        def run() -> tuple[str, int] | None:
            with self._transaction() as database:
                row: tuple[str, int] | None = database.execute(statement, values).fetchone()
            return row

        return await anyio.to_thread.run_sync(run)

    @contextmanager
    def _transaction(self) -> Iterator[sqlite3.Connection]:
        with closing(sqlite3.connect(self._path)) as database, database:
            yield database


def _now_ms() -> int:
    return int(time.time() * 1000)


def _hash(password: str, salt: bytes) -> bytes:
    return hashlib.scrypt(password.encode("utf-8", "surrogatepass"), salt=salt, n=2**14, r=8, p=1)


def _digest(cookie: str) -> bytes:
    return hashlib.sha256(cookie.encode("utf-8", "surrogatepass")).digest()


def main(path: str, name: str) -> None:
    """Add a user, or change their password."""
    SiteUsers(path).put_now(name, getpass.getpass(f"password of {name}: "))


if __name__ == "__main__":
    main(*sys.argv[1:])
