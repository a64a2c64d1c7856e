"""Creating, patching and deleting: which conflicts there are, and what they are called."""

from __future__ import annotations

from tests.cluster.client import APPLY, JSON_PATCH, STRATEGIC, Client
from tests.cluster.examples import claim, deployment, secret, service
from tests.cluster.resources import CLAIMS, DEPLOYMENTS, NAMESPACES, SECRETS, SERVICES
from tests.conformance.conftest import eventually

NAME = "notebook-demo"


async def test_a_second_create_is_already_exists(client: Client, namespace: str) -> None:
    await client.create(SECRETS, namespace, secret())

    reply = await client.create(SECRETS, namespace, secret())

    assert (reply.code, reply.reason) == (409, "AlreadyExists")


async def test_what_is_not_there_is_not_found(client: Client, namespace: str) -> None:
    assert (await client.get(DEPLOYMENTS, namespace, NAME)).reason == "NotFound"
    assert (await client.patch(DEPLOYMENTS, namespace, NAME, {"metadata": {}})).reason == "NotFound"
    assert (await client.delete(DEPLOYMENTS, namespace, NAME)).reason == "NotFound"


async def test_a_create_in_a_namespace_that_is_not_there_names_the_namespace(client: Client) -> None:
    reply = await client.create(SECRETS, "there-is-no-such-namespace", secret())

    assert (reply.code, reply.reason) == (404, "NotFound")
    assert reply.body["details"] == {"name": "there-is-no-such-namespace", "kind": "namespaces"}


async def test_a_list_in_a_namespace_that_is_not_there_is_empty(client: Client) -> None:
    reply = await client.get(SECRETS, "there-is-no-such-namespace")

    assert (reply.code, reply.body["items"]) == (200, [])


async def test_a_create_in_a_terminating_namespace_is_forbidden_with_the_cause(client: Client, namespace: str) -> None:
    # A finalizer of ours keeps the namespace terminating for as long as this test looks.
    held = await client.create(
        CLAIMS, namespace, claim("held") | {"metadata": {"name": "held", "finalizers": ["example.com/held"]}}
    )
    assert held.code == 201
    await client.delete(NAMESPACES, "", namespace)

    reply = await client.create(SECRETS, namespace, secret())

    await client.patch(CLAIMS, namespace, "held", {"metadata": {"finalizers": None}})
    assert (reply.code, reply.reason) == (403, "Forbidden")
    assert [cause["reason"] for cause in reply.body["details"]["causes"]] == ["NamespaceTerminating"]


async def test_a_name_that_is_not_dns_is_invalid(client: Client, namespace: str) -> None:
    reply = await client.create(DEPLOYMENTS, namespace, deployment("Not_DNS"))

    assert (reply.code, reply.reason) == (422, "Invalid")
    assert "metadata.name" in {cause["field"] for cause in reply.body["details"]["causes"]}


async def test_a_dry_run_stores_nothing(client: Client, namespace: str) -> None:
    reply = await client.create(SECRETS, namespace, secret(), dryRun="All")

    assert reply.code == 201
    assert (await client.get(SECRETS, namespace, NAME)).code == 404


async def test_a_patch_from_a_stale_version_is_a_conflict(client: Client, namespace: str) -> None:
    old = await client.create(SECRETS, namespace, secret())
    await client.patch(SECRETS, namespace, NAME, {"metadata": {"annotations": {"a": "1"}}})

    patch = {"metadata": {"resourceVersion": old.version, "annotations": {"a": "2"}}}
    reply = await client.patch(SECRETS, namespace, NAME, patch)

    assert (reply.code, reply.reason) == (409, "Conflict")
    assert (await client.get(SECRETS, namespace, NAME)).body["metadata"]["annotations"] == {"a": "1"}


async def test_a_patch_from_the_current_version_is_accepted(client: Client, namespace: str) -> None:
    current = await client.create(SECRETS, namespace, secret())

    patch = {"metadata": {"resourceVersion": current.version, "annotations": {"a": "2"}}}
    reply = await client.patch(SECRETS, namespace, NAME, patch)

    assert reply.code == 200
    assert int(reply.version) > int(current.version)


async def test_a_patch_that_changes_nothing_moves_no_version(client: Client, namespace: str) -> None:
    before = await client.create(SECRETS, namespace, secret() | {"metadata": {"name": NAME, "labels": {"a": "1"}}})

    reply = await client.patch(SECRETS, namespace, NAME, {"metadata": {"labels": {"a": "1"}}})

    assert (reply.code, reply.version) == (200, before.version)


async def test_a_null_in_a_merge_patch_removes(client: Client, namespace: str) -> None:
    await client.create(SECRETS, namespace, secret() | {"metadata": {"name": NAME, "labels": {"a": "1", "b": "2"}}})

    reply = await client.patch(SECRETS, namespace, NAME, {"metadata": {"labels": {"a": None}}})

    assert reply.body["metadata"]["labels"] == {"b": "2"}


