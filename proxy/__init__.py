"""notebook-proxy: a reverse proxy that starts Jupyter notebooks on demand and stops them when they are idle.

A request goes one way: `gateway` (which workspace?) → `auth` (may it?) → `supervisor` (is it running?) → a backend
(`backends.local`) starts it → `workspace.Handle` → `relay` carries bytes both ways. `app` builds and connects all of
it, `config` holds every setting, `errors` every exception, `pages` what is said to people. `workspace`, `target` and
`relay.headers` / `relay.frames` are pure.
"""

from proxy.config import Config
from proxy.errors import InvalidKey, ProxyError, StartFailed, StartTimeout, StopFailed
from proxy.supervisor import Supervisor
from proxy.workspace import Handle, Key

__version__ = "0.1.0"

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
]
