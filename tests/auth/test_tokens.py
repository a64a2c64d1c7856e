"""Tokens that hold, and every way in which one does not; none of them is repeated in what is said about it."""

from __future__ import annotations

import base64
import hashlib
import hmac
import json
import time
from datetime import UTC, datetime, timedelta
from typing import TYPE_CHECKING, Any

import jwt
import pytest
from aiohttp.test_utils import make_mocked_request
from hypothesis import given
from hypothesis import strategies as st

from proxy.auth.keys import KeySet, VerificationKey, public_keys, secret_keys
from proxy.auth.tokens import Tokens, UnknownKey, Verifier
from proxy.errors import Unauthenticated
from proxy.target import parse_target
from tests.auth.tokens import HOUR, OTHER_SECRET, SECRET, claims_of, pem, private, signed, token

if TYPE_CHECKING:
    from collections.abc import Iterable

    from proxy.auth.user import User


class Clock:
    """The machine's time, and as much more as a test says."""

    def __init__(self) -> None:
        self.ahead = 0.0

    def monotonic(self) -> float:
        return time.monotonic() + self.ahead

    def now(self) -> datetime:
        return datetime.now(UTC) + timedelta(seconds=self.ahead)

    async def sleep(self, seconds: float) -> None:
        raise AssertionError("nothing here waits")


ALL = ("HS256", "RS256", "ES256", "EdDSA")


def verifier(
    keys: Iterable[VerificationKey] | None = None,
    algorithms: tuple[str, ...] = ALL,
    issuer: str = "",
    audience: str = "",
) -> Verifier:
    return Verifier(KeySet(secret_keys([SECRET]) if keys is None else keys), algorithms, issuer, audience, Clock())


def part(value: Any) -> str:
    return base64.urlsafe_b64encode(json.dumps(value).encode()).decode().rstrip("=")


def test_a_token_that_was_signed_with_the_secret_names_its_user() -> None:
    found = verifier().verify(token("alice", "demo", "team-*"))

    assert (found.name, found.workspaces) == ("alice", ("demo", "team-*"))
    assert 0 < found.expires - time.time() <= HOUR


@pytest.mark.parametrize("algorithm", ["RS256", "ES256", "EdDSA"])
def test_a_token_that_was_signed_with_the_private_key_names_its_user(algorithm: str) -> None:
    keys = public_keys(pem(algorithm))

    assert verifier(keys).verify(signed(algorithm)).name == "alice"
    with pytest.raises(Unauthenticated):
        verifier(keys).verify(signed(algorithm, number=1))


def test_of_several_keys_each_is_taken() -> None:
    both = secret_keys([SECRET, OTHER_SECRET])

    assert verifier(both).verify(token(secret=SECRET)).name == "alice"
    assert verifier(both).verify(token("bob", secret=OTHER_SECRET)).name == "bob"
    pems = public_keys(pem("RS256") + pem("ES256") + pem("RS256", 1))
    assert [verifier(pems).verify(signed("RS256", number=number)).name for number in (0, 1)] == ["alice", "alice"]


NOW = int(time.time())
WRONG: dict[str, str] = {
    "of another secret": token(secret=OTHER_SECRET),
    "without a signature": jwt.encode(claims_of(), "", algorithm="none"),
    "without a signature, by another name": f"{part({'alg': 'None'})}.{part(claims_of())}.x",
    "of another hash": jwt.encode(claims_of(), "x" * 64, algorithm="HS512"),
    "expired": token(exp=NOW - 1),
    "expired long ago": token(exp=NOW - HOUR),
    "that never expires": token(exp=None),
    "that expires in words": token(exp="tomorrow"),
    "that expires at no time": token(exp=float("nan")),
    "that expires at the end of time": token(exp=float("inf")),
    "that does not hold yet": token(nbf=NOW + HOUR),
    "of the future": token(iat=NOW + HOUR),
    "of nobody": token(sub=None),
    "of a number": jwt.encode({**claims_of(), "sub": 7}, SECRET, algorithm="HS256"),
    "for somebody else": token(aud="others"),
    "with a critical header": jwt.encode(claims_of(), SECRET, algorithm="HS256", headers={"crit": ["x"], "x": 1}),
    "with a body apart": jwt.encode(claims_of(), SECRET, algorithm="HS256", headers={"b64": False}),
    "of no claims": f"{part({'alg': 'HS256'})}.{part([1])}.x",
    "of a list of algorithms": f"{part({'alg': ['HS256']})}.{part(claims_of())}.x",
    "of no algorithm": f"{part({})}.{part(claims_of())}.x",
    "whose header is a list": f"{part([])}.{part(claims_of())}.x",
    "of deep nesting": f"{base64.urlsafe_b64encode(b'[' * 3000).decode()}.{part(claims_of())}.x",
    "of no text": "????.????.????",
    "with another key of its own": jwt.encode(
        claims_of(), OTHER_SECRET, algorithm="HS256", headers={"jwk": {"kty": "oct", "k": OTHER_SECRET}}
    ),
    "with a place for a key": jwt.encode(
        claims_of(),
        OTHER_SECRET,
        algorithm="HS256",
        headers={"jku": "https://evil.example/keys", "x5u": "https://evil"},
    ),
}


