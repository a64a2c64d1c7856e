"""What an operator applies: every file is used and well-formed, roles and settings are the code's, overlays render.

Every check of single objects runs on the files as they are; with a kubectl, on what it makes of each overlay, too.
"""

from __future__ import annotations

import re
import shutil
import subprocess
from functools import cache
from ipaddress import ip_address, ip_network
from pathlib import Path
from typing import TYPE_CHECKING, Any

import pytest
import yaml

from proxy.backends.kubernetes.manifests import JWT_SECRET_NAME, build_deployment, build_namespace_objects
from proxy.backends.kubernetes.permissions import NAMESPACE_RULES, WORKSPACE_RULES, Rule
from proxy.cli import _parser
from proxy.config import Config, load
from proxy.own_secret import is_own
from proxy.settings_types import parse_listen
from proxy.workspace import Key
from tests.kubernetes_schema import complaints

if TYPE_CHECKING:
    from collections.abc import Iterable

ROOT = Path(__file__).parent.parent.parent
DEPLOY = ROOT / "deploy"
BASE = DEPLOY / "base"
PER_WORKSPACE = DEPLOY / "overlays" / "namespace-per-workspace"
OVERLAYS = sorted(path.parent for path in DEPLOY.glob("overlays/*/kustomization.yaml"))
YAML_FILES = sorted(
    path for path in DEPLOY.rglob("*.yaml") if path.parent.name != "monitoring"
)  # Prometheus reads that
INGRESSES = ("gateway-api", "nginx-ingress", "traefik")
# Custom resources: what must be there, since their schemas are not.
CUSTOM = {
    ("gateway.networking.k8s.io/v1", "HTTPRoute"): {"parentRefs", "hostnames", "rules"},
    ("traefik.io/v1alpha1", "IngressRoute"): {"entryPoints", "routes", "tls"},
    ("traefik.io/v1alpha1", "ServersTransport"): {"forwardingTimeouts"},
}


def read(path: Path) -> list[dict[str, Any]]:
    return [document for document in yaml.safe_load_all(path.read_text(encoding="utf-8")) if document is not None]


def kustomization(folder: Path) -> dict[str, Any]:
    [found] = read(folder / "kustomization.yaml")
    return found


def entries(folder: Path) -> list[Path]:
    """Return every path that a kustomization names."""
    found = kustomization(folder)
    generated = [name for generator in found.get("configMapGenerator", ()) for name in generator["files"]]
    patches = [patch["path"] for patch in found.get("patches", ())]
    return [(folder / name).resolve() for name in (*found.get("resources", ()), *generated, *patches)]


def objects_of(folder: Path) -> list[dict[str, Any]]:
    """Return the objects that a kustomization and those it builds on name, without patches and generators."""
    found = []
    for name in kustomization(folder)["resources"]:
        path = (folder / name).resolve()
        found += objects_of(path) if path.is_dir() else read(path)
    return found


@cache
def _rendered(folder: Path) -> str:
    return subprocess.run(["kubectl", "kustomize", str(folder)], capture_output=True, text=True, check=True).stdout


@pytest.fixture(params=["files", "rendered"])
def variant(request: pytest.FixtureRequest) -> str:
    found: str = request.param
    if found == "rendered" and shutil.which("kubectl") is None:
        pytest.skip("no kubectl: overlays are not rendered")
    return found


def load_overlay(folder: Path, variant: str) -> list[dict[str, Any]]:
    return objects_of(folder) if variant == "files" else list(yaml.safe_load_all(_rendered(folder)))


def of_kind(objects: Iterable[dict[str, Any]], kind: str) -> list[dict[str, Any]]:
    return [found for found in objects if found["kind"] == kind]


def rules_of(role: dict[str, Any]) -> list[Rule]:
    assert all(len(rule["apiGroups"]) == len(rule["resources"]) == 1 and len(rule) == 3 for rule in role["rules"])
    return [(rule["apiGroups"][0], rule["resources"][0], tuple(rule["verbs"])) for rule in role["rules"]]


def problems_of(found: dict[str, Any]) -> list[str]:
    fields = CUSTOM.get((found["apiVersion"], found["kind"]))
    if fields is None:
        return complaints(found)
    return [] if set(found["spec"]) >= fields and found["metadata"]["name"] else [f"{found['kind']}: lacks {fields}"]


# Files --------------------------------------------------------------------------------------------------------------


def test_there_is_an_overlay_for_each_way() -> None:
    assert [path.name for path in OVERLAYS] == sorted(["namespace-per-workspace", "one-namespace", *INGRESSES])


