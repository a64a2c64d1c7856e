"""The namespace and the volume are found or made; what is not ours is left alone."""

from __future__ import annotations

from typing import TYPE_CHECKING

import pytest

from proxy.backends.kubernetes import manifests
from proxy.backends.kubernetes.permissions import WORKSPACE_RULES
from proxy.errors import ConfigError, ForeignObject, StartFailed
from proxy.workspace import Key
from tests.backends.kubernetes.proxies import (
    KEY,
    Proxies,
    Proxy,
    fetch,
    get,
    look,
    uid,
)
from tests.cluster.examples import deployment, service
from tests.cluster.resources import CLAIMS, DEPLOYMENTS, NAMESPACES, NETWORK_POLICIES, SERVICES

if TYPE_CHECKING:
    from pathlib import Path

    from tests.cluster import Cluster


async def test_a_missing_volume_is_the_reason_where_none_is_to_be_made(cluster: Cluster, proxies: Proxies) -> None:
    proxy = await proxies.run(workspace_pvc_size="")

    with pytest.raises(StartFailed, match="ws-demo") as failed:
        await proxy.ensure()

    assert failed.value.code == "pvc-missing"
    assert look(cluster) is None


async def test_a_volume_is_made_for_the_workspace_and_outlives_it(cluster: Cluster, proxy: Proxy) -> None:
    await proxy.ensure()
    await proxy.supervisor.stop(KEY)

    claim = cluster.store.get(CLAIMS, "default", "ws-demo")
    assert claim is not None
    assert claim["metadata"]["labels"]["workspace-id"] == "demo"
    assert claim["spec"]["resources"]["requests"]["storage"] == "1Gi"


async def test_a_volume_of_another_workspace_is_not_used(cluster: Cluster, proxy: Proxy) -> None:
    body = manifests.build_pvc(KEY, proxy.config)
    body["metadata"]["labels"]["workspace-id"] = "another"
    cluster.registry.create(CLAIMS, "default", body)

    with pytest.raises(ForeignObject) as refused:
        await proxy.ensure()

    assert refused.value.status == 409
    assert look(cluster) is None


@pytest.mark.parametrize("namespace", ["nowhere", "{workspace_id}-nowhere"])
@pytest.mark.parametrize("size", ["", "1Gi"])
async def test_a_missing_namespace_is_the_reason(proxies: Proxies, namespace: str, size: str) -> None:
    proxy = await proxies.run(namespace=namespace, workspace_pvc_size=size)

    with pytest.raises(StartFailed, match=r"nowhere.*create_namespace") as failed:
        await proxy.ensure(Key("demo", namespace.replace("{workspace_id}", "demo")))

    assert failed.value.code == "namespace-missing"


async def test_a_missing_volume_is_named_by_a_proxy_that_may_not_see_namespaces(
    cluster: Cluster, proxies: Proxies
) -> None:
    rules = {(verb, group, resource) for group, resource, verbs in WORKSPACE_RULES for verb in verbs}
    proxy = await proxies.run(cluster.add_user("proxy", rules, ["default"]), workspace_pvc_size="")

    with pytest.raises(StartFailed) as failed:
        await proxy.ensure()

    assert failed.value.code == "pvc-missing"


async def test_a_missing_namespace_of_all_is_made_for_the_secret_that_comes_first(
    cluster: Cluster, proxies: Proxies
) -> None:
    proxy = await proxies.run(namespace="nowhere", create_namespace=True, notebook_secret="")
    key = Key("demo", "nowhere")

    assert (await fetch(await proxy.ensure(key)))[0] == 200

    made = cluster.store.get(NAMESPACES, "", "nowhere")
    assert made is not None
    assert made["metadata"]["labels"]["managed-by"] == "notebook-proxy"


async def test_a_proxy_that_cannot_tell_where_its_secret_is_does_not_start(proxies: Proxies) -> None:
    with pytest.raises(ConfigError, match="proxy_namespace"):
        await proxies.run(namespace="ws-{workspace_id}", notebook_secret="")


