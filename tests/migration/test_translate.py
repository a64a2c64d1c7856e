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
    assert [line.partition(":")[0] for line in translate({}).left] == ["singleuser.image"]  # it is another one here


def test_a_mapping_in_place_of_a_list_is_its_values_in_order_of_its_keys() -> None:
    storage = {
        "extraVolumes": {"b": {"name": "shm", "emptyDir": {}}, "a": {"name": "tmp", "emptyDir": {}}},
        "extraVolumeMounts": {"x": {"name": "shm", "mountPath": "/dev/shm"}},
    }
    profile = {"display_name": "x", "kubespawner_override": {"volumes": {"v": {"name": "v", "emptyDir": {}}}}}
    values = {"singleuser": {"storage": storage, "extraTolerations": {"t": {"key": "k"}}, "profileList": [profile]}}

    settings = translate(values).settings

    spec = settings["pod_overlay"]["spec"]
    assert [volume["name"] for volume in spec["volumes"]] == ["tmp", "shm"]
    assert spec["tolerations"] == [{"key": "k"}]
    assert spec["containers"] == [{"name": "notebook", "volumeMounts": [{"name": "shm", "mountPath": "/dev/shm"}]}]
    assert settings["profiles"]["x"]["pod_overlay"]["spec"]["volumes"] == [{"name": "v", "emptyDir": {}}]


def test_what_named_a_users_server_names_the_workspace_and_what_nobody_fills_in_is_told() -> None:
    volumes = [{"name": "own", "persistentVolumeClaim": {"claimName": "extra-{username}"}}]
    environment = {"ME": "{user_server}", "WHO": "{unescaped_username}", "JSON": "{other}"}

    done = translate({"singleuser": {"storage": {"extraVolumes": volumes}, "extraEnv": environment}})

    [volume] = done.settings["pod_overlay"]["spec"]["volumes"]
    assert volume["persistentVolumeClaim"]["claimName"] == "extra-{workspace_id}"
    assert done.settings["extra_env_vars"]["ME"] == "{workspace_id}"
    assert done.left[-1:] == ["extra_env_vars: '{unescaped_username}': nobody fills that in"]


def test_secrets_of_the_chart_and_of_servers_pull_images_by_name_or_mapping() -> None:
    values = {"imagePullSecrets": [{"name": "a"}], "singleuser": {"image": {"pullSecrets": ["b", {"name": "a"}]}}}

    assert translate(values).settings["pod_overlay"] == {"spec": {"imagePullSecrets": [{"name": "a"}, {"name": "b"}]}}


def test_admins_stay_admins(tmp_path: Path) -> None:
    values = {"hub": {"config": {"Authenticator": {"admin_users": ["ann", "bob"]}}}}
    written = tmp_path / "proxy.yaml"
    written.write_text(yaml.safe_dump(translate(values).settings))

    assert load({}, written).admin_users == ("ann", "bob")


def test_free_text_in_place_of_a_choice_is_named() -> None:
    choices = {"a": {"kubespawner_override": {"image": "a:1"}}, "b": None}
    option = {"choices": choices, "unlisted_choice": {"enabled": True, "kubespawner_override": {"image": "{value}"}}}
    profile = {"display_name": "Pick", "kubespawner_override": None, "profile_options": {"image": option}}

    done = translate({"singleuser": {"profileList": [profile]}})

    assert list(done.settings["profiles"]) == ["pick-a", "pick-b"]
    assert "singleuser.profileList: Pick: image: unlisted_choice: has no counterpart" in done.left


@pytest.mark.parametrize(
    ("cull", "expected"),
    [
        ({"timeout": 7200.0, "every": "300"}, ("7200s", "300s", None)),
        ({"timeout": 7200, "every": 0, "maxAge": 0}, ("7200s", "3600s", None)),  # half of it, as the culler has it
        ({"maxAge": 86400}, ("3600s", "600s", "86400s")),
    ],
)
def test_culling_is_in_whole_seconds(cull: dict[str, Any], expected: tuple[str | None, ...]) -> None:
    settings = translate({"cull": cull}).settings

    assert tuple(settings.get(name) for name in ("idle_ttl", "reap_interval", "max_age")) == expected


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
        ({"singleuser": "hello"}, "singleuser must be a mapping"),
        ({"singleuser": {"nodeSelector": ["a"]}}, "singleuser.nodeSelector must be a mapping"),
        ({"singleuser": {"initContainers": "a"}}, "singleuser.initContainers must be a list"),
        ({"singleuser": {"profileList": [{"kubespawner_override": ["a"]}]}}, "kubespawner_override must be a mapping"),
        ({"cull": {"timeout": "1h"}}, "cull.timeout is '1h': must be a number of seconds"),
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

    assert left - {"singleuser.image"} == leaves(values, "")


ODD = st.recursive(
    LEAVES | st.floats(), lambda inner: st.lists(inner, max_size=2) | st.dictionaries(st.text("ab"), inner, max_size=2)
)
PROFILE = st.fixed_dictionaries(
    {}, optional=dict.fromkeys(("display_name", "slug", "default", "kubespawner_override", "profile_options"), ODD)
)
SERVERS = st.fixed_dictionaries(
    {},
    optional={
        **dict.fromkeys(
            ("image", "cpu", "memory", "storage", "extraEnv", "nodeSelector", "extraTolerations", "initContainers",
             "lifecycleHooks", "extraResource", "extraLabels", "uid", "profileList"),
            ODD,
        ),
        "profileList": st.lists(PROFILE, max_size=2),
    },
)  # fmt: skip


@given(st.fixed_dictionaries({}, optional={"singleuser": SERVERS, "cull": ODD, "hub": ODD, "imagePullSecrets": ODD}))
def test_whatever_the_values_are_they_are_translated_or_refused_in_words(values: dict[str, Any]) -> None:
    try:
        done = translate(values)
    except ValueError:
        return
    assert yaml.safe_load(yaml.safe_dump(done.settings)) == done.settings
