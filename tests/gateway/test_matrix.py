"""Who may enter where: every way of `auth`, credential, method, kind of path and workspace, each with its answer.

The tables say what is expected, apart from the code: whom a credential names, and which of them may open what. Whoever
is refused has started nothing, sent nothing and left nothing behind.
"""

from __future__ import annotations

import asyncio
import base64
from dataclasses import dataclass, field
from ipaddress import ip_network
from typing import TYPE_CHECKING, Any, Final

import pytest

from proxy.slug import workspace_of_user
from proxy.workspace import Key
from tests.auth.tokens import OTHER_SECRET, SECRET, pem, signed, token
from tests.relay.origin import Answers

if TYPE_CHECKING:
    from collections.abc import Iterator

    from tests.gateway.conftest import Launch, Proxy

METHODS: Final = (
    "GET", "HEAD", "POST", "PUT", "PATCH", "DELETE", "OPTIONS", "PROPFIND", "GET upgrade", "TRACE", "CONNECT",
)  # fmt: skip
UNPASSED: Final = ("TRACE", "CONNECT")
MINE, THEIRS, NEVER, IMPOSSIBLE = "mine", "theirs", "never-there", "No_Name"
WORKSPACES: Final = (MINE, THEIRS, NEVER, IMPOSSIBLE)
INSIDE: Final = (
    "/ws/{}/", "/ws/{}/api", "/ws/{}/_proxy/", "/ws/{}/_proxy/status", "/ws/{}/_proxy/stop", "/ws/{}/_proxy/x",
)  # fmt: skip
OUTSIDE: Final = (
    "/ws/{}", "/api/workspaces/{}", "/api/workspaces/{}/start", "/api/workspaces/{}/settings", "/api/workspaces/{}/x/y",
    "/api/workspaces/{}/log",
)  # fmt: skip
OF_NONE: Final = (
    "/", "/api/workspaces", "/api/profiles", "/api/events", "/api/openapi.json", "/api/x", "/x", "/ws", "//", "/auth",
)  # fmt: skip
ALICE, BOB, ROOT, NOBODY = "alice", "bob", "root", ""
MAY: Final = {ALICE: {MINE}, BOB: {THEIRS}, ROOT: set(WORKSPACES), NOBODY: set()}


@dataclass(frozen=True)
class Credential:
    """What is sent, and whom it names within a workspace's path and outside of all; an empty name is a 401."""

    name: str
    inside: str = NOBODY
    outside: str | None = None
    lines: tuple[str, ...] = ()
    query: tuple[str, ...] = ()

    def user(self, path: str) -> str:
        return self.inside if path in INSIDE or self.outside is None else self.outside


@dataclass(frozen=True)
class Mode:
    """One way of `auth`, and what is sent there."""

    name: str
    auth: dict[str, Any]
    credentials: tuple[Credential, ...]
    trusted: tuple[Any, ...] = ()
    may: dict[str, set[str]] = field(default_factory=lambda: MAY)
    workspaces: tuple[str, ...] = WORKSPACES


def bearer(name: str, value: str, user: str = NOBODY) -> Credential:
    return Credential(name, user, lines=(f"Authorization: {value}",))


