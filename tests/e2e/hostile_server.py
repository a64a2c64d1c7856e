"""A web server in JupyterLab's place that tries what a notebook must not be able to do to a browser.

A script of its own, standard library only: `hostile_server.py PORT PAYLOADS`, where PAYLOADS is a file of redirects.
"""

from __future__ import annotations

import json
import sys
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path
from typing import ClassVar
from urllib.parse import parse_qs, urlsplit

COOKIES = (
    "mine=1; Path=/ws/demo/",
    "wide=1; Path=/",
    "pathless=1",
    "shared=1; Domain=hub.localhost; Path=/",
    "dotted=1; Domain=.hub.localhost",
    "neighbour=1; Path=/ws/other/",
    "quoted=1; Path=/ws/demo/; Path=/",
    "notebook-proxy=forged; Path=/",
    "Notebook-Proxy=forged; Path=/ws/demo/",
    "=notebook-proxy=forged; Path=/",
    " notebook-proxy =forged",
    "notebook-proxy",
)
ORIGIN_WIDE = (
    ("Service-Worker-Allowed", "/"),
    ("Clear-Site-Data", '"*"'),
    ("Strict-Transport-Security", "max-age=600"),
    ("Alt-Svc", 'h2="evil.example:443"'),
)
PAGE = "<!doctype html><title>notebook</title><iframe src='/'></iframe>"


class Handler(BaseHTTPRequestHandler):
    """`api` is ready; `location/N?host=H` redirects to that payload, with H for the hosts that it calls its own;
    `cookies`, `wide` and `worker.js` send what their names say; `seen` tells every request's line and headers so far.
    """

    protocol_version = "HTTP/1.1"
    payloads: ClassVar[list[bytes]] = []
    seen: ClassVar[list[str]] = []

    def do_GET(self) -> None:
        """Answer."""
        url = urlsplit(self.path)
        name, _, rest = url.path.removeprefix("/ws/demo/").partition("/")
        Handler.seen.append(f"{self.requestline}\r\n{self.headers}")
        if name == "location" and rest.isdecimal():
            self._redirect(Handler.payloads[int(rest)], parse_qs(url.query)["host"][0].encode())
            return
        headers: list[tuple[str, str]] = []
        body, kind = PAGE, "text/html"
        if name == "seen":
            body, kind = json.dumps(Handler.seen), "application/json"
        elif name == "cookies":
            headers += [("Set-Cookie", value) for value in COOKIES]
        elif name == "worker.js":
            body, kind = "// does nothing", "text/javascript"
        if name in ("wide", "worker.js"):
            headers += ORIGIN_WIDE
        self.send_response(200)
        for header, value in [*headers, ("Content-Type", kind), ("Content-Length", str(len(body)))]:
            self.send_header(header, value)
        self.end_headers()
        self.wfile.write(body.encode())

    do_POST = do_GET  # noqa: N815 - the library calls it so

    def _redirect(self, payload: bytes, host: bytes) -> None:
        for own in (b"www.whitelisteddomain.tld", b"whitelisteddomain.tld", b"example.com"):
            payload = payload.replace(own, host)
        self.wfile.write(b"HTTP/1.1 302 Found\r\nLocation: " + payload + b"\r\nContent-Length: 0\r\n\r\n")

    def log_message(self, *_: object) -> None:
        """Say nothing."""


if __name__ == "__main__":
    Handler.payloads = Path(sys.argv[2]).read_bytes().splitlines()
    ThreadingHTTPServer(("127.0.0.1", int(sys.argv[1])), Handler).serve_forever()
