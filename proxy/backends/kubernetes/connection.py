"""The one connection pool to the API server, and the credential that it sends.

Every request has a time-out and the credential; no proxy variable and no `.netrc` of the environment is heeded. Bodies
never pass the client library's own reading, which would log them. The only module that imports kubernetes_asyncio.
"""

from __future__ import annotations

import asyncio
import logging
from contextlib import contextmanager
from http import HTTPStatus
from pathlib import Path
from types import MappingProxyType
from typing import TYPE_CHECKING, Any, Final, NamedTuple, Self

import aiohttp
import yaml
from kubernetes_asyncio.client import ApiClient, Configuration
from kubernetes_asyncio.config import ConfigException, load_incluster_config, load_kube_config

from proxy.backends.kubernetes.api_errors import ApiUnavailable
from proxy.errors import ConfigError
from proxy.half_open import probing
from proxy.version import __version__

if TYPE_CHECKING:
    import socket
    from collections.abc import Awaitable, Callable, Iterator, Mapping

    from proxy.clock import Clock
    from proxy.counts import ClusterCounts

SERVICE_ACCOUNT: Final = Path("/var/run/secrets/kubernetes.io/serviceaccount")
_TOKEN: Final = "BearerToken"  # noqa: S105 the client library's name for the slot
_RENEW_EVERY: Final = 60.0  # seconds; the kubelet writes a new token long before the old one ends
_RENEW_AT_MOST_EVERY: Final = 1.0
_CONNECT: Final = 5.0  # seconds
_LOAD_DEADLINE: Final = 30.0  # a kubeconfig may name a command that fetches a token
# What reading a kubeconfig raises for one that is malformed: the loader checks little of it.
_UNREADABLE: Final = (
    ConfigException,
    OSError,
    ValueError,
    TypeError,
    KeyError,
    AttributeError,
    AssertionError,
    yaml.YAMLError,
    aiohttp.ClientError,
)
_log = logging.getLogger(__name__)
_VERBS: Final = {"GET": "get", "POST": "create", "PATCH": "patch", "DELETE": "delete"}
_TCP_OPTIONS: Final = probing(idle=30, interval=10, count=3)


class Request(NamedTuple):
    """What to send, and the seconds that it may take: to the last byte of the answer, and to the end of its head."""

    method: str
    path: str
    seconds: float
    query: Mapping[str, str] = MappingProxyType({})
    body: Mapping[str, Any] | None = None
    content_type: str = "application/json"
    head_seconds: float = 30.0
    verb: str = ""
    """As Kubernetes names what is asked for, where the method does not say it."""


class Connection:
    """Sends requests to the API server; one per process, for each costs 23 ms of CPU and a pool of sockets.

    Args:
        load: reads address, certificates and credential; called again when the API server refuses the credential.
        configuration: what it read first.
        clock: what the age of the credential is measured by.
        renews: the credential is a file that changes, so it is read again once a minute.
        counts: of what is sent; none are kept by default.
    """

    def __init__(
        self,
        load: Callable[[], Awaitable[Configuration]],
        configuration: Configuration,
        clock: Clock,
        *,
        renews: bool,
        counts: ClusterCounts | None = None,
    ) -> None:
        self._load = load
        self._configuration = configuration
        self._client = _client(configuration)
        self._clock = clock
        self._renews = renews
        self._counts = counts
        self._read_at = clock.monotonic()
        self._refused_at = -_RENEW_AT_MOST_EVERY
        self._lock = asyncio.Lock()

    @classmethod
    async def open(
        cls,
        kubeconfig: str | Path | None,
        context: str | None,
        clock: Clock,
        *,
        service_account: Path = SERVICE_ACCOUNT,
        counts: ClusterCounts | None = None,
    ) -> Self:
        """Read the credential; nothing is sent yet.

        Args:
            kubeconfig: its path, or None.
            context: which context of it. With neither, the service account of the pod that this process runs in.
            clock: see the class.
            service_account: where the kubelet puts the token and the CA.
            counts: see the class.

        Raises:
            ConfigError: there is no usable credential.
        """
        in_cluster = kubeconfig is None and context is None

        async def load() -> Configuration:
            configuration = Configuration()
            if in_cluster:
                _read_service_account(configuration, service_account)
            else:
                await _read_kubeconfig(configuration, kubeconfig, context)
            return configuration

        return cls(load, await load(), clock, renews=in_cluster, counts=counts)

    async def send(self, request: Request) -> aiohttp.ClientResponse:
        """Return the response once its head is here, whatever its status; the caller reads and closes it.

        A credential that is refused (401) is read anew, and the request is sent once more if it has changed.

        Raises:
            ApiUnavailable: there is none.
        """
        if self._renews and self._clock.monotonic() - self._read_at >= _RENEW_EVERY:
            await self._reload()
        credential = self._credential
        response = await self._send_once(request)
        if response.status == HTTPStatus.UNAUTHORIZED and await self._renew(credential, response):
            response = await self._send_once(request)
        return response

    async def close(self) -> None:
        """Close every connection; requests under way fail."""
        await self._client.close()

    @property
    def _credential(self) -> str:
        return str(self._configuration.api_key.get(_TOKEN, ""))

    async def _send_once(self, request: Request) -> aiohttp.ClientResponse:
        began = self._clock.monotonic()
        try:
            response = await self._call(request)
        except ApiUnavailable:
            self._count(request, "none", began)
            raise
        self._count(request, str(response.status), began)
        return response

    def _count(self, request: Request, code: str, began: float) -> None:
        if self._counts is not None:
            verb = request.verb or _VERBS.get(request.method, "other")
            self._counts.answered(verb, code, self._clock.monotonic() - began)

    async def _call(self, request: Request) -> aiohttp.ClientResponse:
        with answering():
            async with asyncio.timeout(request.head_seconds):
                response: aiohttp.ClientResponse = await self._client.call_api(
                    request.path,
                    request.method,
                    query_params=list(request.query.items()),
                    header_params={"Content-Type": request.content_type, "Accept": "application/json, */*"},
                    body=request.body and dict(request.body),
                    auth_settings=[_TOKEN],
                    # The library's own reading logs every body, Secrets too, and takes any text with status 200 for a
                    # result; without it, it checks no status either. Both are the caller's.
                    _preload_content=False,
                    _request_timeout=aiohttp.ClientTimeout(total=request.seconds, sock_connect=_CONNECT),
                )
        return response

    async def _renew(self, refused: str, response: aiohttp.ClientResponse) -> bool:
        """Read the credential again, once for all who were refused at once; tell whether there is another now.

        The response is kept if there is none, for it says why.
        """
        try:
            async with self._lock:
                now = self._clock.monotonic()
                if self._credential == refused and now - self._refused_at >= _RENEW_AT_MOST_EVERY:
                    self._refused_at = now
                    await self._reload()
            is_renewed = self._credential != refused
        except BaseException:
            response.close()
            raise
        if is_renewed:
            response.close()
        return is_renewed

    async def _reload(self) -> None:
        self._read_at = self._clock.monotonic()
        try:
            fresh = await self._load()
        except ConfigError as error:
            _log.warning("The Kubernetes credential cannot be read again; the old one is kept: %s", error)
            return
        if _identity(fresh) == _identity(self._configuration):
            self._configuration.api_key = fresh.api_key
            return
        old, self._configuration, self._client = self._client, fresh, _client(fresh)
        _log.info("The address or the certificates of the Kubernetes API have changed; connecting anew")
        await old.close()


