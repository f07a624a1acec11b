"""`chatkit token`: sign a token."""

from __future__ import annotations

from typing import Any

import click
import msgspec

from ..errors import BadRequestError
from ..server.auth import sign_token
from ..wire.events import Id
from .common import exit_codes
from .configured import configured
from .login_options import Login, secret_options, signing_secret


@configured("jwt_secret", "jwt_secret_file", "jwt_secret_env")
@click.command(short_help="Sign a token for a user.")
@click.option("--user", required=True, help="Whom the token proves (claim `sub`).")
@click.option("--device", default=None, help="The device it is bound to (claim `dev`); any if left out.")
@click.option("--ttl", default=3600.0, show_default=True, type=click.FloatRange(min=1), help="Seconds.")
@click.option("--scope", default="chat", show_default=True, help="Claim `scope`.")
@secret_options
@click.option("--json", "as_json", is_flag=True, help="Print a JSON object.")
def token(user: str, device: str | None, ttl: float, scope: str, as_json: bool, **login: Any) -> None:
    """Sign a token (HS256) that `chatkit serve` with the same secret accepts; of several secrets by the first."""
    for name, value in (("--user", user), ("--device", device)):
        if value is not None:
            _check_id(name, value)
    with exit_codes():
        signed = sign_token(
            signing_secret(Login(**login)), user_id=user, device_id=device, ttl_s=ttl, scope=scope
        )
    if as_json:
        click.echo(msgspec.json.encode({"token": signed, "user": user, "device": device, "ttl": ttl}))
    else:
        click.echo(signed)


def _check_id(name: str, value: str) -> None:
    try:
        msgspec.convert(value, Id)
    except (msgspec.ValidationError, BadRequestError):
        raise click.UsageError(f"{name} takes 1-128 characters of A-Z a-z 0-9 . _ : @ -") from None
