"""The settings of a notebook server's life, on either backend; a part of `config.Config`, which alone is used.

Declares, and judges nothing.
"""

from __future__ import annotations

from datetime import timedelta
from typing import Annotated, Literal

from pydantic_settings import BaseSettings, NoDecode

from proxy.settings_page import LIFE
from proxy.settings_types import Command, Count, Duration, OptionalDuration, Rules, StringMap, Switch, Text, setting


class LifeSettings(BaseSettings):
    """What starts, keeps and stops notebook servers reads these."""

    namespace: Text = setting(
        "default",
        LIFE,
        "namespace of every workspace, or a template with `{workspace_id}` or `{workspace_id_short}`, such as "
        "`agent-ws-{workspace_id_short}`",
    )
    ready_timeout: Duration = setting(
        timedelta(seconds=60), LIFE, "how long a caller of the library waits for a start; the start goes on after it"
    )
    max_concurrent_starts: Count = setting(
        100, LIFE, "how many workspaces start at once; more wait for their turn, in the order in which they came"
    )
    max_queued: Count = setting(1000, LIFE, "how many wait for their turn to start at most; more are answered 503")
    failed_ttl: Duration = setting(
        timedelta(minutes=10), LIFE, "how long a start may go on without an answer before it counts as failed"
    )
    idle_ttl: Duration = setting(timedelta(hours=4), LIFE, "how long a workspace may go unused before it is stopped")
    max_idle_ttl: Duration = setting(
        timedelta(hours=24), LIFE, "the longest `idle_ttl` that a workspace may have of its own"
    )
    reap_interval: Duration = setting(timedelta(minutes=5), LIFE, "how often the reaper looks for idle workspaces")
    reap_grace: Duration = setting(
        timedelta(seconds=10), LIFE, "how long other replicas have to object before an idle workspace is stopped"
    )
    reap_concurrency: Count = setting(20, LIFE, "how many idle workspaces are asked, or stopped, at once")
    protect_busy: Switch = setting(
        default=True,
        group=LIFE,
        description="whether a kernel or terminal that works, or did within `idle_ttl`, keeps a workspace that nobody "
        "uses; Jupyter is asked before a workspace is stopped",
    )
    max_busy: Duration = setting(
        timedelta(hours=24),
        LIFE,
        "how long after its last use a workspace is kept at most because its kernels work: one that waits for input is "
        "busy for ever",
    )
    max_unknown: Duration = setting(
        timedelta(hours=1), LIFE, "how long a workspace is kept that nobody uses, and that does not say what it does"
    )
    max_age: OptionalDuration = setting(
        None, LIFE, "how long a notebook server may run at most, whatever it does, or `off`"
    )
    reap_warning: Duration = setting(
        timedelta(minutes=10),
        LIFE,
        "how long before it is stopped for being idle people are warned, at most half of `idle_ttl`",
    )
    max_extend: Duration = setting(
        timedelta(hours=24), LIFE, "how long from now people may keep a workspace at most that nobody uses"
    )
    activity: Literal["traffic", "interactive"] = setting(
        "traffic",
        LIFE,
        "what counts as use: `traffic` is every request and every websocket frame, `interactive` leaves out what a "
        "page does by itself",
    )
    activity_rules: Annotated[Rules, NoDecode] = setting(
        (),
        LIFE,
        "rules about what counts in addition to the README's table, and before it, such as `GET api/metrics/** "
        "ignored`; a list, or separated by commas",
    )
    wake: Literal["any", "intent"] = setting(
        "any",
        LIFE,
        "what starts a workspace that does not run: `any` is every request, `intent` only what somebody means",
    )
    reaper: Switch = setting(default=True, group=LIFE, description="whether idle workspaces are stopped at all")
    dry_run_reaper: Switch = setting(
        default=False,
        group=LIFE,
        description="whether the reaper only logs what it would stop, and stops nothing; `serve --dry-run-reaper` is "
        "enough",
    )
    stop_grace: Duration = setting(
        timedelta(seconds=5), LIFE, "how long a notebook server may take to end after SIGTERM before SIGKILL"
    )
    notebook_command: Annotated[Command, NoDecode] = setting(
        (),
        LIFE,
        "command instead of JupyterLab's, a list or one shell-like string; `{port}`, `{base_url}`, `{token}`, `{root}` "
        "and `{workspace_id}` are replaced literally",
    )
    ready_path: Text = setting("api", LIFE, "path below the base URL that answers 200 when the server is ready")
    extra_env_vars: Annotated[StringMap, NoDecode] = setting(
        {},
        LIFE,
        "environment variables of the notebook server, as a mapping; values may contain `{workspace_id}` and "
        "`{workspace_id_short}` (its first 8 characters)",
        is_private=True,
    )
