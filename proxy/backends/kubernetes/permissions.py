"""What the proxy may do in a cluster: exactly the API calls that the backend makes.

Pure. `deploy/` grants these rules and nothing else; tests compare the two, and the calls with both.
"""

from __future__ import annotations

from typing import Final, TypeAlias

Rule: TypeAlias = tuple[str, str, tuple[str, ...]]
"""API group, resource, verbs in alphabetical order."""

WORKSPACE_RULES: Final[tuple[Rule, ...]] = (
    ("apps", "deployments", ("create", "delete", "get", "list", "patch", "watch")),
    ("", "services", ("create", "delete", "get", "list", "watch")),
    ("", "pods", ("list", "watch")),
    ("", "pods/log", ("get",)),  # the last lines of one that crashes
    ("", "events", ("list",)),  # of a pod that starts
    ("", "secrets", ("create", "delete", "get")),  # tokens of notebooks, and what they are derived from
    ("", "persistentvolumeclaims", ("create", "get", "list", "patch", "watch")),  # notes are kept there; never deleted
)
"""In every namespace that has workspaces, and in the proxy's own."""

NAMESPACE_RULES: Final[tuple[Rule, ...]] = (
    ("", "namespaces", ("create", "get")),
    ("networking.k8s.io", "networkpolicies", ("create",)),  # what deploy/ has in namespace_manifests
)
"""In the whole cluster, in addition, where the proxy makes the namespaces."""
