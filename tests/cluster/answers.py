"""What the API server says when it refuses: one `Status` object per cause, worded as a real 1.36 server words it.

Programs read `code`, `reason` and `details.causes`; people read `message`. Nothing else in the package writes a Status.
"""

from __future__ import annotations

import json
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from tests.cluster.resources import Obj, Resource


class ApiError(Exception):
    """A refusal: carries the `Status` body that the client gets, and extra headers."""

    def __init__(self, status: Obj, headers: dict[str, str] | None = None) -> None:
        super().__init__(status["message"])
        self.status = status
        self.code: int = status["code"]
        self.headers = headers or {}


def failure(code: int, reason: str, message: str, details: Obj | None = None) -> ApiError:
    """Build a refusal."""
    status: Obj = {"kind": "Status", "apiVersion": "v1", "metadata": {}, "status": "Failure", "message": message}
    if reason:
        status["reason"] = reason
    if details is not None:
        status["details"] = details
    status["code"] = code
    return ApiError(status)


def success(resource: Resource, name: str, uid: str) -> Obj:
    """Build the answer to a delete that removed the object at once."""
    details = {**_details(resource, name), "uid": uid}
    return {"kind": "Status", "apiVersion": "v1", "metadata": {}, "status": "Success", "details": details}


def _details(resource: Resource, name: str, kind: str | None = None) -> Obj:
    details: Obj = {"name": name} if name else {}
    if resource.group:
        details["group"] = resource.group
    details["kind"] = kind or resource.plural
    return details


def unknown_path() -> ApiError:
    """Refuse a path under which nothing is served."""
    return failure(404, "NotFound", "the server could not find the requested resource", {})


def not_found(resource: Resource, name: str) -> ApiError:
    """Refuse: there is no such object."""
    return failure(404, "NotFound", f'{resource.qualified} "{name}" not found', _details(resource, name))


def already_exists(resource: Resource, name: str, *, being_deleted: bool = False) -> ApiError:
    """Refuse a create: the name is taken, perhaps by an object on its way out."""
    prefix = "object is being deleted: " if being_deleted else ""
    message = f'{prefix}{resource.qualified} "{name}" already exists'
    return failure(409, "AlreadyExists", message, _details(resource, name))


def stale(resource: Resource, name: str) -> ApiError:
    """Refuse a write: it was made from an older version of the object."""
    message = (
        f'Operation cannot be fulfilled on {resource.qualified} "{name}": the object has been modified; '
        "please apply your changes to the latest version and try again"
    )
    return failure(409, "Conflict", message, _details(resource, name))


def wrong_uid(resource: Resource, name: str, wanted: str, found: str) -> ApiError:
    """Refuse a delete: the precondition names another object."""
    message = (
        f'Operation cannot be fulfilled on {resource.qualified_kind} "{name}": the UID in the precondition ({wanted}) '
        f"does not match the UID in record ({found}). The object might have been deleted and then recreated"
    )
    return failure(409, "Conflict", message, _details(resource, name, resource.kind))


def wrong_version(resource: Resource, name: str, wanted: str, found: str) -> ApiError:
    """Refuse a delete: the precondition names another version."""
    message = (
        f'Operation cannot be fulfilled on {resource.qualified_kind} "{name}": the ResourceVersion in the precondition '
        f"({wanted}) does not match the ResourceVersion in record ({found}). The object might have been modified"
    )
    return failure(409, "Conflict", message, _details(resource, name, resource.kind))


def already_bound(pod: str, node: str) -> ApiError:
    """Refuse to bind a pod twice."""
    message = f'Operation cannot be fulfilled on pods/binding "{pod}": pod {pod} is already assigned to node "{node}"'
    return failure(409, "Conflict", message, {"name": pod, "kind": "pods/binding"})


def invalid(resource: Resource, name: str, field: str, why: str, reason: str = "FieldValueInvalid") -> ApiError:
    """Refuse an object that breaks a rule of its kind; `why` as the server words it, from `Invalid value:` on."""
    details = _details(resource, name, resource.kind)
    details["causes"] = [{"reason": reason, "message": why, "field": field}]
    return failure(422, "Invalid", f'{resource.qualified_kind} "{name}" is invalid: {field}: {why}', details)


def bad_value(value: object) -> str:
    """Write a value as a validation message does."""
    return f"Invalid value: {json.dumps(value, separators=(',', ':'))}"


def failed_test() -> ApiError:
    """Refuse a JSON patch whose `test` did not hold, or that does not fit the object."""
    return failure(422, "Invalid", "the server rejected our request due to an error in our request", {})


def bad_request(message: str) -> ApiError:
    """Refuse what cannot be read."""
    return failure(400, "BadRequest", message)


def unauthorized() -> ApiError:
    """Refuse a token that is missing, wrong or expired."""
    return failure(401, "Unauthorized", "Unauthorized")


def no_right(user: str, verb: str, resource: Resource, subresource: str, *, namespace: str, name: str) -> ApiError:
    """Refuse what no role of the user allows."""
    plural = f"{resource.plural}/{subresource}" if subresource else resource.plural
    where = f'in the namespace "{namespace}"' if namespace else "at the cluster scope"
    subject = f'{resource.qualified} "{name}"' if name else resource.qualified
    message = (
        f'{subject} is forbidden: User "{user}" cannot {verb} resource "{plural}" '
        f'in API group "{resource.group}" {where}'
    )
    return failure(403, "Forbidden", message, _details(resource, name))


def forbidden(resource: Resource, name: str, why: str, causes: list[Obj] | None = None) -> ApiError:
    """Refuse by an admission rule: quota, a terminating namespace."""
    details = _details(resource, name)
    if causes:
        details["causes"] = causes
    return failure(403, "Forbidden", f'{resource.qualified} "{name}" is forbidden: {why}', details)


def terminating(resource: Resource, name: str, namespace: str) -> ApiError:
    """Refuse a create in a namespace that is on its way out."""
    why = f"unable to create new content in namespace {namespace} because it is being terminated"
    cause = {
        "reason": "NamespaceTerminating",
        "message": f"namespace {namespace} is being terminated",
        "field": "metadata.namespace",
    }
    return forbidden(resource, name, why, [cause])


def denied(webhook: str, why: str, code: int = 403) -> ApiError:
    """Refuse by an admission webhook. A webhook that names no reason gets none in the Status either."""
    return failure(code, "Forbidden" if code == 403 else "", f'admission webhook "{webhook}" denied the request: {why}')


def expired_list() -> ApiError:
    """Refuse a list at a version that was compacted away."""
    return failure(410, "Expired", "The resourceVersion for the provided list is too old.")


def expired_watch(asked: int, oldest: int) -> ApiError:
    """Build what a watch from a compacted version gets: an ERROR event inside a 200."""
    return failure(410, "Expired", f"too old resource version: {asked} ({oldest})")


def from_the_future(asked: int, current: int) -> ApiError:
    """Refuse a version that was never handed out."""
    causes = [{"reason": "ResourceVersionTooLarge", "message": "Too large resource version"}]
    message = f"Timeout: Too large resource version: {asked}, current: {current}"
    return failure(504, "Timeout", message, {"causes": causes, "retryAfterSeconds": 1})
