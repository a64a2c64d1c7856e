"""Which host serves what: no name is read in two ways, and a workspace's host has nothing of another's."""

from __future__ import annotations

from contextlib import suppress
from typing import Final

import pytest
from hypothesis import assume, given
from hypothesis import strategies as st

from proxy.auth.hosts import MAIN, Hosts, check_frame
from proxy.errors import BadRequest, CrossOrigin, InvalidKey, NotFound
from proxy.naming import is_base_domain
from proxy.target import parse_target
from proxy.workspace import MAX_ID, Key, is_label

BASE: Final = "nb.example.org"
HOSTS: Final = Hosts(BASE)
IDS = st.from_regex(r"[a-z0-9]([a-z0-9-]{0,52}[a-z0-9])?", fullmatch=True)
PORTS = st.one_of(st.just(""), st.integers(1, 65535).map(":{}".format))
NEAR = st.lists(
    st.sampled_from([BASE, "a", "B", "nb", "example", "org", ".", ":", "80", "-", "@", "/", " ", "é", "[", "]"])
)


@given(IDS, PORTS)
def test_each_id_that_is_allowed_has_one_host(workspace_id: str, port: str) -> None:
    Key(workspace_id, "default").safe_deployment_name()

    assert HOSTS.place(f"{workspace_id}.{BASE}{port}") == workspace_id
    assert HOSTS.place(f"{workspace_id}.{BASE}{port}".upper()) == workspace_id


@given(PORTS)
def test_the_base_domain_is_the_main_host(port: str) -> None:
    assert HOSTS.place(BASE + port) == MAIN


@given(
    st.one_of(
        st.text(max_size=80), NEAR.map("".join), st.builds("{}{}".format, st.text(max_size=60), st.just(f".{BASE}"))
    )
)
def test_any_other_name_is_refused(host: str) -> None:
    try:
        place = HOSTS.place(host)
    except BadRequest:
        return

    name = host.lower().partition(":")[0]
    assert name == (f"{place}.{BASE}" if place else BASE)
    assert place == MAIN or (is_label(place) and len(place) <= MAX_ID)


@pytest.mark.parametrize(
    "host",
    [
        "", "localhost", "127.0.0.1", "[::1]", "example.org", "xnb.example.org", "nb.example.org.", "a.nb.example.org.",
        ".nb.example.org", "a.b.nb.example.org", "*.nb.example.org", "a_b.nb.example.org", "-a.nb.example.org",
        "nb.example.org.evil.com", "nb.example.org:", "nb.example.org:x", "nb.example.org:80:80",
        "nb.example.org:123456", "user@nb.example.org",
        "nb.example.org, nb.example.org", "nb.example.org/", f"{'a' * 55}.{BASE}", "nb.example.org:\uff18\uff10",
    ],
)  # fmt: skip
def test_what_is_nearly_ours_is_not(host: str) -> None:
    with pytest.raises(BadRequest):
        HOSTS.check_host(host)


@given(IDS, IDS, st.text("/.%\\abwsproxy?2e2f", max_size=30))
def test_a_workspaces_host_has_no_path_of_another(mine: str, other: str, rest: str) -> None:
    assume(mine != other)
    for raw in (f"/ws/{other}/{rest}", f"/ws/{mine}/../{other}/{rest}", f"/{rest}", f"/api/workspaces/{other}"):
        with suppress(BadRequest, InvalidKey, NotFound):
            target = parse_target(raw, f"{mine}.{BASE}")

            to = HOSTS.check_target(f"{mine}.{BASE}", target)

            if to:
                assert (target.path, to) == ("/", f"/ws/{mine}/")
            else:
                assert target.workspace_id == mine or target.path == "/auth"


@pytest.mark.parametrize("path", ["/ws/demo", "/ws/demo/", "/ws/demo/lab", "/ws/demo/_proxy/status", "/auth"])
def test_a_workspaces_host_has_its_own_paths(path: str) -> None:
    assert HOSTS.check_target(f"demo.{BASE}", parse_target(path, "")) == ""


@pytest.mark.parametrize(
    "path", ["/api/workspaces", "/ws/", "/ws/demo2/lab", "/auth/", "/my/", "/ws", "/favicon.ico", "//"]
)
def test_a_workspaces_host_has_nothing_else(path: str) -> None:
    with pytest.raises(NotFound):
        HOSTS.check_target(f"demo.{BASE}", parse_target(path, ""))


@given(IDS, PORTS, st.booleans())
def test_an_address_leads_to_the_host_by_which_it_is_read_again(workspace_id: str, port: str, is_https: bool) -> None:
    url = HOSTS.url(f"{BASE}{port}", workspace_id, "/ws/x", is_https=is_https)

    scheme, _, rest = url.partition("://")
    host, slash, path = rest.partition("/")
    assert (scheme, HOSTS.place(host), slash + path) == ("https" if is_https else "http", workspace_id, "/ws/x")
    assert HOSTS.url(host, MAIN, "/", is_https=is_https) == f"{scheme}://{BASE}{port}/"


@pytest.mark.parametrize(
    ("text", "is_one"),
    [
        ("nb.example.org", True), ("localhost", True), ("a.b", True),
        ("x" * 63 + "." + "y" * 63 + "." + "z" * 63, True),
        ("", False), (".", False), ("nb.example.org.", False), (".example.org", False), ("NB.example.org", False),
        ("127.0.0.1", False), ("[::1]", False), ("nb.example.org:443", False), ("*.example.org", False),
        ("https://nb.example.org", False), ("x_y.org", False), (".".join("xxxxxxxxx" for _ in range(20)), False),
    ],
)  # fmt: skip
def test_a_base_domain_is_a_name_with_room_below_it(text: str, is_one: bool) -> None:
    assert is_base_domain(text) is is_one


@pytest.mark.parametrize("destination", ["iframe", "frame", "embed", "object", "fencedframe"])
@pytest.mark.parametrize("site", ["same-site", "cross-site"])
def test_no_page_of_another_host_frames(destination: str, site: str) -> None:
    with pytest.raises(CrossOrigin):
        check_frame({"Sec-Fetch-Dest": destination, "Sec-Fetch-Site": site, "Sec-Fetch-Mode": "navigate"})


@pytest.mark.parametrize(
    "headers",
    [
        {}, {"Sec-Fetch-Dest": "document", "Sec-Fetch-Site": "cross-site", "Sec-Fetch-Mode": "navigate"},
        {"Sec-Fetch-Dest": "empty", "Sec-Fetch-Site": "same-origin", "Sec-Fetch-Mode": "cors"},
        {"Sec-Fetch-Dest": "iframe", "Sec-Fetch-Site": "same-origin"},
        {"Sec-Fetch-Dest": "iframe", "Sec-Fetch-Site": "none"},
    ],
)  # fmt: skip
def test_windows_and_own_frames_are_let_pass(headers: dict[str, str]) -> None:
    check_frame(headers)
