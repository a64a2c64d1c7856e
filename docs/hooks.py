"""What mkdocs takes from elsewhere, so that nothing is written twice: sections of the README, and tables from the code.

`<!-- readme: Heading -->` in a page stands for that section, `<!-- table: name -->` for a generated table. A name that
is not there is an error. The script that draws pictures is the site's own where `make site` could fetch it, so that
nobody who reads tells a third party.
"""

from __future__ import annotations

import json
import re
from pathlib import Path
from posixpath import relpath
from typing import Any, Final

from mkdocs.structure.files import File
from mkdocs.utils import get_relative_url

from proxy.activity import markdown
from proxy.config import settings_table

ROOT: Final = Path(__file__).parent.parent
_README: Final = re.compile(r"^<!-- readme: (.+?) -->$", re.MULTILINE)
_TABLE: Final = re.compile(r"^<!-- table: (.+?) -->$", re.MULTILINE)
_PAGE_LINK: Final = re.compile(r"\]\(docs/([^)]+)\)")
_LOCAL_LINK: Final = re.compile(r"\[([^\]]+)\]\((?!https?://|#|docs/)[^)]+\)")
_OUTSIDE: Final = re.compile(r"\[([^\]]+)\]\(\.\./(?:deploy|proxy|tests)/[^)]*\)")
_MARK: Final = re.compile(r"^(?:<!-- /?\w+ -->|</?details>|<summary>.*</summary>)$", re.MULTILINE)
_DRAWS: Final = ROOT / "build" / "docs" / "package" / "dist" / "mermaid.min.js"
_DRAWS_URI: Final = "assets/javascripts/mermaid.min.js"


def on_files(files: Any, config: Any, **_: Any) -> Any:
    """Add the script that draws pictures, if it is here."""
    if _DRAWS.is_file():
        files.append(File.generated(config, _DRAWS_URI, abs_src_path=str(_DRAWS)))
    return files


def on_page_content(html: str, page: Any, **_: Any) -> str:
    """Load that script where there is a picture; without it the theme takes it from where it is published."""
    if 'class="mermaid"' not in html or not _DRAWS.is_file():
        return html
    return f'{html}<script src="{get_relative_url(_DRAWS_URI, page.url)}"></script>'


def on_page_markdown(text: str, page: Any, **_: Any) -> str:
    """Return a page with everything in its place; files of the repository that are no pages are named, not linked."""
    folder = page.file.src_uri.rpartition("/")[0]
    text = _README.sub(
        lambda found: _PAGE_LINK.sub(lambda link: f"]({relpath(link[1], folder or '.')})", section(found[1])), text
    )
    return _TABLE.sub(lambda found: TABLES[found[1]](), _OUTSIDE.sub(r"\1", text))


def section(heading: str) -> str:
    """Return a section of the README without its heading; links to files that are no pages become their names.

    Raises:
        KeyError: the README has no such section.
    """
    parts = re.split(r"^## (.+)$", (ROOT / "README.md").read_text(encoding="utf-8"), flags=re.MULTILINE)
    found = dict(zip(parts[1::2], parts[2::2], strict=True))[heading]
    return _LOCAL_LINK.sub(r"\1", _MARK.sub("", found)).strip()


def http_api() -> str:
    """Return every path and method of the API, from its own description."""
    described = json.loads((ROOT / "proxy" / "openapi.json").read_text(encoding="utf-8"))
    rows = []
    for path, methods in described["paths"].items():
        for method, said in methods.items():
            if not isinstance(said, dict) or "summary" not in said:
                continue
            codes = ", ".join(sorted(code for code in said["responses"] if code != "default"))
            rows.append(f"| `{method.upper()} {path}` | {said['summary']} | {codes} |")
    return "\n".join(["| request | what it does | answers |", "| --- | --- | --- |", *rows])


TABLES: Final = {"settings": settings_table, "activity": markdown, "http-api": http_api}
