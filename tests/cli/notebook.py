"""A stand-in for JupyterLab that starts in a tenth of a second: `notebook.py PORT BASE_URL ROOT`.

It answers 200 to every GET, has no kernels (with `mute` as a fourth argument it does not say so), and keeps files as
`api/contents` does. What it is called decides how it starts: `slow…` waits for a file `go` beside its directory,
`broken…` ends with status 3, `chatty…` writes much, and what a terminal would obey. It logs its token, as one should
not.
"""

from __future__ import annotations

import json
import os
import sys
import time
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path

PORT, BASE_URL, ROOT = int(sys.argv[1]), sys.argv[2], Path(sys.argv[3])


class Notebook(BaseHTTPRequestHandler):
    """Files, and nothing else."""

    protocol_version = "HTTP/1.1"

    def do_GET(self) -> None:
        file = self._file()
        if self.path in (f"{BASE_URL}api/kernels", f"{BASE_URL}api/terminals") and "mute" not in sys.argv:
            self._answer(200, [])
        elif file is None:
            self._answer(200, {"version": "0"})
        elif file.exists():
            self._answer(200, {"type": "file", "content": file.read_text()})
        else:
            self._answer(404, {})

    def do_PUT(self) -> None:
        said = json.loads(self.rfile.read(int(self.headers["Content-Length"])))
        file = self._file()
        assert file is not None
        file.write_text(said["content"])
        self._answer(201, {})

    def do_DELETE(self) -> None:
        file = self._file()
        assert file is not None
        file.unlink()
        self.send_response(204)
        self.end_headers()

    def _file(self) -> Path | None:
        name = self.path.partition("?")[0].removeprefix(f"{BASE_URL}api/contents/")
        return None if "/" in name else ROOT / name

    def _answer(self, status: int, value: object) -> None:
        body = json.dumps(value).encode()
        self.send_response(status)
        self.send_header("Content-Type", "application/json")
        self.send_header("Content-Length", str(len(body)))
        self.end_headers()
        self.wfile.write(body)


def main() -> None:
    """Start as the workspace's name says, then serve."""
    sys.stderr.write(f"serving {BASE_URL}?token={os.environ['JUPYTER_TOKEN']}\n")
    if ROOT.name.startswith("broken"):
        sys.stderr.write("no such kernel\x1b[2J\n")
        sys.exit(3)
    if ROOT.name.startswith("chatty"):
        sys.stderr.write("".join(f"line {number}\n" for number in range(30_000)) + "red \x1b[31mend\n")
    while ROOT.name.startswith("slow") and not (ROOT.parent / "go").exists():
        time.sleep(0.02)
    ThreadingHTTPServer(("127.0.0.1", PORT), Notebook).serve_forever()


main()