@contextmanager
def answering(broken: type[ApiUnavailable] = ApiUnavailable) -> Iterator[None]:
    """Turn what the HTTP client raises while it sends or reads into `ApiUnavailable`.

    Args:
        broken: what it is if the connection broke.
    """
    try:
        yield
    except (aiohttp.ClientConnectorError, aiohttp.ConnectionTimeoutError) as error:
        raise ApiUnavailable(f"The Kubernetes API cannot be reached: {error}", may_be_done=False) from error
    except TimeoutError as error:
        raise ApiUnavailable("The Kubernetes API did not answer in time") from error
    except (aiohttp.ClientError, OSError) as error:
        raise broken(f"The Kubernetes API broke off: {type(error).__name__} {error}".strip()) from error


def find_half_open_peer(response: aiohttp.ClientResponse) -> None:
    """Let TCP find a peer that vanishes while this response is awaited for long."""
    transport = response.connection and response.connection.transport
    sock: socket.socket | None = transport.get_extra_info("socket") if transport else None
    if sock is not None:
        for option in _TCP_OPTIONS:
            sock.setsockopt(*option)


def _client(configuration: Configuration) -> ApiClient:
    # As kubectl does, and Python before 3.13: the chain, the dates and the name are checked, but a cluster's own CA
    # need not carry every extension that RFC 5280 asks for.
    configuration.disable_strict_ssl_verification = True
    client = ApiClient(configuration)
    client.user_agent = f"notebook-proxy/{__version__}"
    # The library's session heeds proxy variables and .netrc, and keeps cookies. Only its connector is kept.
    session = client.rest_client.pool_manager
    client.rest_client.pool_manager = aiohttp.ClientSession(
        connector=session.connector, trust_env=False, cookie_jar=aiohttp.DummyCookieJar()
    )
    session.detach()
    return client


def _identity(configuration: Configuration) -> tuple[Any, ...]:
    """What a pool of connections is made for; the rest of a configuration can change under it."""
    names = ("host", "ssl_ca_cert", "cert_file", "key_file", "verify_ssl", "tls_server_name", "proxy")
    return tuple(getattr(configuration, name) for name in names)


def _read_service_account(configuration: Configuration, folder: Path) -> None:
    try:
        load_incluster_config(  # type: ignore[no-untyped-call]
            configuration,
            try_refresh_token=False,  # it would do so by the wall clock, and never after a refusal
            token_filename=str(folder / "token"),
            cert_filename=str(folder / "ca.crt"),
        )
    except _UNREADABLE as error:
        raise ConfigError(
            f"There is no service account of a Kubernetes pod here ({error}); outside a cluster, name a kubeconfig."
        ) from error
    _trim(configuration)


async def _read_kubeconfig(configuration: Configuration, path: str | Path | None, context: str | None) -> None:
    try:
        async with asyncio.timeout(_LOAD_DEADLINE):
            await load_kube_config(path and str(path), context, configuration)
    except _UNREADABLE as error:
        where = path or "the default kubeconfig"
        raise ConfigError(f"{where} cannot be used: {type(error).__name__} {error}".strip()) from error
    _trim(configuration)


def _trim(configuration: Configuration) -> None:
    """Take the line end off a token from a file: no header may hold one."""
    if token := configuration.api_key.get(_TOKEN):
        configuration.api_key[_TOKEN] = token.strip()
