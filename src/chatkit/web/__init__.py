"""The web page: plain HTML, CSS and JavaScript modules that speak the wire contract, as package data.

`static/` holds everything a browser loads; nothing there is built, minified or fetched from elsewhere. No Python
that serves it lives here: `chatkit.gateway.webpage` does that. Its modules mirror the client SDK: `wire.js`
(connection), `timeline.js` (order), `outbox.js` (pending sends), `puller.js` (SYNC), `session.js` (these together);
`ui.js` and `messages.js` draw, `main.js` puts all together. `timers.js` and `storage.js` are what a browser may deny,
`notifier.js` and `push_worker.js` are Web Push.
"""

from __future__ import annotations

from importlib.resources import files


def assets() -> dict[str, bytes]:
    """Every file of the page by its name, such as `index.html`; read anew at each call.

    Raises:
        OSError: The installation is damaged; a retry cannot help.
    """
    directory = files(__name__).joinpath("static")
    return {entry.name: entry.read_bytes() for entry in directory.iterdir() if entry.is_file()}
