"""`notebook-proxy token`: a signed token, for development and scripts."""

from __future__ import annotations

import argparse
import asyncio
import sys
from datetime import UTC, datetime, timedelta
from pathlib import Path
from typing import TYPE_CHECKING, Any

from proxy.cli.terminal import PROG, complain
from proxy.config import load
from proxy.errors import ConfigError, ProxyError
from proxy.own_secret import is_own, read_own_secret
from proxy.settings_types import parse_duration

if TYPE_CHECKING:
    from proxy.cli.terminal import Commands


def add(commands: Commands) -> None:
    """Add the command to the parser of all."""
    parser = commands.add_parser(
        "token",
        help="print a token with which a user may enter (HS256, for development and scripts)",
        description="Print a token with which a user may enter where auth is jwt. It is signed with jwt_secret, which "
        "comes from the settings as it does for `serve`; whoever has that secret can be anybody.",
        usage=f"{PROG} token --user NAME [--workspace ID ...] [--ttl 10m]",
        allow_abbrev=False,
        argument_default=argparse.SUPPRESS,
    )
    parser.add_argument("--user", required=True, metavar="NAME", help="whom it names")
    parser.add_argument(
        "--workspace",
        action="append",
        metavar="ID",
        help="a workspace that they may open, or a pattern such as `team-*`; may be repeated",
    )
    parser.add_argument("--ttl", metavar="DURATION", help="how long it holds (default: 10m)")
    parser.add_argument("--config", dest="config_file", type=Path, metavar="FILE", help="YAML file of settings")
    parser.add_argument("--jwt-secret-file", metavar="FILE", help="file that holds jwt_secret")
    parser.set_defaults(run=run)


def run(given: dict[str, Any]) -> int:
    """Print a token; return the exit status."""
    flags = {"jwt_secret_file": given["jwt_secret_file"]} if "jwt_secret_file" in given else {}
    try:
        config = load(flags, given.get("config_file"))
    except ConfigError as error:
        return complain(str(error), status=2)
    secret = config.jwt_secret.get_secret_value()
    if not secret and not is_own(config):
        return complain(
            "token needs jwt_secret: set NOTEBOOK_PROXY_JWT_SECRET, or name a --jwt-secret-file; or auth = jwt without "
            "any key, where the proxy makes one",
            status=2,
        )
    try:
        secret = secret or asyncio.run(read_own_secret(config))
    except ProxyError as error:
        return complain(str(error))
    try:
        ttl = parse_duration(given.get("ttl", "10m"))
        return _print(secret, given, ttl, config.jwt_issuer, config.jwt_audience)
    except ValueError as error:
        return complain(str(error), status=2)


def _print(secret: str, given: dict[str, Any], ttl: timedelta, issuer: str, audience: str) -> int:
    """Print a token that the proxy would take.

    Raises:
        ValueError: it would not.
    """
    from proxy.auth.claims import user_of  # noqa: PLC0415 - heavy, and of no use to --help
    from proxy.auth.mint import mint  # noqa: PLC0415 - the same

    if ttl <= timedelta():
        raise ValueError("--ttl must be a duration above zero, such as 10m")
    now = datetime.now(UTC)
    workspaces = given.get("workspace", [])
    try:
        expires = (now + ttl).timestamp()
    except OverflowError:
        raise ValueError("--ttl is too long") from None
    user_of({"sub": given["user"], "workspaces": workspaces, "exp": expires})
    token = mint(secret, given["user"], workspaces, now=now, ttl=ttl, issuer=issuer, audience=audience)
    sys.stdout.write(f"{token}\n")
    return 0
