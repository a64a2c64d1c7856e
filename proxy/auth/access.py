"""Which workspaces a user may open: those of their credential, their own by the template, those of `authorize_url`.

Each is enough. Says no to whatever nothing allows, and the same no whether or not the workspace exists. Who oversees
may see and stop every workspace, and open none by that. Starts nothing.
"""

from __future__ import annotations

import re
from fnmatch import translate
from functools import lru_cache
from typing import TYPE_CHECKING, Final, NamedTuple

from proxy.auth.authorizer import Question, Verdict
from proxy.auth.limits import Buckets
from proxy.clock import Clock, SystemClock
from proxy.errors import Forbidden, LimitReached
from proxy.slug import workspace_of_user
from proxy.workspace import MAX_ID, is_label

if TYPE_CHECKING:
    from collections.abc import Callable, Collection

    from proxy.auth.authorizer import Authorizer
    from proxy.auth.user import User

FRESH: Final = 30.0  # seconds; what is open for long goes by no older answer of `authorize_url`
_ASKS: Final = 10.0  # a second, for one user: questions that no remembered answer settles
_WILD: Final = re.compile(r"[*?\[]")


class Theirs(NamedTuple):
    """What a user is shown.

    Args:
        ids: these, whether or not they have ever run.
        matches: of what has run, that too.
    """

    ids: frozenset[str]
    matches: Callable[[str], bool]


class Access:
    """Judges. One per gateway.

    Args:
        template: the setting `workspace_template`; empty where nobody has one of their own.
        admins: the names of those who oversee.
        authorizer: asks `authorize_url`, if there is one.
        clock: its wall clock ends what credentials allow.
    """

    def __init__(
        self,
        *,
        template: str = "",
        admins: Collection[str] = (),
        authorizer: Authorizer | None = None,
        clock: Clock | None = None,
    ) -> None:
        self._template = template
        self._admins = frozenset(admins)
        self._authorizer = authorizer
        self._clock = clock or SystemClock()
        self._asks = Buckets(_ASKS, self._clock.monotonic)
        self._own = lru_cache(maxsize=4096)(lambda name: workspace_of_user(template, name))

    def admits(self, user: User, workspace_id: str, method: str) -> bool | None:
        """Tell whether a user may send a request of this method to a workspace; None: only `authorise` can tell."""
        if self._is_theirs(user, workspace_id):
            return True
        if self._authorizer is None or not _is_id(workspace_id):
            return False
        return self._authorizer.remembered(Question(user.name, workspace_id, method))

    async def authorise(self, user: User, workspace_id: str, method: str) -> None:
        """Return if a user may.

        Raises:
            Forbidden: they may not.
            LimitReached: they have tried too many of late.
        """
        admitted = self.admits(user, workspace_id, method)
        if admitted is None and self._authorizer is not None:
            wait = self._asks.take(user.name)
            if wait:
                raise LimitReached("too-many-requests", "You try too many workspaces: wait a moment.", wait)
            admitted = await self._authorizer.ask(Question(user.name, workspace_id, method)) is Verdict.YES
        if not admitted:
            raise Forbidden

    async def goes_on(self, user: User, workspace_id: str) -> bool:
        """Tell whether what a user has opened, and keeps open, may stay so.

        `authorize_url` that fails says neither yes nor no; for a while that ends nothing that it allowed before.
        """
        if self.surely_goes_on(user, workspace_id):
            return True
        if self._authorizer is None or self.has_expired(user):
            return False
        verdict = await self._authorizer.ask(Question(user.name, workspace_id, "GET"), within=FRESH)
        return verdict is Verdict.YES or (
            verdict is Verdict.FAILED and self._authorizer.is_recent(user.name, workspace_id)
        )

    async def may_look_on(self, user: User, workspace_id: str) -> bool:
        """Tell whether a user who looks at a workspace may go on looking."""
        if self.oversees(user):
            return not self.has_expired(user)
        return await self.goes_on(user, workspace_id)

    def surely_goes_on(self, user: User, workspace_id: str) -> bool:
        """Tell whether that is so and nobody need be asked."""
        return not self.has_expired(user) and self._is_theirs(user, workspace_id)

    def has_expired(self, user: User) -> bool:
        """Tell whether a credential is over."""
        return user.expires <= self._clock.now().timestamp()

    def oversees(self, user: User) -> bool:
        """Tell whether a user may see and stop every workspace."""
        return user.is_admin or (bool(user.name) and user.name in self._admins)

    def own(self, user: User) -> str | None:
        """Return the id that the template gives a user; None where there is none."""
        return self.of(user.name)

    def of(self, name: str) -> str | None:
        """Return the id that the template gives whoever has this name; None where there is none."""
        return self._own(name) if self._template and name else None

    def may_enter(self, user: User, workspace_id: str) -> bool:
        """Tell whether a user may open a workspace, as far as is known without asking."""
        return self._is_theirs(user, workspace_id) or (
            self._authorizer is not None and self._authorizer.is_recent(user.name, workspace_id)
        )

    def theirs(self, user: User) -> Theirs:
        """Return what a user is shown in lists. Nobody is asked."""
        ids = {each for each in user.workspaces if _is_id(each)}
        if (own := self.own(user)) is not None:
            ids.add(own)
        if self._authorizer is not None:
            ids |= self._authorizer.recent(user.name)
        return Theirs(frozenset(ids), _matches_any if self.oversees(user) else _matcher(user.workspaces))

    def _is_theirs(self, user: User, workspace_id: str) -> bool:
        return _matcher(user.workspaces)(workspace_id) or (bool(self._template) and workspace_id == self.own(user))

    async def close(self) -> None:
        """Ask nothing any more."""
        if self._authorizer is not None:
            await self._authorizer.close()


@lru_cache(maxsize=1024)
def _matcher(patterns: tuple[str, ...]) -> Callable[[str], bool]:
    """Return a predicate: is an id one of these, or like one of these patterns?"""
    if "*" in patterns:
        return _matches_any
    literal = frozenset(patterns)
    wild = [translate(pattern) for pattern in patterns if _WILD.search(pattern)]
    if not wild:
        return literal.__contains__
    like = re.compile("|".join(wild)).match
    return lambda workspace_id: workspace_id in literal or like(workspace_id) is not None


def _matches_any(_: str) -> bool:
    return True


def _is_id(text: str) -> bool:
    return len(text) <= MAX_ID and is_label(text)