@pytest.mark.parametrize("name", WRONG)
def test_a_token_does_not_hold(name: str) -> None:
    with pytest.raises(Unauthenticated) as refused:
        verifier().verify(WRONG[name])

    assert not [piece for piece in WRONG[name].split(".") if len(piece) > 8 and piece in str(refused.value)]
    assert refused.value.__cause__ is None


@pytest.mark.parametrize("algorithm", ["RS256", "ES256"])
def test_a_public_key_is_no_secret(algorithm: str) -> None:
    text = pem(algorithm)
    forged = f"{part({'alg': 'HS256', 'typ': 'JWT'})}.{part(claims_of())}"
    mac = hmac.new(text.encode(), forged.encode(), hashlib.sha256).digest()
    forged += "." + base64.urlsafe_b64encode(mac).decode().rstrip("=")

    with pytest.raises(Unauthenticated):
        verifier(public_keys(text)).verify(forged)


def test_only_algorithms_that_are_accepted_are() -> None:
    keys = [*secret_keys([SECRET]), *public_keys(pem("RS256"))]

    with pytest.raises(Unauthenticated):
        verifier(keys, ("RS256",)).verify(token())
    with pytest.raises(Unauthenticated):
        verifier(keys, ("HS256",)).verify(signed("RS256"))


def test_issuer_and_audience_must_be_ours_where_they_are_set() -> None:
    strict = verifier(issuer="https://us", audience="notebooks")

    assert strict.verify(token(iss="https://us", aud="notebooks")).name == "alice"
    assert strict.verify(token(iss="https://us", aud=["others", "notebooks"])).name == "alice"
    for wrong in (
        {}, {"iss": "https://us"}, {"aud": "notebooks"}, {"iss": "https://us/", "aud": "notebooks"},
        {"iss": "https://us", "aud": "notebook"}, {"iss": "x"},
        {"iss": "https://us", "aud": []},
    ):  # fmt: skip
        with pytest.raises(Unauthenticated):
            strict.verify(token(**wrong))


def test_clocks_may_differ_a_little_but_not_about_the_end() -> None:
    assert verifier().verify(token(iat=NOW + 30, nbf=NOW + 30)).name == "alice"
    with pytest.raises(Unauthenticated, match="expired"):
        verifier().verify(token(exp=NOW - 1))


def test_a_key_id_chooses_among_keys_and_an_unknown_one_asks_for_new_ones() -> None:
    keys = [VerificationKey("ES256", private("ES256", number).public_key(), f"k{number}") for number in (0, 1)]

    assert verifier(keys).verify(signed("ES256", number=1, kid="k1")).name == "alice"
    assert verifier(keys).verify(signed("ES256", number=1)).name == "alice"
    with pytest.raises(Unauthenticated) as refused:
        verifier(keys).verify(signed("ES256", number=1, kid="k0"))
    assert not isinstance(refused.value, UnknownKey)
    with pytest.raises(UnknownKey):
        verifier(keys).verify(signed("ES256", number=1, kid="k2"))


@given(
    st.text(max_size=60) | st.builds(".".join, st.lists(st.text("abcABC012-_=", max_size=20), min_size=3, max_size=3))
)
def test_any_text_is_a_token_that_holds_or_refused(text: str) -> None:
    with pytest.raises(Unauthenticated):
        verifier().verify(text)


JSON = st.recursive(
    st.none() | st.booleans() | st.integers() | st.floats() | st.text(max_size=5),
    lambda inner: st.lists(inner, max_size=3) | st.dictionaries(st.text(max_size=5), inner, max_size=3),
    max_leaves=6,
)
CLAIMS = st.dictionaries(
    st.sampled_from(["sub", "exp", "nbf", "iat", "aud", "iss", "jti", "workspaces", "workspace_id", "x"]), JSON
)


@given(CLAIMS)
def test_whatever_an_issuer_signs_holds_or_is_refused(claims: dict[str, Any]) -> None:
    body = f"{part({'alg': 'HS256'})}.{part(claims)}"
    signature = jwt.algorithms.HMACAlgorithm(jwt.algorithms.HMACAlgorithm.SHA256).sign(body.encode(), SECRET.encode())
    try:
        found = verifier().verify(f"{body}.{base64.urlsafe_b64encode(signature).decode().rstrip('=')}")
    except Unauthenticated:
        return

    assert found.name == claims["sub"]


