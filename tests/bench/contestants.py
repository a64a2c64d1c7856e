"""Who is compared: each starts on its own core, and leads `/ws/static/` and `/ws/socket/` to a stand-in.

This proxy runs as `notebook-proxy serve` does, and starts its stand-ins itself, as notebook servers. The others are
told where two stand-ins are that have been started for them.
"""

from __future__ import annotations

import json
import os
import shlex
import shutil
import sys
import time
import urllib.request
from contextlib import ExitStack
from typing import TYPE_CHECKING, Final, Protocol

from tests.auth.tokens import SECRET, token
from tests.bench import notebook
from tests.bench.programs import REPOSITORY, Cores, Program, free_port

if TYPE_CHECKING:
    from collections.abc import Sequence
    from pathlib import Path

OURS, NGINX, CHP, NAIVE, DIRECT = (
    "notebook-proxy", "nginx", "configurable-http-proxy", "naive aiohttp", "direct",
)  # fmt: skip
ON_CLUSTER: Final = "notebook-proxy on kubernetes"
WITH_AUTH: Final = "notebook-proxy, auth: jwt"
TOKEN: Final = token("bench", "*")
KINDS: Final = ("static", "socket")
FIRST: Final = "/ws/static/api"

_NGINX: Final = """
daemon off; master_process off; pid {root}/nginx.pid; error_log {root}/nginx.log crit;
events {{ worker_connections 20000; }}
http {{
    access_log off; tcp_nodelay on; keepalive_timeout 600; keepalive_requests 1000000000; client_max_body_size 0;
    client_body_temp_path {root}/t1; proxy_temp_path {root}/t2; fastcgi_temp_path {root}/t3;
    uwsgi_temp_path {root}/t4; scgi_temp_path {root}/t5;
    map $http_upgrade $upgraded {{ default upgrade; '' ''; }}
    upstream static {{
        server 127.0.0.1:{static}; keepalive 512; keepalive_requests 1000000000; keepalive_timeout 600;
    }}
    upstream socket {{
        server 127.0.0.1:{socket}; keepalive 512; keepalive_requests 1000000000; keepalive_timeout 600;
    }}
    proxy_http_version 1.1; proxy_buffering off; proxy_request_buffering off; proxy_read_timeout 3600;
    proxy_set_header Upgrade $http_upgrade; proxy_set_header Connection $upgraded; proxy_set_header Host $http_host;
    proxy_set_header X-Forwarded-For $remote_addr; proxy_set_header X-Forwarded-Proto $scheme;
    server {{
        listen 127.0.0.1:{port} backlog=4096;
        location /ws/static/ {{ proxy_pass http://static; }}
        location /ws/socket/ {{ proxy_pass http://socket; }}
    }}
}}
"""


class Running:
    """A contestant that serves.

    Attributes:
        ports: where to send what is for `static` and `socket`.
        program: what is measured; None where nothing lies between.
        started_in: seconds from its start to its first answer.
    """

    def __init__(self, ports: dict[str, int], programs: Sequence[Program] = (), *, started_in: float = 0.0) -> None:
        self.ports = ports
        self.program = programs[0] if programs else None
        self.started_in = started_in
        self._programs = programs

    def stop(self) -> None:
        """End it."""
        for program in self._programs:
            program.stop()


class Contestant(Protocol):
    """Somebody who can be measured."""

    name: str

    def missing(self) -> str:
        """Return why it cannot run here; nothing if it can."""

    def start(self, directory: Path) -> Running:
        """Start it, and return when both stand-ins answer through it."""


class StandIns:
    """Two stand-ins on the load's core, for everybody who does not start notebook servers."""

    def __init__(self, cores: Cores, directory: Path) -> None:
        self.ports: dict[str, int] = {}
        with ExitStack() as stack:
            for kind in KINDS:
                port = self.ports[kind] = free_port()
                root = directory / kind
                argv = _stand_in(kind, str(port), f"/ws/{kind}/", str(root))
                program = Program(argv, cores.load, root)
                stack.callback(program.stop)
                program.until(port, f"/ws/{kind}/api")
            self.stop = stack.pop_all().close


def _stand_in(kind: str, port: str, base: str, root: str) -> list[str]:
    return [
        sys.executable, notebook.__file__, "--port", port, "--base-url", base, "--root", root, "--kind", kind,
    ]  # fmt: skip


def _run(
    argv: Sequence[str], core: int | None, directory: Path, port: int, first: str = FIRST
) -> tuple[Program, float]:
    began = time.perf_counter()
    program = Program(argv, core, directory)
    try:
        return program, program.until(port, first) - began
    except BaseException:
        program.stop()
        raise


class Direct:
    """Nobody: what load and stand-in do by themselves."""

    name = DIRECT

    def __init__(self, stand_ins: StandIns) -> None:
        self._ports = stand_ins.ports

    def missing(self) -> str:
        return ""

    def start(self, directory: Path) -> Running:
        return Running(self._ports)


class Ours:
    """This proxy with its local backend; the stand-ins are its notebook servers."""

    name = OURS
    _query = ""

    def __init__(self, cores: Cores, flags: Sequence[str] = ()) -> None:
        self._cores = cores
        self._flags = flags

    def missing(self) -> str:
        return ""

    def start(self, directory: Path) -> Running:
        port = free_port()
        command = _stand_in("{workspace_id}", "{port}", "{base_url}", "{root}")
        if self._cores.load is not None:  # it inherits the proxy's core
            command += ["--core", str(self._cores.load)]
        argv = [
            sys.executable, "-m", "proxy", "serve", f"--listen=127.0.0.1:{port}", "--backend=local",
            f"--local-root={directory}/workspaces", f"--notebook-command={shlex.join(command)}", *self._flags,
        ]  # fmt: skip
        program, seconds = _run(argv, self._cores.proxy, directory, port, f"/{self._query}")
        try:
            for kind in KINDS:
                program.until(port, f"/ws/{kind}/api{self._query}")
        except BaseException:
            program.stop()
            raise
        return Running(dict.fromkeys(KINDS, port), [program], started_in=seconds)