POLICY = """
apiVersion: networking.k8s.io/v1
kind: NetworkPolicy
metadata: {name: "only-{workspace_id}"}
spec: {podSelector: {}}
"""
APART = Key("a1b2c3d4e5", "ws-a1b2c3d4")


@pytest.fixture
async def apart(proxies: Proxies, tmp_path: Path) -> Proxy:
    """A proxy that makes a namespace for each workspace."""
    policy = tmp_path / "policy.yaml"
    policy.write_text(POLICY)
    template = "ws-{workspace_id_short}"
    return await proxies.run(namespace=template, create_namespace=True, namespace_manifests=str(policy))


async def test_a_namespace_is_made_with_its_objects(cluster: Cluster, apart: Proxy) -> None:
    handle = await apart.ensure(APART)

    assert (await fetch(handle, key=APART))[0] == 200
    assert [p["metadata"]["name"] for p in cluster.store.items(NETWORK_POLICIES, APART.namespace)] == [
        "only-a1b2c3d4e5"
    ]


async def test_a_namespace_that_a_crash_left_is_completed(cluster: Cluster, apart: Proxy) -> None:
    cluster.registry.create(NAMESPACES, "", manifests.build_namespace(APART, apart.config))

    await apart.ensure(APART)

    assert len(cluster.store.items(NETWORK_POLICIES, APART.namespace)) == 1


async def test_a_namespace_of_another_workspace_is_not_used(cluster: Cluster, apart: Proxy) -> None:
    other = Key("a1b2c3d4-other", APART.namespace)
    cluster.registry.create(NAMESPACES, "", manifests.build_namespace(other, apart.config))

    with pytest.raises(ForeignObject):
        await apart.ensure(APART)

    assert look(cluster, DEPLOYMENTS, APART) is None


async def test_a_namespace_of_another_workspace_is_not_used_though_none_is_to_be_made(
    cluster: Cluster, proxies: Proxies
) -> None:
    proxy = await proxies.run(namespace="ws-{workspace_id_short}")
    other = Key("a1b2c3d4-other", APART.namespace)
    cluster.registry.create(NAMESPACES, "", manifests.build_namespace(other, proxy.config))

    with pytest.raises(ForeignObject):
        await proxy.ensure(APART)

    assert look(cluster, DEPLOYMENTS, APART) is None


async def test_a_namespace_that_is_deleted_is_the_reason(cluster: Cluster, apart: Proxy) -> None:
    body = manifests.build_namespace(APART, apart.config)
    cluster.registry.create(NAMESPACES, "", body)
    cluster.manager.hold()
    cluster.registry.delete(NAMESPACES, "", APART.namespace)

    with pytest.raises(StartFailed) as failed:
        await apart.ensure(APART)

    assert failed.value.code == "namespace-terminating"


async def test_a_workspace_of_a_namespace_that_is_not_followed_is_refused(proxy: Proxy) -> None:
    with pytest.raises(StartFailed) as failed:
        await proxy.ensure(Key("demo", "kube-system"))

    assert failed.value.code == "wrong-namespace"


async def test_a_foreign_deployment_with_our_name_is_left_alone(cluster: Cluster, proxy: Proxy) -> None:
    before = cluster.registry.create(DEPLOYMENTS, "default", deployment(replicas=0))

    with pytest.raises(ForeignObject):
        await proxy.ensure()
    with pytest.raises(ForeignObject) as backed_off:
        await proxy.ensure()

    await proxy.supervisor.stop(KEY)
    assert backed_off.value.status == 409
    assert get(cluster)["spec"] == before["spec"]
    assert uid(cluster) == before["metadata"]["uid"]


async def test_a_foreign_service_with_our_name_is_left_alone(cluster: Cluster, proxy: Proxy) -> None:
    before = cluster.registry.create(SERVICES, "default", service())

    with pytest.raises(ForeignObject):
        await proxy.ensure()
    await proxy.supervisor.stop(KEY)

    assert get(cluster, SERVICES) == before
