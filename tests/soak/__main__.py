"""`python -m tests.soak`: run the soak; print a table and one line of JSON; exit with 1 if a check fails.

The proxy is warmed up with the same load that is then kept up, and looked at when nothing runs, before and after.
"""

from __future__ import annotations

import argparse
import asyncio
import json
import random
import resource
import sys
import tempfile
import time
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, Final

import uvloop

from tests.soak.idle import IdleCheck
from tests.soak.load import Load
from tests.soak.verdict import WRONG, leaks
from tests.soak.watching import Proxy

IDLE_TTL: Final = 3.0  # seconds
_FLAGS: Final = (f"--idle-ttl={IDLE_TTL:g}s", "--reap-interval=0.5", "--reap-grace=0.2", "--stop-grace=2s")
_ALLOWED_GROWTH: Final = 16_000_000  # bytes of resident memory: what fragments, over any time
_MINUTE: Final = 60.0
_LOG_END: Final = 8000  # characters


@dataclass
class Report:
    """What was found.

    Attributes:
        figures: what was measured, by name.
        failures: what is wrong, in words; empty is a pass.
    """

    figures: dict[str, Any] = field(default_factory=dict)
    failures: list[str] = field(default_factory=list)


async def soak(minutes: float, seed: int, directory: Path, report: Report) -> None:
    """Keep mixed load up for so long, and look at what is left of it."""
    proxy = await Proxy(directory, *_FLAGS).listening()
    try:
        load = Load(proxy.port, seed, IDLE_TTL)
        await load.run(min(max(minutes * _MINUTE / 10, 8), _MINUTE))
        before = await proxy.at_rest()
        print(f"warmed up, at rest: {_line(before.as_json())}", flush=True)
        cpu, began = proxy.cpu_seconds, time.monotonic()
        async with asyncio.TaskGroup() as group:
            watch = group.create_task(_follow(proxy, report))
            await load.run(minutes * _MINUTE)
            watch.cancel()
        seconds = time.monotonic() - began
        report.figures["proxy_cpu_share"] = round((proxy.cpu_seconds - cpu) / seconds, 2)
        after = await proxy.at_rest()
        print(f"at rest again: {_line(after.as_json())}", flush=True)
        report.failures += leaks(before, after, _ALLOWED_GROWTH)
    except BaseException:
        sys.stderr.write(proxy.log()[-_LOG_END:])
        raise
    finally:
        report.figures["exit_status"] = await proxy.stop()
        log = proxy.log()
    _conclude(report, load, log)
    report.figures |= {"seconds": round(seconds), "before": before.as_json(), "after": after.as_json()}


def _conclude(report: Report, load: Load, log: str) -> None:
    tally = load.tally
    report.figures["answers"] = dict(tally.rows())
    report.figures["starts"] = log.count("notebook server started:")
    report.figures["stops"] = log.count("notebook server stopped:")
    report.figures["crashes"] = log.count("notebook server ended by itself:")
    report.failures += [f"wrong answer: {words}" for words in tally.wrong]
    if (wrong := tally.total(WRONG)) > len(tally.wrong):
        report.failures.append(f"and {wrong - len(tally.wrong)} more wrong answers")
    errors = [line for line in log.splitlines() if " ERROR " in line or line.startswith("Traceback")]
    report.failures += [f"the proxy logged: {line}" for line in errors[:20]]
    if report.figures["exit_status"]:
        report.failures.append(f"the proxy ended with status {report.figures['exit_status']}")
    for name in ("starts", "stops", "crashes"):
        if not report.figures[name]:
            report.failures.append(f"nothing was tried: no {name}")


async def _follow(proxy: Proxy, report: Report) -> None:
    """Print once in a while what the proxy holds under load."""
    began = time.monotonic()
    samples = report.figures.setdefault("under_load", [])
    while True:
        await asyncio.sleep(30)
        sample = {
            "second": round(time.monotonic() - began),
            "rss": proxy.rss,
            "descriptors": len(proxy.descriptors),
            "children": proxy.children,
        }
        samples.append(sample)
        print(_line(sample), flush=True)


def _line(held: dict[str, Any]) -> str:
    shown = {name: f"{value / 1e6:.1f} MB" if name == "rss" else value for name, value in held.items()}
    return " ".join(f"{name}={value}" for name, value in shown.items())


def _print(report: Report) -> None:
    for what, ended in report.figures.get("answers", {}).items():
        counts = ", ".join(f"{outcome} {count}" for outcome, count in sorted(ended.items()))
        print(f"{what:34} {counts}")
    for name, value in report.figures.items():
        if not isinstance(value, dict | list):
            print(f"{name:34} {value}")
    print(json.dumps({"figures": report.figures, "failures": report.failures}))
    for failure in report.failures:
        print(f"FAILED {failure}")
    print("failed" if report.failures else "passed", flush=True)


async def main() -> int:
    """Run what the command line asks for; return the exit status."""
    parser = argparse.ArgumentParser(prog="python -m tests.soak", description="Soak the proxy, and look for leaks.")
    parser.add_argument("--minutes", type=float, default=10, help="of mixed load; 0 leaves it out (default: 10)")
    parser.add_argument("--seed", type=int, default=random.SystemRandom().randrange(1_000_000))
    parser.add_argument("--idle-websockets", type=int, default=9000, help="0 leaves it out (default: 9000)")
    parser.add_argument("--hold", type=float, default=60, help="seconds that they are held (default: 60)")
    wanted = parser.parse_args()
    _, most = resource.getrlimit(resource.RLIMIT_NOFILE)
    resource.setrlimit(resource.RLIMIT_NOFILE, (most, most))
    report = Report({"seed": wanted.seed})
    print(f"seed {wanted.seed}", flush=True)
    with tempfile.TemporaryDirectory(prefix="soak-", ignore_cleanup_errors=True) as directory:
        if wanted.minutes:
            (mixed := Path(directory, "mixed")).mkdir()
            await soak(wanted.minutes, wanted.seed, mixed, report)
        if wanted.idle_websockets:
            (idle := Path(directory, "idle")).mkdir()
            await IdleCheck(wanted.idle_websockets, wanted.hold, idle).run(report.figures, report.failures)
    _print(report)
    return 1 if report.failures else 0


if __name__ == "__main__":
    with asyncio.Runner(loop_factory=uvloop.new_event_loop) as runner:
        sys.exit(runner.run(main()))
