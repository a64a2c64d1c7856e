"""Measure this proxy beside others: `python -m tests.bench`, or `make bench`. See README.md in this directory."""

from __future__ import annotations

import argparse
import json
import os
import platform
import resource
import signal
import subprocess
import sys
import tempfile
import time
from contextlib import ExitStack
from datetime import UTC, datetime
from pathlib import Path
from typing import TYPE_CHECKING, Any, Final

from proxy import __version__
from tests.bench import load, report
from tests.bench.cases import CASES, Case, Lane
from tests.bench.contestants import DIRECT, ON_CLUSTER, OURS, WITH_AUTH, Contestant, StandIns, all_contestants
from tests.bench.notebook import find_nginx
from tests.bench.programs import REPOSITORY, Cores, plan_cores
from tests.bench.report import Samples

if TYPE_CHECKING:
    from types import FrameType

RESULT: Final = REPOSITORY / "build/bench/result.json"


class Progress:
    """One line on stderr that says what is being measured; a line per case where that is no terminal."""

    def __init__(self, total: int) -> None:
        self._total = total
        self._done = 0
        self._began = time.monotonic()
        self._case = ""

    def step(self, case: str, repetition: int, contestant: str) -> None:
        """Say what comes."""
        passed = time.monotonic() - self._began
        left = passed / self._done * (self._total - self._done) if self._done else 0.0
        text = f"[{self._done}/{self._total}] {case}, repetition {repetition}: {contestant} (about {left:.0f} s left)"
        if sys.stderr.isatty():
            sys.stderr.write(f"\r\033[K{text}")
        elif case != self._case:
            sys.stderr.write(text + "\n")
        sys.stderr.flush()
        self._case = case
        self._done += 1

    def end(self) -> None:
        """Leave a clean line."""
        if sys.stderr.isatty():
            sys.stderr.write("\r\033[K")


def measure(
    case: Case, contestants: list[Contestant], directory: Path, progress: Progress, *, seconds: float, repetitions: int
) -> Samples:
    """Measure one case: each contestant once in every repetition, so that what changes meanwhile meets all."""
    samples = Samples(case)
    with ExitStack() as stack:
        lanes = []
        for contestant in contestants:
            lane = Lane(contestant, directory / case.name / contestant.name.replace(" ", "-"))
            stack.callback(lane.stop)
            lanes.append(lane)
        for repetition in range(1 if case.once else repetitions):
            for lane in lanes:
                progress.step(case.name, repetition + 1, lane.contestant.name)
                if case.is_saturating:
                    lane.running()
                cpu, began = lane.cpu, time.perf_counter()
                metrics = case.measure(lane, seconds)
                passed = time.perf_counter() - began
                samples.add(lane.contestant.name, metrics, max(0.0, lane.cpu - cpu) / passed)
    samples.complete()
    return samples


def run(given: argparse.Namespace, cores: Cores) -> tuple[list[Samples], list[str]]:
    """Measure all that was asked for; return it, and who was left out."""
    wanted = [case for case in CASES if not given.case or case.name in given.case]
    seconds, repetitions = (1.0, 1) if given.quick else (given.seconds, given.repetitions)
    if cores.load is not None:
        os.sched_setaffinity(0, {cores.load})
    hard = resource.getrlimit(resource.RLIMIT_NOFILE)[1]
    resource.setrlimit(resource.RLIMIT_NOFILE, (hard, hard))
    results = []
    with tempfile.TemporaryDirectory(prefix="notebook-bench-") as name, ExitStack() as stack:
        directory = Path(name)
        stand_ins = StandIns(cores, directory / "stand-ins")
        stack.callback(stand_ins.stop)
        everybody, left_out = [], []
        for contestant in all_contestants(cores, stand_ins):
            if given.contestant and contestant.name not in (*given.contestant, OURS, ON_CLUSTER, WITH_AUTH, DIRECT):
                continue
            if reason := contestant.missing():
                left_out.append(f"{contestant.name} is left out: {reason}")
                sys.stderr.write(left_out[-1] + "\n")
            else:
                everybody.append(contestant)
        plan = [(case, [each for each in everybody if each.name in case.contestants]) for case in wanted]
        progress = Progress(sum(len(who) * (1 if case.once else repetitions) for case, who in plan))
        for case, who in plan:
            results.append(measure(case, who, directory, progress, seconds=seconds, repetitions=repetitions))
        progress.end()
    return results, left_out


