"""Who gets in, what is logged, and a server that goes away and comes back."""

from __future__ import annotations

import aiohttp
import pytest

from tests.cluster.client import Client, connect
from tests.cluster.cluster import Cluster
from tests.cluster.examples import deployment, secret
from tests.cluster.resources import DEPLOYMENTS, PODS, SECRETS


async def test_it_speaks_tls_with_an_authority_of_its_own() -> None:
    async with Cluster(kubelet=False, tls=True) as cluster, connect(cluster.kubeconfig()) as client:
        assert cluster.url.startswith("https://")
        assert (await client.create(SECRETS, "default", secret())).code == 201


async def test_a_rotated_token_is_refused(api: Cluster, client: Client) -> None:
    path = api.kubeconfig(token_file=True)

    api.rotate_token()

    reply = await client.get(SECRETS, "default")
    assert (reply.code, reply.reason) == (401, "Unauthorized")
    async with connect(path) as fresh:
        assert (await fresh.get(SECRETS, "default")).code == 200


async def test_a_user_may_do_what_the_rules_say_and_no_more(api: Cluster) -> None:
    user = api.add_user("system:serviceaccount:default:proxy", {("get", "", "secrets"), ("list", "apps", "*")})

    async with connect(api.kubeconfig(user)) as client:
        assert (await client.get(SECRETS, "default", "x")).code == 404
        assert (await client.get(DEPLOYMENTS, "default")).code == 200
        refused = await client.get(SECRETS, "default")

    assert (refused.code, refused.reason) == (403, "Forbidden")
    assert 'cannot list resource "secrets" in API group "" in the namespace "default"' in refused.body["message"]


async def test_a_user_may_be_kept_to_a_namespace(api: Cluster) -> None:
    user = api.add_user("alice", namespaces={"default"})

    async with connect(api.kubeconfig(user)) as client:
        assert (await client.get(SECRETS, "default")).code == 200
        assert (await client.get(SECRETS, "kube-system")).code == 403


async def test_the_log_tells_which_rules_were_used(api: Cluster, client: Client) -> None:
    await client.create(DEPLOYMENTS, "default", deployment(replicas=0))
    await client.get(DEPLOYMENTS, "default")
    await client.patch(PODS, "default", "x", {}, subresource="status")

    assert api.requests.rules_used("tests") == {
        ("create", "apps", "deployments"),
        ("list", "apps", "deployments"),
        ("patch", "", "pods/status"),
    }
    assert api.requests.count(verb="create", resource="deployments", code=201) == 1
    assert api.requests.select(resource="pods/status")[0].code == 404


async def test_a_webhook_denies_until_it_is_lifted(api: Cluster, client: Client) -> None:
    lift = api.deny("policy.example.com", "no notebooks on Fridays", resource=DEPLOYMENTS)

    denied = await client.create(DEPLOYMENTS, "default", deployment())
    lift()

    assert denied.code == 403
    assert (
        denied.body["message"] == 'admission webhook "policy.example.com" denied the request: no notebooks on Fridays'
    )
    assert (await client.create(DEPLOYMENTS, "default", deployment())).code == 201


async def test_a_server_that_was_away_has_its_address_and_state_again(api: Cluster, client: Client) -> None:
    await client.create(SECRETS, "default", secret())
    async with client.watch(SECRETS, "default") as events:
        await events.take(1)
        await api.stop_server()
        with pytest.raises(aiohttp.ClientError):
            await events.next()
    with pytest.raises(aiohttp.ClientConnectionError):
        await client.get(SECRETS, "default")

    await api.start_server()

    assert (await client.get(SECRETS, "default", "notebook-demo")).code == 200
