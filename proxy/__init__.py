"""notebook-proxy: a reverse proxy that starts Jupyter notebooks on demand and stops them when they are idle.

A request goes one way: `gateway` (which workspace?) → `auth` (may it?) → `hold` (may it wake, how does it wait?) →
`supervisor` (is it running?) → a backend (`backends.local`, `backends.kubernetes`) starts it → `workspace.Handle` →
`relay` carries bytes both ways. `admin` (dashboard, API) and `reserved` (`/ws/<id>/_proxy/`) answer what is the proxy's
own. `app` builds and connects all of it, `config` holds every setting, `errors` every exception, `pages` what is said.
`activity` judges what wakes and what counts, `use` tells the supervisor what passes, and `express` takes a short cut
through all of it for requests that repeat themselves. `counts` has what has happened in numbers, `metrics` tells it.
`workspace`, `activity`, `target`, `naming`, `relay.headers` / `relay.frames` and the Kubernetes manifests are pure.
"""

from __future__ import annotations

from importlib import import_module
from typing import TYPE_CHECKING, Any, Final

from proxy.config import Config
from proxy.errors import InvalidKey, ProxyError, StartFailed, StartTimeout, StopFailed
from proxy.supervisor import Supervisor
from proxy.version import __version__
from proxy.workspace import Handle, Key

if TYPE_CHECKING:
    from proxy.backends.kubernetes.manifests import build_deployment, build_service, service_url


__all__ = [
    "Config",
    "Handle",
    "InvalidKey",
    "Key",
    "ProxyError",
    "StartFailed",
    "StartTimeout",
    "StopFailed",
    "Supervisor",
    "__version__",
    "build_deployment",
    "build_service",
    "service_url",
]

_LAZY: Final = dict.fromkeys(
    ("build_deployment", "build_service", "service_url"), "proxy.backends.kubernetes.manifests"
)


def __getattr__(name: str) -> Any:
    """Import the manifest builders when they are asked for (PEP 562): who needs no cluster loads nothing of it."""
    if name not in _LAZY:
        raise AttributeError(f"module {__name__!r} has no attribute {name!r}")
    return getattr(import_module(_LAZY[name]), name)
