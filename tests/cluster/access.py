"""Who may do what: users by bearer token, and their rules."""

from __future__ import annotations

import secrets
from dataclasses import dataclass, field
from typing import TYPE_CHECKING

from tests.cluster import answers

if TYPE_CHECKING:
    from collections.abc import Iterable, Mapping

    from tests.cluster.requests import Target

Rule = tuple[str, str, str]


@dataclass
class User:
    """A name and what it may do; `rules` None is everything, `namespaces` None is everywhere. `*` matches anything."""

    name: str
    rules: set[Rule] | None = None
    namespaces: set[str] | None = None
    token: str = field(default_factory=lambda: secrets.token_urlsafe(16), repr=False)

    def may(self, target: Target) -> bool:
        """Tell whether a rule allows the request."""
        if self.namespaces is not None and target.namespace and target.namespace not in self.namespaces:
            return False
        return self._has_rule(target.verb, target.resource.group, target.plural)

    def review(self, asked: Mapping[str, str]) -> bool:
        """Tell what a SelfSubjectAccessReview tells of these `resourceAttributes`; no namespace means all of them."""
        if self.namespaces is not None and asked.get("namespace", "") not in self.namespaces:
            return False
        resource, subresource = asked.get("resource", ""), asked.get("subresource", "")
        return self._has_rule(
            asked.get("verb", ""), asked.get("group", ""), f"{resource}/{subresource}" if subresource else resource
        )

    def _has_rule(self, *wanted: str) -> bool:
        if self.rules is None:
            return True
        return any(all(part in {"*", want} for part, want in zip(rule, wanted, strict=True)) for rule in self.rules)


class Access:
    """Knows the users by their tokens."""

    def __init__(self) -> None:
        self._users: dict[str, User] = {}
        self.admin = self.add("kubernetes-admin")

    def add(self, name: str, rules: Iterable[Rule] | None = None, namespaces: Iterable[str] | None = None) -> User:
        """Let a new user in and return it, with its token."""
        user = User(
            name,
            None if rules is None else set(rules),
            None if namespaces is None else set(namespaces),
        )
        self._users[user.token] = user
        return user

    def rotate(self, user: User) -> None:
        """Give a user a new token; the old one is refused from now on."""
        del self._users[user.token]
        user.token = secrets.token_urlsafe(16)
        self._users[user.token] = user

    def authenticate(self, authorization: str) -> User:
        """Return who sends this header; nobody in particular without one.

        Raises:
            ApiError: 401, the token is wrong.
        """
        if not authorization:
            return User("system:anonymous", set())
        user = self._users.get(authorization.removeprefix("Bearer "))
        if user is None:
            raise answers.unauthorized()
        return user

    @staticmethod
    def authorise(user: User, target: Target) -> None:
        """Refuse what the user may not do.

        Raises:
            ApiError: 403.
        """
        if not user.may(target):
            where = {"namespace": target.namespace, "name": target.name}
            raise answers.no_right(user.name, target.verb, target.resource, target.subresource, **where)
