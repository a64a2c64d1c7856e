"""Where a notebook server may send a browser."""

from __future__ import annotations

from pathlib import Path

import pytest
from hypothesis import given
from hypothesis import strategies as st
from yarl import URL

from proxy.relay.location import Place, judged

PLACE = Place(
    b"/ws/demo/", (b"Hub.example:8000", b"other.example"), (b"10.1.2.3:8888", b"notebook-demo.default.svc:80")
)
PAYLOADS = (Path(__file__).parent.parent / "corpora" / "openredirects.txt").read_bytes().splitlines()


@pytest.mark.parametrize(
    "value",
    [
        b"/", b"/ws/demo/lab", b"/ws/demo/login?next=%2Fws%2Fdemo%2F", b"/elsewhere", b"lab", b"../tree", b"./x",
        b"?a=b",
        b"#end", b"", b"a/b:c", b"1:2", b"/http://x.example/", b"/x//y", b"/ws/demo/\xc3\xa4 b", b"/%09/x", b"/%5cx",
        b"http://hub.example:8000/ws/demo/", b"https://hub.EXAMPLE:8000", b"HTTP://HUB.example:8000/x",
        b"http://other.example/", b"http://other.example:80/", b"https://other.example:443?x",
        b"http://hub.example:8000//x.example/", b"/?next=http://x.example",
    ],
)  # fmt: skip
def test_what_is_relative_or_our_own_host_passes_as_it_is(value: bytes) -> None:
    assert judged(value, PLACE) == value


@pytest.mark.parametrize(
    ("value", "passed"),
    [
        (b"http://10.1.2.3:8888/ws/demo/lab?a#b", b"/ws/demo/lab?a#b"), (b"http://10.1.2.3:8888", b"/"),
        (b"HTTP://Notebook-Demo.default.svc/x", b"/x"), (b"http://notebook-demo.default.svc:80?x", b"/?x"),
        (b"http://10.1.2.3:8888#x", b"/#x"),
    ],
)  # fmt: skip
def test_the_notebook_servers_own_address_becomes_a_path(value: bytes, passed: bytes) -> None:
    assert judged(value, PLACE) == passed


@pytest.mark.parametrize(
    "value",
    [
        b"//x.example", b"///x.example", b"/\\x.example", b"\\\\x.example", b"\\/x.example", b"/\t/x.example",
        b"\t//x.example",
        b"/\n/x.example", b"\x01//x.example", b" //x.example", b"/x\x7f", b"http://x.example/", b"https:x.example",
        b"http:/x.example", b"http:///x.example", b"http://", b"http:///", b"javascript:alert(1)",
        b"JaVaScRiPt:alert(1)",
        b"data:text/html,x", b"file:///etc/passwd", b"ftp://hub.example:8000/", b"ws://hub.example:8000/", b"x:y",
        b"http://hub.example:8000@x.example/", b"http://x.example@hub.example:8000/",
        b"http://hub.example:8000.x.example/",
        b"http://hub.example/", b"http://hub.example:80000/", b"http://hub.example:8000 /", b"http://hub.example:8000\xc2\xa0/",
        b"http://other.example:443/", b"https://other.example:80/", b"https://10.1.2.3:8888/", b"http://10.1.2.3/",
        b"http://10.1.2.3:8888//x.example", b"http://10.1.2.3:88889/", b"http://10.1.2.3:8888@x.example/",
    ],
)  # fmt: skip
def test_what_leads_elsewhere_or_could_be_read_so_is_refused(value: bytes) -> None:
    assert judged(value, PLACE) is None


def test_nobody_is_ours_without_a_name() -> None:
    nameless = Place(b"/ws/demo/", (b"",), (b"",))

    assert judged(b"http:///x", nameless) is None
    assert judged(b"http://:80/x", nameless) is None


def test_the_published_list_is_whole() -> None:
    assert len(PAYLOADS) == 559


@pytest.mark.parametrize("known", [b"www.whitelisteddomain.tld", b"example.com", b"google.com", b"nothing"])
def test_no_payload_of_the_published_list_leads_away(known: bytes) -> None:
    """With each host of the list for our own in turn. The browser's reading of them is `tests/e2e/test_sides.py`'s."""
    place = Place(b"/ws/demo/", (known,), (b"localdomain.pw",))

    passed = [found for payload in PAYLOADS if (found := judged(payload, place)) is not None]

    assert passed
    for value in passed:
        there = URL(f"http://{known.decode()}/ws/demo/lab").join(URL(value.decode()))
        assert (there.scheme in ("http", "https"), there.host) == (True, known.decode()), value


@given(
    st.lists(
        st.sampled_from(
            [b"/", b"\\", b"\t", b":", b"@", b"http", b"hub.example", b":8000", b"x", b".", b"?", b"#", b" "]
        )
    )
)
def test_what_passes_is_a_path_or_begins_with_our_own_host(pieces: list[bytes]) -> None:
    found = judged(b"".join(pieces), PLACE)

    assert found is None or found.startswith(b"http://hub.example:8000") or not found.startswith((b"//", b"http:"))
    assert found is None or not set(found) & set(b"\\\t")
