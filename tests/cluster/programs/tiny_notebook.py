"""A notebook server in miniature: listens within 50 ms, answers `<base_url>api` and honours the token.

Reads the options of a stock Jupyter command line (`--ServerApp.base_url=…`). Only modules that import fast.

- `<base_url>api` needs no token, as in Jupyter; everything else does (403 without), by header or query.
- `<base_url>api/status`, `api/kernels` and `api/terminals` answer what was last PUT there, so a test can make a
  kernel busy.
- `<base_url>files/<name>` reads (GET) and writes (PUT) below the root directory.
- Everything else under `<base_url>` answers with what the server knows of the request and of itself.
"""

import json
import os
import socket
import sys
import threading
from pathlib import Path

_REASONS = {200: "OK", 201: "Created", 302: "Found", 403: "Forbidden", 404: "Not Found"}


def read_options(words: list[str]) -> dict[str, str]:
    """Return the `--Class.option=value` words by their option's name, lower case."""
    options = {}
    for word in words:
        if word.startswith("--") and "=" in word:
            name, _, value = word[2:].partition("=")
            options[name.rpartition(".")[2].replace("-", "_").lower()] = value
    return options


OPTIONS = read_options([*os.environ.get("NOTEBOOK_ARGS", "").split(), *sys.argv[1:]])
BASE_URL = "/" + OPTIONS.get("base_url", "/").strip("/") + "/"
BASE_URL = "/" if BASE_URL == "//" else BASE_URL
TOKEN = OPTIONS.get("token", os.environ.get("JUPYTER_TOKEN", ""))
ROOT = Path(OPTIONS.get("root_dir", OPTIONS.get("notebook_dir", ".")))
_START = b"2026-01-01T00:00:00Z"
STATE: dict[str, bytes] = {
    "api/status": b'{"started": "%s", "last_activity": "%s", "connections": 0, "kernels": 0}' % (_START, _START),
    "api/kernels": b"[]",
    "api/terminals": b"[]",
}


def is_allowed(headers: dict[str, str], query: str) -> bool:
    """Tell whether the request carries the token; without one configured, every request does."""
    sent = headers.get("authorization", "").partition(" ")[2]
    if "token=" in query:  # in the query it beats the header
        sent = query.partition("token=")[2].partition("&")[0]
    return not TOKEN or sent == TOKEN


def answer_file(method: str, file: Path, body: bytes) -> tuple[int, bytes]:
    """Read or write a file."""
    if method == "PUT":
        file.write_bytes(body)
        return 201, b"{}"
    return (200, file.read_bytes()) if file.is_file() else (404, b"{}")


def answer(method: str, target: str, headers: dict[str, str], body: bytes) -> tuple[int, bytes]:
    """Return status and JSON body."""
    path, _, query = target.partition("?")
    if not path.startswith(BASE_URL):
        return 404, b'{"message": "not below base_url"}'
    below = path[len(BASE_URL) :]
    if below.rstrip("/") == "api":
        return 200, b'{"version": "2.21.0"}'
    if not is_allowed(headers, query):
        return 403, b'{"message": "Forbidden"}'
    if below in STATE:
        if method == "PUT":
            STATE[below] = body
        return 200, STATE[below]
    if below.startswith("files/"):
        return answer_file(method, ROOT / below.removeprefix("files/"), body)
    known: dict[str, object] = {
        "method": method,
        "target": target,
        "headers": headers,
        "root": str(ROOT),
        "body": body.decode("latin-1"),
    }
    known |= {"pid": os.getpid(), "pod": os.environ.get("HOSTNAME", "")}
    return 200, json.dumps(known).encode()


def serve(connection: socket.socket) -> None:
    """Answer the requests of one connection, one after the other."""
    with connection, connection.makefile("rb") as stream:
        while line := stream.readline():
            method, target, _ = line.decode("latin-1").split(" ", 2)
            headers = {}
            while (line := stream.readline()) not in {b"\r\n", b""}:
                name, _, value = line.decode("latin-1").partition(":")
                headers[name.strip().lower()] = value.strip()
            body = stream.read(int(headers.get("content-length", "0")))
            status, content = answer(method, target, headers, body)
            head = f"HTTP/1.1 {status} {_REASONS[status]}\r\nContent-Type: application/json\r\n"
            head += f"Server: tiny\r\nContent-Length: {len(content)}\r\n\r\n"
            connection.sendall(head.encode() + (b"" if method == "HEAD" else content))
            if headers.get("connection", "").lower() == "close":
                return


def main() -> None:
    """Listen on the pod's address for ever."""
    address = os.environ.get("POD_ADDRESS", "127.0.0.1"), int(OPTIONS.get("port", "8888"))
    listener = socket.create_server(address, backlog=128)
    print(f"Jupyter Server is running at: http://{address[0]}:{address[1]}{BASE_URL}", flush=True)
    while True:
        connection, _ = listener.accept()
        threading.Thread(target=serve, args=(connection,), daemon=True).start()


if __name__ == "__main__":
    main()
