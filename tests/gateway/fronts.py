"""Other web servers in front of the proxy, and what each of them says it has passed on."""

from __future__ import annotations

import asyncio
import getpass
import json
import os
import socket
from contextlib import asynccontextmanager, suppress
from dataclasses import dataclass
from typing import TYPE_CHECKING, Final, TypeAlias

from tests.relay.origin import until

if TYPE_CHECKING:
    from collections.abc import AsyncIterator, Callable
    from pathlib import Path

    from tests.gateway.hostile import Seen

NGINX: Final = """\
daemon off;
worker_processes 1;
user {user};
pid {directory}/nginx.pid;
events {{ worker_connections 1024; }}
http {{
    log_format passed escape=json '{{"method":"$request_method","target":"$request_uri","body":"$request_body",'
        '"status":"$upstream_status"}}';
    access_log {directory}/access.log passed;
    client_body_temp_path {directory}/body;
    proxy_temp_path {directory}/proxy;
    fastcgi_temp_path {directory}/fastcgi;
    uwsgi_temp_path {directory}/uwsgi;
    scgi_temp_path {directory}/scgi;
    client_header_timeout 1s;
    client_body_timeout 1s;
    keepalive_timeout 1s;
    upstream proxy {{ server 127.0.0.1:{upstream}; keepalive 4; }}
    server {{
        listen 127.0.0.1:{port};
        location / {{
            proxy_pass http://proxy;
            proxy_http_version 1.1;
            proxy_set_header Connection "";
            proxy_set_header Host $http_host;
            proxy_next_upstream off;
        }}
    }}
}}
"""
_NONE: Final = "-"  # what is logged where there is no body; no case has such a one
HAPROXY: Final = """\
global
    log stdout format raw local0
    maxconn 1024
    tune.bufsize 32768
defaults
    mode http
    log global
    timeout connect 5s
    timeout client 1s
    timeout server 10s
    timeout http-request 1s
    timeout http-keep-alive 1s
    option http-buffer-request
    http-reuse always
    retries 0
frontend front
    bind 127.0.0.1:{port}
    declare capture request len 4096
    http-request capture req.body id 0
    log-format '{{"method":"%HM","target":"%[var(txn.target),json(ascii)]","body":"%[capture.req.hdr(0),json(ascii)]","status":"%ST","server":"%s"}}'
    http-request set-var(txn.target) pathq
    default_backend proxy
backend proxy
    server proxy 127.0.0.1:{upstream}
"""  # noqa: E501 - a format that cannot be broken


@dataclass
class Front:
    """A web server in front of the proxy."""

    port: int
    log: Path

    def passed(self) -> list[tuple[Seen, int]]:
        """What it has passed on, each with the status that came back; what it refused itself is left out."""
        lines = [json.loads(line) for line in self.log.read_text("latin-1").splitlines() if line.startswith("{")]
        return [
            ((line["method"], line["target"], line["body"].replace(_NONE, "").encode("latin-1")), int(line["status"]))
            for line in lines
            if line["status"].isdecimal() and int(line["status"]) and line.get("server") != "<NOSRV>"
        ]


Program: TypeAlias = "Callable[[Path, int, int], list[str | Path]]"


def nginx_in(binary: Path) -> Program:
    def command(directory: Path, port: int, upstream: int) -> list[str | Path]:
        text = NGINX.format(directory=directory, user=getpass.getuser(), port=port, upstream=upstream)
        (directory / "nginx.conf").write_text(text)
        return [binary, "-p", directory, "-c", directory / "nginx.conf", "-e", directory / "error.log"]

    return command


def haproxy_in(binary: Path) -> Program:
    def command(directory: Path, port: int, upstream: int) -> list[str | Path]:
        (directory / "haproxy.cfg").write_text(HAPROXY.format(port=port, upstream=upstream))
        return [binary, "-db", "-f", directory / "haproxy.cfg"]

    return command


@asynccontextmanager
async def running(program: Program, directory: Path, upstream: int) -> AsyncIterator[Front]:
    """Run it until the context ends; when that is left, its log is complete."""
    directory.mkdir()
    with socket.create_server(("127.0.0.1", 0)) as free:
        port = free.getsockname()[1]
    log = directory / "access.log"
    with log.open("ab") as output:
        process = await asyncio.create_subprocess_exec(
            *program(directory, port, upstream), stdout=output, stderr=output, start_new_session=True
        )
    try:
        await until(lambda: process.returncode is not None or _answers(port))
        assert process.returncode is None, log.read_text()
        yield Front(port, log)
        process.terminate()
        await process.wait()
    finally:
        with suppress(ProcessLookupError):
            os.killpg(process.pid, 9)  # nginx's worker, too
        await process.wait()


def _answers(port: int) -> bool:
    try:
        socket.create_connection(("127.0.0.1", port), 1).close()
    except OSError:
        return False
    return True
