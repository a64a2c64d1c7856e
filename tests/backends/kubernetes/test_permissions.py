"""The proxy needs what the roles in `deploy/` grant, and nothing that they do not."""

from __future__ import annotations

import asyncio
from datetime import timedelta
from typing import TYPE_CHECKING

import pytest

from proxy.backends.kubernetes import manifests
from proxy.backends.kubernetes.permissions import NAMESPACE_RULES, WORKSPACE_RULES, Rule
from proxy.errors import StartFailed, StartStalled
from proxy.workspace import Key
from tests.backends.kubernetes.proxies import Proxies, Proxy, look, until
from tests.cluster.images import STOCK
from tests.cluster.resources import NAMESPACES, SECRETS, SERVICES

if TYPE_CHECKING:
    from collections.abc import Iterable
    from pathlib import Path

    from tests.cluster import Cluster

POLICY = """
apiVersion: networking.k8s.io/v1
kind: NetworkPolicy
metadata: {name: notebooks}
spec: {podSelector: {}}
"""


def verbs_of(rules: Iterable[Rule]) -> set[tuple[str, str, str]]:
    return {(verb, group, resource) for group, resource, verbs in rules for verb in verbs}


async def live(cluster: Cluster, proxies: Proxies, proxy: Proxy, namespace: str) -> None:
    """Do everything that a proxy does: start, adopt, reap, fail, sweep, stop, take up what a crash left."""
    key = Key("demo", namespace)
    await proxy.ensure(key)
    proxies.clock.shift(6 * 3600)
    await proxy.reap()
    assert look(cluster, key=key) is None
    for image in (STOCK["crash"], STOCK["unmountable"]):
        cluster.images.set("tiny", image)
        with pytest.raises((StartFailed, StartStalled)):
            await proxy.ensure(key)
        await proxy.supervisor.stop(key)
        proxies.clock.shift(600)  # past the back-off
    cluster.images.set("tiny", STOCK["tiny"])


async def replace(cluster: Cluster, proxy: Proxy, key: Key) -> None:
    """Let a start find a Secret and a Service that an earlier Deployment owned."""
    old = {"metadata": {"name": key.deployment_name, "uid": "old"}}
    owner = manifests.owner_reference(old)
    cluster.manager.hold()
    cluster.registry.create(SECRETS, key.namespace, manifests.build_secret(key, None, "old", owner))
    cluster.registry.create(SERVICES, key.namespace, manifests.build_service(key, owner=owner))
    request = asyncio.create_task(proxy.eventually(key))
    await cluster.until(lambda: (found := look(cluster, key=key)) is not None and found["spec"]["replicas"] == 1)
    cluster.manager.release()
    await request
    await proxy.supervisor.stop(key)


async def test_in_one_namespace_every_rule_is_needed_and_enough(cluster: Cluster, proxies: Proxies) -> None:
    rules = verbs_of(WORKSPACE_RULES)
    user = cluster.add_user("proxy", rules, ["default"])
    proxy = await proxies.run(user, notebook_secret="", proxy_namespace="default", reap_grace=timedelta(seconds=0.05))

    await live(cluster, proxies, proxy, "default")
    await replace(cluster, proxy, Key("replaced", "default"))

    assert cluster.requests.select(code=403) == []
    assert cluster.requests.rules_used("notebook-proxy") == rules


async def test_with_a_namespace_per_workspace_every_rule_is_needed_and_enough(
    cluster: Cluster, proxies: Proxies, tmp_path: Path
) -> None:
    policy = tmp_path / "policy.yaml"
    policy.write_text(POLICY)
    rules = verbs_of((*WORKSPACE_RULES, *NAMESPACE_RULES))
    user = cluster.add_user("proxy", rules)
    proxy = await proxies.run(
        user,
        notebook_secret="",
        proxy_namespace="default",
        namespace="ws-{workspace_id_short}",
        create_namespace=True,
        namespace_manifests=str(policy),
        reap_grace=timedelta(seconds=0.05),
    )

    await live(cluster, proxies, proxy, "ws-demo")
    cluster.registry.create(NAMESPACES, "", manifests.build_namespace(Key("replaced", "ws-replaced"), proxy.config))
    await replace(cluster, proxy, Key("replaced", "ws-replaced"))

    assert cluster.requests.select(code=403) == []
    assert cluster.requests.rules_used("notebook-proxy") == rules


async def test_a_right_that_is_missing_is_named(cluster: Cluster, proxies: Proxies) -> None:
    user = cluster.add_user("proxy", verbs_of(WORKSPACE_RULES) - {("create", "", "services")})
    proxy = await proxies.run(user)

    with pytest.raises(StartFailed, match='cannot create resource "services"') as failed:
        await proxy.ensure()

    assert failed.value.code == "forbidden"


async def test_replicas_share_one_notebook_secret(cluster: Cluster, proxies: Proxies) -> None:
    one, other = await asyncio.gather(
        *(proxies.run(notebook_secret="", proxy_namespace="kube-system") for _ in range(2))
    )
    handle = await one.ensure()
    await until(other.is_running)

    assert await other.ensure() == handle
    assert len(cluster.store.items(SECRETS, "kube-system")) == 1
