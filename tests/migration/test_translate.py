"""From Helm values of Zero to JupyterHub to settings of this proxy: what each says, and what is left."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest
import yaml
from hypothesis import given
from hypothesis import strategies as st

from proxy.backends.kubernetes.manifests import build_deployment
from proxy.config import load
from proxy.migration import Translation, translate
from proxy.settings_yaml import read_typed_yaml
from proxy.workspace import Key

VALUES = Path(__file__).parent / "values.yaml"


@pytest.fixture
def done() -> Translation:
    return translate(read_typed_yaml(VALUES.read_text()))


def test_what_the_chart_says_of_servers_becomes_settings(done: Translation) -> None:
    plain = {name: value for name, value in done.settings.items() if name not in ("profiles", "pod_overlay")}

    assert plain == {
        "backend": "kubernetes",
        "auth": "jwt",
        "workspace_template": "{jupyterhub_slug}",
        "jupyterhub_paths": "on",
        "image": "registry.example.org/scipy:2026-01",
        "image_pull_policy": "Always",
        "cpu_limit": "1",  # the default profile's
        "cpu_request": "0.5",
        "memory_limit": "2Gi",
        "memory_request": str(round(1.5 * 1024**3)),
        "workspace_mount_path": "/home/jovyan",
        "workspace_pvc_name": "claim-{workspace_id}",
        "workspace_pvc_size": "20Gi",
        "workspace_pvc_storage_class": "fast",
        "idle_ttl": "7200s",
        "reap_interval": "300s",
        "max_age": "86400s",
        "run_as_user": "1000",
        "fs_group": "100",
        "extra_env_vars": {"TEAM": "physics", "WORKERS": "4"},
    }


def test_profiles_keep_what_they_had_from_singleuser(done: Translation) -> None:
    profiles = done.settings["profiles"]

    assert list(profiles) == ["small", "gpu", "pick-r-s", "pick-r-l", "pick-julia-s", "pick-julia-l"]
    assert profiles["small"] == {"description": "Small (for a first look)", "cpu_limit": "1", "memory_limit": "2Gi"}
    assert profiles["gpu"] == {
        "description": "GPU: A100",
        "image": "registry.example.org/cuda:12",
        "cpu_limit": "4",
        "memory_limit": "8Gi",
        "pod_overlay": {
            "spec": {
                "nodeSelector": {"pool": "gpu"},
                "containers": [
                    {
                        "name": "notebook",
                        "resources": {"limits": {"nvidia.com/gpu": "1"}},
                        "env": [{"name": "CUDA", "value": "12"}],
                    }
                ],
            }
        },
    }
    assert profiles["pick-julia-l"] == {
        "description": "Pick one: Julia, large",
        "image": "registry.example.org/julia:1",
        "memory_limit": "16Gi",
        "cpu_limit": "4",
    }


def test_what_has_no_counterpart_is_named(done: Translation) -> None:
    assert [line.partition(": ")[0] for line in done.left] == [
        "singleuser.profileList",
        "hub.baseUrl",
        "hub.config.JupyterHub.authenticator_class",
        "ingress.enabled",
        "ingress.hosts",
        "singleuser.allowPrivilegeEscalation",
        "singleuser.extraEnv.SECRET_THING",
    ]
    assert done.left[0] == "singleuser.profileList: gpu: modify_pod_hook: has no counterpart"


def test_the_settings_are_allowed_and_make_the_pod_that_the_chart_would(tmp_path: Path, done: Translation) -> None:
    written = tmp_path / "proxy.yaml"
    written.write_text(yaml.safe_dump(done.settings))

    config = load({}, written)
    pod = build_deployment(Key("alice", "hub"), config)["spec"]["template"]["spec"]

    claims = [
        volume["persistentVolumeClaim"]["claimName"] for volume in pod["volumes"] if "persistentVolumeClaim" in volume
    ]
    assert claims == ["claim-alice", "courses"]
    container = pod["containers"][0]
    assert {mount["mountPath"] for mount in container["volumeMounts"]} >= {"/home/jovyan", "/courses"}
    assert container["lifecycle"] == {"postStart": {"exec": {"command": ["touch", "/tmp/started"]}}}
    assert pod["nodeSelector"] == {"pool": "notebooks"}
    assert pod["tolerations"] == [{"key": "notebooks", "operator": "Exists", "effect": "NoSchedule"}]
    assert pod["imagePullSecrets"] == [{"name": "registry"}]


def test_the_charts_own_defaults_hold_for_what_is_not_said() -> None:
    settings = translate({}).settings

    assert (settings["workspace_pvc_name"], settings["workspace_mount_path"]) == (
        "claim-{workspace_id}",
        "/home/jovyan",
    )
    assert (settings["idle_ttl"], settings["reap_interval"]) == ("3600s", "600s")
    assert settings["memory_request"] == "1Gi"
    assert "image" not in settings
    assert translate({}).left == []


def test_a_volume_that_all_share_is_mounted_by_a_directory_each() -> None:
    storage = {"type": "static", "static": {"pvcName": "homes", "subPath": "home/{username}"}}

    settings = translate({"singleuser": {"storage": storage}}).settings

    assert (settings["workspace_pvc_name"], settings["workspace_sub_path"]) == ("homes", "home/{workspace_id}")
    assert "workspace_pvc_size" not in settings


def test_the_older_scheme_of_names_and_switched_off_culling() -> None:
    settings = translate(
        {"cull": {"enabled": False}, "hub": {"config": {"KubeSpawner": {"slug_scheme": "escape"}}}}
    ).settings

    assert settings["workspace_template"] == "{jupyterhub_escaped}"
    assert settings["reaper"] == "off"
    assert "idle_ttl" not in settings


@pytest.mark.parametrize(
    ("values", "said"),
    [
        ({"singleuser": {"memory": {"limit": "lots"}}}, "singleuser.memory.limit is 'lots'"),
        ({"singleuser": {"profileList": "custom"}}, "profileList must be a list"),
        ([], "values must be a mapping"),
        (
            {
                "singleuser": {
                    "profileList": [
                        {"profile_options": {str(n): {"choices": {key: {} for key in "abcde"}} for n in range(3)}}
                    ]
                }
            },
            "125 combinations",
        ),
    ],
)
def test_what_cannot_be_meant_is_refused_by_its_name(values: Any, said: str) -> None:
    with pytest.raises(ValueError, match=said):
        translate(values)


LEAVES = st.none() | st.booleans() | st.integers(0, 10) | st.text("ab", max_size=3)
TREES = st.recursive(LEAVES, lambda inner: st.dictionaries(st.sampled_from("xyz"), inner, max_size=3))


@given(st.dictionaries(st.sampled_from(["custom", "debug", "prePuller"]), TREES, max_size=3))
def test_no_value_is_lost_in_silence(values: dict[str, Any]) -> None:
    def leaves(tree: Any, name: str) -> set[str]:
        if isinstance(tree, dict):
            return {found for key, value in tree.items() for found in leaves(value, f"{name}.{key}" if name else key)}
        return set() if tree is None else {name}

    left = {line.partition(": ")[0] for line in translate(values).left}

    assert left == leaves(values, "")
