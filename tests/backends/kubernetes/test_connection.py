from __future__ import annotations

import asyncio
import base64
import json
import ssl
from typing import TYPE_CHECKING, Any

import pytest

from proxy.backends.kubernetes.api import Api, ApiError, ApiUnavailable, path_to
from proxy.backends.kubernetes.connection import Connection, Request
from proxy.errors import ConfigError
from tests.backends.kubernetes.scripted import (
    TLS,
    HurriedClock,
    Reply,
    Scripted,
    Seen,
    obj,
    status,
    stream,
    thing,
    write_kubeconfig,
)

if TYPE_CHECKING:
    from collections.abc import AsyncIterator, Callable
    from pathlib import Path

POD = path_to("v1", "pods", "team", "a")
A_POD = {"kind": "Pod"} | thing("a", 7)


def only(token: str) -> Callable[[Seen], Reply]:
    """Answer those who have that token."""

    def answer(seen: Seen) -> Reply:
        is_good = seen.headers.get("authorization") == f"Bearer {token}"
        return obj(A_POD) if is_good else status(401, "Unauthorized", "Unauthorized")

    return answer


@pytest.fixture
async def tls_server() -> AsyncIterator[Scripted]:
    async with Scripted(otherwise=only("first"), tls=True) as server:
        yield server


