"""The objects of a workspace: what Kubernetes is told, line by line."""

from __future__ import annotations

import base64
import copy
import json
import subprocess
import sys
from typing import TYPE_CHECKING, Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

import proxy
from proxy.backends.kubernetes import manifests, pods
from proxy.backends.kubernetes.manifests import (
    build_deployment,
    build_namespace,
    build_namespace_objects,
    build_own_secret,
    build_pvc,
    build_secret,
    build_service,
    owner_reference,
    pvc_name,
    service_url,
    template_hash,
)
from proxy.config import Config
from proxy.errors import InvalidKey
from proxy.workspace import Handle, Key
from tests.kubernetes_schema import complaints

if TYPE_CHECKING:
    from collections.abc import Callable

KEY = Key("5f0c1a2b-9d", "notebooks")
CONFIG = Config()
FULL = Config(
    workspace_pvc_size="10Gi",
    workspace_pvc_storage_class="fast",
    workspace_sub_path="teams/{workspace_id}",
    extra_env_vars={"BUCKET": "s3://{workspace_id}/{workspace_id_short}", "RAW": "$(HOME) $$ $5"},
    pod_overlay={
        "spec": {"nodeSelector": {"for": "{workspace_id}"}, "tolerations": [{"key": "gpu", "tolerationSeconds": 9}]}
    },
)
OWNER = {"apiVersion": "apps/v1", "kind": "Deployment", "name": "notebook-x", "uid": "u-1"}


def template_of(config: Config = CONFIG, key: Key = KEY) -> dict[str, Any]:
    found: dict[str, Any] = build_deployment(key, config)["spec"]["template"]
    return found


def container_of(config: Config = CONFIG, key: Key = KEY) -> dict[str, Any]:
    [found] = template_of(config, key)["spec"]["containers"]
    return dict(found)


def environment_of(config: Config) -> dict[str, str | None]:
    return {entry["name"]: entry.get("value") for entry in container_of(config)["env"]}


def overlaid(**spec: Any) -> dict[str, Any]:
    found: dict[str, Any] = template_of(Config(pod_overlay={"spec": spec}))["spec"]
    return found


# The Deployment -----------------------------------------------------------------------------------------------------


def test_a_workspace_is_one_deployment_in_its_namespace_with_one_replica() -> None:
    found = build_deployment(KEY, CONFIG)

    assert (found["apiVersion"], found["kind"]) == ("apps/v1", "Deployment")
    assert found["metadata"]["name"] == "notebook-5f0c1a2b-9d"
    assert found["metadata"]["namespace"] == "notebooks"
    assert found["spec"]["replicas"] == 1
    assert found["spec"]["strategy"] == {"type": "Recreate"}
    assert found["spec"]["selector"] == {"matchLabels": {"app": "notebook-5f0c1a2b-9d"}}


def test_labels_say_whose_it_is_on_the_deployment_and_its_pods() -> None:
    found = build_deployment(KEY, CONFIG)

    labels = found["metadata"]["labels"]
    assert labels == found["spec"]["template"]["metadata"]["labels"]
    assert labels["app"] == "notebook-5f0c1a2b-9d"
    assert labels["managed-by"] == "notebook-proxy"
    assert labels["workspace-id"] == "5f0c1a2b-9d"
    recommended = ("name", "instance", "component", "part-of", "managed-by")
    assert {f"app.kubernetes.io/{name}" for name in recommended} == {name for name in labels if "/" in name}


def test_annotations_of_ours_have_one_prefix() -> None:
    found = build_deployment(KEY, CONFIG)["metadata"]["annotations"]
    names = (
        manifests.LAST_ACTIVE,
        manifests.REAP_MARK,
        manifests.TEMPLATE_HASH,
        manifests.TOKEN_NONCE,
        manifests.KEY_ID,
    )

    assert names == tuple(
        f"notebook-proxy/{name}" for name in ("last-active", "reap-mark", "template-hash", "token-nonce", "key-id")
    )
    assert all(name.startswith("notebook-proxy/") for name in found)


