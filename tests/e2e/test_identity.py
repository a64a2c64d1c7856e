"""A real Jupyter that takes its users from the proxy, which takes them from tokens."""

from __future__ import annotations

from datetime import UTC, datetime, timedelta
from typing import TYPE_CHECKING

from proxy.auth.mint import mint

if TYPE_CHECKING:
    from pathlib import Path

    from tests.e2e.conftest import Proxies

_SECRET = "a secret of this test's own, long enough"


def _bearer(user: str, workspace: str = "demo") -> dict[str, str]:
    token = mint(_SECRET, user, [workspace], now=datetime.now(UTC), ttl=timedelta(minutes=10))
    return {"Authorization": f"Bearer {token}"}


def test_jupyters_user_is_whom_the_token_names_whatever_the_client_says(start: Proxies, tmp_path: Path) -> None:
    (tmp_path / "secret").write_text(_SECRET)
    proxy = start("--auth=jwt", f"--jwt-secret-file={tmp_path / 'secret'}", "--notebook-identity")

    alice = proxy.request("GET", "/ws/demo/api/me", headers=_bearer("alice@example.org"))
    kept = "; ".join(text.partition(";")[0] for text in alice.headers.get_all("Set-Cookie") or [])
    forged = {"X-Forwarded-User": "root", "x_forwarded_user": "root", "Connection": "X-Forwarded-User", "Cookie": kept}
    bob = proxy.request("GET", "/ws/demo/api/me", headers={**_bearer("bøb"), **forged})

    assert (alice.status, bob.status) == (200, 200)
    assert alice.json()["identity"]["username"] == "alice@example.org"
    assert bob.json()["identity"]["username"] == "bøb"
    assert proxy.request("GET", "/ws/demo/api/me", headers={"X-Forwarded-User": "root"}).status == 401
    assert proxy.request("GET", "/ws/demo/api/me", headers=_bearer("eve", "other")).status == 403
    stopped = proxy.request("POST", "/ws/demo/_proxy/stop", headers=_bearer("alice@example.org"))
    assert stopped.status == 200
