"""Lists: selectors, pages, and the versions a list may be asked at. One call, one answer; nothing awaits."""

from __future__ import annotations

import base64
import json
from typing import TYPE_CHECKING

from tests.cluster import answers
from tests.cluster.resources import Obj, name_of, namespace_of
from tests.cluster.selectors import Predicate, parse_field_selector, parse_label_selector
from tests.cluster.store import Compacted, Store

if TYPE_CHECKING:
    from collections.abc import Mapping

    from tests.cluster.requests import Target


def parse_selectors(query: Mapping[str, str]) -> Predicate:
    """Return what tells whether an object fits the query's label and field selector.

    Raises:
        ApiError: 400.
    """
    labels = parse_label_selector(query.get("labelSelector", ""))
    fields = parse_field_selector(query.get("fieldSelector", ""))
    return lambda obj: labels(obj) and fields(obj)


def parse_version(text: str) -> int:
    """Read a resourceVersion.

    Raises:
        ApiError: 400.
    """
    if not text.isdigit():
        raise answers.bad_request(
            f'invalid resource version "{text}": strconv.ParseUint: parsing "{text}": invalid syntax'
        )
    return int(text)


def list_objects(store: Store, target: Target, query: Mapping[str, str]) -> Obj:
    """Answer a list.

    Raises:
        ApiError: 410 the version, or the page's, is compacted away; 504 it lies in the future; 400.
    """
    fits = parse_selectors(query)
    version, after = store.version, ("", "")
    if token := query.get("continue"):
        version, after = _parse_token(token)
    elif text := query.get("resourceVersion", ""):
        asked = parse_version(text)
        if asked > store.version:
            raise answers.from_the_future(asked, store.version)
        if query.get("resourceVersionMatch") == "Exact":
            version = asked
    try:
        objects = store.snapshot(target.resource, version, target.namespace)
    except Compacted:
        raise answers.expired_list() from None
    rest = [obj for obj in objects if (namespace_of(obj), name_of(obj)) > after and fits(obj)]
    metadata: Obj = {"resourceVersion": str(version)}
    limit = int(query.get("limit", "0"))
    page = rest[:limit] if limit else rest
    if len(page) < len(rest):
        metadata["continue"] = _write_token(version, page[-1])
        if not query.get("labelSelector") and not query.get("fieldSelector"):
            metadata["remainingItemCount"] = len(rest) - len(page)
    return {
        "kind": f"{target.resource.kind}List",
        "apiVersion": target.resource.api_version,
        "metadata": metadata,
        "items": [{k: v for k, v in obj.items() if k not in {"kind", "apiVersion"}} for obj in page],
    }


def _write_token(version: int, last: Obj) -> str:
    token = {"rv": version, "after": [namespace_of(last), name_of(last)]}
    return base64.urlsafe_b64encode(json.dumps(token).encode()).decode()


def _parse_token(text: str) -> tuple[int, tuple[str, str]]:
    try:
        token = json.loads(base64.urlsafe_b64decode(text))
        return int(token["rv"]), (token["after"][0], token["after"][1])
    except (ValueError, KeyError, TypeError) as error:
        raise answers.bad_request(f"continue key is not valid: {error}") from error
