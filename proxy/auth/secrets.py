"""What `jwt_secret` and `session_secret` are now: they may come later than the door, and change."""

from __future__ import annotations

from typing import TYPE_CHECKING

from proxy.rotation import RotatingSecret, follow_file

if TYPE_CHECKING:
    from pydantic import SecretStr

    from proxy.auth.tokens import Renewable
    from proxy.clock import Clock
    from proxy.config import Config
    from proxy.fresh import Fresh


class Secrets:
    """Holds them. One per door.

    Args:
        config: what they are at first.
        clock: tells how long one that was replaced holds.

    Attributes:
        for_tokens: `jwt_secret`.
        for_sessions: `session_secret`, or the same where that is not set.
        source: where `jwt_secret` comes from while there is none yet.
    """

    def __init__(self, config: Config, clock: Clock) -> None:
        self.for_tokens = self.for_sessions = _rotating(config.jwt_secret, config, clock)
        if config.session_secret.get_secret_value():
            self.for_sessions = _rotating(config.session_secret, config, clock)
        self.source: Renewable | None = None

    def follow(self, config: Config, fresh: Fresh) -> None:
        """Change with the files that hold them."""
        for name, secret in (("jwt_secret", self.for_tokens), ("session_secret", self.for_sessions)):
            fresh.each_time(secret.look)
            follow_file(name, config, fresh, secret.change)


def _rotating(secret: SecretStr, config: Config, clock: Clock) -> RotatingSecret:
    found = RotatingSecret(config.secret_overlap, clock)
    if secret.get_secret_value():
        found.change(secret.get_secret_value())
    return found