A, B, R = token(ALICE, MINE), token(BOB, THEIRS), token(ROOT, "*")
BAD: Final = {
    "expired": token(ALICE, MINE, exp=5),
    "forged": token(ALICE, MINE, secret=OTHER_SECRET),
    "unsigned": "eyJhbGciOiJub25lIn0." + A.split(".")[1] + ".x",
    "malformed": "abc",
    "of another algorithm": signed("RS256", ALICE, MINE),
    "without an end": token(ALICE, MINE, exp=None),
    "without a name": token(ALICE, MINE, sub=None),
    "for another audience": token(ALICE, MINE, aud="others"),
}
CREDENTIALS: Final = (
    Credential("nothing"),
    bearer("alice's bearer token", f"Bearer {A}", ALICE),
    bearer("bob's bearer token", f"bearer {B}", BOB),
    bearer("root's bearer token", f"Bearer {R}", ROOT),
    *(bearer(f"a bearer token {name}", f"Bearer {value}") for name, value in BAD.items()),
    bearer("another scheme", f"token {A}"),
    bearer("basic", "Basic " + base64.b64encode(b"alice:x").decode()),
    Credential("two bearer tokens", lines=(f"Authorization: Bearer {A}",) * 2),
    Credential("a token in the query", ALICE, query=(A,)),
    *(Credential(f"a token in the query {name}", query=(value,)) for name, value in BAD.items()),
    Credential("two tokens in the query", query=(A, A)),
    Credential("a token in the query and a bearer token", lines=(f"Authorization: Bearer {A}",), query=(A,)),
    Credential("the cookie of a workspace", ALICE, NOBODY, (f"Cookie: notebook-proxy={A}",)),
    Credential("the cookie of the site", NOBODY, ALICE, (f"Cookie: notebook-proxy-site={A}",)),
    Credential("both cookies", BOB, ALICE, (f"Cookie: x=1; notebook-proxy={B}; notebook-proxy-site={A}",)),
    Credential("one cookie twice", NOBODY, ALICE, (
        f"Cookie: notebook-proxy={A}; notebook-proxy={A}; notebook-proxy-site={A}",)),
    Credential("cookies that were forged", lines=(f"Cookie: notebook-proxy={BAD['forged']}; notebook-proxy-site=x",)),
    Credential("cookies for https", lines=(f"Cookie: __Secure-notebook-proxy={A}; __Host-notebook-proxy-site={A}",)),
    Credential("a bearer token beside another's cookies", ALICE, lines=(
        f"Authorization: Bearer {A}", f"Cookie: notebook-proxy={B}; notebook-proxy-site={B}")),
    Credential("a bad bearer token beside good cookies", lines=(
        "Authorization: Bearer x", f"Cookie: notebook-proxy={A}; notebook-proxy-site={A}")),
    Credential("the notebook server's own beside a good cookie", ALICE, NOBODY, (
        "Authorization: token abc", f"Cookie: notebook-proxy={A}"), ("abc",)),
    Credential("identity headers", lines=("X-Forwarded-User: alice", "Remote-User: alice")),
)  # fmt: skip
NAMED: Final = "X-Forwarded-User: alice"
FORWARDED: Final = (
    Credential("nothing"),
    Credential("the header", ALICE, lines=(NAMED,)),
    Credential("the header twice", lines=(NAMED, NAMED)),
    Credential("the header with two names", lines=(f"{NAMED}, bob",)),
    Credential("the header and a look-alike", lines=(NAMED, "X_Forwarded_User: bob")),
    Credential("a look-alike", lines=("X_Forwarded_User: alice",)),
    Credential("the header without a name", lines=("X-Forwarded-User:",)),
    bearer("a bearer token", f"Bearer {A}"),
)
OWN: Final = workspace_of_user("{user_slug}", ALICE)
LOCAL, FOREIGN = (ip_network("127.0.0.0/8"),), (ip_network("10.0.0.0/8"),)
TIRELESS: Final = {"max_requests_per_user": 100_000, "max_starts_per_user": 100_000}
MODES: Final = (
    Mode("jwt", {"auth": "jwt", "jwt_secret": SECRET}, CREDENTIALS),
    Mode(
        "jwt with a public key",
        {"auth": "jwt", "jwt_public_key": pem("ES256")},
        (
            Credential("nothing"),
            bearer("alice's", f"Bearer {signed('ES256', ALICE, MINE)}", ALICE),
            bearer("another key's", f"Bearer {signed('ES256', ALICE, MINE, number=1)}"),
            bearer("a secret's", f"Bearer {A}"),
        ),
    ),
    # The header names no workspaces, so nobody may open one by it alone.
    Mode("forward", {"auth": "forward"}, FORWARDED, LOCAL, {ALICE: set(), NOBODY: set()}),
    Mode(
        "forward with a template", {"auth": "forward", "workspace_template": "{user_slug}"}, FORWARDED, LOCAL,
        {ALICE: {OWN}, NOBODY: set()}, (OWN, *WORKSPACES),
    ),
    Mode("forward, asked directly", {"auth": "forward"}, tuple(
        Credential(each.name, lines=each.lines) for each in FORWARDED), FOREIGN),
    Mode("none", {}, tuple(
        Credential(each.name, ROOT, lines=each.lines, query=each.query) for each in CREDENTIALS[::4])),
)  # fmt: skip


