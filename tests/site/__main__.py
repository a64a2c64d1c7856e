"""Open every page of the documentation in Chromium: nothing comes from elsewhere, each picture is drawn, all fits.

`make site` runs it on what it has built. Exit status 1, with a line for each thing that is wrong. What cannot be looked
at here, for want of a Chromium or of the script that draws the pictures, is said.
"""

from __future__ import annotations

import sys
import threading
from contextlib import contextmanager
from functools import partial
from http.server import SimpleHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path
from typing import TYPE_CHECKING, Any, Final
from urllib.parse import urljoin

from playwright.sync_api import sync_playwright

from tests.conftest import find_chromium, must_have_browser

if TYPE_CHECKING:
    from collections.abc import Iterator

    from playwright.sync_api import Page

SITE: Final = Path(__file__).parent.parent.parent / "build" / "site"
DRAWS: Final = SITE / "assets" / "javascripts" / "mermaid.min.js"
WIDTHS: Final = (1280, 360)  # a desk, a phone
WIDEST: Final = 1000  # of a picture: the page has 690 px for it, and letters of 16 px are read at 11
# Asks the very script that draws the pictures, since the theme draws them where no script of ours can look.
_COMPLAINTS: Final = """async ([texts, widest]) => {
    const found = [];
    for (const [index, text] of texts.entries()) {
        try {
            const drawn = await mermaid.render(`looked-at-${index}`, text);
            const picture = new DOMParser().parseFromString(drawn.svg, "text/html").querySelector("svg");
            const width = picture.viewBox.baseVal.width;
            if (width > widest) found.push(`is drawn ${Math.round(width)} wide, so nobody can read it`);
        } catch (error) { found.push(`${error}`.slice(0, 300)); }
    }
    return found;
}"""


class _Quiet(SimpleHTTPRequestHandler):
    def log_message(self, *_: Any) -> None:
        pass


class _Server(ThreadingHTTPServer):
    def handle_error(self, *_: Any) -> None:
        """Say nothing: the browser has left a page before all of it had come."""


@contextmanager
def served() -> Iterator[str]:
    """Serve the site on a free port of this machine."""
    with _Server(("127.0.0.1", 0), partial(_Quiet, directory=str(SITE))) as server:
        thread = threading.Thread(target=server.serve_forever)
        thread.start()
        try:
            yield f"http://127.0.0.1:{server.server_port}/"
        finally:
            server.shutdown()
            thread.join()


def look(page: Page, address: str, *, draws: bool) -> list[str]:
    """Return what is wrong with one page."""
    found: list[str] = []

    def answer(route: Any) -> None:
        if route.request.url.startswith(urljoin(address, "/")):
            route.continue_()
        else:
            found.append(f"asks elsewhere: {route.request.url}")
            route.abort()

    page.unroute_all()
    page.route("**/*", answer)
    for width in WIDTHS:
        page.set_viewport_size({"width": width, "height": 900})
        page.goto(address)
        if page.evaluate("document.documentElement.scrollWidth") > width:
            found.append(f"is wider than {width} px")
    return found + (pictures(page) if draws else [])


def pictures(page: Page) -> list[str]:
    """Return what is wrong with the pictures of the page that is open."""
    # As they are written: where the theme has drawn, their text is gone.
    texts = page.evaluate(
        "html => [...new DOMParser().parseFromString(html, 'text/html').querySelectorAll('.mermaid code')]"
        ".map(found => found.textContent)",
        page.request.get(page.url).text(),
    )
    if not texts:
        return []
    if found := page.evaluate(_COMPLAINTS, [texts, WIDEST]):
        return [f"picture: {text}" for text in found]
    # The theme has put an element with its own root in the place of the text.
    page.wait_for_function("count => document.querySelectorAll('div.mermaid').length === count", arg=len(texts))
    return []


def main() -> int:
    """Look at every page; return the exit status."""
    chromium = find_chromium()
    if chromium is None:
        print("no Chromium: nobody has looked at the pages", file=sys.stderr)
        return int(must_have_browser())
    draws = DRAWS.is_file()
    pages = sorted(path.relative_to(SITE).as_posix() for path in SITE.rglob("*.html"))
    wrong = []
    with served() as address, sync_playwright() as playwright:
        browser = playwright.chromium.launch(executable_path=chromium, args=["--no-sandbox"])
        page = browser.new_page()
        errors: list[str] = []
        page.on("pageerror", lambda error: errors.append(f"error in the page: {error}"))
        for name in pages:
            found = look(page, address + name, draws=draws)
            if not draws:  # the theme asks for the script at the place from which it is published
                found = [text for text in found if "mermaid" not in text]
            wrong += [f"{name}: {text}" for text in [*found, *errors]]
            errors.clear()
        browser.close()
    print(*wrong, sep="\n", file=sys.stderr, end="\n" if wrong else "")
    return int(bool(wrong))


if __name__ == "__main__":
    sys.exit(main())
