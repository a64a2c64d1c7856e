"""The composition root: builds every part from the settings, connects them, and takes them down in order.

Owns nothing but their order: the backend before the supervisor, the supervisor before the server; and back.
"""

from __future__ import annotations

import asyncio
import contextlib
import gc
import logging
import signal
import socket
from typing import TYPE_CHECKING, Final, Self

from proxy.access_log import AccessLog
from proxy.activity import Activity, Wake
from proxy.auth.build import framed_by, make_door, make_sites
from proxy.auth.secrets import Secrets
from proxy.auth.vigil import Vigil
from proxy.backends.local import LocalBackend
from proxy.certificate import read_certificate
from proxy.clock import SystemClock
from proxy.config import backend_name
from proxy.file_limit import fit_connections
from proxy.fresh import Fresh
from proxy.gateway import Gateway
from proxy.half_open import find_half_open_peers
from proxy.hosting import make_hosting
from proxy.measuring import measured
from proxy.metrics import of_traffic
from proxy.ops import Ops
from proxy.own_secret import OwnSecret, is_own
from proxy.relay.listener import EXCESS, Listener
from proxy.relay.server import ClientServer, Limits
from proxy.relay.tunnel import CLOSE_PATIENCE
from proxy.relay.upstream import Pool
from proxy.relay.websocket import WebsocketRelay
from proxy.supervisor import Supervisor
from proxy.vitals import Vitals

if TYPE_CHECKING:
    from collections.abc import AsyncIterator, Callable, Coroutine
    from typing import Any

    from proxy.auth.door import Door
    from proxy.backends import Backend
    from proxy.config import Config

logger = logging.getLogger(__name__)

_SPREAD: Final = 0.8  # of the grace is what websockets are closed over; the last ones need some time to end
_OPS_STALL: Final = 30.0  # seconds that who asks for health or numbers may take nothing of the answer
_LAST_WORD: Final = 0.1  # seconds, at the end of the grace, for those who have waited for a start


