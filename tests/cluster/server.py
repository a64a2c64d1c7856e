"""The API server's HTTP side: who asks, for what, which fault strikes, and the answer. State is the registry's.

Stopping and starting again keeps the port and the state: an API server that is away for an hour.
"""

from __future__ import annotations

import asyncio
import json
from collections.abc import Callable
from typing import TYPE_CHECKING, Any

from aiohttp import web

from tests.cluster import answers, resources
from tests.cluster.discovery import discover
from tests.cluster.faults import Answer, BreakWatch, Delay, Fault, Faults, Hang, LoseAnswer, Reset
from tests.cluster.lists import list_objects, parse_selectors, parse_version
from tests.cluster.registry import DeleteOptions, Registry
from tests.cluster.requests import Entry, RequestLog, Target, parse_target
from tests.cluster.resources import PODS, Obj, name_of, namespace_of
from tests.cluster.scale import patch_of, scale_of
from tests.cluster.watch import Watch, WatchOptions

if TYPE_CHECKING:
    import ssl

    from tests.cluster.access import Access, User

# As long as a real server lets a watch live that names no end: half an hour to an hour.
_WATCH_SECONDS = 1800.0
_REVIEWS = "/apis/authorization.k8s.io/v1/selfsubjectaccessreviews"
_MAX_BODY_BYTES = 3 * 1024 * 1024

LogReader = Callable[[str, str, dict[str, str]], str]


