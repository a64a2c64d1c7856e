"""Secrets on a cluster: what replicas make together, and what changes while notebooks run."""

from __future__ import annotations

import asyncio
from pathlib import Path
from typing import TYPE_CHECKING

import jwt
import pytest
from pydantic import SecretStr

from proxy import cli
from proxy.backends.kubernetes.backend import KubernetesBackend
from proxy.backends.kubernetes.fence import annotations_of
from proxy.backends.kubernetes.keys import Keys, load_jwt_secret
from proxy.backends.kubernetes.ownership import KEY_ID, MANAGED_BY, MANAGER
from proxy.backends.kubernetes.permissions import WORKSPACE_RULES
from proxy.backends.kubernetes.tokens import key_id
from proxy.config import load
from proxy.errors import ConfigError, StartFailed
from proxy.fresh import Fresh
from proxy.own_secret import read_own_secret
from proxy.supervisor import Supervisor
from proxy.workspace import Key
from tests.backends.kubernetes.proxies import SECRET, Proxies, config_on, fetch
from tests.backends.kubernetes.test_permissions import verbs_of
from tests.cluster.resources import DEPLOYMENTS, SECRETS

if TYPE_CHECKING:
    from tests.cluster import Cluster

ROTATED = "after-the-rotation-it-is-this"
NAME = "notebook-proxy-jwt"


# jwt_secret -----------------------------------------------------------------------------------------------------------


async def test_replicas_that_start_at_once_agree_on_one_jwt_secret(cluster: Cluster) -> None:
    configs = [
        config_on(cluster, backend="kubernetes", auth="jwt", proxy_namespace="kube-system", listen="0.0.0.0:1")
        for _ in range(5)
    ]

    values = await asyncio.gather(*(read_own_secret(config) for config in configs))

    assert len(set(values)) == 1
    assert len(values[0]) >= 32
    [kept] = cluster.store.items(SECRETS, "kube-system")
    assert kept["metadata"]["name"] == NAME
    assert kept["metadata"]["labels"] == {MANAGED_BY: MANAGER}
    assert cluster.requests.count(verb="create", code=409) + 1 == cluster.requests.count(verb="create")
    assert values[0] not in str(configs[0])


async def test_who_loses_the_race_reads_what_the_winner_made(cluster: Cluster) -> None:
    config = config_on(cluster, auth="jwt", proxy_namespace="kube-system")
    first = await load_jwt_secret(config)

    assert await load_jwt_secret(config) == first


async def test_it_is_made_with_the_rights_of_the_role(cluster: Cluster) -> None:
    user = cluster.add_user("proxy", verbs_of(WORKSPACE_RULES))

    await load_jwt_secret(config_on(cluster, user, proxy_namespace="kube-system"))

    assert cluster.requests.select(code=403) == []


async def test_a_secret_of_that_name_with_another_content_is_left_alone_and_named(cluster: Cluster) -> None:
    body = {"apiVersion": "v1", "kind": "Secret", "metadata": {"name": NAME}, "data": {"something": "ZWxzZQ=="}}
    cluster.registry.create(SECRETS, "kube-system", body)

    with pytest.raises(StartFailed, match=f"Secret kube-system/{NAME} has no 'token'"):
        await load_jwt_secret(config_on(cluster, proxy_namespace="kube-system"))

    [kept] = cluster.store.items(SECRETS, "kube-system")
    assert kept["data"] == {"something": "ZWxzZQ=="}


async def test_outside_a_cluster_with_many_namespaces_somebody_must_say_where_it_is(cluster: Cluster) -> None:
    config = config_on(cluster, namespace="ws-{workspace_id}")

    with pytest.raises(ConfigError, match="set jwt_secret or proxy_namespace"):
        await load_jwt_secret(config)


async def test_the_command_line_in_a_pod_signs_with_the_secret_that_the_replicas_share(
    cluster: Cluster, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    settings = Path(__file__).parents[3] / "deploy" / "base" / "proxy.yaml"
    monkeypatch.setenv("NOTEBOOK_PROXY_KUBECONFIG", str(cluster.kubeconfig()))
    monkeypatch.setenv("NOTEBOOK_PROXY_PROXY_NAMESPACE", "kube-system")
    replica = await read_own_secret(load(config_file=settings))

    command = ["token", "--config", str(settings), "--user", "alice", "--workspace", "demo"]
    assert await asyncio.to_thread(cli.main, command) == 0

    claims = jwt.decode(capsys.readouterr().out.strip(), replica, algorithms=["HS256"])
    assert (claims["sub"], claims["workspaces"]) == ("alice", ["demo"])


# notebook_secret ------------------------------------------------------------------------------------------------------


async def test_notebooks_stay_reachable_when_the_secret_of_their_tokens_is_replaced(
    cluster: Cluster, proxies: Proxies, tmp_path: Path
) -> None:
    file = tmp_path / "secret"
    file.write_text(SECRET)
    config, fresh = config_on(cluster), Fresh(proxies.clock)
    config.remember_files({"notebook_secret": file})
    backend = KubernetesBackend(config, fresh=fresh, clock=proxies.clock)
    supervisor = Supervisor(backend, config, clock=proxies.clock)
    before, after = Key("before", "default"), Key("after", "default")
    try:
        await backend.open()
        old = await supervisor.ensure_running(before)

        file.write_text(ROTATED)
        fresh.look()
        new = await supervisor.ensure_running(after)

        assert backend.following.sight.handle_of(before) == old
        made = [cluster.store.get(DEPLOYMENTS, "default", key.deployment_name) for key in (before, after)]
        ids = [annotations_of(found or {})[KEY_ID] for found in made]
        assert ids == [key_id(SECRET), key_id(ROTATED)]
        assert [(await fetch(old, key=before))[0], (await fetch(new, key=after))[0]] == [200, 200]
    finally:
        await supervisor.close()
        await backend.close()

    other = await proxies.run(notebook_secret=SecretStr(ROTATED))
    assert await other.ensure(before) == old  # it knows the new one only, and reads what the notebook has
    assert await other.ensure(after) == new


def test_keys_show_their_id_and_no_secret() -> None:
    keys = Keys(SECRET)
    keys.change(ROTATED)

    assert repr(keys) == f"Keys({key_id(ROTATED)})"
