"""Replaying a recording of a real API server against the test cluster, and comparing what this project reads.

What differs by nature (UIDs, versions, times, generated names) is mapped in requests and normalised in answers.
"""

from __future__ import annotations

import asyncio
import json
import re
from dataclasses import dataclass, field
from pathlib import Path
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    import aiohttp

    from tests.cluster.cluster import Cluster

RECORDING = Path(__file__).parent.parent / "recordings" / "kubernetes-1.36.jsonl"
Exchange = dict[str, Any]
# As read by this project, or by people through it.
_STATUS_FIELDS = (
    "observedGeneration",
    "replicas",
    "updatedReplicas",
    "readyReplicas",
    "availableReplicas",
    "unavailableReplicas",
    "terminatingReplicas",
    "phase",
    "podIP",
)
# Written by controllers that the cluster does not have, or to a time of day.
_FOREIGN_ANNOTATIONS = ("node.alpha.kubernetes.io/ttl", "endpoints.kubernetes.io/last-change-trigger-time")
# An event's `involvedObject` has the version that its writer had seen, however late it was.
_NOT_LEARNT_FROM = frozenset({"managedFields", "labels", "annotations", "spec", "status", "involvedObject"})
_UID = re.compile(r"[0-9a-f]{8}(-[0-9a-f]{4}){3}-[0-9a-f]{12}")
_GENERATED = re.compile(r"\bnotebook-demo-[a-z0-9]+(-[a-z0-9]{5})?(\.[0-9a-f]{16})?\b")


def read_recording() -> list[Exchange]:
    """Return the recorded exchanges."""
    return [json.loads(line) for line in RECORDING.read_text().splitlines()]


def normalise(text: str) -> str:
    """Make strings of two runs comparable."""
    return re.sub(r"\b\d{2,}\b", "<number>", _GENERATED.sub("notebook-demo-<generated>", _UID.sub("<uid>", text)))


def _normalise_all(value: Any) -> Any:
    if isinstance(value, dict):
        return {key: _normalise_all(one) for key, one in value.items()}
    if isinstance(value, list):
        return [_normalise_all(one) for one in value]
    return normalise(value) if isinstance(value, str) else value


def project(obj: dict[str, Any]) -> dict[str, Any]:
    """Return what this project reads of an object, of a list or of a Status."""
    if obj.get("kind") == "Status":
        kept = {key: value for key, value in obj.items() if key not in {"metadata", "details"}}
        details = {k: v for k, v in obj.get("details", {}).items() if k != "retryAfterSeconds"}
        projected: dict[str, Any] = _normalise_all({**kept, "details": details})
        return projected
    if "items" in obj:
        if obj["kind"] == "EventList":
            # How often an event recurs is a matter of time: which there are, and who says so, is not.
            return {"kind": obj["kind"], "events": sorted({_project_event(event) for event in obj["items"]})}
        return {"kind": obj["kind"], "items": [_project_object(item) for item in obj["items"]]}
    return {"kind": obj.get("kind"), "apiVersion": obj.get("apiVersion"), **_project_object(obj)}


def _project_event(event: dict[str, Any]) -> str:
    about = event["involvedObject"]["kind"]
    who = event["source"].get("component", ""), event["reportingComponent"]
    return json.dumps([event["type"], event["reason"], normalise(event["message"]), about, *who])


def _project_object(obj: dict[str, Any]) -> dict[str, Any]:
    metadata, status, spec = obj["metadata"], obj.get("status", {}), obj.get("spec", {})
    annotations = {k: v for k, v in metadata.get("annotations", {}).items() if k not in _FOREIGN_ANNOTATIONS}
    owners = [{k: v for k, v in ref.items() if k != "uid"} for ref in metadata.get("ownerReferences", [])]
    containers = [
        {key: one.get(key) for key in ("name", "ready", "started", "restartCount", "state")}
        for one in status.get("containerStatuses", [])
    ]
    template = spec.get("template", {})
    fields = {
        "name": metadata["name"],
        "namespace": metadata.get("namespace"),
        "labels": {k: v for k, v in metadata.get("labels", {}).items() if k != "pod-template-hash"},
        "annotations": annotations,
        "owners": owners,
        "finalizers": metadata.get("finalizers"),
        "is terminating": "deletionTimestamp" in metadata,
        "grace": metadata.get("deletionGracePeriodSeconds"),
        # A slice's generation counts how often its controller wrote.
        "generation": None if "endpoints" in obj else metadata.get("generation"),
        "spec.replicas": spec.get("replicas"),
        "strategy": spec.get("strategy"),
        "selector": spec.get("selector"),
        "containers": template.get("spec", spec).get("containers") if isinstance(spec, dict) else None,
        "nodeName": spec.get("nodeName"),
        "data": obj.get("data"),
        "status": {key: status[key] for key in _STATUS_FIELDS if key in status},
        "conditions": [_project_condition(condition) for condition in status.get("conditions", [])],
        "containerStatuses": containers,
        "endpoints": [{k: v for k, v in e.items() if k != "targetRef"} for e in obj.get("endpoints", [])],
    }
    projected: dict[str, Any] = json.loads(_GENERATED.sub("notebook-demo-<generated>", json.dumps(fields)))
    return projected