class ApiServer:
    """Serves a registry on a loopback port."""

    def __init__(
        self, registry: Registry, access: Access, read_log: LogReader, tls: ssl.SSLContext | None = None
    ) -> None:
        self.faults = Faults()
        self.requests = RequestLog()
        self.watches: list[Watch] = []
        self.port = 0
        self._registry = registry
        self._access = access
        self._read_log = read_log
        self._tls = tls
        self._runner: web.AppRunner | None = None

    @property
    def url(self) -> str:
        """Where it listens, or will again."""
        return f"{'https' if self._tls else 'http'}://127.0.0.1:{self.port}"

    async def start(self) -> None:
        """Listen: on any port the first time, on the same ever after."""
        app = web.Application(client_max_size=_MAX_BODY_BYTES)
        app.router.add_route("*", "/{path:.*}", self._answer)
        self._runner = web.AppRunner(app, handler_cancellation=True, access_log=None, shutdown_timeout=0.0)
        await self._runner.setup()
        site = web.TCPSite(self._runner, "127.0.0.1", self.port, ssl_context=self._tls)
        await site.start()
        self.port = self._runner.addresses[0][1]

    async def stop(self) -> None:
        """Break every connection and refuse new ones."""
        if self._runner is not None:
            for watch in self.watches:
                watch.break_off("reset")
            await self._runner.cleanup()
            self._runner = None

    async def _answer(self, request: web.Request) -> web.StreamResponse:
        try:
            if request.method == "GET" and (found := discover(request.path)) is not None:
                return web.json_response(found)
            if (request.method, request.path) == ("POST", _REVIEWS):
                return await self._review(request)
            target = parse_target(request.method, request.path, request.query)
            return await self._answer_target(request, target)
        except answers.ApiError as error:
            return web.json_response(error.status, status=error.code, headers=error.headers)

    async def _review(self, request: web.Request) -> web.StreamResponse:
        """Say whether whoever asks may do something, as every user may ask; it is no request to a resource."""
        user = self._access.authenticate(request.headers.get("Authorization", ""))
        body = await self._read_body(request)
        is_allowed = user.review(body["spec"]["resourceAttributes"])
        return web.json_response({**body, "status": {"allowed": is_allowed}}, status=201)

    async def _answer_target(self, request: web.Request, target: Target) -> web.StreamResponse:
        agent = request.headers.get("User-Agent", "")
        resource = target.resource
        entry = Entry(target.verb, resource.group, target.plural, target.namespace, target.name, "", agent)
        self.requests.entries.append(entry)
        try:
            fault = self.faults.striking(target, agent)
            if fault:
                entry.fault = type(fault.action).__name__
                if answer := await self._misfortune(request, fault):
                    entry.code = answer.status
                    return answer
            user = self._access.authenticate(request.headers.get("Authorization", ""))
            entry.user = user.name
            self._access.authorise(user, target)
            if target.verb == "watch":
                entry.code = 200
                return await self._watch(request, target, fault)
            response = await self._perform(request, target)
        except answers.ApiError as error:
            entry.code = error.code
            raise
        if fault and isinstance(fault.action, LoseAnswer):
            await self._reset(request)
        entry.code = response.status
        return response

    async def _misfortune(self, request: web.Request, fault: Fault) -> web.Response | None:
        """Do what the fault says; None: the request goes on."""
        match fault.action:
            case Answer(status, body, content_type, headers):
                return web.Response(status=status, text=body, content_type=content_type, headers=headers)
            case Hang():
                await asyncio.Event().wait()
            case Reset():
                await self._reset(request)
            case Delay(_, until) if until is not None:
                await until.wait()
            case Delay(seconds, _):
                await asyncio.sleep(seconds)
        return None

    async def _reset(self, request: web.Request) -> None:
        if request.transport:
            request.transport.abort()
        await asyncio.Event().wait()  # until aiohttp, seeing the connection gone, cancels the handler

    async def _watch(self, request: web.Request, target: Target, fault: Fault | None) -> web.StreamResponse:
        query = request.query
        initial = query.get("sendInitialEvents") == "true"
        text = "" if initial else query.get("resourceVersion", "")
        options = WatchOptions(
            version=parse_version(text) if text not in {"", "0"} else None,
            fits=parse_selectors(query),
            bookmarks=query.get("allowWatchBookmarks") in {"true", "1"},
            initial_end=initial,
            timeout_seconds=float(query.get("timeoutSeconds", "0")) or _WATCH_SECONDS,
        )
        action = fault.action if fault and isinstance(fault.action, BreakWatch) else None
        watch = Watch(self._registry.store, target, options, action)
        self.watches.append(watch)
        try:
            return await watch.run(request)
        finally:
            self.watches.remove(watch)

    async def _perform(self, request: web.Request, target: Target) -> web.Response:
        resource, namespace, name, query = target.resource, target.namespace, target.name, request.query
        body = await self._read_body(request)
        dry_run = query.get("dryRun") == "All"
        if target.subresource not in {"", "status"} or (target.subresource == "status" and not resource.has_status):
            return self._perform_subresource(target, body, dict(query))
        status, answer = 200, {}
        match target.verb:
            case "get":
                answer = self._registry.get(resource, namespace, name)
            case "list":
                answer = list_objects(self._registry.store, target, query)
            case "create":
                status, answer = 201, self._registry.create(resource, namespace, body, dry_run=dry_run)
            case "update":
                answer = self._registry.update(
                    resource, namespace, name, body, subresource=target.subresource, dry_run=dry_run
                )
            case "patch":
                existed = self._registry.store.get(resource, namespace, name) is not None
                answer = self._registry.patch(
                    resource,
                    namespace,
                    name,
                    body,
                    content_type=request.content_type,
                    subresource=target.subresource,
                    dry_run=dry_run,
                )
                status = 200 if existed else 201
            case "delete":
                answer = self._registry.delete(resource, namespace, name, _delete_options(body, query))
            case "deletecollection":
                answer = list_objects(self._registry.store, target, query)
                for obj in answer["items"]:
                    options = _delete_options(body, query)
                    self._registry.delete(resource, namespace_of(obj), name_of(obj), options)
            case _:
                raise answers.failure(
                    405, "MethodNotAllowed", "the server does not allow this method on the requested resource"
                )
        return web.json_response(answer, status=status)

    def _perform_subresource(self, target: Target, body: Any, query: dict[str, str]) -> web.Response:
        resource, namespace, name = target.resource, target.namespace, target.name
        match target.resource, target.subresource, target.verb:
            case resources.DEPLOYMENTS, "scale", "get":
                return web.json_response(scale_of(self._registry.get(resource, namespace, name)))
            case resources.DEPLOYMENTS, "scale", "update" | "patch":
                return web.json_response(scale_of(self._registry.patch(resource, namespace, name, patch_of(body))))
            case resources.PODS, "log", "get":
                self._registry.get(PODS, target.namespace, target.name)
                return web.Response(text=self._read_log(target.namespace, target.name, query))
            case resources.PODS, "binding", "create":
                self._registry.bind(target.namespace, target.name, body["target"]["name"])
            case resources.PODS, "eviction", "create":
                options = DeleteOptions.parse(body.get("deleteOptions") or {})
                self._registry.delete(PODS, target.namespace, target.name, options)
            case _:
                raise answers.unknown_path()
        return web.json_response(
            {"kind": "Status", "apiVersion": "v1", "metadata": {}, "status": "Success", "code": 201}, status=201
        )

    async def _read_body(self, request: web.Request) -> Any:
        raw = await request.read()
        if not raw:
            return {}
        try:
            return json.loads(raw)
        except ValueError as error:
            raise answers.bad_request(f"the object provided is unrecognized: {error}") from error

    def add_user(self, *args: Any, **kwargs: Any) -> User:
        """Let a new user in; see `Access.add`."""
        return self._access.add(*args, **kwargs)


def _delete_options(body: Obj, query: Any) -> DeleteOptions:
    from_query: Obj = {}
    if "propagationPolicy" in query:
        from_query["propagationPolicy"] = query["propagationPolicy"]
    if "gracePeriodSeconds" in query:
        from_query["gracePeriodSeconds"] = int(query["gracePeriodSeconds"])
    if "dryRun" in query:
        from_query["dryRun"] = [query["dryRun"]]
    return DeleteOptions.parse({**from_query, **(body or {})})