# What is remembered ---------------------------------------------------------------------------------------------------


class Watched(Verifier):
    """Counts what it verifies."""

    count = 0

    def verify(self, token: str) -> User:
        self.count += 1
        return super().verify(token)


def reader(keys: KeySet) -> tuple[Tokens, Watched, Clock]:
    clock = Clock()
    watched = Watched(keys, ALL, "", "", clock)
    return Tokens(watched, keys, lambda _: False, clock), watched, clock


def asks(bearer: str) -> Any:
    return make_mocked_request("GET", "/ws/demo/lab", headers={"Authorization": f"Bearer {bearer}"})


TARGET = parse_target("/ws/demo/lab", "localhost")


async def test_a_token_is_verified_once_and_then_known_until_it_expires() -> None:
    tokens, watched, clock = reader(KeySet(secret_keys([SECRET])))
    request = asks(token())

    assert tokens.known(request, TARGET) is None
    user = await tokens.identify(request, TARGET)
    assert tokens.known(request, TARGET) is user
    assert await tokens.identify(request, TARGET) is user
    assert watched.count == 1
    clock.ahead = HOUR + 1
    assert tokens.known(request, TARGET) is None
    with pytest.raises(Unauthenticated, match="expired"):
        await tokens.identify(request, TARGET)


async def test_what_the_same_headers_present_depends_on_the_path_and_the_query_of_each_target() -> None:
    keys = KeySet(secret_keys([SECRET]))
    tokens, _, _ = reader(keys)
    site, workspace, query = token("site"), token("workspace"), token("query")
    request = make_mocked_request(
        "GET", "/ws/demo/lab", headers={"Cookie": f"a=1; notebook-proxy={workspace}; notebook-proxy-site={site}; b=2"}
    )
    targets = {
        "/ws/demo/lab": "workspace",
        "/": "site",
        "/ws/other/lab": "workspace",
        "/ws/demo": "site",
        f"/ws/demo/lab?token={query}": "query",
    }
    wanted = [*targets.items()] * 2

    found = [(await tokens.identify(request, parse_target(target, ""))).name for target, _ in wanted]
    again = [tokens.known(request, parse_target(target, "")) for target, _ in wanted]

    assert found == [name for _, name in wanted]
    assert [user and user.name for user in again] == found
    keys.replace(secret_keys([OTHER_SECRET]))
    assert [tokens.known(request, parse_target(target, "")) for target, _ in wanted] == [None] * len(wanted)


async def test_two_credentials_are_refused_however_often_they_are_shown() -> None:
    tokens, _, _ = reader(KeySet(secret_keys([SECRET])))
    shown, both = asks(token()), parse_target(f"/ws/demo/lab?token={token()}", "")
    await tokens.identify(shown, TARGET)

    for _ in range(3):
        assert tokens.known(shown, both) is None
        with pytest.raises(Unauthenticated, match="Two credentials"):
            await tokens.identify(shown, both)
        assert tokens.known(shown, TARGET) is not None


async def test_what_was_refused_is_not_remembered() -> None:
    tokens, watched, _ = reader(KeySet(secret_keys([SECRET])))

    for _ in range(3):
        with pytest.raises(Unauthenticated):
            await tokens.identify(asks(token(secret=OTHER_SECRET)), TARGET)

    assert watched.count == 3
    assert not tokens._verified


async def test_nothing_holds_longer_than_its_key() -> None:
    keys = KeySet(secret_keys([SECRET]))
    tokens, _, _ = reader(keys)
    old, new = asks(token(secret=SECRET)), asks(token(secret=OTHER_SECRET))
    await tokens.identify(old, TARGET)

    keys.replace(secret_keys([SECRET]))
    assert tokens.known(old, TARGET) is not None  # they are the same
    keys.replace(secret_keys([OTHER_SECRET, SECRET]))
    await tokens.identify(new, TARGET)
    await tokens.identify(old, TARGET)
    keys.replace(secret_keys([OTHER_SECRET]))

    assert tokens.known(old, TARGET) is None
    with pytest.raises(Unauthenticated):
        await tokens.identify(old, TARGET)
    assert (await tokens.identify(new, TARGET)).name == "alice"


async def test_no_more_is_remembered_than_there_is_room_for(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("proxy.auth.tokens._REMEMBERED", 3)
    tokens, _, _ = reader(KeySet(secret_keys([SECRET])))

    for number in range(10):
        await tokens.identify(asks(token(f"user-{number}")), TARGET)

    assert [user.name for user in tokens._verified.values()] == ["user-7", "user-8", "user-9"]


def test_no_key_is_shown() -> None:
    assert SECRET not in repr(secret_keys([SECRET]))
