"""The command group; each command lives in a file of its own."""

from __future__ import annotations

from importlib.metadata import version

import click

from .archive import archive
from .audit import audit
from .backup import backup
from .bench import bench
from .capacity import capacity_command
from .config import config
from .demo import demo
from .doctor import doctor
from .explain import explain
from .metrics import metrics
from .postgres import postgres
from .restore import restore
from .serve import serve
from .token import token
from .top import top
from .user import user
from .verify import verify
from .worker import worker


@click.group(context_settings={"help_option_names": ["-h", "--help"]})
@click.version_option(version("chatkit-engine"), prog_name="chatkit")
def chatkit() -> None:
    """Reliable chat: a server engine and a client SDK."""


chatkit.add_command(serve)
chatkit.add_command(token)
chatkit.add_command(demo)
chatkit.add_command(verify)
chatkit.add_command(audit)
chatkit.add_command(user)
chatkit.add_command(archive)
chatkit.add_command(postgres)
chatkit.add_command(backup)
chatkit.add_command(restore)
chatkit.add_command(worker)
chatkit.add_command(explain)
chatkit.add_command(metrics)
chatkit.add_command(top)
chatkit.add_command(bench)
chatkit.add_command(capacity_command)
chatkit.add_command(config)
chatkit.add_command(doctor)
