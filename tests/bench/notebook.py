"""A stand-in for notebook servers that costs as little as possible: one program, some kinds.

`python notebook.py --port 1 --base-url /ws/x/ --root DIR --kind static|socket [--core N]`. `static` becomes an nginx
that answers small and large GETs; `socket` takes POSTs and websockets in one bare epoll loop, and `flood` is the same.
Two are stuck: `deaf` takes every request and answers none but `api`, `absent` never listens. Run by path, with nothing
but the standard library: what it takes to start is in every measurement of a start.
"""

from __future__ import annotations

import argparse
import base64
import hashlib
import os
import select
import shutil
import socket
import sys
import time
from pathlib import Path
from typing import Final

GUID: Final = b"258EAFA5-E914-47DA-95CA-C5AB0DC85B11"  # RFC 6455 section 1.3
SMALL: Final = (
    b'{"started": "2026-01-01T00:00:00.000000Z", "last_activity": "2026-01-01T00:00:00.000000Z", '
    b'"connections": 1, "kernels": 1}'
)
PAYLOAD: Final = 300  # bytes of a small websocket message
REPLY: Final = b"\x82\x7e" + PAYLOAD.to_bytes(2, "big") + b"x" * PAYLOAD
REQUEST_SIZE: Final = len(REPLY) + 4  # the same with a mask
PUSHED: Final = 1 << 20
PUSH: Final = b"\x82\x7f" + PUSHED.to_bytes(8, "big") + b"p" * PUSHED
ENDLESS: Final = b"HTTP/1.1 200 OK\r\nContent-Length: %d\r\n\r\n" % (1 << 50)
SIZES: Final = {"1m": 1 << 20, "256m": 256 << 20}
_OK: Final = b"HTTP/1.1 200 OK\r\nContent-Type: application/json\r\nContent-Length: %d\r\n\r\n%b" % (len(SMALL), SMALL)

_STATIC: Final = """
daemon off; master_process off; pid {root}/nginx.pid; error_log {root}/nginx.log crit;
events {{ worker_connections 8192; }}
http {{
    access_log off; sendfile on; tcp_nopush on; tcp_nodelay on; keepalive_timeout 600; keepalive_requests 1000000000;
    client_body_temp_path {root}/t1; proxy_temp_path {root}/t2; fastcgi_temp_path {root}/t3;
    uwsgi_temp_path {root}/t4; scgi_temp_path {root}/t5; server_tokens off;
    server {{
        listen 127.0.0.1:{port} backlog=4096;
        default_type application/json;
        location = {base}api {{ return 200 '{small}'; }}
        location {base}files/ {{ alias {root}/files/; open_file_cache max=10; }}
    }}
}}
"""


def find_nginx() -> str | None:
    """Return the path of nginx, also where Debian has it and no user's PATH leads."""
    return shutil.which("nginx", path=f"{os.environ.get('PATH', os.defpath)}:/usr/sbin")


def become_nginx(port: int, base: str, root: Path) -> None:
    """Replace this process by an nginx that serves files of the sizes that are measured."""
    (root / "files").mkdir(parents=True, exist_ok=True)
    for name, size in SIZES.items():
        with (root / "files" / name).open("wb") as file:
            file.truncate(size)
    config = root / "nginx.conf"
    config.write_text(_STATIC.format(root=root, port=port, base=base, small=SMALL.decode()))
    nginx = find_nginx()
    if nginx is None:
        sys.exit("nginx is missing")
    os.execv(nginx, [nginx, "-c", str(config), "-e", str(root / "nginx.log")])


