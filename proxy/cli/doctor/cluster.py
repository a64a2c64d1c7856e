"""What the Kubernetes backend needs of a cluster. Nothing is made: writes are only tried out (`dryRun=All`)."""

from __future__ import annotations

import asyncio
import re
from typing import TYPE_CHECKING, Final

from proxy.backends.kubernetes import failures, manifests, ownership
from proxy.backends.kubernetes.api import Api, ApiError, ApiFailure, path_to
from proxy.backends.kubernetes.calls import APPS, CORE
from proxy.backends.kubernetes.keys import namespace_of_secret
from proxy.backends.kubernetes.permissions import NAMESPACE_RULES, WORKSPACE_RULES
from proxy.backends.kubernetes.profiled import build_profiled
from proxy.cli.doctor.finding import Finding, State, of_date
from proxy.config import is_in_cluster
from proxy.errors import ConfigError, InvalidKey
from proxy.naming import is_template, namespace_of
from proxy.notes import Notes
from proxy.profiles import read_profiles
from proxy.workspace import Key

if TYPE_CHECKING:
    from collections.abc import AsyncIterator, Coroutine, Iterator
    from typing import Any

    from proxy.backends.kubernetes.api import Object
    from proxy.backends.kubernetes.permissions import Rule
    from proxy.config import Config

_DEADLINE: Final = 10.0  # seconds for one call
_CLAIMS: Final = "persistentvolumeclaims"
_REVIEWS: Final = "/apis/authorization.k8s.io/v1/selfsubjectaccessreviews"
# registry/repository:tag@digest, as container runtimes read it; the first part is a registry if it has a dot or port.
_IMAGE: Final = re.compile(
    r"(?:[a-zA-Z0-9.-]+(?::[0-9]+)?/)?[a-z0-9]+(?:[._/-]+[a-z0-9]+)*"
    r"(?P<tag>:[\w][\w.-]{0,127})?(?P<digest>@sha256:[0-9a-f]{64})?"
)


async def look(config: Config, workspace_id: str, *, is_own: bool) -> list[Finding]:
    """Look at the cluster that the settings name.

    Args:
        config: the settings.
        workspace_id: what objects are tried out for.
        is_own: it is a workspace of somebody, whose volume is looked at.
    """
    found = list(_images(config))
    try:
        key = Key(workspace_id, namespace_of(config.namespace, workspace_id))
        api = await Api.connect(config.kubeconfig or None, config.kube_context or None)
    except InvalidKey as error:
        return [*found, Finding("namespace", State.WRONG, str(error), "Change the setting namespace.")]
    except ConfigError as error:
        advice = "Name a kubeconfig with the setting kubeconfig, or run this in the proxy's pod: kubectl exec."
        return [*found, Finding("cluster", State.WRONG, str(error), advice)]
    try:
        return [*found, *[finding async for finding in _look(api, config, key, is_own=is_own)]]
    finally:
        await api.close()


async def _look(api: Api, config: Config, key: Key, *, is_own: bool) -> AsyncIterator[Finding]:
    try:
        version, date = await api.greet()
    except ApiFailure as error:
        yield _of_failure("cluster", error)
        return
    yield Finding("cluster", State.OK, f"Kubernetes {version} answers.")
    yield of_date("clock", date)
    rights = await _judged("rights", _rights(api, config))
    yield rights
    yield await _dns(config)
    if rights.state is State.WRONG:
        yield Finding("objects", State.LEFT_OUT, "They are tried out when the rights are there.")
        return
    yield await _judged("secret", _secret(api, config))
    yield await _judged("volume", _volume(api, config, key, is_own=is_own))
    yield await _judged("deployment", _deployment(api, config, key))


async def _judged(check: str, look: Coroutine[Any, Any, Finding]) -> Finding:
    """Return what a look finds; what keeps it from looking is a finding too."""
    try:
        return await look
    except ApiFailure as error:
        return _of_failure(check, error)
    except (ConfigError, InvalidKey) as error:
        return Finding(check, State.WRONG, str(error))


# Rights ---------------------------------------------------------------------------------------------------------------


