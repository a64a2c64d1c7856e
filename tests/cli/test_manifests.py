"""`manifests`: what it prints is what a proxy creates, without what nobody may see."""

from __future__ import annotations

import json
from typing import TYPE_CHECKING, Any

import pytest
import yaml

from proxy import cli
from tests.cli import Asking, run
from tests.cluster.resources import CLAIMS, DEPLOYMENTS, SECRETS, SERVICES

if TYPE_CHECKING:
    from collections.abc import Callable
    from pathlib import Path

    from tests.cluster.threaded import ThreadedCluster
    from tests.e2e import Proxy

VALUE = "v4lue"
FLAGS = (
    "--extra-env-vars", json.dumps({"BUCKET": VALUE}),
    "--pod-overlay", json.dumps({"spec": {"priorityClassName": "", "initContainers": [
        {"name": "fetch", "image": "tiny", "env": [{"name": "KEY", "value": VALUE}]}
    ]}}),
    "--profiles", json.dumps({"large": {"memory_limit": "8Gi"}}),
)  # fmt: skip


def contains(whole: Any, part: Any) -> bool:
    """Tell whether everything that `part` says is said by `whole`, in which the cluster has filled in more."""
    if isinstance(part, dict):
        return isinstance(whole, dict) and all(name in whole and contains(whole[name], part[name]) for name in part)
    if isinstance(part, list):
        return isinstance(whole, list) and len(whole) == len(part) and all(map(contains, whole, part))
    return bool(whole == part)


def test_what_is_printed_is_what_a_proxy_creates(
    cluster: ThreadedCluster, on_cluster: tuple[str, ...], begin: Callable[..., Proxy]
) -> None:
    flags = (*on_cluster, "--profiles", json.dumps({"large": {"memory_limit": "8Gi"}}))
    assert Asking(begin(*flags).url)("start", "demo").returncode == 0

    done = run("manifests", "demo", *flags)

    printed = {each["kind"]: each for each in yaml.safe_load_all(done.stdout)}
    kinds = {"PersistentVolumeClaim": CLAIMS, "Deployment": DEPLOYMENTS, "Secret": SECRETS, "Service": SERVICES}
    assert list(printed) == list(kinds)
    for kind, resource in kinds.items():
        made = cluster.do(
            lambda double, resource=resource, name=printed[kind]["metadata"]["name"]: double.store.get(  # type: ignore[misc]
                resource, "default", name
            )
        )
        if kind == "Secret":
            made["data"] = printed[kind]["data"]
        if kind in ("Secret", "Service"):
            [owner] = made["metadata"]["ownerReferences"]
            assert printed[kind]["metadata"].pop("ownerReferences") == [owner | {"uid": "given-by-the-cluster"}]
        assert contains(made, printed[kind]), kind


@pytest.mark.parametrize("form", ["yaml", "json"])
def test_no_value_that_a_setting_puts_there_is_printed(form: str) -> None:
    done = run("manifests", "demo", *FLAGS, "--output", form)

    assert (done.returncode, done.stderr) == (0, "")
    assert VALUE not in done.stdout
    found = json.loads(done.stdout)["items"] if form == "json" else list(yaml.safe_load_all(done.stdout))
    [deployment] = [each for each in found if each["kind"] == "Deployment"]
    spec = deployment["spec"]["template"]["spec"]
    variables = {each["name"]: each.get("value") for each in spec["containers"][0]["env"]}
    assert variables["BUCKET"] == "***"
    assert variables["HOME"] == "/workspace"
    assert spec["initContainers"][0]["env"] == [{"name": "KEY", "value": "***"}]
    assert [each["data"] for each in found if each["kind"] == "Secret"] == [{"token": "***"}]


def test_profile_is_as_if_it_were_chosen(capsys: pytest.CaptureFixture[str]) -> None:
    assert cli.main(["manifests", "demo", *FLAGS, "--profile", "large", "-o", "json"]) == 0

    [deployment, *_] = json.loads(capsys.readouterr().out)["items"]
    assert deployment["metadata"]["annotations"]["notebook-proxy/profile"] == "large"
    assert deployment["spec"]["template"]["spec"]["containers"][0]["resources"]["limits"]["memory"] == "8Gi"


def test_namespace_comes_first_with_what_belongs_to_it(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    file = tmp_path / "more.yaml"
    file.write_text(f"{{apiVersion: v1, kind: Secret, metadata: {{name: pull}}, stringData: {{password: {VALUE}}}}}")
    flags = ("--namespace=ws-{workspace_id}", "--create-namespace", f"--namespace-manifests={file}")

    assert cli.main(["manifests", "demo", *flags]) == 0

    shown = capsys.readouterr().out
    found = list(yaml.safe_load_all(shown))
    assert [each["kind"] for each in found] == ["Namespace", "Secret", "Deployment", "Secret", "Service"]
    assert {each["metadata"].get("namespace", each["metadata"]["name"]) for each in found} == {"ws-demo"}
    assert VALUE not in shown


@pytest.mark.parametrize(
    ("arguments", "words"),
    [
        (["Bad"], "'Bad' is not a workspace id"),
        (["demo", "--profile", "huge"], "--profile 'huge' is not offered; those that are: none."),
        (
            ["demo", "--workspace-pvc-name", ".{workspace_id}"],
            "'demo' is not a workspace id: its volume would be '.demo'",
        ),
        (["demo", "--create-namespace", "--namespace-manifests", "/no/such"], "namespace_manifests cannot be used: "),
    ],
)
def test_what_makes_no_sense_ends_in_one_line_and_2(
    arguments: list[str], words: str, capsys: pytest.CaptureFixture[str]
) -> None:
    assert cli.main(["manifests", *arguments]) == 2

    shown = capsys.readouterr()
    assert shown.err.startswith(f"notebook-proxy: {words}")
    assert (shown.out, shown.err.count("\n")) == ("", 1)
