"""The naive proxy: what one writes first with aiohttp, `ClientSession` and `ws_connect`. A baseline, and nothing more.

`python -m tests.bench.naive --port 1 --static 2 --socket 3`. On uvloop, as the project's own proxy.
"""

from __future__ import annotations

import argparse
import asyncio

import aiohttp
import uvloop
from aiohttp import web

_HOP: frozenset[str] = frozenset({"connection", "keep-alive", "transfer-encoding", "upgrade", "te", "trailer", "host"})


class Naive:
    """Forwards by the first part of the path behind `/ws/`."""

    def __init__(self, ports: dict[str, int]) -> None:
        self._ports = ports
        self._session: aiohttp.ClientSession

    async def open(self, app: web.Application) -> None:
        connector = aiohttp.TCPConnector(limit=0)
        self._session = aiohttp.ClientSession(
            connector=connector, auto_decompress=False, timeout=aiohttp.ClientTimeout(total=None)
        )

    async def close(self, app: web.Application) -> None:
        await self._session.close()

    async def handle(self, request: web.Request) -> web.StreamResponse:
        url = f"http://127.0.0.1:{self._ports[request.match_info['id']]}{request.raw_path}"
        headers = {name: value for name, value in request.headers.items() if name.lower() not in _HOP}
        if request.headers.get("Upgrade", "").lower() == "websocket":
            return await self._websocket(request, url)
        body = request.content if request.body_exists else None
        async with self._session.request(
            request.method, url, headers=headers, data=body, allow_redirects=False
        ) as found:
            response = web.StreamResponse(status=found.status)
            for name, value in found.headers.items():
                if name.lower() not in _HOP:
                    response.headers.add(name, value)
            await response.prepare(request)
            async for data in found.content.iter_any():
                await response.write(data)
            await response.write_eof()
            return response

    async def _websocket(self, request: web.Request, url: str) -> web.StreamResponse:
        client = web.WebSocketResponse(max_msg_size=0)
        await client.prepare(request)
        async with self._session.ws_connect(url, max_msg_size=0) as notebook:
            both = [asyncio.create_task(_pump(client, notebook)), asyncio.create_task(_pump(notebook, client))]
            await asyncio.wait(both, return_when=asyncio.FIRST_COMPLETED)
            for task in both:
                task.cancel()
        return client


async def _pump(
    source: web.WebSocketResponse | aiohttp.ClientWebSocketResponse,
    sink: web.WebSocketResponse | aiohttp.ClientWebSocketResponse,
) -> None:
    async for message in source:
        if message.type == aiohttp.WSMsgType.TEXT:
            await sink.send_str(message.data)
        elif message.type == aiohttp.WSMsgType.BINARY:
            await sink.send_bytes(message.data)


def main() -> None:
    """Serve until SIGTERM."""
    parser = argparse.ArgumentParser(description=__doc__)
    for name in ("port", "static", "socket"):
        parser.add_argument(f"--{name}", type=int, required=True)
    given = parser.parse_args()
    naive = Naive({"static": given.static, "socket": given.socket})
    app = web.Application(client_max_size=0)
    app.on_startup.append(naive.open)
    app.on_cleanup.append(naive.close)
    app.router.add_route("*", "/ws/{id}/{rest:.*}", naive.handle)
    web.run_app(app, host="127.0.0.1", port=given.port, access_log=None, print=None, loop=uvloop.new_event_loop())


if __name__ == "__main__":
    main()
