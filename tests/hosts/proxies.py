"""nginx, HAProxy and Caddy before a server, with the files of `examples/`: only ports, names, certificates change."""

from __future__ import annotations

import os
import shutil
import ssl
import subprocess
import sys
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import NamedTuple

import trustme

from tests.docs.snippets import ROOT
from tests.servers import missing
from tests.servers.process import ServerProcess, free_port

EXAMPLES = ROOT / "examples"
NAMES = ("nginx", "haproxy", "caddy")


class Door(NamedTuple):
    """A proxy that runs: where, whom to trust for it, and its folder."""

    url: str
    trust: ssl.SSLContext | None
    folder: Path


class Site(NamedTuple):
    """What a proxy needs to know: its folder, its port, the ports of chatkit, and files with a certificate."""

    folder: Path
    port: int
    behind: Sequence[int]
    chain: Path
    key: Path


def find(name: str) -> str:
    """The program; without it the test is skipped on a laptop and fails where CI=true."""
    found = shutil.which(name, path=f"{os.environ.get('PATH', '')}:/usr/sbin:{Path(sys.executable).parent}")
    if found is None:
        missing(f"there is no {name}: scripts/proxies, and pip install --group test")
    return found


def changed(name: str, **changes: str) -> str:
    """A file of `examples/` with every one of these words changed; one that is not in it is an error."""
    text = (EXAMPLES / name).read_text(encoding="utf-8")
    for old, new in changes.items():
        assert old in text, f"{name} has no {old}"
        text = text.replace(old, new)
    return text


def _nginx(site: Site) -> list[str]:
    paths = {
        "listen 443 ssl": f"listen 127.0.0.1:{site.port} ssl",
        "127.0.0.1:8080": f"127.0.0.1:{site.behind[0]}",
        "/etc/letsencrypt/live/chat.example.org/fullchain.pem": str(site.chain),
        "/etc/letsencrypt/live/chat.example.org/privkey.pem": str(site.key),
        "/var/log/nginx": str(site.folder),
    }
    (site.folder / "chatkit.conf").write_text(changed("nginx.conf", **paths))
    kinds = ("client_body", "proxy", "fastcgi", "uwsgi", "scgi")
    temporary = "\n".join(f"{kind}_temp_path {site.folder}/{kind};" for kind in kinds)
    user = "user root;" if os.geteuid() == 0 else ""
    own = f"{user}\npid {site.folder}/pid;\nevents {{}}\nhttp {{ {temporary}\ninclude chatkit.conf; }}\n"
    (site.folder / "nginx.conf").write_text(own)
    return [
        "-e",
        "stderr",
        "-p",
        str(site.folder),
        "-c",
        str(site.folder / "nginx.conf"),
        "-g",
        "daemon off;",
    ]


def _haproxy(site: Site) -> list[str]:
    words = {"bind :8080": f"bind 127.0.0.1:{site.port}", "maxconn 60000": "maxconn 500"}
    text = changed("haproxy.cfg", **words)
    lines = [line for line in text.splitlines() if not line.startswith("    server ")]
    lines += [f"    server node-{port} 127.0.0.1:{port}" for port in site.behind]
    (site.folder / "haproxy.cfg").write_text("\n".join(lines) + "\n")
    return ["-db", "-f", str(site.folder / "haproxy.cfg")]


def _caddy(site: Site) -> list[str]:
    certificate = f"\n\ttls {site.chain} {site.key}\n"
    words = {
        "chat.example.org {\n": f"https://localhost:{site.port} {{{certificate}",
        "127.0.0.1:8080": f"127.0.0.1:{site.behind[0]}",
    }
    own = f"{{\n\tadmin 127.0.0.1:{free_port()}\n\tauto_https disable_redirects\n}}\n"
    (site.folder / "Caddyfile").write_text(own + changed("Caddyfile", **words))
    return ["run", "--config", str(site.folder / "Caddyfile"), "--adapter", "caddyfile"]


def reload_caddy(folder: Path) -> None:
    """Return when Caddy serves by its file again, as after `systemctl reload caddy`."""
    words = [find("caddy"), "reload", "--force", "--config", str(folder / "Caddyfile")]
    done = subprocess.run(words, capture_output=True, text=True, timeout=30)
    assert done.returncode == 0, done.stderr


_ARGUMENTS: dict[str, Callable[[Site], list[str]]] = {"nginx": _nginx, "haproxy": _haproxy, "caddy": _caddy}


def proxy(name: str, folder: Path, *behind: int) -> tuple[ServerProcess, Door]:
    """A proxy before the port of a server, or HAProxy before several; not started yet, and where it will be."""
    program = find(name)
    authority = trustme.CA()
    issued = authority.issue_cert("localhost")
    site = Site(folder, 0, behind, folder / "chain.pem", folder / "key.pem")
    issued.private_key_pem.write_to_path(site.key)
    site.chain.write_bytes(b"".join(it.bytes() for it in issued.cert_chain_pems))

    def command(port: int) -> list[str]:
        return ["env", f"HOME={folder}", program, *_ARGUMENTS[name](site._replace(port=port))]

    server = ServerProcess(command, folder, lambda _: True)
    if name == "haproxy":
        return server, Door(f"http://localhost:{server.port}", None, folder)
    trust = ssl.create_default_context()
    authority.configure_trust(trust)
    return server, Door(f"https://localhost:{server.port}", trust, folder)
