"""From Zero to JupyterHub: a fixture of its values, a claim with a user's files, an address that they know."""

from __future__ import annotations

import subprocess
import sys
from typing import TYPE_CHECKING, Any, Final

from tests.cluster.resources import CLAIMS, DEPLOYMENTS, NODES
from tests.migration.test_translate import VALUES

if TYPE_CHECKING:
    from pathlib import Path

    from tests.cluster.threaded import ThreadedCluster
    from tests.e2e.conftest import Proxies

USER: Final = "alice@example.org"
SLUG: Final = "alice-example-org---7a64adf2"  # KubeSpawner's
"""The claim that Zero to JupyterHub made for them is `claim-<slug>`."""


def command(*arguments: object) -> subprocess.CompletedProcess[str]:
    """Run the command line."""
    return subprocess.run(
        [sys.executable, "-m", "proxy", *map(str, arguments)], capture_output=True, text=True, check=True
    )


def test_users_find_their_files_at_the_address_that_they_know(
    cluster: ThreadedCluster, kubeconfig: Path, start: Proxies, tmp_path: Path
) -> None:
    claim: dict[str, Any] = {
        "apiVersion": "v1",
        "kind": "PersistentVolumeClaim",
        "spec": {"accessModes": ["ReadWriteOnce"], "resources": {"requests": {"storage": "20Gi"}}},
    }
    for name in (f"claim-{SLUG}", "courses"):
        named = {**claim, "metadata": {"name": name, "labels": {"heritage": "jupyterhub"}}}
        cluster.do(lambda double, named=named: double.registry.create(CLAIMS, "default", named))  # type: ignore[misc]
    cluster.do(lambda double: double.add_node("notebooks-1"))
    labelled = {"metadata": {"labels": {"pool": "notebooks"}}}
    cluster.do(lambda double: double.registry.patch(NODES, "", "notebooks-1", labelled))
    written = tmp_path / "proxy.yaml"
    translated = command("migrate", VALUES)
    written.write_text(translated.stdout)
    secret = tmp_path / "secret"
    secret.write_text("s" * 32)
    secret.chmod(0o600)
    proxy = start(
        "--config", str(written), f"--kubeconfig={kubeconfig}", f"--jwt-secret-file={secret}", "--ops-listen=off"
    )
    token = command("token", "--jwt-secret-file", secret, "--user", USER, "--ttl", "10m").stdout.strip()
    signed = {"Authorization": f"Bearer {token}"}

    moved = proxy.request("GET", "/user/alice%40example.org/api/contents/?type=directory", headers=signed)
    listed = proxy.request("GET", moved.headers["Location"], headers=signed)
    stranger = proxy.request("GET", "/user/bob/lab", headers=signed)

    assert (moved.status, moved.headers["Location"]) == (307, f"/ws/{SLUG}/api/contents/?type=directory")
    assert listed.status == 200
    assert proxy.request("GET", stranger.headers["Location"], headers=signed).status == 403
    assert claims_of(cluster, SLUG) == [f"claim-{SLUG}", "courses"]
    assert "not translated: singleuser.extraEnv.SECRET_THING" in translated.stderr


def claims_of(cluster: ThreadedCluster, workspace_id: str) -> list[str]:
    """Return the names of the claims that a workspace's pod mounts."""
    found = cluster.do(lambda double: double.store.get(DEPLOYMENTS, "default", f"notebook-{workspace_id}"))
    assert found is not None
    volumes = found["spec"]["template"]["spec"]["volumes"]
    return [volume["persistentVolumeClaim"]["claimName"] for volume in volumes if "persistentVolumeClaim" in volume]