async def _rights(api: Api, config: Config) -> Finding:
    """Ask the API server what this credential may do, and compare it with what the proxy does."""
    everywhere = is_template(config.namespace)
    asked = [(rule, verb, "" if everywhere else config.namespace) for rule in WORKSPACE_RULES for verb in rule[2]]
    if config.create_namespace:
        asked += [(rule, verb, "") for rule in NAMESPACE_RULES for verb in rule[2]]
    allowed = await asyncio.gather(*(_may(api, rule, verb, namespace) for rule, verb, namespace in asked))
    missing = [
        f"{verb} {rule[1]}{f'.{rule[0]}' if rule[0] else ''} in {namespace or 'all namespaces'}"
        for (rule, verb, namespace), is_allowed in zip(asked, allowed, strict=True)
        if not is_allowed
    ]
    if missing:
        where = "deploy/overlays/namespace-per-workspace/cluster-role.yaml" if everywhere else "deploy/base/role.yaml"
        words = f"{len(missing)} of {len(asked)} are missing: may not {'; '.join(missing)}."
        return Finding("rights", State.WRONG, words, f"Bind what {where} grants to the proxy's service account.")
    return Finding("rights", State.OK, f"All {len(asked)} that the proxy needs are there.")


async def _may(api: Api, rule: Rule, verb: str, namespace: str) -> bool:
    group, resource, _ = rule
    resource, _, subresource = resource.partition("/")
    attributes = {"group": group, "resource": resource, "subresource": subresource, "verb": verb}
    body = {
        "apiVersion": "authorization.k8s.io/v1",
        "kind": "SelfSubjectAccessReview",
        "spec": {"resourceAttributes": {**attributes, **({"namespace": namespace} if namespace else {})}},
    }
    answer = await api.create(_REVIEWS, body, deadline=_DEADLINE)
    return bool((answer.get("status") or {}).get("allowed"))


# What a start would make ----------------------------------------------------------------------------------------------


async def _secret(api: Api, config: Config) -> Finding:
    """Look for what notebooks' tokens are derived from; raises what keeps it from looking."""
    namespace = namespace_of_secret(config)
    if namespace is None:
        return Finding("secret", State.OK, "notebook_secret is set.")
    name = f"{namespace}/{manifests.NOTEBOOK_SECRET_NAME}"
    found = await _find(api, path_to(CORE, "secrets", namespace, manifests.NOTEBOOK_SECRET_NAME))
    if found is None:
        return Finding("secret", State.OK, f"Secret {name} is made at the first start.")
    if manifests.TOKEN_FIELD not in (found.get("data") or {}):
        advice = "Delete it, and it is made anew; what runs is started anew then."
        return Finding("secret", State.WRONG, f"Secret {name} has no {manifests.TOKEN_FIELD!r}.", advice)
    return Finding("secret", State.OK, f"Secret {name} is there.")


async def _volume(api: Api, config: Config, key: Key, *, is_own: bool) -> Finding:
    """Look at the claim of a workspace, or whether one could be made; raises what keeps it from looking."""
    body = manifests.build_pvc(key, config)
    name, collection = body["metadata"]["name"], path_to(CORE, _CLAIMS, key.namespace)
    found = await _find(api, f"{collection}/{name}") if is_own or not is_template(config.workspace_pvc_name) else None
    if found is not None:
        return _claim(name, found, key)
    if config.workspace_pvc_size:
        return await _tried("volume", api, collection, body)
    if is_own:
        words = f"PersistentVolumeClaim {name!r} is missing in namespace {key.namespace!r}."
        return Finding("volume", State.WRONG, words, "Create it, or set workspace_pvc_size.")
    words = "None is made (workspace_pvc_size is not set): each workspace's must be there before its first start."
    return Finding("volume", State.WARNING, words, "--id ID looks at the one of a workspace.")


def _claim(name: str, found: Object, key: Key) -> Finding:
    """Judge a claim that is there."""
    phase = (found.get("status") or {}).get("phase")
    if ownership.is_of_another(found, key.workspace_id):
        words = f"PersistentVolumeClaim {name!r} is labelled for another workspace, and is not used."
        return Finding("volume", State.WRONG, words, "Shortened ids collide: use {workspace_id} in workspace_pvc_name.")
    if phase == "Lost":
        words = f"PersistentVolumeClaim {name!r} has lost its volume."
        return Finding("volume", State.WRONG, words, "Look at it: kubectl describe pvc.")
    return Finding("volume", State.OK, f"PersistentVolumeClaim {name!r} is {phase or 'there'}.")