def test_the_container_has_its_port_and_resources_from_the_settings() -> None:
    found = container_of(Config(cpu_request="1", cpu_limit="3", memory_request="2Gi", memory_limit="6Gi"))

    assert found["name"] == "notebook"
    assert found["ports"] == [{"name": "http", "containerPort": 8888, "protocol": "TCP"}]
    assert found["image"] == CONFIG.image
    assert found["imagePullPolicy"] == "IfNotPresent"
    assert found["resources"] == {
        "requests": {"cpu": "1", "memory": "2Gi"},
        "limits": {"cpu": "3", "memory": "6Gi", "ephemeral-storage": "5Gi"},
    }
    assert not [name for name in found if name.endswith("Probe")]


def test_the_volume_is_the_workspaces_and_is_mounted_where_the_settings_say() -> None:
    mounted = Config(workspace_pvc_name="home-{workspace_id_short}", workspace_mount_path="/home/jovyan")

    volume = template_of(mounted)["spec"]["volumes"][0]
    assert volume == {"name": "workspace", "persistentVolumeClaim": {"claimName": "home-5f0c1a2b"}}
    assert container_of(mounted)["volumeMounts"][0] == {"name": "workspace", "mountPath": "/home/jovyan"}
    assert container_of()["volumeMounts"][0] == {"name": "workspace", "mountPath": "/workspace"}
    assert container_of(FULL)["volumeMounts"][0]["subPath"] == "teams/5f0c1a2b-9d"


def test_jupyter_runs_below_its_base_url_with_the_volume_as_root() -> None:
    command = container_of()["command"]

    assert command[:2] == ["jupyter", "lab"]
    assert set(command[2:]) == {
        "--no-browser",
        "--ServerApp.ip=0.0.0.0",
        "--ServerApp.port=8888",
        "--ServerApp.port_retries=0",
        "--ServerApp.base_url=/ws/5f0c1a2b-9d/",
        "--ServerApp.root_dir=/workspace",
        "--ServerApp.allow_remote_access=True",
        "--ServerApp.trust_xheaders=True",
    }


def test_another_command_takes_its_place_literally() -> None:
    config = Config(notebook_command=["ide", "{port}{base_url}", "{root}", "{token}", "$(HOME)", "{other}", "$$x$"])

    assert container_of(config)["command"] == [
        "ide",
        "8888/ws/5f0c1a2b-9d/",
        "/workspace",
        "$(JUPYTER_TOKEN)",
        "$$(HOME)",
        "{other}",
        "$$$x$",
    ]


def expand(text: str) -> str:
    """What Kubernetes makes of a value in which no name is known (third_party/forked/golang/expansion)."""
    out, position = "", 0
    while position < len(text):
        if text[position] == "$" and text[position + 1 : position + 2] == "$":
            position += 1
        elif text[position : position + 2] == "$(" and ")" in text[position:]:
            return out + "expanded"
        out += text[position]
        position += 1
    return out


@given(st.text("$()aB{}", max_size=12))
def test_text_reaches_the_process_as_it_was_written(text: str) -> None:
    value = environment_of(Config.model_construct(extra_env_vars={"A": text}, pod_overlay={}))["A"]

    assert value is not None
    assert expand(value) == text


def test_home_is_on_the_volume_and_the_runtime_directory_is_not() -> None:
    found = environment_of(CONFIG)
    scratch = next(mount for mount in container_of()["volumeMounts"] if mount["name"] == "scratch")

    assert found["HOME"] == "/workspace"
    assert str(found["JUPYTER_RUNTIME_DIR"]).startswith(scratch["mountPath"] + "/")
    assert {"name": "scratch", "emptyDir": {}} in template_of()["spec"]["volumes"]
    assert environment_of(Config(workspace_mount_path="/data"))["HOME"] == "/data"


def test_own_variables_are_filled_in_and_replace_all_but_the_token() -> None:
    found = environment_of(
        Config(extra_env_vars={"B": "s3://{workspace_id}/{workspace_id_short}/{x}", "HOME": "/h", "JUPYTER_TOKEN": "t"})
    )

    assert found["B"] == "s3://5f0c1a2b-9d/5f0c1a2b/{x}"
    assert found["HOME"] == "/h"
    assert found["JUPYTER_TOKEN"] is None