@dataclass(frozen=True)
class Cell:
    credential: Credential
    method: str
    path: str
    workspace: str
    status: int
    """401, 403 or 405; or 0: whoever it is may enter, and the answer is what is there."""

    @property
    def target(self) -> str:
        query = "&".join(f"token={value}" for value in self.credential.query)
        return self.path.format(self.workspace) + (f"?{query}" if query else "")

    def __str__(self) -> str:
        return f"{self.credential.name}: {self.method} {self.path.format(self.workspace)}"


def cells(mode: Mode) -> Iterator[Cell]:
    """Yield every cell of a way of `auth`."""
    for credential in mode.credentials:
        for method in METHODS:
            for path in (*INSIDE, *OUTSIDE, *OF_NONE):
                for workspace in mode.workspaces if "{}" in path else ("",):
                    user = credential.user(path)
                    if method in UNPASSED:
                        status = 405
                    elif not user:
                        status = 401
                    else:
                        status = 403 if workspace and workspace not in mode.may[user] else 0
                    yield Cell(credential, method, path, workspace, status)


async def sent(proxy: Proxy, cell: Cell) -> int:
    """Return the status of the answer to one request on a connection of its own, and leave."""
    method, _, is_upgrade = cell.method.partition(" ")
    lines = [f"{method} {cell.target} HTTP/1.1", "Host: localhost", "Origin: http://localhost", *cell.credential.lines]
    if is_upgrade:
        lines += ["Connection: Upgrade", "Upgrade: websocket", "Sec-WebSocket-Version: 13"]
        lines += ["Sec-WebSocket-Key: AAAAAAAAAAAAAAAAAAAAAA=="]
    elif method in ("POST", "PUT", "PATCH"):
        lines += ["Content-Length: 2", "Content-Type: application/json"]
    body = "{}" if "Content-Length: 2" in lines else ""
    reader, writer = await asyncio.open_connection("127.0.0.1", proxy.port)
    try:
        writer.write("\r\n".join([*lines, "", body]).encode())
        return int((await asyncio.wait_for(reader.readline(), 15)).split(b" ")[1])
    finally:
        writer.close()


@pytest.mark.uvloop
@pytest.mark.parametrize("mode", MODES, ids=lambda mode: mode.name)
async def test_who_may_not_enter_is_refused_before_anything_happens(launch: Launch, mode: Mode) -> None:
    answers = Answers()
    proxy = await launch(answers, auth=mode.auth | TIRELESS, trusted=mode.trusted)
    theirs = Key(THEIRS, "default")
    await proxy.supervisor.ensure_running(theirs)
    refused = [cell for cell in cells(mode) if cell.status]

    wrong = [f"{cell}: {status}" for cell in refused if (status := await sent(proxy, cell)) != cell.status]

    assert refused
    assert not wrong
    assert (proxy.backend.starts, proxy.backend.stops) == ({THEIRS: 1}, {})
    assert proxy.supervisor.known() == [theirs]
    assert answers.requests == []
    assert not proxy.origin.connections


@pytest.mark.uvloop
@pytest.mark.parametrize("mode", [mode for mode in MODES if mode.trusted != FOREIGN], ids=lambda mode: mode.name)
async def test_who_may_enter_does(launch: Launch, mode: Mode) -> None:
    proxy = await launch(Answers(), auth=mode.auth | TIRELESS, trusted=mode.trusted)
    entered, wrong = 0, []

    for cell in cells(mode):
        if cell.status:
            continue
        entered += 1
        status = await sent(proxy, cell)
        is_relayed = cell.path in ("/ws/{}/", "/ws/{}/api") and cell.workspace != IMPOSSIBLE
        if (is_relayed and status != 200) or status in (401, 403) or status >= 500:
            wrong.append(f"{cell}: {status}")

    assert not wrong
    assert entered
