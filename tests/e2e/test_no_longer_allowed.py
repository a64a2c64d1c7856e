"""A websocket to a real kernel is closed when its user's token is over; the kernel does not notice."""

from __future__ import annotations

import json
from datetime import UTC, datetime, timedelta
from typing import TYPE_CHECKING, Final

import pytest
from websocket import ABNF

from proxy.auth.mint import mint
from tests.e2e import websocket_to
from tests.e2e.kernel import compute

if TYPE_CHECKING:
    from pathlib import Path

    from tests.e2e.conftest import Proxies

_SECRET: Final = "a secret of this test's own, long enough"
_SHORT: Final = timedelta(seconds=3)


def _bearer(ttl: timedelta) -> dict[str, str]:
    return {"Authorization": f"Bearer {mint(_SECRET, 'alice', ['demo'], now=datetime.now(UTC), ttl=ttl)}"}


@pytest.mark.timeout(180)
def test_a_websocket_ends_with_its_token_and_its_kernel_does_not(start: Proxies, tmp_path: Path) -> None:
    (tmp_path / "secret").write_text(_SECRET)
    proxy = start("--auth=jwt", f"--jwt-secret-file={tmp_path / 'secret'}")
    long = _bearer(timedelta(minutes=10))
    base = proxy.websocket_url("demo")
    kernel = proxy.request("POST", "/ws/demo/api/kernels", b'{"name": "python3"}', long).json()["id"]
    compute(base, kernel, "kept = 6 * 7\nkept", headers=long)
    began = datetime.now(UTC)

    with websocket_to(f"{base}api/kernels/{kernel}/channels", headers=_bearer(_SHORT)) as channels:
        opcode = None
        while opcode != ABNF.OPCODE_CLOSE:
            opcode, data = channels.recv_data(control_frame=True)

    assert int.from_bytes(data[:2], "big") == 4401
    assert _SHORT <= datetime.now(UTC) - began < timedelta(seconds=60)
    assert compute(base, kernel, "kept", headers=long) == "42"
    found = proxy.request("GET", f"/ws/demo/api/kernels/{kernel}", headers=long)
    assert json.loads(found.body)["id"] == kernel
    assert proxy.request("GET", "/ws/demo/api", headers=_bearer(timedelta(seconds=-60))).status == 401