async def test_a_json_patch_whose_test_fails_is_invalid_and_changes_nothing(client: Client, namespace: str) -> None:
    before = await client.create(SECRETS, namespace, secret())

    operations = [
        {"op": "add", "path": "/metadata/labels", "value": {"a": "1"}},
        {"op": "test", "path": "/metadata/name", "value": "another"},
    ]
    reply = await client.patch(SECRETS, namespace, NAME, operations, JSON_PATCH)

    assert (reply.code, reply.reason) == (422, "Invalid")
    assert (await client.get(SECRETS, namespace, NAME)).version == before.version


async def test_a_strategic_merge_patch_merges_containers_and_variables_by_name(client: Client, namespace: str) -> None:
    env = [{"name": "A", "value": "1"}, {"name": "B", "value": "2"}]
    await client.create(DEPLOYMENTS, namespace, deployment(replicas=0, container={"env": env}))

    changed = {"name": "notebook", "env": [{"name": "B", "value": "3"}]}
    patch = {"spec": {"template": {"spec": {"containers": [changed]}}}}
    reply = await client.patch(DEPLOYMENTS, namespace, NAME, patch, STRATEGIC)

    (container,) = reply.body["spec"]["template"]["spec"]["containers"]
    assert container["image"] == "example.invalid/tiny:1"
    assert {one["name"]: one["value"] for one in container["env"]} == {"A": "1", "B": "3"}


async def test_a_server_side_apply_creates_and_then_changes(client: Client, namespace: str) -> None:
    body = {"apiVersion": "v1", "kind": "Secret", "metadata": {"name": NAME, "labels": {"a": "1"}}}
    query = {"fieldManager": "conformance", "force": "true"}
    created = await client.patch(SECRETS, namespace, NAME, body, APPLY, **query)
    changed = await client.patch(SECRETS, namespace, NAME, body | {"data": {"k": "dg=="}}, APPLY, **query)

    assert (created.code, changed.code) == (201, 200)
    assert changed.body["data"] == {"k": "dg=="}


async def test_a_delete_with_another_uid_is_a_conflict(client: Client, namespace: str) -> None:
    await client.create(SECRETS, namespace, secret())

    reply = await client.delete(SECRETS, namespace, NAME, preconditions={"uid": "00000000-0000-0000-0000-000000000000"})

    assert (reply.code, reply.reason) == (409, "Conflict")
    assert (await client.get(SECRETS, namespace, NAME)).code == 200


async def test_a_delete_at_a_stale_version_is_a_conflict(client: Client, namespace: str) -> None:
    old = await client.create(SECRETS, namespace, secret())
    await client.patch(SECRETS, namespace, NAME, {"metadata": {"labels": {"a": "1"}}})
    uid = old.body["metadata"]["uid"]

    reply = await client.delete(SECRETS, namespace, NAME, preconditions={"uid": uid, "resourceVersion": old.version})

    assert (reply.code, reply.reason) == (409, "Conflict")


async def test_a_delete_whose_preconditions_hold_deletes_once(client: Client, namespace: str) -> None:
    current = await client.create(SECRETS, namespace, secret())
    wanted = {"uid": current.body["metadata"]["uid"], "resourceVersion": current.version}

    first = await client.delete(SECRETS, namespace, NAME, preconditions=wanted)
    second = await client.delete(SECRETS, namespace, NAME, preconditions=wanted)

    assert (first.code, second.code) == (200, 404)


async def test_a_service_gets_an_address(client: Client, namespace: str) -> None:
    reply = await client.create(SERVICES, namespace, service())

    assert reply.code == 201
    assert reply.body["spec"]["clusterIP"] not in {"", "None"}
    assert reply.body["spec"]["ports"][0]["targetPort"] == 8888


async def test_a_secret_comes_back_encoded(client: Client, namespace: str) -> None:
    reply = await client.create(SECRETS, namespace, secret())

    assert reply.body["data"] == {"token": "b3BlbiBzZXNhbWU="}
    assert "stringData" not in reply.body


async def test_an_annotation_moves_a_deployments_generation(client: Client, namespace: str) -> None:
    before = await client.create(DEPLOYMENTS, namespace, deployment(replicas=0))

    patch = {"metadata": {"annotations": {"notebook-proxy/last-active": "2026-01-01T00:00:00Z"}}}
    after = await client.patch(DEPLOYMENTS, namespace, NAME, patch)

    assert after.body["metadata"]["generation"] == before.body["metadata"]["generation"] + 1
    await eventually(
        lambda: client.get(DEPLOYMENTS, namespace, NAME),
        lambda reply: reply.body["status"].get("observedGeneration") == after.body["metadata"]["generation"],
    )


async def test_a_write_of_the_status_moves_the_version(client: Client, namespace: str) -> None:
    created = await client.create(DEPLOYMENTS, namespace, deployment(replicas=0))

    # Nobody but the controller writes here.
    reply = await eventually(
        lambda: client.get(DEPLOYMENTS, namespace, NAME),
        lambda reply: reply.body["status"].get("observedGeneration") == 1,
    )

    assert int(reply.version) > int(created.version)
