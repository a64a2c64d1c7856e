"""What a request asks of the API, read from its method, path and query; and the log of all that came.

Pure, but for the log's growing.
"""

from __future__ import annotations

import re
from dataclasses import dataclass, field
from typing import TYPE_CHECKING

from tests.cluster.answers import unknown_path
from tests.cluster.resources import BY_PATH, NAMESPACES, Resource

if TYPE_CHECKING:
    from collections.abc import Mapping

_PREFIX = re.compile(r"^/(?:api|apis/(?P<group>[^/]+))/(?P<version>[^/]+)(?P<rest>/.*)$")
_VERBS = {"PUT": "update", "PATCH": "patch", "POST": "create"}


@dataclass(frozen=True)
class Target:
    """What a request is about, in the words of RBAC."""

    verb: str
    resource: Resource
    subresource: str
    namespace: str
    name: str

    @property
    def plural(self) -> str:
        """The resource as RBAC names it: `pods`, `pods/log`."""
        return f"{self.resource.plural}/{self.subresource}" if self.subresource else self.resource.plural


def parse_target(method: str, path: str, query: Mapping[str, str]) -> Target:
    """Return what the request is about.

    Raises:
        ApiError: 404, nothing is served under this path.
    """
    found = _PREFIX.match(path)
    if not found:
        raise unknown_path()
    group, version, parts = found["group"] or "", found["version"], found["rest"].strip("/").split("/")
    namespace = ""
    if parts[0] == "namespaces" and len(parts) > 2 and (group, version, parts[2]) in BY_PATH:
        namespace, parts = parts[1], parts[2:]
    resource = BY_PATH.get((group, version, parts[0]))
    if resource is None or len(parts) > 3 or (namespace and not resource.namespaced):
        raise unknown_path()
    name, subresource = (*parts[1:], "", "")[:2]
    if resource.namespaced and not namespace and (name or method == "POST"):
        raise unknown_path()
    verb = _VERBS.get(method, "")
    if method == "GET":
        watches = query.get("watch", "") in {"true", "1"}
        verb = "get" if name else "watch" if watches else "list"
    elif method == "DELETE":
        verb = "delete" if name else "deletecollection"
    return Target(verb, resource, subresource, "" if resource == NAMESPACES else namespace, name)


@dataclass
class Entry:
    """One request that came; `code` is 0 until it is answered, and stays 0 if it never is."""

    verb: str
    group: str
    resource: str
    namespace: str
    name: str
    user: str
    user_agent: str
    code: int = 0
    fault: str = ""


@dataclass
class RequestLog:
    """Every request to a resource, in order of arrival."""

    entries: list[Entry] = field(default_factory=list)

    def select(self, **wanted: str | int) -> list[Entry]:
        """Return the entries whose fields have these values."""
        return [entry for entry in self.entries if all(getattr(entry, k) == v for k, v in wanted.items())]

    def count(self, **wanted: str | int) -> int:
        """Count the entries whose fields have these values."""
        return len(self.select(**wanted))

    def rules_used(self, user_agent: str = "") -> set[tuple[str, str, str]]:
        """Return the (verb, group, resource) that were used: what a Role must hold, and no more."""
        return {(e.verb, e.group, e.resource) for e in self.entries if e.user_agent.startswith(user_agent)}

    def clear(self) -> None:
        """Forget what came so far."""
        self.entries.clear()
