"""`chatkit token`: sign a token."""

from __future__ import annotations

import click
import msgspec

from ..errors import BadRequestError
from ..server.auth import sign_token
from ..wire.events import Id
from .common import SECRET_ENV, exit_codes, secret_from


@click.command(short_help="Sign a token for a user.")
@click.option("--user", required=True, help="Whom the token proves (claim `sub`).")
@click.option("--device", default=None, help="The device it is bound to (claim `dev`); any if left out.")
@click.option("--ttl", default=3600.0, show_default=True, type=click.FloatRange(min=1), help="Seconds.")
@click.option("--scope", default="chat", show_default=True, help="Claim `scope`.")
@click.option("--jwt-secret-env", default=SECRET_ENV, show_default=True, help="Variable with the secret.")
@click.option("--json", "as_json", is_flag=True, help="Print a JSON object.")
def token(user: str, device: str | None, ttl: float, scope: str, jwt_secret_env: str, as_json: bool) -> None:
    """Sign a token (HS256) that `chatkit serve` with the same secret accepts."""
    for name, value in (("--user", user), ("--device", device)):
        if value is not None:
            _check_id(name, value)
    with exit_codes():
        signed = sign_token(
            secret_from(jwt_secret_env), user_id=user, device_id=device, ttl_s=ttl, scope=scope
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
