"""How soon those who wait are served once the backend says that a workspace is ready: a held request, a waiting page.

`python -m tests.bench.waiting`. Each start is a new workspace with a real JupyterLab on the local backend. The clock
starts at the proxy's own word, the log's “workspace running”, and stops at the first byte of a held request's answer;
for the waiting page in Chromium, when it leaves for the notebook, and at the first byte of what it gets there.
"""

from __future__ import annotations

import argparse
import json
import re
import socket
import sys
import tempfile
import time
from concurrent.futures import ThreadPoolExecutor
from datetime import datetime
from pathlib import Path
from typing import TYPE_CHECKING, Final

from playwright.sync_api import sync_playwright

from tests.bench.cold_start import show, summarise
from tests.conftest import find_chromium
from tests.e2e import Proxy, until

if TYPE_CHECKING:
    from playwright.sync_api import Page

_HELD_BAR, _PAGE_BAR = 50, 150  # milliseconds, medians
_RUNNING: Final = r"^(\S+ \S+) INFO \S+ workspace running: id={}\s"
_FLAGS: Final = ("--no-sandbox", "--disable-gpu", "--disable-dev-shm-usage", "--disable-background-networking")


def ready_at(proxy: Proxy, name: str) -> float:
    """Return the moment (of the wall clock, in seconds) at which the backend had the workspace ready."""
    found = until(lambda: re.search(_RUNNING.format(name), proxy.log(), re.MULTILINE), f"{name} runs")
    assert found is not None
    return datetime.strptime(found[1], "%Y-%m-%d %H:%M:%S,%f").timestamp()  # noqa: DTZ007 - the log's zone is ours


def hold(proxy: Proxy, name: str) -> float:
    """Return how many milliseconds after that a held request had its first byte."""

    def ask() -> float:
        with socket.create_connection(("127.0.0.1", proxy.port)) as client:
            client.sendall(f"GET /ws/{name}/api/status HTTP/1.1\r\nHost: localhost\r\n\r\n".encode())
            answer = client.recv(12)
            moment = time.time()
        assert answer == b"HTTP/1.1 200", answer
        return moment

    with ThreadPoolExecutor(1) as pool:
        asking = pool.submit(ask)
        ready = ready_at(proxy, name)
        return (asking.result() - ready) * 1000


def leave(proxy: Proxy, page: Page, name: str) -> tuple[float, float]:
    """Return how many milliseconds after that a waiting page left for the notebook, and had its first byte there."""
    response = page.goto(f"{proxy.url}/ws/{name}/lab", wait_until="domcontentloaded")
    assert response is not None
    assert response.status == 202
    with page.expect_navigation(wait_until="commit"):
        ready = ready_at(proxy, name)
    left, first = page.evaluate(
        "[performance.timeOrigin, performance.timeOrigin + performance.getEntriesByType('navigation')[0].responseStart]"
    )
    page.goto("about:blank")
    return left - ready * 1000, first - ready * 1000


def main() -> None:
    """Measure, print the table and the JSON, and fail if a bar is missed."""
    parser = argparse.ArgumentParser(prog="python -m tests.bench.waiting", description=__doc__)
    parser.add_argument("--starts", type=int, default=9, help="of each kind")
    starts = parser.parse_args().starts
    chromium = find_chromium()
    if chromium is None:
        sys.exit("no Chromium found: set CHROMIUM to its path")
    held: list[float] = []
    left: list[float] = []
    first: list[float] = []
    with tempfile.TemporaryDirectory() as directory, sync_playwright() as playwright:
        browser = playwright.chromium.launch(executable_path=chromium, args=_FLAGS)
        proxy = Proxy(Path(directory))
        try:
            proxy.until_listening()
            page = browser.new_page()
            for number in range(-1, starts):  # what is read from disk once counts for nobody
                one, two = hold(proxy, f"held-{number + 1}"), leave(proxy, page, f"page-{number + 1}")
                for name in (f"held-{number + 1}", f"page-{number + 1}"):
                    proxy.request("DELETE", f"/api/workspaces/{name}")
                if number >= 0:
                    held.append(one)
                    left.append(two[0])
                    first.append(two[1])
                time.sleep(0.5)
        finally:
            proxy.clear()
            browser.close()
    summaries = {"the held request's first byte": summarise(held), "the waiting page leaves": summarise(left)}
    summaries["its first byte from the notebook"] = summarise(first)
    print(f"ms after the backend was ready, {starts} starts each")
    print("| what | median | lower quartile | upper quartile | min | max |")
    print("| --- | --- | --- | --- | --- | --- |")
    for what, summary in summaries.items():
        print(show("local", what, summary).removeprefix("| local "))
    print(json.dumps(summaries))
    bars = {"the held request's first byte": _HELD_BAR, "the waiting page leaves": _PAGE_BAR}
    missed = [what for what, bar in bars.items() if summaries[what]["median"] > bar]
    sys.exit(f"over the bar: {', '.join(missed)}" if missed else 0)


if __name__ == "__main__":
    main()
