"""One proxy for one directory: two would each start a notebook server for the same workspace.

The kernel holds the lock for the process and lets go of it however that ends; the file itself only tells whose it is.
"""

from __future__ import annotations

import errno
import fcntl
import logging
import os
from contextlib import suppress
from typing import TYPE_CHECKING, Final

from proxy.errors import ConfigError

if TYPE_CHECKING:
    from pathlib import Path

logger = logging.getLogger(__name__)

NAME: Final = ".lock"  # no workspace's: an id cannot begin with a dot
_LONGEST_PID: Final = 20


class DirectoryLock:
    """A lock on a directory, held from `acquire` to `release` or to the end of the process."""

    def __init__(self, directory: Path) -> None:
        self._directory = directory
        self._file: int | None = None

    def acquire(self) -> None:
        """Take it; the directory is made where it is missing. Where locks are not supported there is none.

        Raises:
            ConfigError: another process has it.
            OSError: the directory cannot be made or written.
        """
        self._directory.mkdir(parents=True, exist_ok=True)
        path = self._directory / NAME
        file = os.open(path, os.O_RDWR | os.O_CREAT | os.O_NOFOLLOW, 0o600)
        try:
            fcntl.flock(file, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except OSError as error:
            holder = os.pread(file, _LONGEST_PID, 0).decode("ascii", "replace").strip()
            os.close(file)
            if error.errno in (errno.EWOULDBLOCK, errno.EACCES):
                raise ConfigError(
                    f"local_root = {str(self._directory)!r}: another proxy{holder and f' (process {holder})'} uses it; "
                    "stop that one, or give this one a directory of its own"
                ) from error
            logger.warning("no lock on %s (%s): let only one proxy use it", self._directory, error.strerror)
            return
        os.ftruncate(file, 0)
        os.pwrite(file, str(os.getpid()).encode(), 0)
        self._file = file

    def release(self) -> None:
        """Give it back, if it is held. The file stays: to remove it could take it from who has just locked it."""
        file, self._file = self._file, None
        if file is not None:
            with suppress(OSError):
                os.ftruncate(file, 0)
            os.close(file)
