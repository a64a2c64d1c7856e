"""What we believe about Kubernetes, as tests: against the test cluster, or a real one with `--kubeconfig`.

    pytest tests/conformance --kubeconfig ~/.kube/config

Works in one namespace of its own, which it deletes. Tests marked `kubelet` need nodes that run pods. A difference is
a bug in the test cluster.
"""
