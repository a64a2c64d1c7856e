"""`notebook-proxy serve`: serve notebooks until told to stop."""

from __future__ import annotations

import argparse
import asyncio
import contextlib
import errno
import logging
import sys
from typing import TYPE_CHECKING, Any, Final

from proxy import __version__, logs
from proxy.cli.flags import SOURCES, add_settings
from proxy.cli.terminal import PROG, complain
from proxy.config import Config, load, unknown_variables
from proxy.errors import ConfigError, ProxyError

if TYPE_CHECKING:
    from collections.abc import Callable

    from proxy.cli.terminal import Commands

_CANNOT_BIND: Final = frozenset(
    {errno.EADDRINUSE, errno.EADDRNOTAVAIL, errno.EACCES, errno.EPERM, errno.EAFNOSUPPORT, errno.ENODEV}
)

_log = logging.getLogger(__name__)


def add(commands: Commands) -> None:
    """Add the command to the parser of all."""
    parser = commands.add_parser(
        "serve",
        help="serve notebooks until SIGTERM or Ctrl-C",
        description="Serve notebooks until SIGTERM or Ctrl-C.",
        usage=f"{PROG} serve [--config FILE] [--<setting> VALUE ...]",
        epilog=SOURCES,
        formatter_class=argparse.RawDescriptionHelpFormatter,
        allow_abbrev=False,
        argument_default=argparse.SUPPRESS,
    )
    parser.later = add_settings
    parser.set_defaults(run=run)


def run(given: dict[str, Any]) -> int:
    """Serve until told to stop; return the exit status."""
    config_file = given.pop("config_file", None)
    try:
        config = load(given, config_file)
    except ConfigError as error:
        return complain(str(error), status=2)
    logs.configure(config.log_level, config.log_format, sys.stderr)
    logs.log_what_python_says()
    for sentence in unknown_variables():
        _log.warning(sentence)
    try:
        return _serve(config)
    except KeyboardInterrupt:  # before the signal handlers stood: nothing had been started
        return 0


def _serve(config: Config) -> int:
    from aiohttp import http_parser  # noqa: PLC0415 - heavy, and of no use to --help

    if http_parser.HttpRequestParser is http_parser.HttpRequestParserPy:
        return complain(
            "aiohttp's C extension is not loaded, and its Python parser is too slow and too lenient for a proxy: unset "
            "AIOHTTP_NO_EXTENSIONS, or run `pip install --force-reinstall --only-binary aiohttp aiohttp`"
        )
    from proxy.app import serve  # noqa: PLC0415 - the same

    try:
        with asyncio.Runner(loop_factory=_loop_factory()) as runner:
            runner.run(serve(config, lambda url: _announce(url, config.auth)))
    except ProxyError as error:
        return complain(str(error), status=2 if isinstance(error, ConfigError) else 1)
    except OSError as error:
        if error.filename is not None:  # a file's, not the socket's
            return complain(f"cannot use {error.filename}: {error.strerror}")
        if error.errno not in _CANNOT_BIND:
            raise
        reason = error.strerror.rpartition(": ")[2] if error.strerror else str(error)
        return complain(f"cannot listen on {config.listen}: {reason}; choose another address with --listen")
    return 0


def _loop_factory() -> Callable[[], asyncio.AbstractEventLoop] | None:
    try:
        import uvloop  # noqa: PLC0415 - not there on every platform
    except ImportError:
        return None
    return uvloop.new_event_loop


def _announce(url: str, auth: str) -> None:
    """Tell on stdout that the proxy listens, and what to open. Who started it may have stopped reading."""
    with_token = "?token=<one that `notebook-proxy token --user NAME --workspace demo` prints>" if auth == "jwt" else ""
    with contextlib.suppress(OSError):
        print(  # noqa: T201 - a command line's answer
            f"{PROG} {__version__} is listening on {url}\n"
            f"Open {url}/ws/demo/lab{with_token} "
            "(any name in place of demo is a workspace of its own; Ctrl-C stops the proxy).",
            flush=True,
        )