def test_with_identity_the_pod_is_told_in_which_header_its_user_comes_whatever_the_operators_variables_say() -> None:
    theirs = {"NOTEBOOK_IDENTITY_HEADER": "X-Mine"}

    assert environment_of(Config(notebook_identity=True, extra_env_vars=theirs))["NOTEBOOK_IDENTITY_HEADER"] == (
        "X-Forwarded-User"
    )
    assert "NOTEBOOK_IDENTITY_HEADER" not in environment_of(Config())


def test_the_token_comes_from_the_secret_and_stands_nowhere_else() -> None:
    [token] = [entry for entry in container_of()["env"] if entry["name"] == "JUPYTER_TOKEN"]
    secret = build_secret(KEY, CONFIG, "t0ken", OWNER)

    assert token["valueFrom"]["secretKeyRef"] == {"name": secret["metadata"]["name"], "key": "token"}
    assert base64.b64decode(secret["data"]["token"]) == b"t0ken"
    assert "token" not in " ".join(container_of()["command"])


def test_the_pod_keeps_to_the_restricted_standard() -> None:
    spec = template_of()["spec"]

    assert spec["securityContext"] == {
        "runAsNonRoot": True,
        "runAsUser": 1000,
        "runAsGroup": 100,
        "fsGroup": 100,
        "fsGroupChangePolicy": "OnRootMismatch",
        "seccompProfile": {"type": "RuntimeDefault"},
    }
    assert container_of()["securityContext"] == {
        "allowPrivilegeEscalation": False,
        "capabilities": {"drop": ["ALL"]},
    }
    assert {kind for volume in spec["volumes"] for kind in volume} <= {"name", "persistentVolumeClaim", "emptyDir"}


def test_the_pod_gets_no_account_and_no_service_links_and_little_grace() -> None:
    spec = template_of(Config(stop_grace="1.5s"))["spec"]

    assert spec["automountServiceAccountToken"] is False
    assert spec["enableServiceLinks"] is False
    assert spec["terminationGracePeriodSeconds"] == 2
    assert template_of()["spec"]["terminationGracePeriodSeconds"] <= 10


def test_scaling_nodes_down_does_not_kill_kernels() -> None:
    annotations = template_of()["metadata"]["annotations"]

    assert annotations["cluster-autoscaler.kubernetes.io/safe-to-evict"] == "false"
    assert annotations["karpenter.sh/do-not-disrupt"] == "true"


# The overlay --------------------------------------------------------------------------------------------------------


def test_an_overlay_adds_what_it_names_and_keeps_the_rest() -> None:
    sidecar = {"name": "side", "image": "side:{workspace_id}"}
    spec = overlaid(
        nodeSelector={"disk": "ssd"},
        tolerations=[{"key": "gpu"}],
        containers=[{"name": "notebook", "resources": {"limits": {"nvidia.com/gpu": 1}}}, sidecar],
    )

    notebook, side = spec["containers"]
    assert spec["nodeSelector"] == {"disk": "ssd"}
    assert spec["tolerations"] == [{"key": "gpu"}]
    assert notebook["resources"]["limits"] == container_of()["resources"]["limits"] | {"nvidia.com/gpu": 1}
    assert notebook["command"] == container_of()["command"]
    assert side == {"name": "side", "image": "side:5f0c1a2b-9d"}
    assert spec["enableServiceLinks"] is False


def test_null_in_an_overlay_deletes() -> None:
    spec = overlaid(securityContext={"runAsGroup": None, "seccompProfile": None}, terminationGracePeriodSeconds=None)

    assert "runAsGroup" not in spec["securityContext"]
    assert "seccompProfile" not in spec["securityContext"]
    assert "terminationGracePeriodSeconds" not in spec
    assert spec["securityContext"]["runAsUser"] == 1000


def test_a_volume_may_be_mounted_once_more() -> None:
    spec = overlaid(containers=[{"name": "notebook", "volumeMounts": [{"name": "workspace", "mountPath": "/more"}]}])

    assert [mount["mountPath"] for mount in spec["containers"][0]["volumeMounts"]] == ["/workspace", "/tmp", "/more"]


