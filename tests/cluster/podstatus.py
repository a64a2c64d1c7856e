"""What a kubelet writes into a pod's status. Pure functions from a pod to a status."""

from __future__ import annotations

from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from tests.cluster.resources import Obj

_ALL = ("PodReadyToStartContainers", "Initialized", "Ready", "ContainersReady")


def waiting(reason: str, message: str = "") -> Obj:
    """Return the state of a container that does not run."""
    return {"waiting": {"reason": reason, **({"message": message} if message else {})}}


def terminated(code: int, reason: str, started: str, finished: str, container_id: str) -> Obj:
    """Return the state of a container that ended."""
    times = {"startedAt": started, "finishedAt": finished}
    return {"terminated": {"exitCode": code, "reason": reason, **times, "containerID": container_id}}


def conditions(pod: Obj, *, ready: bool, reason: str, now: str) -> list[Obj]:
    """Return the pod's conditions; one that does not change keeps its time."""
    before = {c["type"]: c for c in pod["status"].get("conditions", [])}
    wanted: list[Obj] = []
    names = [c["name"] for c in pod["spec"]["containers"]]
    for kind in _ALL:
        status = "True" if ready or kind in {"PodReadyToStartContainers", "Initialized"} else "False"
        condition: Obj = {"type": kind, "status": status, "lastProbeTime": None, "lastTransitionTime": now}
        if status == "False":
            condition["reason"] = reason
            if reason == "ContainersNotReady":
                condition["message"] = f"containers with unready status: [{' '.join(names)}]"
        known = before.get(kind)
        if known and known["status"] == status:
            condition["lastTransitionTime"] = known["lastTransitionTime"]
        wanted.append(condition)
    return [*wanted, *(c for kind, c in before.items() if kind not in _ALL)]


def build_status(
    pod: Obj,
    *,
    phase: str,
    state: Obj,
    last: Obj,
    restarts: int,
    container_id: str,
    addresses: tuple[str, str],
    now: str,
) -> Obj:
    """Return the status of a pod whose first container is in `state`; others run whenever the first does."""
    runs = "running" in state
    host, address = addresses
    statuses = []
    for index, container in enumerate(pod["spec"]["containers"]):
        status = {
            "name": container["name"],
            "state": state,
            "lastState": last if index == 0 else {},
            "ready": runs,
            "started": runs,
            "restartCount": restarts if index == 0 else 0,
            "image": container.get("image", ""),
            "imageID": "",
        }
        if container_id:
            status |= {"containerID": container_id, "imageID": f"sha256:{container.get('image', '')}"}
        statuses.append(status)
    done = phase in {"Succeeded", "Failed"}
    reason = {"Succeeded": "PodCompleted", "Failed": "PodFailed"}[phase] if done else "ContainersNotReady"
    status = {
        **pod["status"],
        "phase": phase,
        "observedGeneration": pod["metadata"]["generation"],
        "conditions": conditions(pod, ready=runs, reason=reason, now=now),
        "hostIP": host,
        "startTime": pod["status"].get("startTime", now),
        "containerStatuses": statuses,
    }
    if address:
        status |= {"podIP": address, "podIPs": [{"ip": address}]}
    return status