class WithAuth(Ours):
    """The same, and it asks for a token. What is sent to it must have one."""

    name = WITH_AUTH
    _query = f"?token={TOKEN}"

    def start(self, directory: Path) -> Running:
        directory.mkdir(parents=True, exist_ok=True)
        secret = directory / "jwt-secret"
        secret.write_text(SECRET)
        self._flags = ("--auth=jwt", f"--jwt-secret-file={secret}", "--max-requests-per-user=100000")
        return super().start(directory)


class Nginx:
    """nginx with connections that are kept, and without buffers."""

    name = NGINX

    def __init__(self, cores: Cores, stand_ins: StandIns) -> None:
        self._cores, self._ports = cores, stand_ins.ports

    def missing(self) -> str:
        return "" if notebook.find_nginx() else "install Debian's nginx-light"

    def start(self, directory: Path) -> Running:
        port, config = free_port(), directory / "nginx.conf"
        directory.mkdir(parents=True)
        config.write_text(_NGINX.format(root=directory, port=port, **self._ports))
        argv = [notebook.find_nginx() or "nginx", "-c", str(config), "-e", str(directory / "nginx.log")]
        program, seconds = _run(argv, self._cores.proxy, directory, port)
        return Running(dict.fromkeys(KINDS, port), [program], started_in=seconds)


class Chp:
    """configurable-http-proxy, as JupyterHub runs it."""

    name = CHP
    _SCRIPT: Final = REPOSITORY / "build/bench/node_modules/.bin/configurable-http-proxy"

    def __init__(self, cores: Cores, stand_ins: StandIns) -> None:
        self._cores, self._ports = cores, stand_ins.ports

    def missing(self) -> str:
        if shutil.which("node") is None:
            return "install Node.js (Debian's nodejs and npm)"
        return "" if self._SCRIPT.exists() else "npm install --prefix build/bench configurable-http-proxy"

    def start(self, directory: Path) -> Running:
        port, api = free_port(), free_port()
        argv = [
            "node", str(self._SCRIPT.resolve()), "--ip=127.0.0.1", f"--port={port}", "--api-ip=127.0.0.1",
            f"--api-port={api}", f"--default-target=http://127.0.0.1:{self._ports['static']}", "--log-level=error",
        ]  # fmt: skip
        program, seconds = _run(argv, self._cores.proxy, directory, port)
        try:
            for kind in KINDS:
                route = json.dumps({"target": f"http://127.0.0.1:{self._ports[kind]}"}).encode()
                url = f"http://127.0.0.1:{api}/api/routes/ws/{kind}"
                urllib.request.urlopen(urllib.request.Request(url, route, method="POST")).close()
                program.until(port, f"/ws/{kind}/api")
        except BaseException:
            program.stop()
            raise
        return Running(dict.fromkeys(KINDS, port), [program], started_in=seconds)


class Naive:
    """aiohttp's own client behind aiohttp's own server."""

    name = NAIVE

    def __init__(self, cores: Cores, stand_ins: StandIns) -> None:
        self._cores, self._ports = cores, stand_ins.ports

    def missing(self) -> str:
        return ""

    def start(self, directory: Path) -> Running:
        port = free_port()
        argv = [
            sys.executable, "-m", "tests.bench.naive", f"--port={port}",
            f"--static={self._ports['static']}", f"--socket={self._ports['socket']}",
        ]  # fmt: skip
        program, seconds = _run(argv, self._cores.proxy, directory, port)
        return Running(dict.fromkeys(KINDS, port), [program], started_in=seconds)


class OnCluster:
    """This proxy with its Kubernetes backend, on a test cluster of its own; for what it takes to be there."""

    name = ON_CLUSTER

    def __init__(self, cores: Cores) -> None:
        self._cores = cores

    def missing(self) -> str:
        return ""

    def start(self, directory: Path) -> Running:
        port = free_port()
        cluster = Program([sys.executable, "-m", "tests.cluster"], self._cores.load, directory / "cluster")
        try:
            kubeconfig = _first_line(cluster)
            argv = [
                sys.executable, "-m", "proxy", "serve", f"--listen=127.0.0.1:{port}", "--backend=kubernetes",
                f"--kubeconfig={kubeconfig}", "--workspace-pvc-size=1Gi",
            ]  # fmt: skip
            program, seconds = _run(argv, self._cores.proxy, directory, port, "/")
        except BaseException:
            cluster.stop()
            raise
        return Running(dict.fromkeys(KINDS, port), [program, cluster], started_in=seconds)


def _first_line(program: Program) -> str:
    while not (text := program.log.read_text()).endswith("\n"):
        os.kill(program.pid, 0)
        time.sleep(0.01)
    return text.splitlines()[0]


def all_contestants(cores: Cores, stand_ins: StandIns) -> list[Contestant]:
    """Return everybody, ours first."""
    return [
        Ours(cores), Nginx(cores, stand_ins), Chp(cores, stand_ins), Naive(cores, stand_ins), Direct(stand_ins),
        OnCluster(cores), WithAuth(cores),
    ]  # fmt: skip