@pytest.mark.parametrize("folder", [BASE, *OVERLAYS], ids=lambda path: path.name)
def test_what_a_kustomization_names_is_there(folder: Path) -> None:
    assert [path for path in entries(folder) if not path.exists()] == []
    assert kustomization(folder)["kind"] == "Kustomization"


def test_no_file_is_left_out_of_every_kustomization() -> None:
    used = {path for folder in (BASE, *OVERLAYS) for path in entries(folder)}

    assert [path for path in YAML_FILES if path.name != "kustomization.yaml" and path not in used] == []


@pytest.mark.parametrize("folder", OVERLAYS, ids=lambda path: path.name)
def test_every_object_is_one_that_the_api_knows(folder: Path, variant: str) -> None:
    objects = load_overlay(folder, variant)

    assert len(objects) >= 9
    assert [text for found in objects for text in problems_of(found)] == []


@pytest.mark.parametrize("folder", OVERLAYS, ids=lambda path: path.name)
def test_no_two_objects_have_one_name(folder: Path, variant: str) -> None:
    names = [(found["kind"], found["metadata"]["name"]) for found in load_overlay(folder, variant)]

    assert len(set(names)) == len(names)


# Roles --------------------------------------------------------------------------------------------------------------


def test_the_role_holds_exactly_what_the_backend_calls() -> None:
    [role] = read(BASE / "role.yaml")

    assert rules_of(role) == list(WORKSPACE_RULES)


def test_the_cluster_role_holds_that_and_what_makes_namespaces() -> None:
    [role] = read(PER_WORKSPACE / "cluster-role.yaml")

    assert rules_of(role) == [*WORKSPACE_RULES, *NAMESPACE_RULES]


def test_no_rule_has_a_wildcard_and_verbs_are_in_order() -> None:
    for group, resource, verbs in (*WORKSPACE_RULES, *NAMESPACE_RULES):
        assert "*" not in (group, resource, *verbs)
        assert list(verbs) == sorted(set(verbs))


def test_what_the_proxy_puts_into_a_new_namespace_it_may_make() -> None:
    text = (PER_WORKSPACE / "namespace-manifests.yaml").read_text(encoding="utf-8")
    allowed = {(group, resource) for group, resource, verbs in NAMESPACE_RULES if "create" in verbs}

    for version, plural, found in build_namespace_objects(Key("demo", "agent-ws-demo"), text):
        assert (version.rpartition("/")[0], plural) in allowed
        assert complaints(found) == []


@pytest.mark.parametrize("folder", OVERLAYS, ids=lambda path: path.name)
def test_the_account_of_the_proxy_is_bound_to_a_role_that_is_there(folder: Path) -> None:
    if shutil.which("kubectl") is None:
        pytest.skip("no kubectl: overlays are not rendered")
    objects = load_overlay(folder, "rendered")
    bindings = of_kind(objects, "RoleBinding") + of_kind(objects, "ClusterRoleBinding")
    [account] = of_kind(objects, "ServiceAccount")
    [deployment] = of_kind(objects, "Deployment")

    [binding] = bindings
    assert of_kind(objects, binding["roleRef"]["kind"])[0]["metadata"]["name"] == binding["roleRef"]["name"]
    assert len(of_kind(objects, "Role") + of_kind(objects, "ClusterRole")) == 1
    assert binding["subjects"] == [
        {"kind": "ServiceAccount", "name": account["metadata"]["name"], "namespace": "notebook-proxy"}
    ]
    assert deployment["spec"]["template"]["spec"]["serviceAccountName"] == account["metadata"]["name"]


# Settings -----------------------------------------------------------------------------------------------------------


@pytest.fixture(autouse=True)
def _no_settings_around(monkeypatch: pytest.MonkeyPatch) -> None:
    for name in Config.model_fields:
        monkeypatch.delenv(f"NOTEBOOK_PROXY_{name.upper()}", raising=False)


def test_the_settings_load() -> None:
    config = load(config_file=BASE / "proxy.yaml")

    [namespace] = of_kind(objects_of(BASE), "Namespace")
    [deployment] = of_kind(objects_of(BASE), "Deployment")
    assert config.backend == "kubernetes"
    assert config.namespace == namespace["metadata"]["name"] == kustomization(BASE)["namespace"]
    assert config.address[1] == deployment["spec"]["template"]["spec"]["containers"][0]["ports"][0]["containerPort"]
    grace = deployment["spec"]["template"]["spec"]["terminationGracePeriodSeconds"]
    assert grace > config.shutdown_grace.total_seconds() + 5


