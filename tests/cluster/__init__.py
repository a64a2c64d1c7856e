"""A Kubernetes cluster for tests: real HTTP, real processes, scripted misfortune.

`Cluster` is the way in. From below: `resources` and `store` (objects, versions, the log of changes), `registry` (what a
write means), `server` and `watch` (HTTP), `faults` (misfortune), `controllers`, `scheduler`, `kubelet` and `kubeproxy`
(what makes a Deployment a running process behind an address).
"""

from tests.cluster.cluster import Cluster
from tests.cluster.images import Image

__all__ = ["Cluster", "Image"]
