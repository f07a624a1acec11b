"""The JavaScript of chatkit, as package data: plain modules, nothing built, minified or fetched from elsewhere.

`client/` is the SDK for browsers, served below `/v1/client` by every server; its modules mirror `chatkit.client` and
`chatkit.core` and are held to the same vectors (`spec/`). `page/` is the chat page, an example on top of it:
`chatkit.gateway.webpage` serves it where a host wants it. No Python that serves either lives here.
"""

from __future__ import annotations

from importlib.resources import files


def client_files() -> dict[str, bytes]:
    """Every module of the SDK by its name, such as `chatkit.js`; read anew at each call.

    Raises:
        OSError: The installation is damaged; a retry cannot help.
    """
    return {name: content for name, content in _files("client").items() if name.endswith(".js")}


def assets() -> dict[str, bytes]:
    """Every file of the page by its name, such as `index.html`; read anew at each call.

    Raises:
        OSError: The installation is damaged; a retry cannot help.
    """
    return _files("page")


def _files(folder: str) -> dict[str, bytes]:
    directory = files(__name__).joinpath(folder)
    return {entry.name: entry.read_bytes() for entry in directory.iterdir() if entry.is_file()}