def test_a_forgotten_tab_neither_keeps_nor_starts_anything() -> None:
    config = load(config_file=BASE / "proxy.yaml")

    assert (config.activity, config.wake) == ("interactive", "intent")


def test_everybody_needs_a_token_and_no_default_secret_is_published() -> None:
    config = load(config_file=BASE / "proxy.yaml")

    assert config.auth == "jwt"
    assert config.insecure_no_auth is False
    assert is_own(config)
    kinds = {found["kind"] for folder in OVERLAYS for found in objects_of(folder)}
    assert "Secret" not in kinds
    assert ("", "secrets", ("create", "delete", "get")) in WORKSPACE_RULES


def test_the_readme_s_way_in_is_a_command_that_the_image_has_with_the_settings_that_are_mounted() -> None:
    text = (DEPLOY / "README.md").read_text(encoding="utf-8")
    [deployment] = of_kind(objects_of(BASE), "Deployment")
    [container] = deployment["spec"]["template"]["spec"]["containers"]
    [command] = re.findall(r"exec deployment/notebook-proxy -- \\\n +notebook-proxy (.*)", text)

    given = vars(_parser().parse_args(command.split()))

    assert deployment["metadata"]["name"] == "notebook-proxy"
    assert str(given["config_file"]) == container["args"][2]
    assert (given["user"], given["workspace"]) == ("alice", ["demo"])
    assert f"`{JWT_SECRET_NAME}`" in text
    assert "port-forward service/notebook-proxy 8000:80" in text


def test_the_settings_of_a_namespace_per_workspace_load(monkeypatch: pytest.MonkeyPatch) -> None:
    [patch] = read(PER_WORKSPACE / "deployment-patch.yaml")
    [container] = patch["spec"]["template"]["spec"]["containers"]
    for variable in container["env"]:
        monkeypatch.setenv(variable["name"], variable["value"])

    config = load(config_file=BASE / "proxy.yaml")

    assert config.namespace == "agent-ws-{workspace_id_short}"
    assert config.create_namespace is True
    assert Path(config.namespace_manifests).parent == Path(container["volumeMounts"][0]["mountPath"])
    assert (PER_WORKSPACE / Path(config.namespace_manifests).name).exists()


@pytest.mark.parametrize("folder", OVERLAYS, ids=lambda path: path.name)
def test_rendered_volumes_hold_the_settings_that_were_tested(folder: Path) -> None:
    if shutil.which("kubectl") is None:
        pytest.skip("no kubectl: overlays are not rendered")
    objects = load_overlay(folder, "rendered")
    maps = {found["metadata"]["name"]: found["data"] for found in of_kind(objects, "ConfigMap")}
    [deployment] = of_kind(objects, "Deployment")

    volumes = deployment["spec"]["template"]["spec"]["volumes"]
    mounted = {volume["configMap"]["name"] for volume in volumes if "configMap" in volume}
    assert mounted == set(maps)
    contents = [text for data in maps.values() for text in data.values()]
    assert (BASE / "proxy.yaml").read_text(encoding="utf-8") in contents


# What leads where ---------------------------------------------------------------------------------------------------


def test_selectors_find_the_proxy_and_not_notebooks() -> None:
    objects = objects_of(BASE)
    [deployment], [service], [budget] = (
        of_kind(objects, kind) for kind in ("Deployment", "Service", "PodDisruptionBudget")
    )
    labels = deployment["spec"]["template"]["metadata"]["labels"]
    notebook = build_deployment(Key("demo", "n"), Config())["spec"]["template"]["metadata"]["labels"]

    for selector in (
        deployment["spec"]["selector"]["matchLabels"],
        service["spec"]["selector"],
        budget["spec"]["selector"]["matchLabels"],
    ):
        assert selector.items() <= labels.items()
        assert not selector.items() <= notebook.items()
    assert "managed-by" not in labels
    assert deployment["spec"]["replicas"] == 2


def notebook_policies() -> list[dict[str, Any]]:
    return [
        found
        for path in (BASE / "network-policies.yaml", PER_WORKSPACE / "namespace-manifests.yaml")
        for found in read(path)
        if found["metadata"]["name"] == "notebooks"
    ]