def _project_condition(condition: dict[str, Any]) -> dict[str, Any]:
    kept = {key: condition.get(key) for key in ("type", "status", "reason")}
    return {**kept, "message": normalise(condition.get("message", ""))}


@dataclass
class Replay:
    """One run of recorded exchanges; learns how names, UIDs and versions of the recording are called here."""

    cluster: Cluster
    session: aiohttp.ClientSession
    known: dict[str, str] = field(default_factory=dict)
    # Per object: its version there and here, as they came.
    versions: dict[str, list[tuple[int, int]]] = field(default_factory=dict)

    async def differences(self, exchange: Exchange, token: str) -> list[str]:
        """Send the recorded request and return how the answer differs from the recorded one."""
        wanted = exchange["response"]
        status, answer = await self._send(exchange["request"], token, len(wanted.get("stream") or ()))
        if status != wanted["status"]:
            return [f"status {status}, recorded {wanted['status']}: {answer}"]
        if "stream" in wanted:
            return self._compare_streams(wanted["stream"], answer)
        self._learn(wanted["body"], answer)
        return _differences(project(wanted["body"]), project(answer))

    async def _send(self, request: dict[str, Any], token: str, events: int) -> tuple[int, Any]:
        headers = {"Authorization": f"Bearer {token}"}
        data = None
        if request.get("body") is not None:
            headers["Content-Type"] = request["content_type"]
            data = self._translate(json.dumps(request["body"]))
        url = self.cluster.url + self._translate(request["path"]).replace("timeoutSeconds=", "timeoutSeconds=20&was=")
        async with self.session.request(request["method"], _encoded(url), data=data, headers=headers) as response:
            if not events:
                return response.status, await response.json()
            async with asyncio.timeout(10):
                lines = [json.loads(await response.content.readline()) for _ in range(events)]
            return response.status, lines

    def _translate(self, text: str) -> str:
        for there, here in sorted(self.known.items(), key=lambda item: -len(item[0])):
            text = re.sub(rf"(?<![a-z0-9-]){re.escape(there)}(?![a-z0-9-])", here, text)
        return text

    def _learn(self, there: Any, here: Any) -> None:
        if isinstance(there, list) and isinstance(here, list):
            for one, other in zip(there, here, strict=False):
                self._learn(one, other)
        if not isinstance(there, dict) or not isinstance(here, dict):
            return
        for name in ("uid", "resourceVersion", "name"):
            one, other = there.get(name), here.get(name)
            if isinstance(one, str) and isinstance(other, str) and one != other:
                self.known.setdefault(one, other)
        if "resourceVersion" in there and "uid" in there and "involvedObject" not in there:
            pair = int(there["resourceVersion"]), int(here["resourceVersion"])
            self.versions.setdefault(there["uid"], []).append(pair)
        for key, value in there.items():
            if key in here and key not in _NOT_LEARNT_FROM:
                self._learn(value, here[key])

    def _compare_streams(self, there: list[Any], here: list[Any]) -> list[str]:
        found = []
        for number, (one, other) in enumerate(zip(there, here, strict=True)):
            if one["type"] != other["type"]:
                found.append(f"event {number} is {other['type']}, recorded {one['type']}")
            self._learn(one["object"], other["object"])
            pairs = _differences(project(one["object"]), project(other["object"]))
            found += [f"event {number}: {difference}" for difference in pairs]
        return found

    def misordered(self) -> list[str]:
        """Return the objects whose versions here are not in the order they had there."""
        found = []
        for uid, pairs in self.versions.items():
            here = [pair[1] for pair in sorted(set(pairs))]
            if here != sorted(here):
                found.append(f"{uid}: {sorted(set(pairs))}")
        return found


def _encoded(url: str) -> Any:
    import yarl

    return yarl.URL(url, encoded=True)


def _differences(there: dict[str, Any], here: dict[str, Any]) -> list[str]:
    return [
        f"{key} is {json.dumps(here.get(key))}, recorded {json.dumps(there.get(key))}"
        for key in sorted({*there, *here})
        if there.get(key) != here.get(key)
    ]
