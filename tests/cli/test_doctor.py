"""`doctor`: what is wrong with a machine, a cluster or a proxy is named, with what to do; and nothing is made."""

from __future__ import annotations

import json
import signal
import sys
from datetime import UTC, datetime, timedelta
from email.message import Message
from email.utils import format_datetime
from typing import TYPE_CHECKING, Any, cast

import pytest

from proxy import __version__, cli
from proxy.backends.kubernetes.permissions import WORKSPACE_RULES
from proxy.cli.client import Answer
from proxy.cli.doctor.finding import State, of_date
from proxy.cli.doctor.reap import Unreaped, reap
from proxy.cli.progress import Lines
from proxy.config import Config
from tests.cli import NOTEBOOK_COMMAND, Asking, run
from tests.cli.test_client import answering, http, problem
from tests.cluster.resources import CLAIMS, DEPLOYMENTS, SECRETS
from tests.cluster.threaded import ThreadedCluster
from tests.cluster.tls import make_server_context
from tests.e2e import until

if TYPE_CHECKING:
    import subprocess
    from collections.abc import Callable, Sequence
    from pathlib import Path

    from proxy.cli.client import Client
    from tests.e2e import Proxy

RULES = {(verb, group, resource) for group, resource, verbs in WORKSPACE_RULES for verb in verbs}


@pytest.fixture(autouse=True)
def _no_settings(monkeypatch: pytest.MonkeyPatch) -> None:
    for name in (*Config.model_fields, "server", "token"):
        monkeypatch.delenv(f"NOTEBOOK_PROXY_{name.upper()}", raising=False)


class Looked:
    """What `doctor` found, in this process."""

    def __init__(self, capsys: pytest.CaptureFixture[str], *arguments: str) -> None:
        self.status = cli.main(["doctor", "-o", "json", *arguments])
        told = json.loads(capsys.readouterr().out)
        self.is_well = bool(told["is_well"])
        self.findings: list[dict[str, Any]] = told["findings"]

    def __getitem__(self, check: str) -> tuple[str, str]:
        """Return the state and the words of the last look at something."""
        found = [each for each in self.findings if each["check"] == check][-1]
        return found["state"], found["words"]

    def advice(self, check: str) -> str:
        return str(next(each["advice"] for each in self.findings if each["check"] == check))


# This machine ---------------------------------------------------------------------------------------------------------


def test_machine_that_lacks_nothing_is_well(tmp_path: Path) -> None:
    done = run("doctor", "--backend=local", f"--local-root={tmp_path}")

    assert done.returncode == 0
    assert f"ok       directory: {tmp_path} can be written to.\n" in done.stdout
    assert "ok       notebook server: JupyterLab " in done.stdout
    assert done.stdout.endswith("Nothing is wrong.\n")


