"""Where `chatkit chat` keeps what must outlive it: the name of this installation, and a store for each user."""

from __future__ import annotations

import hashlib
import os
from collections.abc import Mapping
from pathlib import Path

import jwt

from ..errors import ConfigurationError
from ..ports import SystemIds

_NAME_BYTES = 8


def state_folder(environ: Mapping[str, str]) -> Path:
    """The folder for chatkit in the user's state folder, by the XDG rules; it need not be there yet."""
    given = environ.get("XDG_STATE_HOME", "")
    base = Path(given) if Path(given).is_absolute() else Path.home() / ".local/state"
    return base / "chatkit"


def device_id(folder: Path) -> str:
    """The name of this installation, which is made, and kept in the folder, when there is none.

    Raises:
        ConfigurationError: It cannot be read or written.
    """
    path = folder / "device"
    try:
        folder.mkdir(mode=0o700, parents=True, exist_ok=True)
        try:
            with open(path, "x", encoding="ascii", opener=_private) as file:
                file.write(f"terminal-{SystemIds().token_bytes(_NAME_BYTES).hex()}")
        except FileExistsError:
            pass
        return path.read_text(encoding="ascii").strip()
    except (OSError, UnicodeDecodeError) as error:
        raise ConfigurationError(f"{path}: {error}; name the installation by --device") from None


def store_path(folder: Path, url: str, device: str, token: str) -> Path:
    """The store of one user of one server on one device. A store is bound to its user, so each has a file.

    Users whose tokens are no JWTs have the same one: who they are only the server says, and a start may be offline. It
    is the first one's, and the others name theirs by `--store`.

    Args:
        folder: The state folder.
        url: The server.
        device: The device.
        token: Says who the user is if it is a JWT; it is not checked here, for it only names a file.
    """
    place = "\n".join((url, device, _user_in(token)))
    return folder / f"chat-{hashlib.sha256(place.encode()).hexdigest()[:16]}.db"


def _user_in(token: str) -> str:
    try:
        return str(jwt.decode(token, options={"verify_signature": False}).get("sub", ""))
    except jwt.PyJWTError:
        return ""


def _private(path: str, flags: int) -> int:
    return os.open(path, flags, 0o600)