def test_notebooks_accept_the_proxy_alone() -> None:
    [deployment] = of_kind(objects_of(BASE), "Deployment")
    labels = build_deployment(Key("demo", "n"), Config())["spec"]["template"]["metadata"]["labels"]
    here, elsewhere = notebook_policies()

    for policy in (here, elsewhere):
        assert policy["spec"]["policyTypes"] == ["Ingress", "Egress"]
        assert policy["spec"]["podSelector"]["matchLabels"].items() <= labels.items()
        [rule] = policy["spec"]["ingress"]
        [peer] = rule["from"]
        assert rule["ports"] == [{"protocol": "TCP", "port": 8888}]
        assert peer["podSelector"]["matchLabels"] == deployment["spec"]["template"]["metadata"]["labels"]
    [peer] = elsewhere["spec"]["ingress"][0]["from"]
    assert peer["namespaceSelector"]["matchLabels"] == {"kubernetes.io/metadata.name": "notebook-proxy"}


@pytest.mark.parametrize(
    ("address", "is_reached"),
    [
        ("1.1.1.1", True),
        ("2606:4700::1111", True),
        ("169.254.169.254", False),
        ("fd00:ec2::254", False),
        ("10.96.0.1", False),
        ("172.20.0.1", False),
        ("192.168.1.1", False),
        ("100.100.100.200", False),
        ("168.63.129.16", False),
        ("192.0.0.192", False),
        ("127.0.0.1", False),
        ("192.0.2.1", False),
        ("2001:db8::1", False),
    ],
)
def test_notebooks_reach_public_addresses_only(address: str, is_reached: bool) -> None:
    for policy in notebook_policies():
        blocks = [peer["ipBlock"] for rule in policy["spec"]["egress"] for peer in rule["to"] if "ipBlock" in peer]
        reached = [
            block
            for block in blocks
            if ip_address(address) in ip_network(block["cidr"])
            and not any(ip_address(address) in ip_network(hole) for hole in block["except"])
        ]
        assert bool(reached) is is_reached
        for block in blocks:
            assert all(ip_network(hole).subnet_of(ip_network(block["cidr"])) for hole in block["except"])  # type: ignore[arg-type]


def test_nobody_reaches_the_proxy_but_the_controller_that_an_overlay_names() -> None:
    [proxy_policy] = [
        found for found in read(BASE / "network-policies.yaml") if found["metadata"]["name"] == "notebook-proxy"
    ]
    [deployment] = of_kind(objects_of(BASE), "Deployment")

    assert proxy_policy["spec"]["ingress"] == []
    assert proxy_policy["spec"]["policyTypes"] == ["Ingress"]
    for name in INGRESSES:
        [policy] = read(DEPLOY / "overlays" / name / "network-policy.yaml")
        [rule] = policy["spec"]["ingress"]
        [peer] = rule["from"]
        assert peer.keys() == {"namespaceSelector", "podSelector"}
        assert all(part["matchLabels"] for part in peer.values())
        assert policy["spec"]["podSelector"] == proxy_policy["spec"]["podSelector"]
        assert rule["ports"] == [{"protocol": "TCP", "port": "http"}]
    labels = deployment["spec"]["template"]["metadata"]["labels"]
    assert proxy_policy["spec"]["podSelector"]["matchLabels"].items() <= labels.items()


def test_no_ingress_ends_a_websocket_early() -> None:
    folder = DEPLOY / "overlays"
    [ingress] = read(folder / "nginx-ingress" / "ingress.yaml")
    [route] = read(folder / "gateway-api" / "http-route.yaml")
    [transport] = read(folder / "traefik" / "servers-transport.yaml")

    for name in ("read", "send"):
        assert int(ingress["metadata"]["annotations"][f"nginx.ingress.kubernetes.io/proxy-{name}-timeout"]) >= 3600
    assert [rule["timeouts"] for rule in route["spec"]["rules"]] == [{"request": "0s", "backendRequest": "0s"}]
    assert transport["spec"]["forwardingTimeouts"]["responseHeaderTimeout"] == "0s"


def test_every_ingress_leads_to_the_service() -> None:
    folder = DEPLOY / "overlays"
    [service] = of_kind(objects_of(BASE), "Service")
    [ingress] = read(folder / "nginx-ingress" / "ingress.yaml")
    [route] = read(folder / "gateway-api" / "http-route.yaml")
    [traefik] = read(folder / "traefik" / "ingress-route.yaml")
    name, [port] = service["metadata"]["name"], service["spec"]["ports"]

    backend = ingress["spec"]["rules"][0]["http"]["paths"][0]["backend"]["service"]
    assert backend == {"name": name, "port": {"name": port["name"]}}
    assert route["spec"]["rules"][0]["backendRefs"] == [{"name": name, "port": port["port"]}]
    found = traefik["spec"]["routes"][0]["services"][0]
    assert (found["name"], found["port"]) == (name, port["port"])
    assert found["serversTransport"] == read(folder / "traefik" / "servers-transport.yaml")[0]["metadata"]["name"]


