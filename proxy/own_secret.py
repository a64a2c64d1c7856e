"""The secret with which tokens are signed, where no setting names a key: made once, and kept where all replicas see it.

On Kubernetes that is a Secret in the proxy's namespace, on one machine a file in `local_root` that only its owner can
read. No default is published. Until it is known nobody can enter, and the proxy is not ready.
"""

from __future__ import annotations

import asyncio
import contextlib
import logging
import os
import secrets
from typing import TYPE_CHECKING, Final, Self

from proxy.config import backend_name
from proxy.errors import ConfigError, KeysUnavailable, ProxyError

if TYPE_CHECKING:
    from collections.abc import Awaitable, Callable
    from pathlib import Path

    from proxy.clock import Clock
    from proxy.config import Config
    from proxy.rotation import RotatingSecret
    from proxy.vitals import Vitals

logger = logging.getLogger(__name__)

FILE_NAME: Final = ".notebook-proxy-jwt-secret"  # no workspace can have this name
PATIENCE: Final = 10.0  # seconds that a start waits for it
_AGAIN: Final = 2.0
_EXPECTED: Final = "the secret that tokens are signed with"
_SHORTEST: Final = 32  # characters, as of one that is set


def is_own(config: Config) -> bool:
    """Tell whether tokens are asked for, and no key is named."""
    return config.auth == "jwt" and not (
        config.jwt_secret.get_secret_value() or config.jwt_public_key or config.jwt_jwks_url
    )


async def read_own_secret(config: Config) -> str:
    """Return the secret, made now if there is none yet.

    Raises:
        ConfigError: it cannot be kept, or what is kept is none.
        ProxyError: Kubernetes does not answer, or refuses.
    """
    if backend_name(config) == "kubernetes":
        from proxy.backends.kubernetes.keys import load_jwt_secret  # noqa: PLC0415 - costs 40 MB

        value = await load_jwt_secret(config)
    else:
        value = _in_file(config.local_root / FILE_NAME)
    if len(value) < _SHORTEST:
        raise ConfigError(f"The jwt_secret that was made has fewer than {_SHORTEST} characters; delete it, or set one.")
    return value


def _in_file(path: Path) -> str:
    try:
        path.parent.mkdir(parents=True, exist_ok=True)
        part = path.with_name(f"{path.name}.{secrets.token_hex(4)}")
        with os.fdopen(os.open(part, os.O_WRONLY | os.O_CREAT | os.O_EXCL, 0o600), "w") as file:
            file.write(secrets.token_urlsafe(48))
        try:
            os.link(part, path)  # whole, or not at all; and never over another
            logger.info(
                "jwt_secret is not set: one was made; `notebook-proxy token --jwt-secret-file %s` signs with it", path
            )
        except FileExistsError:
            pass
        finally:
            part.unlink()
        if path.stat().st_mode & 0o077:
            raise ConfigError(f"{path} can be read by others than its owner: chmod 600, or set jwt_secret")
        return path.read_text(encoding="utf-8").strip()
    except (OSError, ValueError) as error:
        reason = getattr(error, "strerror", None) or "it is no text"
        raise ConfigError(f"jwt_secret is not set, and cannot be kept in {path}: {reason}") from error


class OwnSecret:
    """Fetches it until it is there. Use as `async with`.

    Args:
        config: says where it is.
        secret: gets it.
        vitals: waits for it.
        clock: paces.
        read: returns it.
    """

    def __init__(
        self,
        config: Config,
        secret: RotatingSecret,
        vitals: Vitals,
        clock: Clock,
        read: Callable[[Config], Awaitable[str]] = read_own_secret,
    ) -> None:
        self._config = config
        self._secret = secret
        self._vitals = vitals
        self._clock = clock
        self._read = read

    async def __aenter__(self) -> Self:
        """Begin, and wait a moment.

        Raises:
            ConfigError: there is no place for it.
        """
        self._vitals.expect(_EXPECTED)
        self._task = asyncio.create_task(self._fetch(), name="fetch of the secret for tokens")
        try:
            await asyncio.wait((self._task,), timeout=PATIENCE)
            if self._task.done():
                self._task.result()
        except BaseException:
            await self.__aexit__()
            raise
        self._vitals.follow(self._task, ends=True)
        return self

    async def __aexit__(self, *_: object) -> None:
        self._task.cancel()
        with contextlib.suppress(asyncio.CancelledError, ConfigError):
            await self._task

    async def renew(self) -> None:
        """Do nothing: it comes when it comes.

        Raises:
            KeysUnavailable: it is not there yet.
        """
        if not self._secret():
            raise KeysUnavailable

    async def _fetch(self) -> None:
        is_told = False
        while True:
            try:
                self._secret.change(await self._read(self._config))
            except ConfigError:
                raise
            except ProxyError as error:
                logger.log(
                    logging.DEBUG if is_told else logging.WARNING, "jwt_secret cannot be read or made yet: %s", error
                )
                is_told = True
                await self._clock.sleep(_AGAIN)
            else:
                self._vitals.met(_EXPECTED)
                return