@pytest.fixture
def folder(tls_server: Scripted, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """A service account's folder, and the variables of a pod."""
    monkeypatch.setenv("KUBERNETES_SERVICE_HOST", "127.0.0.1")
    monkeypatch.setenv("KUBERNETES_SERVICE_PORT", str(tls_server.port))
    (tmp_path / "token").write_text("first\n")
    (tmp_path / "ca.crt").write_bytes((TLS / "api-server.crt").read_bytes())
    return tmp_path


async def in_cluster(folder: Path, clock: HurriedClock) -> Api:
    return Api(await Connection.open(None, None, clock, service_account=folder), clock)


def tokens(server: Scripted) -> list[str]:
    return [seen.headers["authorization"].removeprefix("Bearer ") for seen in server.seen]


# TLS and the two kinds of credentials


async def test_a_pod_uses_its_service_account_over_tls(tls_server: Scripted, folder: Path, clock: HurriedClock) -> None:
    api = await in_cluster(folder, clock)

    assert await api.get(POD) == A_POD

    assert tokens(tls_server) == ["first"]
    await api.close()


@pytest.mark.parametrize("is_inline", [True, False])
async def test_a_kubeconfig_names_server_ca_and_token(
    tls_server: Scripted, tmp_path: Path, clock: HurriedClock, is_inline: bool
) -> None:
    path = tmp_path / "kubeconfig"
    write_kubeconfig(path, f"https://127.0.0.1:{tls_server.port}", user={"token": "first"}, ca=TLS / "api-server.crt")
    if is_inline:
        config = json.loads(path.read_text())
        pem = (TLS / "api-server.crt").read_bytes()
        config["clusters"][0]["cluster"] |= {"certificate-authority-data": base64.b64encode(pem).decode()}
        del config["clusters"][0]["cluster"]["certificate-authority"]
        path.write_text(json.dumps(config))
    api = await Api.connect(path, "here", clock=clock)

    assert await api.get(POD) == A_POD

    await api.close()


async def test_a_server_that_the_ca_does_not_know_is_refused(
    tls_server: Scripted, tmp_path: Path, clock: HurriedClock
) -> None:
    path = write_kubeconfig(tmp_path / "kubeconfig", f"https://127.0.0.1:{tls_server.port}")
    api = await Api.connect(path, clock=clock)

    with pytest.raises(ApiUnavailable, match="certificate") as caught:
        await api.create(POD, {})

    assert isinstance(caught.value.__cause__, ssl.SSLError)
    assert (tls_server.seen, caught.value.may_be_done) == ([], False)
    await api.close()


async def test_a_server_of_another_name_is_refused(tls_server: Scripted, tmp_path: Path, clock: HurriedClock) -> None:
    path = tmp_path / "kubeconfig"
    write_kubeconfig(path, f"https://localhost:{tls_server.port}", ca=TLS / "api-server.crt")
    api = await Api.connect(path, clock=clock)

    with pytest.raises(ApiUnavailable):
        await api.get(POD)

    assert tls_server.seen == []
    await api.close()


async def test_a_token_file_may_end_with_a_line_end(server: Scripted, tmp_path: Path, clock: HurriedClock) -> None:
    (tmp_path / "token").write_text("first\n")
    server.otherwise = only("first")
    user = {"tokenFile": str(tmp_path / "token")}
    path = write_kubeconfig(tmp_path / "kubeconfig", f"http://127.0.0.1:{server.port}", user=user)
    api = await Api.connect(path, clock=clock)

    assert await api.get(POD) == A_POD

    await api.close()


# Tokens that change


async def test_a_refused_token_is_read_again_and_the_call_sent_once_more(
    tls_server: Scripted, folder: Path, clock: HurriedClock
) -> None:
    api = await in_cluster(folder, clock)
    tls_server.otherwise = only("second")
    (folder / "token").write_text("second")

    assert await api.create(POD, {}) == A_POD

    assert tokens(tls_server) == ["first", "second"]
    assert clock.slept == []
    await api.close()


async def test_a_kubeconfig_is_read_again_when_its_token_is_refused(
    server: Scripted, tmp_path: Path, clock: HurriedClock
) -> None:
    address = f"http://127.0.0.1:{server.port}"
    server.otherwise = only("second")
    api = await Api.connect(write_kubeconfig(tmp_path / "kubeconfig", address, user={"token": "first"}), clock=clock)
    write_kubeconfig(tmp_path / "kubeconfig", address, user={"token": "second"})

    assert await api.get(POD) == A_POD

    assert tokens(server) == ["first", "second"]
    await api.close()


async def test_a_kubeconfig_that_names_another_server_is_followed(
    server: Scripted, tmp_path: Path, clock: HurriedClock
) -> None:
    server.otherwise = only("second")
    path = tmp_path / "kubeconfig"
    async with Scripted(otherwise=only("second")) as other:
        write_kubeconfig(path, f"http://127.0.0.1:{server.port}", user={"token": "first"})
        api = await Api.connect(path, clock=clock)
        write_kubeconfig(path, f"http://127.0.0.1:{other.port}", user={"token": "second"})

        assert await api.get(POD) == A_POD

        assert (tokens(server), tokens(other)) == (["first"], ["second"])
        await api.close()


async def test_a_token_that_stays_refused_is_an_error_after_one_request(
    tls_server: Scripted, folder: Path, clock: HurriedClock
) -> None:
    api = await in_cluster(folder, clock)
    tls_server.otherwise = only("another")

    with pytest.raises(ApiError) as caught:
        await api.get(POD)

    assert (caught.value.is_unauthorized, caught.value.message) == (True, "Unauthorized")
    assert tokens(tls_server) == ["first"]
    await api.close()


async def test_a_new_token_that_is_refused_too_is_tried_once(
    tls_server: Scripted, folder: Path, clock: HurriedClock
) -> None:
    api = await in_cluster(folder, clock)
    tls_server.otherwise = only("another")
    (folder / "token").write_text("second")

    with pytest.raises(ApiError):
        await api.get(POD)

    assert tokens(tls_server) == ["first", "second"]
    await api.close()


async def test_a_watch_is_begun_again_with_the_new_token(
    tls_server: Scripted, folder: Path, clock: HurriedClock
) -> None:
    api = await in_cluster(folder, clock)
    tls_server.script = [status(401, "Unauthorized"), stream()]
    (folder / "token").write_text("second")

    assert [event async for event in api.watch(POD, "5", seconds=1, grace=30)] == []

    assert tokens(tls_server) == ["first", "second"]
    await api.close()


async def test_calls_refused_at_once_read_the_token_once(server: Scripted, clock: HurriedClock, tmp_path: Path) -> None:
    address = f"http://127.0.0.1:{server.port}"
    path = write_kubeconfig(tmp_path / "kubeconfig", address, user=counting(tmp_path, "first"))
    server.otherwise = only("second")
    api = await Api.connect(path, clock=clock)
    write_kubeconfig(path, address, user=counting(tmp_path, "second"))

    assert await asyncio.gather(*(api.get(POD) for _ in range(5))) == [A_POD] * 5

    assert (tmp_path / "runs").read_text().split() == ["first", "second"]
    await api.close()


def counting(folder: Path, token: str) -> dict[str, Any]:
    """A user whose token comes from a command that notes each of its runs."""
    version = "client.authentication.k8s.io/v1"
    said = json.dumps({"apiVersion": version, "kind": "ExecCredential", "status": {"token": token}})
    script = f"echo {token} >> {folder}/runs; echo '{said}'"
    return {"exec": {"apiVersion": version, "command": "sh", "args": ["-c", script], "interactiveMode": "Never"}}


async def test_a_pods_token_is_read_anew_each_minute(tls_server: Scripted, folder: Path, clock: HurriedClock) -> None:
    api = await in_cluster(folder, clock)
    tls_server.otherwise = obj(A_POD)
    (folder / "token").write_text("second")

    await api.get(POD)
    clock.elapsed += 61
    await api.get(POD)

    assert tokens(tls_server) == ["first", "second"]
    await api.close()


async def test_a_token_that_cannot_be_read_again_leaves_the_old_one(
    tls_server: Scripted, folder: Path, clock: HurriedClock, caplog: pytest.LogCaptureFixture
) -> None:
    api = await in_cluster(folder, clock)
    (folder / "token").unlink()
    clock.elapsed += 61

    assert await api.get(POD) == A_POD

    assert "cannot be read again" in caplog.text
    await api.close()


# What cannot be used


async def test_outside_a_cluster_a_kubeconfig_is_asked_for(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.delenv("KUBERNETES_SERVICE_HOST", raising=False)

    with pytest.raises(ConfigError, match="name a kubeconfig"):
        await Api.connect()


@pytest.mark.parametrize(
    "content", ["", "{}", "[]", "a: [", "\0", '{"current-context": "gone", "contexts": [], "clusters": []}']
)
async def test_a_kubeconfig_that_cannot_be_used_is_named(tmp_path: Path, content: str) -> None:
    (tmp_path / "kubeconfig").write_text(content)

    with pytest.raises(ConfigError, match="kubeconfig cannot be used"):
        await Api.connect(tmp_path / "kubeconfig")


async def test_a_missing_kubeconfig_is_named(tmp_path: Path) -> None:
    with pytest.raises(ConfigError, match="nowhere"):
        await Api.connect(tmp_path / "nowhere")


async def test_a_missing_context_is_named(tmp_path: Path) -> None:
    with pytest.raises(ConfigError, match="elsewhere"):
        await Api.connect(write_kubeconfig(tmp_path / "kubeconfig", "http://127.0.0.1:1"), "elsewhere")


async def test_a_head_that_does_not_come_ends_even_a_long_watch(
    server: Scripted, tmp_path: Path, clock: HurriedClock
) -> None:
    path = write_kubeconfig(tmp_path / "kubeconfig", f"http://127.0.0.1:{server.port}")
    connection = await Connection.open(path, None, clock)

    with pytest.raises(ApiUnavailable, match="in time"):
        await connection.send(Request("GET", POD, 300, head_seconds=0.05))

    await connection.close()
