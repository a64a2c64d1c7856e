"""Where JupyterHub's addresses lead."""

from __future__ import annotations

import pytest

from proxy.jupyterhub_paths import lead_on
from proxy.slug import workspace_of_user


def of(name: str) -> str | None:
    return workspace_of_user("{jupyterhub_slug}", name) if name else None


@pytest.mark.parametrize(
    ("path", "place"),
    [
        ("/user/alice/lab/tree/a.ipynb", "/ws/alice/lab/tree/a.ipynb"),
        ("/user/alice", "/ws/alice/"),
        ("/user/alice/", "/ws/alice/"),
        ("/user/alice%40example.org/lab", "/ws/alice-example-org---7a64adf2/lab"),
        ("/user/alice@example.org/lab", "/ws/alice-example-org---7a64adf2/lab"),
        ("/user/a%2Fb/files/x%2Fy", f"/ws/{of('a/b')}/files/x%2Fy"),
        ("/user/%ff/lab", f"/ws/{of(chr(0xDCFF))}/lab"),
        ("/hub/user-redirect/lab/tree/x", "/my/lab/tree/x"),
        ("/hub/home", "/"),
        ("/hub/spawn/alice", "/"),
        ("/hub", "/"),
        ("/hub/login", None),
        ("/user/", None),
        ("/users/alice/lab", None),
        ("/api/workspaces", None),
    ],
)
def test_addresses_lead_to_the_workspace_of_the_name(path: str, place: str | None) -> None:
    assert lead_on(path, of) == place
