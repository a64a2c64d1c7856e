"""The command line: `notebook-proxy serve` and `notebook-proxy settings`.

Flags are generated from `Config`, so that a setting is declared once. What a person did wrong ends in one line on
stderr and an exit status: 2 for a wrong setting or flag, 1 for what this machine lacks. Everything heavy is imported
by `serve` alone; `--help` answers at once.
"""

from __future__ import annotations

import argparse
import asyncio
import contextlib
import errno
import logging
import sys
from pathlib import Path
from typing import TYPE_CHECKING, Final, Literal, NoReturn, get_args, get_origin

from proxy import __version__
from proxy.config import ENV_PREFIX, Config, load, settings_table, unknown_variables
from proxy.errors import ConfigError, ProxyError
from proxy.settings_page import flag_texts

if TYPE_CHECKING:
    from collections.abc import Callable, Sequence

    from pydantic.fields import FieldInfo

_PROG: Final = "notebook-proxy"
_LOG_FORMAT: Final = "%(asctime)s %(levelname)s %(name)s: %(message)s"
_SOURCES: Final = f"""\
A setting has one name in three places; the later one wins:
  --config FILE  a YAML mapping          idle_ttl: 30m
  environment    {ENV_PREFIX}<SETTING>  {ENV_PREFIX}IDLE_TTL=30m
  flag           --<setting>             --idle-ttl 30m
Durations are 4h, 5m, 90s or a number of seconds. Empty and zero values mean the default. A secret is no flag, which all
users of the machine could read: --<secret>-file names a file that holds it."""
_CANNOT_BIND: Final = frozenset(
    {errno.EADDRINUSE, errno.EADDRNOTAVAIL, errno.EACCES, errno.EPERM, errno.EAFNOSUPPORT, errno.ENODEV}
)

_log = logging.getLogger(__name__)


class _Parser(argparse.ArgumentParser):
    """A parser that says what is wrong in one line: the usage of thirty flags would hide it."""

    def error(self, message: str) -> NoReturn:
        self.exit(2, f"{_PROG}: {message}; `{self.prog} --help` lists what there is\n")


def main(argv: Sequence[str] | None = None) -> int:
    """Run the command and return its exit status.

    Args:
        argv: the arguments, without the program's name; by default the process's own.

    Raises:
        SystemExit: `--help`, `--version`, or arguments that make no sense.
    """
    parser = _parser()
    given = vars(parser.parse_args(argv))
    match given.pop("command", None):
        case "serve":
            return _serve(given.pop("config_file", None), given)
        case "settings":
            sys.stdout.write(settings_table())
            return 0
        case _:
            parser.print_help(sys.stderr)
            return 2


def _parser() -> argparse.ArgumentParser:
    parser = _Parser(
        prog=_PROG,
        description="Starts Jupyter notebook servers when somebody opens them, and stops them when nobody uses them.",
        epilog=f"`{_PROG} serve --help` explains every setting.",
        allow_abbrev=False,
    )
    parser.add_argument("--version", action="version", version=f"{_PROG} {__version__}")
    commands = parser.add_subparsers(dest="command", metavar="COMMAND", title="commands", parser_class=_Parser)
    serve = commands.add_parser(
        "serve",
        help="serve notebooks until SIGTERM or Ctrl-C",
        description="Serve notebooks until SIGTERM or Ctrl-C.",
        usage=f"{_PROG} serve [--config FILE] [--<setting> VALUE ...]",
        epilog=_SOURCES,
        formatter_class=argparse.RawDescriptionHelpFormatter,
        allow_abbrev=False,
        argument_default=argparse.SUPPRESS,
    )
    serve.add_argument("--config", dest="config_file", type=Path, metavar="FILE", help="YAML file of settings")
    _add_flags(serve)
    commands.add_parser("settings", help="print all settings as a Markdown table", allow_abbrev=False)
    return parser


def _add_flags(parser: argparse.ArgumentParser) -> None:
    """Add a flag for each setting, grouped as `Config` groups them. Values stay text: `load` reads them."""
    groups: dict[str, argparse._ArgumentGroup] = {}
    for name, title, text in flag_texts(Config.model_fields):
        if title not in groups:
            groups[title] = parser.add_argument_group(title)
        metavar = _metavar(Config.model_fields[name]) if name in Config.model_fields else "FILE"
        flag = f"--{name.replace('_', '-')}"
        alone = "on" if metavar == "on|off" else None  # what a switch means without a value
        groups[title].add_argument(
            flag, dest=name, metavar=metavar, help=text.replace("%", "%%"), nargs="?" if alone else None, const=alone
        )


def _metavar(info: FieldInfo) -> str:
    if info.annotation is bool:
        return "on|off"
    return "|".join(get_args(info.annotation)) if get_origin(info.annotation) is Literal else "VALUE"


def _serve(config_file: Path | None, flags: dict[str, str]) -> int:
    """Serve until told to stop; return the exit status."""
    try:
        config = load(flags, config_file)
    except ConfigError as error:
        return _complain(str(error), status=2)
    logging.basicConfig(stream=sys.stderr, level=config.log_level.upper(), format=_LOG_FORMAT)
    for sentence in unknown_variables():
        _log.warning(sentence)
    try:
        return _run(config)
    except KeyboardInterrupt:  # before the signal handlers stood: nothing had been started
        return 0


def _run(config: Config) -> int:
    from aiohttp import http_parser  # noqa: PLC0415 - heavy, and of no use to --help

    if http_parser.HttpRequestParser is http_parser.HttpRequestParserPy:
        return _complain(
            "aiohttp's C extension is not loaded, and its Python parser is too slow and too lenient for a proxy: unset "
            "AIOHTTP_NO_EXTENSIONS, or run `pip install --force-reinstall --only-binary aiohttp aiohttp`"
        )
    from proxy.app import serve  # noqa: PLC0415 - the same

    try:
        with asyncio.Runner(loop_factory=_loop_factory()) as runner:
            runner.run(serve(config, _announce))
    except ProxyError as error:
        return _complain(str(error), status=2 if isinstance(error, ConfigError) else 1)
    except OSError as error:
        if error.filename is not None:  # a file's, not the socket's
            return _complain(f"cannot use {error.filename}: {error.strerror}")
        if error.errno not in _CANNOT_BIND:
            raise
        reason = error.strerror.rpartition(": ")[2] if error.strerror else str(error)
        return _complain(f"cannot listen on {config.listen}: {reason}; choose another address with --listen")
    return 0


def _loop_factory() -> Callable[[], asyncio.AbstractEventLoop] | None:
    try:
        import uvloop  # noqa: PLC0415 - not there on every platform
    except ImportError:
        return None
    return uvloop.new_event_loop


def _announce(url: str) -> None:
    """Tell on stdout that the proxy listens, and what to open. Who started it may have stopped reading."""
    with contextlib.suppress(OSError):
        print(  # noqa: T201 - a command line's answer
            f"{_PROG} {__version__} is listening on {url}\n"
            f"Open {url}/ws/demo/lab (any name in place of demo is a workspace of its own; Ctrl-C stops the proxy).",
            flush=True,
        )


def _complain(message: str, *, status: int = 1) -> int:
    sys.stderr.write(f"{_PROG}: {' '.join(message.split())}\n")
    return status