def test_no_overlay_takes_a_pod_away_from_its_workspace() -> None:
    stolen = {"labels": {"app": "x", "managed-by": None, "team": "a"}, "annotations": {manifests.WORKSPACE: "other"}}

    found = template_of(Config(pod_overlay={"metadata": stolen}))["metadata"]

    assert found["labels"] == build_deployment(KEY, CONFIG)["metadata"]["labels"] | {"team": "a"}
    assert found["annotations"][manifests.WORKSPACE] == KEY.workspace_id


# Service, Secret, volume, namespace ---------------------------------------------------------------------------------


def test_the_service_leads_to_the_pod() -> None:
    found = build_service(KEY)

    assert found["metadata"]["name"] == "notebook-5f0c1a2b-9d"
    assert found["spec"]["type"] == "ClusterIP"
    [port] = found["spec"]["ports"]
    assert (port["port"], port["targetPort"]) == (8888, 8888)
    assert found["spec"]["selector"].items() <= template_of()["metadata"]["labels"].items()
    assert found == build_service(KEY, CONFIG)


def test_the_url_of_the_service_names_it() -> None:
    assert service_url(KEY) == "http://notebook-5f0c1a2b-9d.notebooks.svc.cluster.local:8888"
    assert service_url(KEY, Config(cluster_domain="k8s.example")).endswith(".notebooks.svc.k8s.example:8888")
    assert Handle(service_url(KEY)).address == ("notebook-5f0c1a2b-9d.notebooks.svc.cluster.local", 8888)  # type: ignore[arg-type]


def test_what_a_deployment_owns_goes_with_it() -> None:
    deployment = {"metadata": {"name": "notebook-x", "uid": "u-1", "resourceVersion": "7"}}

    owner = owner_reference(deployment)

    assert owner.items() >= OWNER.items()
    assert build_secret(KEY, None, "t", owner)["metadata"]["ownerReferences"] == [owner]
    assert build_service(KEY, owner=owner)["metadata"]["ownerReferences"] == [owner]
    assert "ownerReferences" not in build_service(KEY)["metadata"]


def test_a_claim_is_made_as_the_settings_say() -> None:
    found = build_pvc(KEY, FULL)

    assert found["metadata"]["name"] == "ws-5f0c1a2b-9d"
    assert found["spec"]["resources"] == {"requests": {"storage": "10Gi"}}
    assert found["spec"]["storageClassName"] == "fast"
    assert found["metadata"]["labels"]["workspace-id"] == KEY.workspace_id
    assert "ownerReferences" not in found["metadata"]
    assert "storageClassName" not in build_pvc(KEY, Config(workspace_pvc_size="1Gi"))["spec"]


def test_what_workspaces_share_is_labelled_for_none_of_them() -> None:
    shared = Config(workspace_pvc_name="all", namespace="notebooks")

    for found in (build_pvc(KEY, shared), build_namespace(KEY, shared)):
        assert found["metadata"]["labels"] == {"managed-by": "notebook-proxy"}
        assert not manifests.is_of_another(found, "other")


def test_a_namespace_of_its_own_is_labelled_for_its_workspace() -> None:
    found = build_namespace(Key(KEY.workspace_id, "ws-5f0c1a2b"), Config(namespace="ws-{workspace_id_short}"))

    assert found["metadata"]["name"] == "ws-5f0c1a2b"
    assert not manifests.is_of_another(found, KEY.workspace_id)
    assert manifests.is_of_another(found, "5f0c1a2b-other")


def test_a_new_namespace_gets_the_operators_objects() -> None:
    text = (
        "# nothing\n---\napiVersion: networking.k8s.io/v1\nkind: NetworkPolicy\n"
        "metadata: {name: 'deny-{workspace_id_short}', namespace: elsewhere}\nspec: {podSelector: {}}\n"
        "---\napiVersion: v1\nkind: Secret\nmetadata: {name: pull}\n---\n"
    )

    policy, secret = build_namespace_objects(KEY, text)

    assert policy[:2] == ("networking.k8s.io/v1", "networkpolicies")
    assert policy[2]["metadata"] == {"name": "deny-5f0c1a2b", "namespace": "notebooks"}
    assert secret[:2] == ("v1", "secrets")
    assert [complaints(found) for *_, found in (policy, secret)] == [[], []]