class Peer:
    """One connection: HTTP first, then perhaps a websocket that echoes or pushes."""

    def __init__(self, sock: socket.socket, poll: select.epoll, base: bytes, *, is_deaf: bool) -> None:
        self.sock = sock
        self._poll = poll
        self._base = base
        self._is_deaf = is_deaf
        self._head = b""
        self._left = 0  # of a request's body
        self._echoed = 0  # bytes of a message that is not complete
        self._out = b""
        self._sent = 0
        self.take = self._take_http

    def _take_http(self, data: bytes) -> None:
        if self._left:
            self._left -= len(data)
            if self._left <= 0:
                self._write(_OK)
            return
        self._head += data
        while not self._left and (end := self._head.find(b"\r\n\r\n")) >= 0:
            head, rest = self._head[:end], self._head[end + 4 :]
            self._head = b""
            headers = {
                name.strip().lower(): value.strip()
                for name, _, value in (line.partition(b":") for line in head.split(b"\r\n")[1:])
            }
            if key := headers.get(b"sec-websocket-key"):
                self._switch(head.split(b" ")[1], key)
                return
            target = head.split(b" ")[1]
            if target.endswith(b"/endless"):
                self._write(ENDLESS)
                self._push_on()
                return
            if self._is_deaf and target != self._base + b"api":
                return
            self._left = int(headers.get(b"content-length", b"0"))
            if self._left > len(rest):
                self._left -= len(rest)
                return
            self._head, self._left = rest[self._left :], 0
            self._write(_OK)

    def _switch(self, target: bytes, key: bytes) -> None:
        accept = base64.b64encode(hashlib.sha1(key + GUID).digest())
        self._write(
            b"HTTP/1.1 101 Switching Protocols\r\nUpgrade: websocket\r\nConnection: Upgrade\r\n"
            b"Sec-WebSocket-Accept: %b\r\n\r\n" % accept
        )
        self.take = self._take_frames
        if target.endswith(b"/push"):
            self._push_on()
        elif target.endswith(b"/stopped"):
            self._poll.modify(self.sock.fileno(), 0)  # nothing more is read

    def _push_on(self) -> None:
        self.take = self._ignore
        self._out = PUSH
        self._poll.modify(self.sock.fileno(), select.EPOLLIN | select.EPOLLOUT)

    def _take_frames(self, data: bytes) -> None:
        """Answer each message of the one size that the load has, one by one, as notebook servers do."""
        count, self._echoed = divmod(self._echoed + len(data), REQUEST_SIZE)
        for _ in range(count):
            self._write(REPLY)

    def _ignore(self, data: bytes) -> None:
        pass

    def _write(self, data: bytes) -> None:
        if self.sock.send(data) != len(data):
            raise OSError("the other side does not read")

    def push(self) -> None:
        """Send on: one frame after the other."""
        self._sent += self.sock.send(memoryview(self._out)[self._sent :])
        if self._sent == len(self._out):
            self._sent = 0


def serve(port: int, base: str, *, is_deaf: bool = False) -> None:
    """Serve until killed."""
    listener = socket.create_server(("127.0.0.1", port), backlog=4096)
    listener.setblocking(False)
    poll = select.epoll()
    poll.register(listener.fileno(), select.EPOLLIN)
    peers: dict[int, Peer] = {}
    while True:
        for number, event in poll.poll():
            if number == listener.fileno():
                sock, _ = listener.accept()
                sock.setblocking(False)
                sock.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)
                peers[sock.fileno()] = Peer(sock, poll, base.encode(), is_deaf=is_deaf)
                poll.register(sock.fileno(), select.EPOLLIN)
                continue
            peer = peers[number]
            try:
                if event & select.EPOLLOUT:
                    peer.push()
                if event & ~select.EPOLLOUT:
                    data = peer.sock.recv(262_144)
                    if not data:
                        raise ConnectionResetError
                    peer.take(data)
            except BlockingIOError:
                continue
            except OSError:
                poll.unregister(number)
                peers.pop(number).sock.close()


def main() -> None:
    """Become the stand-in that is asked for."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--port", type=int, required=True)
    parser.add_argument("--base-url", required=True)
    parser.add_argument("--root", type=Path, required=True)
    parser.add_argument("--kind", choices=("static", "socket", "flood", "deaf", "absent"), required=True)
    parser.add_argument("--core", type=int, help="run on this core alone")
    given = parser.parse_args()
    if given.core is not None:
        os.sched_setaffinity(0, {given.core})
    if given.kind == "static":
        become_nginx(given.port, given.base_url, given.root)
    if given.kind == "absent":
        time.sleep(1e6)
    serve(given.port, given.base_url, is_deaf=given.kind == "deaf")


if __name__ == "__main__":
    main()