# Images -------------------------------------------------------------------------------------------------------------


def instructions(path: Path) -> list[tuple[str, str]]:
    text = re.sub(r"^#.*\n", "", path.read_text(encoding="utf-8"), flags=re.MULTILINE).replace("\\\n", " ")
    return [(line.split()[0], line.partition(" ")[2].strip()) for line in text.splitlines() if line.strip()]


def test_a_proxy_that_hangs_is_noticed_and_one_that_waits_for_the_api_server_is_not_restarted() -> None:
    [deployment] = of_kind(objects_of(BASE), "Deployment")
    [container] = deployment["spec"]["template"]["spec"]["containers"]
    liveness, readiness = container["livenessProbe"], container["readinessProbe"]

    # A kernel accepts connections for a process that hangs: only an answer tells. /healthz asks no API server.
    assert liveness["httpGet"] == container["startupProbe"]["httpGet"] == {"path": "/healthz", "port": "ops"}
    assert readiness["httpGet"] == {"path": "/readyz", "port": "ops"}
    assert liveness["periodSeconds"] * liveness["failureThreshold"] >= 60
    assert liveness["timeoutSeconds"] >= 10


def test_probes_have_a_port_of_their_own_that_nobody_else_reaches() -> None:
    config = load(config_file=BASE / "proxy.yaml")
    [deployment] = of_kind(objects_of(BASE), "Deployment")
    [service] = of_kind(objects_of(BASE), "Service")
    ports = {
        port["name"]: port["containerPort"] for port in deployment["spec"]["template"]["spec"]["containers"][0]["ports"]
    }

    assert parse_listen(config.ops_listen) == ("0.0.0.0", ports["ops"])
    assert ports["http"] == config.address[1]
    assert [port["targetPort"] for port in service["spec"]["ports"]] == ["http"]
    assert ("EXPOSE", " ".join(str(port) for port in ports.values())) in instructions(ROOT / "Dockerfile")


def test_the_image_is_built_in_two_stages_and_does_not_run_as_root() -> None:
    found = instructions(ROOT / "Dockerfile")

    stages = [rest for word, rest in found if word == "FROM"]
    assert len(stages) == 2
    users = [rest for word, rest in found if word == "USER"]
    assert users == ["10001:10001"]
    assert "compileall" in dict(found[: found.index(("FROM", stages[1]))])["RUN"]
    [deployment] = of_kind(objects_of(BASE), "Deployment")
    context = deployment["spec"]["template"]["spec"]["securityContext"]
    assert users == [f"{context['runAsUser']}:{context['runAsGroup']}"]


def test_the_image_copies_what_is_there_and_not_ignored() -> None:
    kept = {line[1:] for line in (ROOT / ".dockerignore").read_text().splitlines() if line.startswith("!")}
    copied = [
        word
        for name, rest in instructions(ROOT / "Dockerfile")
        if name == "COPY" and not rest.startswith("--from")
        for word in rest.split()[:-1]
    ]

    assert set(copied) == kept
    assert [name for name in copied if not (ROOT / name).exists()] == []


def test_the_notebook_image_has_the_ids_and_the_command_of_the_settings() -> None:
    found = instructions(DEPLOY / "notebook" / "Dockerfile")

    [user] = [rest for word, rest in found if word == "USER"]
    assert user == f"{Config().run_as_user}:{Config().fs_group}"
    container = build_deployment(Key("demo", "n"), Config())["spec"]["template"]["spec"]["containers"][0]
    assert container["command"][0] == "jupyter"
    assert any("jupyterlab" in rest for word, rest in found if word == "RUN")
    assert ("WORKDIR", container["workingDir"]) in found


def test_the_readme_says_what_was_not_run() -> None:
    text = (DEPLOY / "README.md").read_text(encoding="utf-8")

    assert "## What has been run, and what has not" in text
    assert [path.name for path in OVERLAYS if f"`{path.name}`" not in text] == []


def test_the_notebook_image_has_the_configuration_that_the_local_backend_has() -> None:
    ours = ROOT / "proxy" / "backends" / "jupyter" / "jupyter_server_config.py"

    assert (DEPLOY / "notebook" / "jupyter_server_config.py").read_bytes() == ours.read_bytes()
    found = instructions(DEPLOY / "notebook" / "Dockerfile")
    assert ("COPY", "jupyter_server_config.py /opt/notebook-proxy/") in found
    assert ("ENV", "JUPYTER_CONFIG_PATH=/opt/notebook-proxy") in found
