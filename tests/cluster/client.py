"""A Kubernetes client of a few lines, for tests: paths and dictionaries, against the test cluster or a real one.

Deliberately not the project's own client, so that the two cannot share a mistake.
"""

from __future__ import annotations

import asyncio
import json
import ssl
from contextlib import asynccontextmanager
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

import aiohttp
from kubernetes_asyncio import client as kubernetes
from kubernetes_asyncio import config as kubernetes_config

if TYPE_CHECKING:
    from collections.abc import AsyncIterator
    from pathlib import Path

    from tests.cluster.resources import Obj, Resource

MERGE = "application/merge-patch+json"
STRATEGIC = "application/strategic-merge-patch+json"
JSON_PATCH = "application/json-patch+json"
APPLY = "application/apply-patch+yaml"


@dataclass(frozen=True)
class Reply:
    """A status code and the decoded body."""

    code: int
    body: Any

    @property
    def reason(self) -> str:
        """The `reason` of a Status; empty for anything else."""
        return str(self.body.get("reason", "")) if isinstance(self.body, dict) else ""

    @property
    def version(self) -> str:
        """The resourceVersion of the object or the list."""
        return str(self.body["metadata"]["resourceVersion"])


def path_of(resource: Resource, namespace: str = "", name: str = "", subresource: str = "") -> str:
    """Return the path of an object or of a collection."""
    root = f"/apis/{resource.group}/{resource.version}" if resource.group else f"/api/{resource.version}"
    within = f"/namespaces/{namespace}" if namespace and resource.namespaced else ""
    return root + within + "".join(f"/{part}" for part in (resource.plural, name, subresource) if part)


class Client:
    """Talks to one API server as one user."""

    def __init__(self, session: aiohttp.ClientSession, url: str, tls: ssl.SSLContext | None = None) -> None:
        self.url = url
        self._session = session
        self._tls = tls or True

    async def request(
        self, method: str, path: str, body: Any = None, content_type: str = "application/json", **query: Any
    ) -> Reply:
        """Send one request and return the reply, whatever its code."""
        data = None if body is None else json.dumps(body)
        headers = {"Content-Type": content_type} if data is not None else {}
        url = self.url + path
        async with self._session.request(
            method, url, data=data, headers=headers, params=query, ssl=self._tls
        ) as response:
            text = await response.text()
            return Reply(response.status, json.loads(text) if "json" in response.content_type and text else text)

    async def get(self, resource: Resource, namespace: str, name: str = "", **query: Any) -> Reply:
        """Get an object; without a name, list."""
        return await self.request("GET", path_of(resource, namespace, name), **query)

    async def create(self, resource: Resource, namespace: str, obj: Obj, **query: Any) -> Reply:
        """Create an object."""
        full = {"apiVersion": resource.api_version, "kind": resource.kind, **obj}
        return await self.request("POST", path_of(resource, namespace), full, **query)

    async def patch(
        self,
        resource: Resource,
        namespace: str,
        name: str,
        body: Any,
        content_type: str = MERGE,
        *,
        subresource: str = "",
        **query: Any,
    ) -> Reply:
        """Patch an object or a subresource of it."""
        return await self.request("PATCH", path_of(resource, namespace, name, subresource), body, content_type, **query)

    async def delete(self, resource: Resource, namespace: str, name: str, **options: Any) -> Reply:
        """Delete an object; `options` as in `DeleteOptions`."""
        return await self.request("DELETE", path_of(resource, namespace, name), options or None)

    @asynccontextmanager
    async def watch(self, resource: Resource, namespace: str = "", **query: Any) -> AsyncIterator[Events]:
        """Open a watch."""
        url = self.url + path_of(resource, namespace)
        timeout = aiohttp.ClientTimeout(total=None)
        params: dict[str, Any] = {"watch": "true", **query}
        async with self._session.get(url, params=params, ssl=self._tls, timeout=timeout) as response:
            yield Events(response)


class Events:
    """What an open watch sends."""

    def __init__(self, response: aiohttp.ClientResponse) -> None:
        self.code = response.status
        self._lines = response.content

    async def next(self, seconds: float = 10) -> Obj | None:
        """Return the next event, or None at the end.

        Raises:
            TimeoutError: none came.
        """
        async with asyncio.timeout(seconds):
            line = await self._lines.readline()
        event: Obj | None = json.loads(line) if line else None
        return event

    async def take(self, count: int) -> list[Obj]:
        """Return the next events, fewer if the watch ends."""
        found = [await self.next() for _ in range(count)]
        return [event for event in found if event is not None]

    async def until(self, kind: str) -> list[Obj]:
        """Return the events up to the first of a type, that one included."""
        found: list[Obj] = []
        while not found or found[-1]["type"] != kind:
            event = await self.next()
            assert event is not None, f"the watch ended before a {kind}: {found}"
            found.append(event)
        return found


@asynccontextmanager
async def connect(kubeconfig: Path, user_agent: str = "tests") -> AsyncIterator[Client]:
    """Connect as a kubeconfig says: token or client certificate, any authority."""
    configuration = kubernetes.Configuration()
    await kubernetes_config.load_kube_config(config_file=str(kubeconfig), client_configuration=configuration)
    tls = None
    url = str(configuration.host).rstrip("/")
    if url.startswith("https"):
        tls = ssl.create_default_context(cafile=configuration.ssl_ca_cert)
        if configuration.cert_file:
            tls.load_cert_chain(configuration.cert_file, configuration.key_file)
    headers = {"User-Agent": user_agent}
    if token := str(configuration.api_key.get("BearerToken") or ""):
        headers["Authorization"] = token if token.startswith("Bearer ") else f"Bearer {token}"
    async with aiohttp.ClientSession(headers=headers, timeout=aiohttp.ClientTimeout(total=60)) as session:
        yield Client(session, url, tls)