class App:
    """Everything that serves, built from the settings. Use as `async with App(config) as app`.

    Leaving it ends in order: it is ready no more, and goes on for `drain_delay`; no new connections, websockets and
    starts; requests in flight finish within `shutdown_grace`, over which websockets are closed with 1012; the backend
    is closed.

    Raises:
        OSError: the address cannot be bound.
        ConfigError: the backend cannot be used here.
    """

    def __init__(self, config: Config, backend: Backend | None = None) -> None:
        self.config = config
        self.fresh = Fresh(SystemClock())
        self.backend = backend or make_backend(config, self.fresh)
        self.supervisor = Supervisor(self.backend, config)
        self.hurry = asyncio.Event()
        """Set it to cut the grace of a shutdown short."""
        found = getattr(self.backend, "vitals", None)
        self.vitals = found if isinstance(found, Vitals) else Vitals()
        self.ops = Ops(self.vitals)
        self._scheme = "https" if config.tls_cert else "http"
        self._stack = contextlib.AsyncExitStack()

    async def __aenter__(self) -> Self:
        certificate = read_certificate(self.config.tls_cert, self.config.tls_key, self.fresh)
        async with contextlib.AsyncExitStack() as stack:
            self.vitals.expect("its listening socket")
            stack.push_async_callback(self.ops.close)
            self.ops.open(self.config.ops_listen, _bind)
            stack.push_async_callback(self.backend.close)
            await self.backend.open()
            stack.push_async_callback(self.supervisor.close)
            timeout = self.config.upstream_timeout
            pool = Pool(timeout.total_seconds() if timeout else None)
            stack.callback(pool.close)
            self.websockets = WebsocketRelay(pool)
            door = await self._make_door(stack)
            self.gateway = self._make_gateway(pool, door)
            self.metrics = stack.enter_context(measured(self.supervisor, self.backend, self.config))
            """What is told of all of it; see `measuring`."""
            self.ops.metrics = self.metrics.page
            if self.config.reaper:
                await stack.enter_async_context(self._background(self.supervisor.run_reaper(), "reaper"))
            await stack.enter_async_context(self._background(self.fresh.run(), "look at changed files"))
            vigil = Vigil(door.access, self.websockets, SystemClock())
            await stack.enter_async_context(self._background(vigil.run(), "look at open websockets"))
            limits = _client_limits(self.config)
            gateway = self.gateway
            handle = gateway.handle
            if self.config.access_log != "off":
                every = self.config.access_log_sample if self.config.access_log == "sampled" else 1
                handle = AccessLog(handle, every).handle
            express = gateway.express if self.config.access_log == "off" else None  # the log is to see each request
            server = ClientServer(
                handle, limits=limits, shed=gateway.shed, express=express, on_refused=pool.counts.refused
            )
            self.metrics.add(of_traffic(pool.counts, gateway, self.websockets, server))
            stack.push_async_callback(self._end_connections, server)
            sock = _bind(*self.config.address, self.config.client_stall_timeout.total_seconds())
            most = limits.max_connections and limits.max_connections + EXCESS
            self._listener = Listener(sock, server, most, (lambda: certificate.context) if certificate else None)
            stack.push_async_callback(self._listener.close)
            self._listener.start()
            self.vitals.met("its listening socket")
            stack.push_async_callback(self._begin_draining, server)
            if self.config.insecure_no_auth:
                logger.warning("authentication is off: everyone who reaches %s may use every workspace", self.url)
            self._stack = stack.pop_all()
        return self

    async def __aexit__(self, *_: object) -> None:
        await self._stack.aclose()

    @property
    def url(self) -> str:
        """Where it listens."""
        host, port = self._listener.address
        return f"{self._scheme}://[{host}]:{port}" if ":" in host else f"{self._scheme}://{host}:{port}"

    def _make_gateway(self, pool: Pool, door: Door) -> Gateway:
        activity = Activity(self.config.activity, self.config.activity_rules)
        return Gateway(
            self.supervisor,
            pool,
            self.websockets,
            namespace=self.config.namespace,
            page_after=self.config.page_after,
            hold_timeout=self.config.hold_timeout,
            trusted_proxies=self.config.trusted_proxies,
            door=door,
            sites=make_sites(self.config),
            identity_header=self.config.identity_header,
            identity_cookies=self.config.identity_cookies,
            frame_ancestors=framed_by(self.config),
            is_open=self.config.insecure_no_auth,
            knows_hub=self.config.jupyterhub_paths,
            hosting=make_hosting(self.config),
            check_host=self.config.auth == "none" and not self.config.insecure_no_auth,
            scheme=self._scheme,
            activity=activity,
            wake=Wake(self.config.wake, activity),
        )

    async def _make_door(self, stack: contextlib.AsyncExitStack) -> Door:
        """Return the door; the secret that it verifies tokens with may come later, and change."""
        secrets = Secrets(self.config, SystemClock())
        secrets.follow(self.config, self.fresh)
        if is_own(self.config):
            own = OwnSecret(self.config, secrets.for_tokens, self.vitals, SystemClock())
            secrets.source = await stack.enter_async_context(own)
        return await stack.enter_async_context(make_door(self.config, secrets=secrets, vitals=self.vitals))

    @contextlib.asynccontextmanager
    async def _background(self, work: Coroutine[Any, Any, None], name: str) -> AsyncIterator[None]:
        """Run a task as long as the context lasts; it is awaited at the end, and its failure raised."""
        task = asyncio.create_task(work, name=name)
        self.vitals.follow(task)
        try:
            yield
        finally:
            self.vitals.is_draining = True  # also where a start failed half way
            task.cancel()
            with contextlib.suppress(asyncio.CancelledError):
                await task

    @property
    def is_draining(self) -> bool:
        """Whether it is ending; until it does, it serves as before."""
        return self.vitals.is_draining

    async def _begin_draining(self, server: ClientServer) -> None:
        """Say that this replica is not ready any more, and go on until load balancers have heard it."""
        self.vitals.is_draining = server.is_draining = True
        self.gateway.begin_draining()
        if self.config.drain_delay is not None:
            with contextlib.suppress(TimeoutError):
                async with asyncio.timeout(self.config.drain_delay.total_seconds()):
                    await self.hurry.wait()

    async def _end_connections(self, server: ClientServer) -> None:
        """Let requests finish, close websockets, then end what is left. Nothing is accepted any more."""
        self.supervisor.refuse_starts()
        self.websockets.refuse()
        server.close_idle()
        self.gateway.streams.close()
        grace = self.config.shutdown_grace.total_seconds()
        closing = asyncio.create_task(self.websockets.close_gradually(_SPREAD * grace))
        drained = asyncio.create_task(self.gateway.drain(grace))
        hurry = asyncio.create_task(self.hurry.wait())
        try:
            await asyncio.wait((drained, hurry), return_when=asyncio.FIRST_COMPLETED)
        finally:
            for task in (closing, drained, hurry):
                task.cancel()
            await asyncio.wait((closing, drained, hurry))
        self.websockets.close_all()
        await self.supervisor.close()  # who waits for a start is told so
        if self.gateway.in_flight and not await self.gateway.drain(_LAST_WORD):
            logger.warning("requests cut off: in_flight=%d", self.gateway.in_flight)
            self.gateway.cut_off()
        server.pre_shutdown()
        await server.shutdown(CLOSE_PATIENCE)


