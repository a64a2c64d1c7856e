"""Calls to the Kubernetes API on behalf of a start or a stop, with their outcomes in the words of those.

What is refused is a `StartFailed` with its reason; what only means "look again" (gone, taken, changed) is a result.
"""

from __future__ import annotations

import logging
from typing import TYPE_CHECKING, Final

from proxy.backends.kubernetes import failures
from proxy.backends.kubernetes.api import ApiError, ApiFailure
from proxy.errors import BackendUnavailable, StartFailed

if TYPE_CHECKING:
    from collections.abc import Mapping
    from typing import Any

    from proxy.backends.kubernetes.api import Api, Object

logger = logging.getLogger(__name__)

APPS: Final = "apps/v1"
CORE: Final = "v1"


def refused(error: ApiFailure) -> StartFailed:
    """Return what a failed call means for a start."""
    if isinstance(error, ApiError) and not (error.is_server_error or error.is_not_taken):
        diagnosis = failures.of_refusal(error.reason, error.message, error.causes, error.status)
        return StartFailed(diagnosis.code, diagnosis.message)
    logger.warning("Kubernetes does not answer: %s", error)  # with addresses, which are not for everyone
    return BackendUnavailable(failures.SILENCE.code, failures.SILENCE.message, retry_after=5)


class Calls:
    """Reads and writes. Every method raises `StartFailed` for what is refused, and for want of an answer.

    Args:
        api: to call.
    """

    def __init__(self, api: Api) -> None:
        self._api = api

    async def find(self, path: str) -> Object | None:
        """Return the object; None if there is none, or not even its namespace."""
        try:
            return await self._api.get(path)
        except ApiFailure as error:
            if isinstance(error, ApiError) and error.is_not_found:
                return None
            raise refused(error) from error

    async def create(self, collection: str, body: Object) -> Object | None:
        """Return the object that was created; None if the name is taken.

        If it is not known whether it was created, whatever has its name is returned; if nothing has, it is tried again.
        """
        for is_last in (False, True):
            try:
                return await self._api.create(collection, body)
            except ApiFailure as error:
                if isinstance(error, ApiError) and error.is_already_exists:
                    return None
                found = await self.find(f"{collection}/{body['metadata']['name']}") if error.may_be_done else None
                if found is not None:
                    return found
                if is_last or not error.may_be_done:
                    raise refused(error) from error
        raise AssertionError("unreachable")  # pragma: no cover

    async def patch(self, path: str, found: Mapping[str, Any], changes: Object) -> Object | None:
        """Merge changes into the very object that was found, and return it; None if it has gone, or is another."""
        metadata = {**changes.get("metadata", {}), "uid": found["metadata"]["uid"]}
        try:
            return await self._api.patch(path, {**changes, "metadata": metadata})
        except ApiFailure as error:
            if isinstance(error, ApiError) and (error.is_not_found or error.is_conflict):
                return None
            raise refused(error) from error

    async def delete(self, path: str, found: Mapping[str, Any]) -> None:
        """Delete the very object that was found; gone, or another by now, is success."""
        try:
            await self._api.delete(path, uid=found["metadata"]["uid"])
        except ApiFailure as error:
            if not (isinstance(error, ApiError) and (error.is_not_found or error.is_conflict)):
                raise refused(error) from error