@pytest.mark.parametrize("text", ["a", "kind: Secret", "{apiVersion: v1, kind: Secret, metadata: {}}", "a: ["])
def test_what_is_no_object_is_refused_in_one_line(text: str) -> None:
    with pytest.raises(ValueError) as caught:
        build_namespace_objects(KEY, text)

    assert len(str(caught.value).splitlines()) == 1


# All of them --------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("config", [CONFIG, FULL])
def test_every_object_is_one_that_the_api_knows(config: Config) -> None:
    pvc = build_pvc(KEY, Config(workspace_pvc_size="1Gi") if config is CONFIG else config)
    objects = [
        build_deployment(KEY, config),
        build_service(KEY, config, owner=OWNER),
        build_secret(KEY, config, "t", OWNER),
        build_namespace(KEY, config),
        build_own_secret("notebook-proxy-jwt", "notebook-proxy", "s"),
        pvc,
    ]

    assert {found["kind"]: complaints(found) for found in objects} == {found["kind"]: [] for found in objects}


def test_the_schema_check_finds_what_is_wrong() -> None:
    broken = build_deployment(KEY, CONFIG)
    spec = broken["spec"]["template"]["spec"]
    spec["containers"][0]["comand"] = spec["containers"][0].pop("command")
    spec["terminationGracePeriodSeconds"] = "5"
    del broken["spec"]["selector"]
    del spec["containers"][0]["name"]

    text = "\n".join(complaints(broken))

    for part in ("comand: no such field", "'5' is no int", "selector", "name"):
        assert part in text
    assert complaints({"apiVersion": "v2", "kind": "Pod"})[0].startswith("no such kind")


BUILDERS: list[Callable[[Key], object]] = [
    lambda key: build_deployment(key, CONFIG),
    build_service,
    service_url,
    lambda key: build_secret(key, CONFIG, "t", OWNER),
    lambda key: build_pvc(key, CONFIG),
    lambda key: build_namespace(key, CONFIG),
]


@pytest.mark.parametrize("build", BUILDERS)
@pytest.mark.parametrize(
    "key", [Key("A", "d"), Key("", "d"), Key("a" * 55, "d"), Key("a/b", "d"), Key("a", "D"), Key("a", "")]
)
def test_a_bad_key_is_refused_by_every_builder(build: Callable[[Key], object], key: Key) -> None:
    with pytest.raises(InvalidKey):
        build(key)


def test_a_volume_that_cannot_be_named_is_refused() -> None:
    with pytest.raises(InvalidKey, match="its volume would be"):
        pvc_name(KEY, Config(workspace_pvc_name="-{workspace_id}"))


def test_nothing_that_is_given_is_changed_and_nothing_is_shared() -> None:
    before = copy.deepcopy(FULL.model_dump())

    first, second = build_deployment(KEY, FULL), build_deployment(KEY, FULL)
    assert json.dumps(first) == json.dumps(second)
    first["spec"]["template"]["spec"]["tolerations"][0]["key"] = "changed"
    first["spec"]["template"]["metadata"]["labels"]["app"] = "changed"

    assert FULL.model_dump() == before
    assert build_deployment(KEY, FULL) == second
    assert second["metadata"]["labels"]["app"] != "changed"


def test_the_hash_tells_templates_apart_and_only_them() -> None:
    template = template_of()
    turned = dict(reversed(template.items()))

    assert template_hash(template) == template_hash(turned)
    assert build_deployment(KEY, CONFIG)["metadata"]["annotations"][manifests.TEMPLATE_HASH] == template_hash(template)
    assert template_hash(template_of(Config(image="other:1"))) != template_hash(template)


def test_the_package_exports_the_builders_and_loads_them_only_then() -> None:
    code = (
        "import sys, proxy; a = any(m.startswith('proxy.backends.kubernetes') for m in sys.modules);"
        "proxy.build_service(proxy.Key('a', 'b')); print(a, 'kubernetes_asyncio' in sys.modules)"
    )

    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)

    assert done.stdout.split() == ["False", "False"]
    assert proxy.build_deployment is build_deployment
    assert proxy.service_url is service_url
    with pytest.raises(AttributeError):
        _ = proxy.build_nothing
    assert pods.PORT == manifests.PORT