def make_backend(config: Config, fresh: Fresh | None = None) -> Backend:
    """Return the backend that the settings ask for.

    Args:
        config: checked settings.
        fresh: looks for changes of the files that it reads.

    Raises:
        ConfigError: it cannot be used here.
    """
    if backend_name(config) == "kubernetes":
        from proxy.backends.kubernetes.backend import KubernetesBackend  # noqa: PLC0415 - costs 40 MB, and 0.3 s

        return KubernetesBackend(config, fresh=fresh)
    return LocalBackend(
        config.local_root,
        command=config.notebook_command,
        ready_path=config.ready_path,
        extra_env_vars=config.extra_env_vars,
        namespace=config.namespace,
        failed_ttl=config.failed_ttl,
        stop_grace=config.stop_grace,
        identity=config.notebook_identity,
    )


async def serve(config: Config, announce: Callable[[str], None]) -> None:
    """Serve until SIGTERM or SIGINT, then shut down in order; a second signal cuts the grace short.

    A signal before it listens ends the start, whatever that waits for.

    Args:
        config: checked settings.
        announce: called with the base URL once it listens.

    Raises:
        OSError: the address cannot be bound.
        ConfigError: the backend cannot be used here.
    """
    loop = asyncio.get_running_loop()
    stop = asyncio.Event()
    app = App(config)
    starting = asyncio.current_task()

    def on_signal(name: str) -> None:
        if stop.is_set():
            app.hurry.set()
        else:
            delay = config.drain_delay.total_seconds() if config.drain_delay else 0
            logger.info(
                "shutting down: signal=%s delay=%gs grace=%gs", name, delay, config.shutdown_grace.total_seconds()
            )
            if starting is not None:
                starting.cancel()
        stop.set()

    for number in (signal.SIGTERM, signal.SIGINT):
        loop.add_signal_handler(number, on_signal, number.name)
    try:
        async with app:
            starting = None
            announce(app.url)
            gc.freeze()  # what has been imported and built lives as long as this process: no collection need look at it
            await stop.wait()
    except asyncio.CancelledError:
        if not stop.is_set():
            raise
    finally:
        for number in (signal.SIGTERM, signal.SIGINT):
            loop.remove_signal_handler(number)
    logger.info("stopped")


def _client_limits(config: Config) -> Limits:
    """Return what clients may take.

    Raises:
        ConfigError: there are not as many file descriptors as the settings ask for.
    """
    idle = config.body_idle_timeout
    return Limits(
        header_timeout=config.header_timeout.total_seconds(),
        body_idle_timeout=idle.total_seconds() if idle else None,
        max_header_bytes=config.max_header_bytes,
        max_connections=fit_connections(config.max_connections),
    )


def _bind(host: str, port: int, stall_timeout: float = _OPS_STALL) -> socket.socket:
    """Return a bound socket, not yet listening, whose connections find half-open peers."""
    family = socket.AF_INET6 if ":" in host else socket.AF_INET
    sock = socket.socket(family, socket.SOCK_STREAM)
    try:
        sock.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
        find_half_open_peers(sock, stall_timeout)
        sock.bind(("127.0.0.1" if host == "localhost" else host, port))
        sock.setblocking(False)
    except OSError:
        sock.close()
        raise
    return sock
