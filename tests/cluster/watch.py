"""One open watch: from a version on, every change that fits, as JSON lines, until a timeout, a fault or the client.

A selector makes events of its own, as in the real server: an object that begins to fit is ADDED, one that ceases to is
DELETED.
"""

from __future__ import annotations

import asyncio
import json
from dataclasses import dataclass
from typing import TYPE_CHECKING, Literal

from aiohttp import web

from tests.cluster import answers
from tests.cluster.faults import HTML, BreakWatch, WatchBreak
from tests.cluster.resources import Obj, namespace_of
from tests.cluster.store import Change, Compacted, Store

if TYPE_CHECKING:
    from tests.cluster.requests import Target
    from tests.cluster.selectors import Predicate

Outcome = Literal["ended", "broken", "silent"]


@dataclass(frozen=True)
class WatchOptions:
    """What a watch asks for. `version` None: begin with what is there; `initial_end`: mark the end of that."""

    version: int | None
    fits: Predicate
    bookmarks: bool
    initial_end: bool
    timeout_seconds: float


class Watch:
    """An open watch. `break_off` does to it what a network or a server may do."""

    def __init__(self, store: Store, target: Target, options: WatchOptions, fault: BreakWatch | None) -> None:
        self.target = target
        self.events_sent = 0
        self._store = store
        self._options = options
        self._fault = fault
        self._order: WatchBreak | None = None
        self._wants_bookmark = False
        self._wake = asyncio.Event()
        self._response = web.StreamResponse(headers={"Content-Type": "application/json"})

    def break_off(self, how: WatchBreak) -> None:
        """End the watch cleanly, cut it in a line, expire it with a 410, mute it, reset it, or send garbage."""
        self._order = how
        self._wake.set()

    def bookmark(self) -> None:
        """Send a bookmark, if the watch asked for them."""
        self._wants_bookmark = self._options.bookmarks
        self._wake.set()

    async def run(self, request: web.Request) -> web.StreamResponse:
        """Answer the request: returns when the watch is over."""
        unsubscribe = self._store.subscribe(lambda _: self._wake.set())
        try:
            async with asyncio.timeout(self._options.timeout_seconds):
                await self._serve(request)
        except ConnectionResetError:
            pass  # the client left
        except TimeoutError:
            if self._order == "mute":  # a silent peer says no goodbye either
                await asyncio.Event().wait()
        finally:
            unsubscribe()
        return self._response

    async def _serve(self, request: web.Request) -> None:
        await self._response.prepare(request)
        version = self._options.version
        if version is None:
            version = self._store.version
            for obj in self._store.items(self.target.resource, self.target.namespace):
                if self._options.fits(obj):
                    await self._send("ADDED", obj)
            if self._options.initial_end:
                await self._send_bookmark({"k8s.io/initial-events-end": "true"})
        while not await self._obey(request):
            self._wake.clear()
            try:
                changes = self._store.changes_after(version)
            except Compacted:
                await self._send("ERROR", answers.expired_watch(version, self._store.compacted).status)
                return
            for change in changes:
                version = change.version
                if event := self._event(change):
                    await self._send(*event)
                    if self._order or (self._fault and await self._obey(request)):
                        break
            else:
                if self._wants_bookmark:
                    self._wants_bookmark = False
                    await self._send_bookmark({})
                await self._wake.wait()

    async def _obey(self, request: web.Request) -> bool:
        """Do what the test ordered; tell whether that is the end of the watch."""
        if self._fault and self.events_sent >= self._fault.after_events:
            self._order = self._fault.how
        if self._order is None:
            return False
        if self._order == "expire":
            await self._send("ERROR", answers.expired_watch(0, self._store.version).status)
        elif self._order == "garbage":
            await self._response.write(HTML.format(status=502).encode())
        elif self._order == "mute":
            await asyncio.Event().wait()
        elif self._order in {"cut", "reset"}:
            if self._order == "cut":
                await self._response.write(
                    b'{"type":"MODIFIED","object":{"kind":"' + self.target.resource.kind[:4].encode()
                )
            if request.transport:
                # What was written must arrive before the end does, so no abort for a cut.
                (request.transport.close if self._order == "cut" else request.transport.abort)()
            await asyncio.Event().wait()  # until aiohttp, seeing the connection gone, cancels the handler
        return True

    def _event(self, change: Change) -> tuple[str, Obj] | None:
        if change.resource != self.target.resource:
            return None
        if self.target.namespace and namespace_of(change.obj) != self.target.namespace:
            return None
        fits = change.type != "DELETED" and self._options.fits(change.obj)
        did_fit = change.before is not None and self._options.fits(change.before)
        if fits:
            return ("MODIFIED" if did_fit else "ADDED"), change.obj
        if not did_fit or change.before is None:
            return None
        metadata = {**change.before["metadata"], "resourceVersion": str(change.version)}
        return "DELETED", change.obj if change.type == "DELETED" else {**change.before, "metadata": metadata}

    async def _send(self, kind: str, obj: Obj) -> None:
        await self._response.write(json.dumps({"type": kind, "object": obj}, separators=(",", ":")).encode() + b"\n")
        if kind != "BOOKMARK":
            self.events_sent += 1

    async def _send_bookmark(self, annotations: dict[str, str]) -> None:
        resource = self.target.resource
        metadata: Obj = {"resourceVersion": str(self._store.version), "creationTimestamp": None}
        if annotations:
            metadata["annotations"] = annotations
        await self._send("BOOKMARK", {"kind": resource.kind, "apiVersion": resource.api_version, "metadata": metadata})
