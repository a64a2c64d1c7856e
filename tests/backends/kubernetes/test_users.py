"""For whom a workspace runs, as the cluster's objects say it: what one user may have holds over replicas."""

from __future__ import annotations

from typing import TYPE_CHECKING

import pytest

from proxy.errors import LimitReached
from proxy.workspace import Key
from tests.backends.kubernetes.proxies import KEY, Proxies, annotate, get, until
from tests.cluster.resources import CLAIMS, DEPLOYMENTS

if TYPE_CHECKING:
    from tests.cluster import Cluster

ALICE = "alice@example.org"
OTHER, THIRD = Key("other", "default"), Key("third", "default")


async def test_objects_say_for_whom_a_workspace_runs_and_the_volume_whose_it_is(
    cluster: Cluster, proxies: Proxies
) -> None:
    proxy = await proxies.run()

    await proxy.supervisor.ensure_running(KEY, user=ALICE)

    assert get(cluster)["metadata"]["annotations"]["notebook-proxy/user"] == ALICE
    await until(lambda: _owner(cluster) == ALICE)
    await until(lambda: (report := proxy.supervisor.report(KEY)) is not None and report.owner == ALICE)
    await proxy.supervisor.stop(KEY)
    await proxy.supervisor.ensure_running(KEY, user="bob")
    assert get(cluster)["metadata"]["annotations"]["notebook-proxy/user"] == "bob"
    assert _owner(cluster) == ALICE


async def test_what_one_user_may_run_holds_over_replicas_and_restarts(cluster: Cluster, proxies: Proxies) -> None:
    one = await proxies.run(max_running_per_user=2)
    other = await proxies.run(max_running_per_user=2)
    await one.supervisor.ensure_running(KEY, user=ALICE)
    await other.supervisor.ensure_running(OTHER, user=ALICE)
    late = await proxies.run(max_running_per_user=2)

    for replica in (one, other, late):
        await until(lambda replica=replica: len(replica.backend.running_for(ALICE)) == 2)  # type: ignore[misc]
        with pytest.raises(LimitReached):
            await replica.supervisor.ensure_running(THIRD, user=ALICE)
    assert cluster.store.get(DEPLOYMENTS, THIRD.namespace, THIRD.deployment_name) is None

    await other.supervisor.stop(KEY)
    await until(lambda: len(one.backend.running_for(ALICE)) == 1)
    await one.supervisor.ensure_running(THIRD, user=ALICE)


async def test_what_does_not_run_or_is_not_ours_is_counted_for_nobody(cluster: Cluster, proxies: Proxies) -> None:
    proxy = await proxies.run()
    await proxy.supervisor.ensure_running(KEY, user=ALICE)
    await proxy.supervisor.ensure_running(OTHER, user=ALICE)
    await until(lambda: len(proxy.backend.running_for(ALICE)) == 2)

    cluster.registry.patch(DEPLOYMENTS, KEY.namespace, KEY.deployment_name, {"spec": {"replicas": 0}})
    await until(lambda: proxy.backend.running_for(ALICE) == [OTHER])
    annotate(cluster, OTHER, workspace="somebody-elses")

    await until(lambda: proxy.backend.running_for(ALICE) == [])


def _owner(cluster: Cluster) -> str | None:
    claim = cluster.store.get(CLAIMS, KEY.namespace, "ws-demo")
    assert claim is not None
    found: str | None = claim["metadata"]["annotations"].get("notebook-proxy/owner")
    return found
