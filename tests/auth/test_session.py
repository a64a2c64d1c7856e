"""What the proxy signs for a workspace's host is worth nothing for another, another browser, or another purpose."""

from __future__ import annotations

from datetime import UTC, datetime, timedelta
from math import inf
from typing import Any

import jwt
import pytest
from hypothesis import given
from hypothesis import strategies as st

from proxy.auth.session import TICKET_SECONDS, Sessions, fingerprint_of
from proxy.auth.user import User
from tests.auth.tokens import OTHER_SECRET, SECRET

START = datetime(2026, 3, 1, 12, tzinfo=UTC)
BROWSER, OTHER_BROWSER = fingerprint_of("a" * 43), fingerprint_of("b" * 43)


class Hand:
    """A clock that is set by hand."""

    def __init__(self) -> None:
        self.at = START

    def now(self) -> datetime:
        return self.at

    def monotonic(self) -> float:
        return self.at.timestamp()

    async def sleep(self, seconds: float) -> None:
        raise NotImplementedError


def sessions(*secrets: str, clock: Hand | None = None) -> Sessions:
    return Sessions(lambda: secrets or (SECRET,), timedelta(hours=12), clock or Hand())


def alice(*workspaces: str, lasts: float = 3600) -> User:
    return User("alice", workspaces, START.timestamp() + lasts)


def test_a_ticket_becomes_a_session_for_the_same_user_workspace_and_time() -> None:
    made = sessions()

    found = made.exchange(made.ticket(alice("demo", "other"), "demo", BROWSER), "demo", BROWSER)

    assert found is not None
    session, life = found
    assert life == 3600
    assert made.user_of(session, "demo") == User("alice", ("demo",), START.timestamp() + 3600)


@pytest.mark.parametrize("named", [(), ("other",)])
def test_a_session_names_no_workspace_that_the_credential_did_not(named: tuple[str, ...]) -> None:
    made = sessions()

    session, _ = made.grant(alice(*named), "demo")

    user = made.user_of(session, "demo")
    assert user is not None
    assert user.workspaces == ()


def test_a_pattern_that_fits_names_this_one_workspace() -> None:
    made = sessions()

    session, _ = made.grant(alice("*"), "demo")

    user = made.user_of(session, "demo")
    assert user is not None
    assert user.workspaces == ("demo",)


def test_an_admin_is_none_on_a_workspaces_host() -> None:
    made = sessions()

    session, _ = made.grant(User("root", ("*",), inf, is_admin=True), "demo")

    user = made.user_of(session, "demo")
    assert user is not None
    assert not user.is_admin


def test_another_workspace_takes_neither_ticket_nor_session() -> None:
    made = sessions()
    session, _ = made.grant(alice("*"), "demo")

    assert made.user_of(session, "other") is None
    assert made.user_of(session, "demo") is not None
    assert made.user_of(session, "other") is None
    assert made.exchange(made.ticket(alice("*"), "demo", BROWSER), "other", BROWSER) is None


def test_another_browser_cannot_use_a_ticket() -> None:
    made = sessions()

    assert made.exchange(made.ticket(alice("*"), "demo", BROWSER), "demo", OTHER_BROWSER) is None


def test_a_ticket_is_no_session_and_a_session_no_ticket() -> None:
    made = sessions()
    session, _ = made.grant(alice("*"), "demo")

    assert made.user_of(made.ticket(alice("*"), "demo", BROWSER), "demo") is None
    assert made.exchange(session, "demo", BROWSER) is None


def test_neither_is_a_users_token_nor_the_other_way_round() -> None:
    made = sessions()
    session, _ = made.grant(alice("*"), "demo")
    claims = {"sub": "alice", "ws": "demo", "named": True, "exp": START.timestamp() + 60}

    for audience in ("session", "ticket", None):
        more: dict[str, Any] = {"aud": audience} if audience else {}
        assert made.user_of(jwt.encode({**claims, **more}, SECRET, algorithm="HS256"), "demo") is None
    for each in (session, made.ticket(alice("*"), "demo", BROWSER)):
        with pytest.raises(jwt.InvalidSignatureError):
            jwt.decode(each, SECRET, algorithms=["HS256"], options={"verify_aud": False, "verify_exp": False})


def test_a_ticket_holds_for_half_a_minute() -> None:
    clock = Hand()
    made = sessions(clock=clock)
    ticket = made.ticket(alice("*"), "demo", BROWSER)

    clock.at += timedelta(seconds=TICKET_SECONDS - 1)
    assert made.exchange(ticket, "demo", BROWSER) is not None
    clock.at += timedelta(seconds=1)
    assert made.exchange(ticket, "demo", BROWSER) is None


def test_a_session_ends_with_the_credential_also_after_it_was_seen() -> None:
    clock = Hand()
    made = sessions(clock=clock)
    session, _ = made.grant(alice("*", lasts=60), "demo")

    assert made.user_of(session, "demo") is not None
    clock.at += timedelta(seconds=60)
    assert made.user_of(session, "demo") is None
    assert made.user_of(session, "demo") is None


def test_a_session_of_who_has_no_end_lasts_as_long_as_the_operator_says() -> None:
    made = sessions()

    assert made.grant(User("alice", ()), "demo")[1] == 12 * 3600


def test_every_replica_that_has_the_secret_reads_what_another_has_signed() -> None:
    ticket = sessions().ticket(alice("*"), "demo", BROWSER)

    found = sessions().exchange(ticket, "demo", BROWSER)

    assert found is not None
    assert sessions().user_of(found[0], "demo") is not None
    assert sessions(OTHER_SECRET).user_of(found[0], "demo") is None


def test_an_old_secret_counts_as_long_as_it_is_kept() -> None:
    held = [SECRET]
    made = Sessions(lambda: tuple(held), timedelta(hours=1), Hand())
    session, _ = made.grant(alice("*"), "demo")
    assert made.user_of(session, "demo") is not None

    held[:] = [OTHER_SECRET, SECRET]
    assert made.user_of(session, "demo") is not None
    held[:] = [OTHER_SECRET]
    assert made.user_of(session, "demo") is None


@given(
    st.one_of(st.text(max_size=200), st.from_regex(r"[A-Za-z0-9_-]{0,40}\.[A-Za-z0-9_-]{0,80}\.[A-Za-z0-9_-]{0,43}"))
)
def test_anything_else_is_nothing(text: str) -> None:
    made = sessions()

    assert made.user_of(text, "demo") is None
    assert made.exchange(text, "demo", BROWSER) is None


@pytest.mark.parametrize("algorithm", ["none", "HS512"])
def test_no_other_algorithm_is_taken(algorithm: str) -> None:
    made = sessions()
    session, _ = made.grant(alice("*"), "demo")
    claims = jwt.decode(session, options={"verify_signature": False})
    key: Any = None if algorithm == "none" else SECRET * 2

    assert made.user_of(jwt.encode(claims, key, algorithm=algorithm), "demo") is None


def test_what_is_remembered_has_a_fixed_size() -> None:
    made = sessions()

    for number in range(4200):
        session, _ = made.grant(User(f"user-{number}", (), START.timestamp() + 60), "demo")
        assert made.user_of(session, "demo") is not None

    assert len(made._seen) == 4096
