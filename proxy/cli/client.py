"""A client of the proxy's HTTP API, as far as the command line needs one.

One connection, kept, so that one replica answers throughout. Redirects are not followed: a token goes nowhere but to
the server that was named. Everything that goes wrong is a `Failed` with what to do.
"""

from __future__ import annotations

import http.client
import json
import ssl
from http import HTTPStatus
from pathlib import Path
from typing import TYPE_CHECKING, Any, Final, NamedTuple, Self
from urllib.parse import quote, urlsplit

from proxy.cli.exits import Exit, Failed
from proxy.config import client_variables
from proxy.errors import InvalidKey
from proxy.version import __version__
from proxy.workspace import Key

if TYPE_CHECKING:
    import argparse
    from collections.abc import Mapping
    from email.message import Message

DEFAULT_SERVER: Final = "http://127.0.0.1:8000"
_TIMEOUT: Final = 90.0  # seconds: a stop is waited for, and a wake held, for most of a minute
_MOST: Final = 64 * 2**20  # bytes of an answer
_PROBLEM: Final = "application/problem+json"
_STALE: Final = (http.client.RemoteDisconnected, BrokenPipeError, ConnectionResetError)


class Away(Failed):
    """The proxy is not there, or does not answer."""

    def __init__(self, message: str) -> None:
        super().__init__(message, Exit.AWAY)


class Problem(Failed):
    """The proxy refuses, and says why.

    Attributes:
        code: for programs; empty where the answer was no problem of the proxy's.
        http_status: of the answer.
        detail: for people.
    """

    def __init__(self, message: str, status: Exit, *, code: str, http_status: int, detail: str) -> None:
        super().__init__(message, status)
        self.code = code
        self.http_status = http_status
        self.detail = detail


class Answer(NamedTuple):
    """What came back, whole."""

    status: int
    headers: Message
    body: bytes

    def json(self) -> Any:
        """Return the body's JSON."""
        return json.loads(self.body)


def add_server(parser: argparse.ArgumentParser) -> None:
    """Add the flags that say which proxy, and where the credential is. None of them holds one."""
    parser.add_argument(
        "--server", metavar="URL", help=f"the proxy's address (default: NOTEBOOK_PROXY_SERVER, or {DEFAULT_SERVER})"
    )
    parser.add_argument(
        "--token-file", type=Path, metavar="FILE", help="file that holds the token (default: NOTEBOOK_PROXY_TOKEN)"
    )


def add_id(parser: argparse.ArgumentParser) -> None:
    """Add the workspace's id."""
    parser.add_argument("id", metavar="ID", help="the workspace's id")


def checked_id(given: Mapping[str, Any]) -> str:
    """Return the workspace's id.

    Raises:
        Failed: it cannot name one.
    """
    try:
        Key(given["id"], "default").safe_deployment_name()
    except InvalidKey as error:
        raise Failed(str(error), Exit.USAGE) from None
    return str(given["id"])


def client_of(given: Mapping[str, Any]) -> Client:
    """Return the client that the flags and the environment ask for; nothing is sent yet.

    Raises:
        Failed: the address is none, or the file cannot be read.
    """
    server, token = client_variables()
    file = given.get("token_file")
    if file is not None:
        try:
            token = file.read_text(encoding="utf-8").strip()
        except (OSError, ValueError) as error:
            reason = error.strerror if isinstance(error, OSError) else "not UTF-8"
            raise Failed(f"--token-file {file}: {reason}", Exit.USAGE) from None
    if not token.isascii() or not token.isprintable():
        raise Failed("The token has characters that no token has; is the file, or the variable, another?", Exit.USAGE)
    return Client(given.get("server") or server or DEFAULT_SERVER, token)