async def _deployment(api: Api, config: Config, key: Key) -> Finding:
    body = build_profiled(key, config, Notes())
    return await _tried("deployment", api, path_to(APPS, "deployments", key.namespace), body)


async def _tried(check: str, api: Api, collection: str, body: Object) -> Finding:
    """Have the API server judge a new object, with quotas and webhooks, and make nothing."""
    try:
        await api.create(collection, body, dry_run=True, deadline=_DEADLINE)
    except ApiError as error:
        if not error.is_already_exists:
            raise
    return Finding(check, State.OK, f"The cluster would take a workspace's {body['kind']}.")


async def _find(api: Api, path: str) -> Object | None:
    """Return an object; None if there is none."""
    try:
        return await api.get(path, deadline=_DEADLINE)
    except ApiError as error:
        if not error.is_not_found:
            raise
        return None


# What no API server tells ---------------------------------------------------------------------------------------------


def _images(config: Config) -> Iterator[Finding]:
    """Look at the names of images; whether a node can pull one, only a start shows."""
    images = {"image": config.image}
    for profile in read_profiles(config.profiles).values():
        if "image" in profile.changes:
            images[f"image of profile {profile.name}"] = str(profile.changes["image"])
    for check, image in images.items():
        found = _IMAGE.fullmatch(image)
        if found is None:
            yield Finding(check, State.WRONG, f"{image!r} is no image's name.", "Write it as registry/repository:tag.")
        elif not found["digest"] and found["tag"] in (None, ":latest"):
            words = f"{image} is another image tomorrow, and on another node."
            yield Finding(check, State.WARNING, words, "Pin it to a tag or a digest of your own.")
        else:
            yield Finding(
                check, State.OK, f"{image} is pinned; whether nodes can pull it, only a start shows (--smoke)."
            )


async def _dns(config: Config) -> Finding:
    """Resolve the API server's Service by the name that `cluster_domain` gives it."""
    if not is_in_cluster():
        return Finding("cluster DNS", State.LEFT_OUT, "Cluster names resolve in a pod alone: kubectl exec.")
    name = f"kubernetes.default.svc.{config.cluster_domain}"
    try:
        await asyncio.get_running_loop().getaddrinfo(name, 443)
    except OSError as error:
        words = f"{name} has no address: {error.strerror}."
        advice = (
            "Set cluster_domain to what /etc/resolv.conf of this pod says, and look at the cluster's DNS (CoreDNS)."
        )
        return Finding("cluster DNS", State.WRONG, words, advice)
    return Finding("cluster DNS", State.OK, f"{name} resolves.")


def _of_failure(check: str, error: ApiFailure) -> Finding:
    """Return what a call that has no result means."""
    if not isinstance(error, ApiError):
        advice = "Look at the address in the kubeconfig, at the network on the way, and at the API server itself."
        return Finding(check, State.WRONG, f"{error}.", advice)
    if error.is_unauthorized:
        advice = "Renew the credential in the kubeconfig; in a pod, look at its service account's token."
        return Finding(check, State.WRONG, "The API server does not accept the credential.", advice)
    if error.is_server_error or error.is_not_taken:
        return Finding(check, State.WRONG, f"The API server fails: {error}.", "Try again; look at the API server.")
    return Finding(
        check, State.WRONG, failures.of_refusal(error.reason, error.message, error.causes, error.status).message
    )


# What a smoke test leaves ---------------------------------------------------------------------------------------------


async def remove_claim(config: Config, workspace_id: str) -> str:
    """Delete the claim of a throwaway workspace; return what is left of it, in words."""
    key = Key(workspace_id, namespace_of(config.namespace, workspace_id))
    name = manifests.pvc_name(key, config)
    path, left = path_to(CORE, _CLAIMS, key.namespace, name), f"PersistentVolumeClaim {key.namespace}/{name}"
    try:
        api = await Api.connect(config.kubeconfig or None, config.kube_context or None)
    except ConfigError as error:
        return f"{left} ({error})"
    try:
        found = await api.get(path, deadline=_DEADLINE)
        if not ownership.is_ours(found, key):
            return ""  # one that was there before, and that several share
        await api.delete(path, uid=found["metadata"]["uid"], deadline=_DEADLINE)
    except ApiError as error:
        return "" if error.is_not_found else f"{left} ({error.message or error})"
    except ApiFailure as error:
        return f"{left} ({error})"
    finally:
        await api.close()
    return ""
