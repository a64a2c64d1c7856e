"""Two replicas, one of which is killed in the middle of what it does: the other completes or undoes it."""

from __future__ import annotations

import re
import signal
import urllib.request
from contextlib import suppress
from http.client import HTTPException
from threading import Thread
from typing import TYPE_CHECKING, Any

import pytest

from tests.cluster.faults import Hang
from tests.cluster.resources import CLAIMS, DEPLOYMENTS, PODS, SECRETS, SERVICES
from tests.cluster.threaded import ThreadedCluster
from tests.e2e import Proxy, until

if TYPE_CHECKING:
    from collections.abc import Iterator
    from pathlib import Path

OPS = "--ops-listen=127.0.0.1:0"
OWNED = (DEPLOYMENTS, SECRETS, SERVICES, PODS)
MOMENTS = [
    ("create", "persistentvolumeclaims"),
    ("create", "deployments"),
    ("create", "secrets"),
    ("create", "services"),
    ("patch", "deployments"),
]


class Replicas:
    """Runs replicas, each a process, on one cluster of small pods."""

    def __init__(self, cluster: ThreadedCluster, directory: Path) -> None:
        self.cluster = cluster
        self._directory = directory
        self._started: list[Proxy] = []

    def run(self, *flags: str) -> Proxy:
        """Start one."""
        directory = self._directory / str(len(self._started))
        directory.mkdir()
        kubeconfig = self.cluster.do(lambda double: double.kubeconfig())
        more = (f"--kubeconfig={kubeconfig}", "--workspace-pvc-size=1Gi", "--stop-grace=1s")
        self._started.append(Proxy(directory, OPS, "--backend=kubernetes", *more, *flags))
        return self._started[-1].until_listening()

    def kill_at(self, victim: Proxy, verb: str, resource: str, name: str = "*") -> None:
        """Kill a replica when it sends such a request, which is not carried out."""
        fault = self.cluster.do(
            lambda double: double.server.faults.add(Hang(), verb=verb, resource=resource, name=name)
        )
        until(lambda: fault.hits, f"it asks to {verb} {resource}")
        victim.signal(signal.SIGKILL)
        assert victim.wait() == -signal.SIGKILL

    def clear(self) -> None:
        """End them all."""
        for proxy in self._started:
            proxy.clear()


@pytest.fixture(scope="module")
def replicas(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Replicas]:
    """Replicas on a cluster for the tests of this module."""
    with ThreadedCluster() as cluster:
        replicas = Replicas(cluster, tmp_path_factory.mktemp("replicas"))
        try:
            yield replicas
        finally:
            replicas.clear()


@pytest.fixture(scope="module")
def survivor(replicas: Replicas) -> Proxy:
    """The one that is not killed."""
    return replicas.run("--reaper=off")


def objects(cluster: ThreadedCluster, workspace_id: str) -> dict[str, list[dict[str, Any]]]:
    """Return what there is of a workspace, by kind, with what is about to go left out."""
    name = f"notebook-{workspace_id}"

    def find(double: Any) -> dict[str, list[dict[str, Any]]]:
        return {
            kind.kind: [
                found for found in double.store.items(kind, "default") if found["metadata"]["name"].startswith(name)
            ]
            for kind in OWNED
        }

    return cluster.do(find)


def metric(proxy: Proxy, name: str) -> float:
    """Return one series of a proxy's metrics."""
    (url,) = re.findall(r"probes are answered at (\S+)/healthz", proxy.log())
    with urllib.request.urlopen(f"{url}/metrics") as answer:
        text = answer.read().decode()
    return sum(
        float(line.rpartition(" ")[2]) for line in text.splitlines() if line.startswith(f"notebook_proxy_{name}")
    )


@pytest.mark.parametrize("wanted", [False, True], ids=["nobody comes", "somebody comes"])
def test_a_reap_that_its_replica_does_not_live_to_end_takes_nothing_from_who_comes_and_is_ended_otherwise(
    replicas: Replicas, wanted: bool
) -> None:
    workspace_id = f"reaped-{wanted}".lower()
    short = ("--idle-ttl=2s", "--reap-interval=0.5s", "--reap-grace=0.5s")
    victim = replicas.run(*short)
    assert victim.request("PUT", f"/ws/{workspace_id}/files/kept", b"still here").status == 201
    (before,) = objects(replicas.cluster, workspace_id)["Deployment"]

    replicas.kill_at(victim, "delete", "deployments", f"notebook-{workspace_id}")
    other = replicas.run(*(() if wanted else short))

    if wanted:
        assert other.get(f"/ws/{workspace_id}/api/status").status == 200
        (after,) = objects(replicas.cluster, workspace_id)["Deployment"]
        assert after["metadata"]["uid"] == before["metadata"]["uid"]
        assert metric(other, "reaps_total") == 0
    else:
        until(lambda: not objects(replicas.cluster, workspace_id)["Deployment"], "the other reaps it")
        until(lambda: metric(other, 'reaps_total{reason="idle"}') >= 1, "it is counted")
    assert replicas.cluster.do(lambda double: double.store.get(CLAIMS, "default", f"ws-{workspace_id}"))
    assert other.get(f"/ws/{workspace_id}/files/kept").body == b"still here"
    other.stop()


@pytest.mark.parametrize(("verb", "resource"), MOMENTS, ids=[" ".join(moment) for moment in MOMENTS])
def test_a_start_that_its_replica_does_not_live_to_end_is_ended_by_the_other(
    replicas: Replicas, survivor: Proxy, verb: str, resource: str
) -> None:
    workspace_id = f"{verb}-{resource[:7]}"
    victim = replicas.run("--reaper=off")
    before = metric(survivor, 'starts_total{result="ready"}')

    def ask() -> None:
        with suppress(OSError, HTTPException):
            victim.get(f"/ws/{workspace_id}/api/status")

    asking = Thread(target=ask)
    asking.start()
    replicas.kill_at(victim, verb, resource)
    asking.join()

    assert survivor.get(f"/ws/{workspace_id}/api/status").status == 200  # with the token that its pod has
    found = objects(replicas.cluster, workspace_id)
    assert {kind: len(some) for kind, some in found.items()} == dict.fromkeys(found, 1)
    assert metric(survivor, 'starts_total{result="ready"}') == before + 1
