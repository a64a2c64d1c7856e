"""The port for those who run the proxy: is it alive (`/healthz`), is it ready (`/readyz`), what does it count.

Nothing here needs a credential or tells a workspace, a user or a path; and nothing of it is on the public port. It is
the first to open and the last to close, so that a start and an end can be watched.
"""

from __future__ import annotations

import errno
import logging
from typing import TYPE_CHECKING, Final

from aiohttp import web

from proxy.config import Config
from proxy.errors import ConfigError
from proxy.relay.listener import Listener
from proxy.relay.server import ClientServer, Limits
from proxy.settings_types import OFF, parse_listen

if TYPE_CHECKING:
    import socket
    from collections.abc import Callable

    from proxy.vitals import Vitals

logger = logging.getLogger(__name__)

_LIMITS: Final = Limits(header_timeout=5.0, body_idle_timeout=5.0, max_header_bytes=16_384, max_connections=64)
_DEFAULT: Final = Config.model_fields["ops_listen"].default
_TEXT: Final = "text/plain; charset=utf-8"
_HEADERS: Final = {"Cache-Control": "no-store", "X-Content-Type-Options": "nosniff", "Server": "notebook-proxy"}


class Ops:
    """Answers probes and scrapes.

    Args:
        vitals: how the proxy is.

    Attributes:
        metrics: returns what is counted, and its content type, for an `Accept` header; None before there is any.
    """

    def __init__(self, vitals: Vitals) -> None:
        self._vitals = vitals
        self._listener: Listener | None = None
        self.metrics: Callable[[str], tuple[bytes, str]] | None = None

    def open(self, listen: str, bind: Callable[[str, int], socket.socket]) -> None:
        """Listen; where the default address is taken (two proxies on one machine), go without, and say so.

        Args:
            listen: the setting `ops_listen`.
            bind: returns a bound socket.

        Raises:
            ConfigError: the address cannot be bound.
        """
        if listen == OFF:
            return
        try:
            sock = bind(*parse_listen(listen))
        except OSError as error:
            reason = error.strerror or str(error)
            if listen == _DEFAULT and error.errno == errno.EADDRINUSE:
                logger.warning(
                    "ops_listen = %s: %s; nobody can ask for this proxy's health: give it an address of its own with "
                    "--ops-listen, or say off",
                    listen,
                    reason,
                )
                return
            raise ConfigError(
                f"ops_listen = {listen!r}: cannot listen there: {reason}; choose another address, or off"
            ) from error
        self._server = ClientServer(self._answer, limits=_LIMITS)
        self._listener = Listener(sock, self._server, _LIMITS.max_connections)
        self._listener.start()
        logger.info("probes are answered at %s/healthz and /readyz", self.url)

    async def close(self) -> None:
        """Listen no more."""
        if self._listener is not None:
            await self._listener.close()
            self._server.pre_shutdown()
            await self._server.shutdown(1.0)

    @property
    def url(self) -> str | None:
        """Where it listens; None where it does not."""
        if self._listener is None:
            return None
        host, port = self._listener.address
        return f"http://[{host}]:{port}" if ":" in host else f"http://{host}:{port}"

    async def _answer(self, request: web.BaseRequest) -> web.StreamResponse:
        answer = self._look(request)
        answer.force_close()  # there is room for few: who asks must not hold it until the next time
        return answer

    def _look(self, request: web.BaseRequest) -> web.Response:
        if request.method not in ("GET", "HEAD"):
            return _said("Only GET and HEAD are answered here.", status=405)
        match request.raw_path.partition("?")[0]:
            case "/healthz":
                return _judged([f"{name} is dead" for name in self._vitals.dead()])
            case "/readyz":
                return _judged(self._vitals.unready())
            case "/metrics":
                if self.metrics is None:
                    return _said("There is nothing to tell yet.", status=503)
                body, content_type = self.metrics(request.headers.get("Accept", ""))
                return web.Response(body=body, headers={**_HEADERS, "Content-Type": content_type})
        return _said("There is /healthz, /readyz and /metrics.", status=404)


def _judged(troubles: list[str]) -> web.Response:
    return _said("\n".join(troubles) or "ok", status=503 if troubles else 200)


def _said(text: str, *, status: int) -> web.Response:
    return web.Response(body=f"{text}\n".encode(), status=status, headers={**_HEADERS, "Content-Type": _TEXT})