class Client:
    """Asks one proxy. Use as `with client_of(given) as client`.

    Args:
        server: its http or https URL, without a path.
        token: sent as a bearer token; empty for none.

    Raises:
        Failed: the URL is none.
    """

    def __init__(self, server: str, token: str = "") -> None:
        try:
            parts = urlsplit(server.strip())
            host, port = parts.hostname, parts.port
        except ValueError:
            parts, host, port = urlsplit(""), None, None
        if parts.scheme not in ("http", "https") or not host or parts.path.strip("/") or parts.query or parts.username:
            raise Failed(
                f"--server {server.rpartition('@')[2]!r} is not an address such as https://notebooks.example.org, with "
                "no path, query or password.",
                Exit.USAGE,
            )
        self.server = f"{parts.scheme}://{parts.netloc}"
        self.token = token
        if parts.scheme == "https":
            context = ssl.create_default_context()
            self._connection: http.client.HTTPConnection = http.client.HTTPSConnection(
                host, port, timeout=_TIMEOUT, context=context
            )
        else:
            self._connection = http.client.HTTPConnection(host, port, timeout=_TIMEOUT)
        self._certificate: Mapping[str, Any] | None = None
        self.is_new = True
        """Whether no answer has come on this connection yet: another replica may answer than before."""

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *_: object) -> None:
        self._connection.close()

    def certificate(self) -> Mapping[str, Any] | None:
        """Return the certificate that the server showed last, which is trusted; None without TLS."""
        return self._certificate

    def get(self, path: str) -> Any:
        """Return the JSON that is at a path of the API.

        Raises:
            Away: no proxy answers.
            Problem: it refuses.
        """
        return self._json(self.ask("GET", path))

    def post(self, path: str, body: Mapping[str, Any] | None = None) -> tuple[int, Any]:
        """Do something; return the HTTP status, and what the answer says.

        Raises:
            Away: no proxy answers.
            Problem: it refuses.
        """
        answer = self.ask("POST", path, body)
        return answer.status, self._json(answer)

    def ask(self, method: str, path: str, body: Mapping[str, Any] | None = None) -> Answer:
        """Return a successful answer, read to its end; a body is sent as JSON.

        Raises:
            Away: no proxy answers.
            Problem: it refuses.
        """
        answer = self._send(method, path, None if body is None else json.dumps(body).encode())
        if not HTTPStatus.OK <= answer.status < HTTPStatus.MULTIPLE_CHOICES:
            raise self._problem(answer)
        return answer

    def _send(self, method: str, path: str, body: bytes | None) -> Answer:
        headers = {"Accept": "application/json", "User-Agent": f"notebook-proxy/{__version__}"}
        if body:
            headers["Content-Type"] = "application/json"
        if self.token:
            headers["Authorization"] = f"Bearer {self.token}"
        was_kept = self._connection.sock is not None
        try:
            try:
                answer = self._exchange(method, path, body, headers)
            except _STALE:
                if not was_kept:
                    raise
                self._connection.close()  # it was closed while nothing was asked: what was sent was not read
                answer = self._exchange(method, path, body, headers)
        except BaseException as error:  # Ctrl-C too: what it had asked for must not answer what is asked next
            self._connection.close()
            self.is_new = True
            if isinstance(error, OSError | http.client.HTTPException):
                raise Away(f"{self.server} cannot be reached: {_words(error)}") from error
            raise
        return answer

    def _exchange(self, method: str, path: str, body: bytes | None, headers: Mapping[str, str]) -> Answer:
        self.is_new = self._connection.sock is None
        self._connection.request(method, path, body, dict(headers))
        wire = self._connection.sock
        self._certificate = wire.getpeercert() if isinstance(wire, ssl.SSLSocket) else None
        response = self._connection.getresponse()
        data = response.read(_MOST + 1)
        if len(data) > _MOST:
            raise http.client.HTTPException(f"the answer is longer than {_MOST} bytes")
        return Answer(response.status, response.headers, data)

    def _json(self, answer: Answer) -> Any:
        try:
            found = answer.json()
        except (ValueError, RecursionError):
            found = None
        if not isinstance(found, dict):
            raise Away(f"What answers at {self.server} is no notebook-proxy: its answer is no JSON object.")
        return found

    def _problem(self, answer: Answer) -> Failed:
        """Return what a refusal means."""
        said: dict[str, Any] = {}
        if answer.headers.get_content_type() == _PROBLEM:
            said = self._json(answer)
        detail, code = str(said.get("detail") or ""), str(said.get("code") or "")
        if HTTPStatus.MULTIPLE_CHOICES <= answer.status < HTTPStatus.BAD_REQUEST:
            to = answer.headers.get("Location", "elsewhere")
            return Away(f"{self.server} sends on to {to[:200]}; name that address with --server, if it is the proxy.")
        status, message = Exit.FAILED, f"{said.get('title') or answer.status}: {detail}"
        if answer.status == HTTPStatus.UNAUTHORIZED:
            what = "the token is not accepted" if self.token else "NOTEBOOK_PROXY_TOKEN holds no token"
            status, message = Exit.REFUSED, f"{self.server} does not let you in: {what}. {detail}"
        elif answer.status == HTTPStatus.FORBIDDEN:
            status, message = Exit.REFUSED, f"{self.server} does not allow this. {detail}"
        elif not said:
            return Away(
                f"{self.server} answers {answer.status} {_reason(answer.status)}, and not as a notebook-proxy does: it "
                "is away, older than this command, or something else is there."
            )
        return Problem(message, status, code=code, http_status=answer.status, detail=detail)


def path_to(workspace_id: str, action: str = "") -> str:
    """Return the path of a workspace in the API, or of what may be done to it."""
    path = f"/api/workspaces/{quote(workspace_id, safe='')}"
    return f"{path}/{action}" if action else path


def _reason(status: int) -> str:
    try:
        return HTTPStatus(status).phrase
    except ValueError:
        return ""


def _words(error: Exception) -> str:
    """Return what went wrong, and what may help."""
    if isinstance(error, ssl.SSLCertVerificationError):
        return (
            f"its certificate is not trusted ({error.verify_message}); SSL_CERT_FILE names a file of the authorities "
            "that are."
        )
    if isinstance(error, ssl.SSLError):
        return f"TLS fails ({error.reason or error}); is it http:// there?"
    if isinstance(error, TimeoutError):
        return "it does not answer in time."
    if isinstance(error, http.client.RemoteDisconnected):
        return "it hangs up; is it https:// there?"
    reason = error.strerror if isinstance(error, OSError) and error.strerror else str(error)
    return f"{reason}. Is the proxy running there? --server or NOTEBOOK_PROXY_SERVER names another address."