def _versions() -> dict[str, str]:
    found = {"notebook-proxy": __version__, "python": platform.python_version()}
    for name, argv in {
        "nginx": [find_nginx() or "nginx", "-v"],
        "configurable-http-proxy": [str(REPOSITORY / "build/bench/node_modules/.bin/configurable-http-proxy"), "-V"],
        "node": ["node", "--version"],
    }.items():
        try:
            done = subprocess.run(argv, check=True, capture_output=True, text=True)
        except (OSError, subprocess.CalledProcessError):
            continue
        found[name] = (done.stdout + done.stderr).strip().rpartition("/")[2]
    return found


def _interrupt(number: int, frame: FrameType | None) -> None:
    raise KeyboardInterrupt


def main() -> int:
    """Measure, print, and keep the JSON."""
    parser = argparse.ArgumentParser(prog="python -m tests.bench", description=__doc__)
    names = [case.name for case in CASES]
    parser.add_argument("--case", action="append", choices=names, help="only this case; repeatable")
    parser.add_argument("--contestant", action="append", help="beside this proxy and direct only this; repeatable")
    parser.add_argument("--quick", action="store_true", help="one repetition of a second each: does it all work?")
    parser.add_argument("--repetitions", type=int, default=5, help="of each case (default: 5)")
    parser.add_argument("--seconds", type=float, default=2.0, help="of each measurement (default: 2)")
    parser.add_argument("--json", type=Path, default=RESULT, help=f"where the JSON goes (default: {RESULT})")
    given = parser.parse_args()
    if not given.case or not set(given.case) <= {"supervisor", "cold-start", "restart"}:
        absent = load.missing() or ("" if find_nginx() else "install Debian's nginx-light: it is the stand-in as well")
        if absent:
            sys.stderr.write(f"{absent}\n")
            return 1
    signal.signal(signal.SIGTERM, _interrupt)
    cores = plan_cores()
    if cores.note:
        sys.stderr.write(cores.note + "\n")
    try:
        results, left_out = run(given, cores)
    except KeyboardInterrupt:
        sys.stderr.write("\ninterrupted: nothing is left running\n")
        return 130
    now, versions = datetime.now(UTC), _versions()
    whole: dict[str, Any] = {
        "date": f"{now:%Y-%m-%d}", "cores": cores.count, "note": cores.note, "versions": versions,
        "left_out": left_out, "cases": {each.case.name: each.as_json() for each in results},
    }  # fmt: skip
    given.json.parent.mkdir(parents=True, exist_ok=True)
    given.json.write_text(json.dumps(whole, indent=1) + "\n")
    shown = [name for name in (*whole_order(results),) if any(name in by for r in results for by in r.values.values())]
    print(f"{now:%Y-%m-%d}, {cores.count} cores; " + ", ".join(f"{name} {text}" for name, text in versions.items()))
    print()
    print(report.table(results, shown))
    print("\n± half the spread; in brackets the median of this proxy's ratio to it; * did not use its core to the full")
    print()
    print(report.bars(results))
    print(f"\nAll values: {given.json}")
    return 0


def whole_order(results: list[Samples]) -> list[str]:
    """Return everybody who took part, in the order of the cases."""
    order: dict[str, None] = {}
    for samples in results:
        order.update(dict.fromkeys(samples.case.contestants))
    return list(order)


if __name__ == "__main__":
    sys.exit(main())