def test_what_a_machine_lacks_is_named_with_what_to_do(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    (tmp_path / "file").touch()

    found = Looked(
        capsys, f"--local-root={tmp_path / 'file' / 'below'}", "--notebook-command", "no-such-program {port}"
    )

    assert (found.status, found.is_well) == (1, False)
    assert found["notebook server"] == ("wrong", "'no-such-program' is not there, or cannot be run.")
    assert found["directory"][0] == "wrong"
    assert "local_root" in found.advice("directory")


# A cluster ------------------------------------------------------------------------------------------------------------


def test_cluster_that_lacks_nothing_is_well_and_nothing_is_made(
    cluster: ThreadedCluster, on_cluster: Sequence[str], capsys: pytest.CaptureFixture[str]
) -> None:
    def objects() -> list[str]:
        return cluster.do(
            lambda double: [
                each["metadata"]["name"] for kind in (CLAIMS, DEPLOYMENTS, SECRETS) for each in double.store.items(kind)
            ]
        )

    before = objects()

    found = Looked(capsys, *on_cluster, "--image=tiny:1")

    assert (found.status, found.is_well) == (0, True)
    states = {each["check"]: each["state"] for each in found.findings}
    assert states == {
        "image": "ok", "cluster": "ok", "clock": "ok", "rights": "ok", "cluster DNS": "left out", "secret": "ok",
        "volume": "ok", "deployment": "ok", "proxy": "left out",
    }  # fmt: skip
    assert objects() == before


def test_rights_that_are_missing_are_named(cluster: ThreadedCluster, capsys: pytest.CaptureFixture[str]) -> None:
    less = RULES - {("delete", "apps", "deployments"), ("get", "", "pods/log")}
    kubeconfig = cluster.do(lambda double: double.kubeconfig(double.add_user("less", less, ["default"])))

    found = Looked(capsys, "--backend=kubernetes", f"--kubeconfig={kubeconfig}")

    state, words = found["rights"]
    assert (found.status, state) == (1, "wrong")
    assert "may not delete deployments.apps in default; get pods/log in default." in words
    assert "deploy/base/role.yaml" in found.advice("rights")
    assert found["objects"][0] == "left out"


def test_rights_of_one_namespace_do_not_reach_all(
    on_cluster: Sequence[str], capsys: pytest.CaptureFixture[str]
) -> None:
    found = Looked(capsys, *on_cluster, "--namespace=ws-{workspace_id}", "--create-namespace")

    state, words = found["rights"]
    assert state == "wrong"
    assert "create deployments.apps in all namespaces" in words
    assert "create namespaces in all namespaces" in words


def test_cluster_that_does_not_answer_is_named(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    kubeconfig = tmp_path / "kubeconfig"
    cluster = {"name": "c", "cluster": {"server": "http://127.0.0.1:1"}}
    context = {"name": "c", "context": {"cluster": "c", "user": "u"}}
    kubeconfig.write_text(
        json.dumps({
            "apiVersion": "v1", "kind": "Config", "current-context": "c", "clusters": [cluster], "contexts": [context],
            "users": [{"name": "u", "user": {"token": "x"}}],
        })
    )  # fmt: skip

    found = Looked(capsys, "--backend=kubernetes", f"--kubeconfig={kubeconfig}")

    assert found["cluster"][0] == "wrong"
    assert "cannot be reached" in found["cluster"][1]


def test_credential_that_is_refused_is_named(cluster: ThreadedCluster, capsys: pytest.CaptureFixture[str]) -> None:
    user = cluster.do(lambda double: double.add_user("old", RULES))
    kubeconfig = cluster.do(lambda double: double.kubeconfig(user))
    text = kubeconfig.read_text()
    cluster.do(lambda double: double.rotate_token(user))
    kubeconfig.write_text(text)

    found = Looked(capsys, "--backend=kubernetes", f"--kubeconfig={kubeconfig}")

    assert found["rights"] == ("wrong", "The API server does not accept the credential.")


def test_volume_of_a_workspace_that_is_missing_is_named(kubeconfig: Path, capsys: pytest.CaptureFixture[str]) -> None:
    flags = ("--backend=kubernetes", f"--kubeconfig={kubeconfig}")

    some, one = Looked(capsys, *flags), Looked(capsys, *flags, "--id=demo")

    assert some["volume"][0] == "warning"
    assert one["volume"] == ("wrong", "PersistentVolumeClaim 'ws-demo' is missing in namespace 'default'.")
    assert one.advice("volume") == "Create it, or set workspace_pvc_size."


def test_what_a_webhook_denies_is_told_in_its_words(
    cluster: ThreadedCluster, on_cluster: Sequence[str], capsys: pytest.CaptureFixture[str]
) -> None:
    lift = cluster.do(lambda double: double.deny("policy.example", "no image of theirs", resource=DEPLOYMENTS))

    try:
        found = Looked(capsys, *on_cluster)
    finally:
        cluster.do(lambda _: lift())

    state, words = found["deployment"]
    assert (found.status, state) == (1, "wrong")
    assert "no image of theirs" in words


def test_namespace_that_is_missing_is_named(cluster: ThreadedCluster, capsys: pytest.CaptureFixture[str]) -> None:
    kubeconfig = cluster.do(lambda double: double.kubeconfig())

    found = Looked(
        capsys, "--backend=kubernetes", f"--kubeconfig={kubeconfig}", "--namespace=nowhere", "--workspace-pvc-size=1Gi"
    )

    assert found["volume"][0] == "wrong"
    assert "nowhere" in found["volume"][1]


def test_cluster_domain_that_does_not_resolve_is_named_in_a_pod(
    on_cluster: Sequence[str], capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("KUBERNETES_SERVICE_HOST", "10.0.0.1")

    found = Looked(capsys, *on_cluster, "--cluster-domain=no.invalid")

    assert found["cluster DNS"][0] == "wrong"
    assert found["cluster DNS"][1].startswith("kubernetes.default.svc.no.invalid has no address")


@pytest.mark.parametrize(
    ("image", "state"),
    [
        ("jupyter/minimal-notebook", "warning"),
        ("quay.io/jupyter/minimal-notebook:latest", "warning"),
        ("localhost:5000/nb:2026-01-01", "ok"),
        ("nb@sha256:" + "0" * 64, "ok"),
        ("nb:latest@sha256:" + "0" * 64, "ok"),
        ("https://quay.io/nb", "wrong"),
        ("nb:", "wrong"),
    ],
)
def test_name_of_the_image_is_judged(image: str, state: str, capsys: pytest.CaptureFixture[str]) -> None:
    found = Looked(capsys, "--backend=kubernetes", "--kubeconfig=/no/such/file", f"--image={image}")

    assert found["image"][0] == state


@pytest.mark.parametrize(
    ("ahead", "state"), [(0, State.OK), (-1, State.OK), (10, State.WARNING), (-10, State.WARNING), (90, State.WRONG)]
)
def test_clock_is_judged_by_this_machine(ahead: int, state: State) -> None:
    found = of_date("clock", format_datetime(datetime.now(UTC) + timedelta(seconds=ahead), usegmt=True))

    assert found.state is state
    if state is not State.OK:
        assert ("ahead of" if ahead > 0 else "behind") in found.words


@pytest.mark.parametrize("date", ["", "yesterday"])
def test_clock_that_is_not_told_is_left_out(date: str) -> None:
    assert of_date("clock", date).state is State.LEFT_OUT


# A proxy that runs ----------------------------------------------------------------------------------------------------


def of_version(version: str) -> bytes:
    return http("200 OK", json.dumps({"info": {"version": version}}), "application/json", "Date: " + _now())


def _now() -> str:
    return format_datetime(datetime.now(UTC), usegmt=True)


def test_proxy_that_answers_is_well(proxy: Proxy, capsys: pytest.CaptureFixture[str]) -> None:
    found = Looked(capsys, "--remote", "--server", proxy.url)

    assert found.status == 0
    assert found["proxy"] == ("ok", f"notebook-proxy {__version__} answers.")
    assert found["access"] == ("ok", "It lets you in.")
    assert found["clock"][0] == "ok"
    assert found["TLS"] == ("ok", "None, and none is needed on loopback.")


@pytest.mark.parametrize(
    ("answer", "check", "words"),
    [
        (problem("401 Unauthorized", "unauthenticated", "Sign in."), "access", "does not let you in"),
        (http("200 OK", "[]"), "proxy", "is no notebook-proxy"),
        (http("200 OK", "<html>", "text/html"), "proxy", "is no notebook-proxy"),
        (http("503 Service Unavailable", "", "text/html"), "proxy", "answers 503"),
    ],
)
def test_proxy_that_answers_otherwise_is_named(
    answer: bytes, check: str, words: str, capsys: pytest.CaptureFixture[str]
) -> None:
    with answering(answer) as (url, _):
        found = Looked(capsys, "--remote", "--server", url)

    assert (found.status, found[check][0]) == (1, "wrong")
    assert words in found[check][1]


def test_proxy_of_another_version_is_a_warning(capsys: pytest.CaptureFixture[str]) -> None:
    with answering(of_version("0.0.1"), http("200 OK", '{"workspaces": []}')) as (url, _):
        found = Looked(capsys, "--remote", "--server", url)

    assert found.status == 0
    assert found["proxy"] == ("warning", f"notebook-proxy 0.0.1 answers; this command is of {__version__}.")


def test_certificate_that_ends_soon_is_a_warning(
    tmp_path: Path, capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    context, authority = make_server_context(tmp_path)  # for two days
    monkeypatch.setenv("SSL_CERT_FILE", str(authority))

    with answering(of_version(__version__), http("200 OK", '{"workspaces": []}'), context=context) as (url, _):
        found = Looked(capsys, "--remote", "--server", url)

    state, words = found["TLS"]
    assert (found.status, state) == (0, "warning")
    assert words == "The certificate is trusted, is for 127.0.0.1, and lasts for 2 days."


def test_certificate_that_is_not_trusted_is_named(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    context, _ = make_server_context(tmp_path)

    with answering(of_version(__version__), context=context) as (url, _):
        found = Looked(capsys, "--remote", "--server", url)

    assert found["proxy"][0] == "wrong"
    assert "certificate is not trusted" in found["proxy"][1]


def test_name_that_has_no_address_is_named(capsys: pytest.CaptureFixture[str]) -> None:
    found = Looked(capsys, "--remote", "--server", "https://no-such-host.invalid")

    assert found["DNS"][0] == "wrong"
    assert len(found.findings) == 1


# A throwaway workspace ------------------------------------------------------------------------------------------------


REAPS_SOON = ("--idle-ttl=1s", "--reap-interval=0.3s", "--reap-grace=0.2s", "--stop-grace=1s")
LIFE = ("start", "write", "reap", "wake", "read", "remove")


def smoked(done: subprocess.CompletedProcess[str]) -> dict[str, dict[str, str]]:
    """Return what was found in each step of a smoke test."""
    found = json.loads(done.stdout)["findings"]
    return {each["check"].removeprefix("smoke: "): each for each in found if each["check"].startswith("smoke: ")}


def nothing_is_left(proxy: Proxy) -> bool:
    return not list(proxy.root.glob("doctor-*")) and not any("doctor-" in each for each in proxy.others().values())


def test_smoke_takes_a_workspace_through_its_life_and_leaves_nothing(begin: Callable[..., Proxy]) -> None:
    proxy = begin(*REAPS_SOON)

    done = Asking(proxy.url)("doctor", "--backend=local", f"--local-root={proxy.root}", "--smoke", "-o", "json")

    found = smoked(done)
    assert {step: each["state"] for step, each in found.items()} == dict.fromkeys(LIFE, "ok"), done.stdout
    assert done.returncode == 0
    assert found["reap"]["words"].startswith("The proxy stopped it: It has not been used for 1s. (")
    assert "Waiting for the reaper: it may stop it from " in done.stderr
    assert "workspace reaped: id=doctor-" in proxy.log()
    assert nothing_is_left(proxy)


def test_smoke_that_fails_says_at_what_and_leaves_nothing(begin: Callable[..., Proxy]) -> None:
    proxy = begin(f"--notebook-command={sys.executable} -c exit(3)")

    done = Asking(proxy.url)("doctor", "--backend=local", f"--local-root={proxy.root}", "--smoke", "-o", "json")

    found = smoked(done)
    assert done.returncode == 1
    assert found["start"]["state"] == "wrong"
    assert "it exited with status 3" in found["start"]["words"]
    assert list(found) == ["start", "remove"]
    assert found["remove"]["state"] == "ok"
    assert nothing_is_left(proxy)


def test_smoke_says_what_keeps_a_workspace_from_being_reaped(begin: Callable[..., Proxy]) -> None:
    proxy = begin(*REAPS_SOON, f"{NOTEBOOK_COMMAND} mute")

    done = Asking(proxy.url)(
        "doctor", "--backend=local", f"--local-root={proxy.root}", "--smoke", "--timeout=4s", "-o", "json"
    )

    found = smoked(done)
    assert done.returncode == 1
    assert list(found) == ["start", "write", "reap", "remove"]
    assert found["reap"]["state"] == "wrong"
    assert found["reap"]["words"] == "It was not reaped within 4 s: It does not say what its kernels do."
    assert "api/kernels" in found["reap"]["advice"]
    assert nothing_is_left(proxy)


@pytest.mark.parametrize(
    ("of_proxy", "of_doctor", "step", "told"),
    [
        (
            "--reaper=off",
            "--smoke",
            "reap",
            ("warning", "No reap can be seen here: Nothing is stopped for being idle: "),
        ),
        ("--reaper=on", "--no-reap", "stop", ("ok", "It was stopped through the API.")),
    ],
)
def test_smoke_stops_what_is_not_to_be_reaped(
    begin: Callable[..., Proxy], of_proxy: str, of_doctor: str, step: str, told: tuple[str, str]
) -> None:
    proxy = begin(of_proxy)

    done = Asking(proxy.url)(
        "doctor", "--backend=local", f"--local-root={proxy.root}", "--smoke", "-o", "json", of_doctor
    )

    found = smoked(done)
    assert done.returncode == 0, done.stdout
    assert list(found) == ["start", "write", step, "wake", "read", "remove"]
    assert found[step]["state"] == told[0]
    assert found[step]["words"].startswith(told[1])
    assert "It was stopped through the API." in found[step]["words"]
    assert nothing_is_left(proxy)


@pytest.mark.parametrize("number", [signal.SIGINT, signal.SIGTERM])
def test_smoke_that_is_interrupted_while_it_waits_leaves_nothing(
    proxy: Proxy, ask: Asking, number: signal.Signals
) -> None:
    process = ask.begin("doctor", "--backend=local", f"--local-root={proxy.root}", "--smoke")

    def idle_ttl() -> object:  # the operator's is four hours: it gets the shortest that there is
        [found] = [each for each in proxy.get("/api/workspaces").json()["workspaces"] if each["phase"] == "running"]
        return found["settings"]["idle_ttl"]

    until(lambda: list(proxy.root.glob("doctor-*/doctor.txt")), "the file is written")
    until(lambda: idle_ttl() == "1m", "it waits for the reaper")

    process.send_signal(number)
    out, err = process.communicate(timeout=30)

    assert process.returncode == 130, err
    assert "ok       smoke: write: " in out
    assert "Removing workspace doctor-" in err
    assert "Traceback" not in err
    assert nothing_is_left(proxy)


def test_smoke_whose_output_nobody_reads_on_leaves_nothing(proxy: Proxy, ask: Asking) -> None:
    process = ask.begin("doctor", "--backend=local", f"--local-root={proxy.root}", "--smoke")
    assert process.stdout is not None
    for line in process.stdout:
        if "smoke: start" in line:
            break
    process.stdout.close()
    assert process.stderr is not None
    with process.stderr:
        err = process.stderr.read()

    assert (process.wait(30), "Traceback" in err) == (0, False), err
    assert "Removing workspace doctor-" in err
    assert nothing_is_left(proxy)


class Watched:
    """A proxy that tells one state of a workspace after the other, and takes settings."""

    server = "http://127.0.0.1:1"

    def __init__(self, *told: dict[str, Any]) -> None:
        self.told = list(told)
        self.idle_ttls: list[str | None] = []

    def get(self, path: str) -> dict[str, Any]:
        return self.told.pop(0) if len(self.told) > 1 else self.told[0]

    def ask(self, method: str, path: str, body: dict[str, Any]) -> Answer:
        assert (method, path) == ("PATCH", "/api/workspaces/doctor-1/settings")
        self.idle_ttls.append(body["idle_ttl"])
        return Answer(200, Message(), json.dumps(self.told[0]).encode())


def state_of(phase: str, **more: Any) -> dict[str, Any]:
    far = (datetime.now(UTC) + timedelta(hours=4)).isoformat()
    return {
        "phase": phase,
        "fate": "in-use",
        "why": "It was used.",
        "due_at": far,
        "stopped": None,
        "happenings": [],
    } | more


def waited_for(*told: dict[str, Any]) -> tuple[str, list[str | None]]:
    watched = Watched(*told)
    return reap(cast("Client", watched), "doctor-1", 5, Lines()), watched.idle_ttls


def test_idle_ttl_of_the_throwaway_workspace_is_the_operators_again_after_its_reap() -> None:
    end = state_of("stopped", stopped={"reason": "It has not been used for 1m."})

    assert waited_for(state_of("running"), state_of("running"), state_of("stopping"), end) == (
        "It has not been used for 1m.",
        ["1m", None],
    )


def test_idle_ttl_that_is_short_is_left_alone() -> None:
    soon = (datetime.now(UTC) + timedelta(seconds=5)).isoformat()
    end = state_of("stopped", stopped={"reason": "It has not been used for 5s."})

    assert waited_for(state_of("running", due_at=soon), end) == ("It has not been used for 5s.", [])


def test_server_that_ends_by_itself_was_not_reaped(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("proxy.cli.doctor.reap._NOTED", 0.1)
    end = state_of("stopped", happenings=[{"reason": "it was killed (SIGKILL)"}])

    with pytest.raises(Unreaped, match="not reaped, but ended by itself: it was killed"):
        waited_for(state_of("running"), end)


def test_smoke_on_a_cluster_with_jupyterlab_removes_the_claim_it_had_made(begin: Callable[..., Proxy]) -> None:
    with ThreadedCluster(default_image="jupyter") as cluster:
        mine = cluster.do(lambda double: double.kubeconfig(double.add_user("proxy", RULES, ["default"])))
        flags = ("--backend=kubernetes", "--workspace-pvc-size=1Gi")
        proxy = begin(*flags, *REAPS_SOON, f"--kubeconfig={mine}")
        ask = Asking(proxy.url)
        admin = cluster.do(lambda double: double.kubeconfig())

        done = ask("doctor", *flags, f"--kubeconfig={admin}", "--smoke", "-o", "json")
        claims = cluster.do(lambda double: [each["metadata"]["name"] for each in double.store.items(CLAIMS)])
        workspaces = cluster.do(lambda double: double.store.items(DEPLOYMENTS))

    found = smoked(done)
    assert {step: each["state"] for step, each in found.items()} == dict.fromkeys(LIFE, "ok"), done.stdout
    assert found["reap"]["words"].startswith("The proxy stopped it: It has not been used for 1s. (")
    assert "workspace reaped: id=doctor-" in proxy.log()
    assert (claims, list(workspaces)) == ([], [])
    assert proxy.stop() == 0


def test_smoke_says_what_it_may_not_remove(
    cluster: ThreadedCluster, on_cluster: Sequence[str], begin: Callable[..., Proxy]
) -> None:
    proxy = begin(*on_cluster)  # whose notebook servers keep no files as Jupyter does

    done = Asking(proxy.url)("doctor", *on_cluster, "--smoke", "--no-reap", "-o", "json")

    found = {each["check"]: each for each in json.loads(done.stdout)["findings"]}
    [name] = cluster.do(
        lambda double: [
            each["metadata"]["name"] for each in double.store.items(CLAIMS) if "doctor-" in each["metadata"]["name"]
        ]
    )
    assert found["smoke: remove"]["state"] == "warning"
    assert f"PersistentVolumeClaim default/{name}" in found["smoke: remove"]["words"]
    assert "kubectl delete persistentvolumeclaim -l workspace-id=doctor-" in found["smoke: remove"]["advice"]
