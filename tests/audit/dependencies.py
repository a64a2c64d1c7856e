"""Known vulnerabilities of what `pip install notebook-proxy[local]` installs, as pip-audit finds them.

It asks the package index's own list of advisories, which is not there on every network and every mirror. Where it was
not asked, that is said and never taken for "none": `REQUIRE_AUDIT=1` makes a failure of it. Asked once a day for each
set of versions; one package is asked for first, so that an index without advisories is not asked for all.
"""

from __future__ import annotations

import hashlib
import json
import subprocess
import sys
import tempfile
import time
from dataclasses import dataclass
from importlib.metadata import PackageNotFoundError, distribution
from pathlib import Path
from typing import TYPE_CHECKING, Any, Final, TypeAlias

from packaging.requirements import Requirement
from packaging.utils import canonicalize_name

if TYPE_CHECKING:
    from collections.abc import Callable, Mapping, Sequence

ACCEPTED: Final[dict[str, str]] = {}
"""Advisories that do not concern this project: the id, and why."""
FRESH: Final = 86_400.0  # seconds until an answer is asked for again
PATIENCE: Final = 3_600.0  # the same where there was none
_DEADLINE: Final = 300.0
_PROBE: Final = "aiohttp"  # every index that has advisories knows it

Versions: TypeAlias = "Mapping[str, str]"
Ask: TypeAlias = "Callable[[Versions], Answer]"


@dataclass(frozen=True, slots=True)
class Answer:
    """What is known.

    Args:
        vulnerable: one line for each advisory.
        unasked: what no advisory could be looked up for.
        reason: why not.
    """

    vulnerable: tuple[str, ...] = ()
    unasked: tuple[str, ...] = ()
    reason: str = ""


def shipped(name: str = "notebook-proxy", extras: Sequence[str] = ("local",)) -> dict[str, str]:
    """Return each package that a person installs, with the version that is installed here; without `name` itself."""
    found: dict[str, str] = {}
    waiting = [(name, tuple(extras))]
    seen = set()
    while waiting:
        package, wanted = waiting.pop()
        if (package, wanted) in seen:
            continue
        seen.add((package, wanted))
        try:
            installed = distribution(package)
        except PackageNotFoundError:  # for another platform or Python
            continue
        found[canonicalize_name(package)] = installed.version
        for line in installed.requires or ():
            needed = Requirement(line)
            if needed.marker is None or any(needed.marker.evaluate({"extra": extra}) for extra in ("", *wanted)):
                waiting.append((needed.name, tuple(sorted(needed.extras))))
    found.pop(canonicalize_name(name))
    return found


def look_up(versions: Versions) -> Answer:
    """Ask the package index for advisories about exactly these versions."""
    with tempfile.TemporaryDirectory() as folder:
        pinned = Path(folder, "requirements.txt")
        pinned.write_text("".join(f"{name}=={version}\n" for name, version in sorted(versions.items())))
        command = [sys.executable, "-m", "pip_audit", "--requirement", str(pinned), "--no-deps", "--disable-pip"]
        command += ["--format", "json", "--progress-spinner", "off", "--timeout", "10"]
        try:
            done = subprocess.run(command, capture_output=True, text=True, timeout=_DEADLINE, check=False)
        except subprocess.TimeoutExpired:
            return Answer(unasked=tuple(sorted(versions)), reason="no answer in time")
    try:
        report: list[dict[str, Any]] = json.loads(done.stdout)["dependencies"]
    except (ValueError, KeyError):
        last = (done.stderr.strip().splitlines() or ["no output"])[-1]
        return Answer(unasked=tuple(sorted(versions)), reason=last[:200])
    return read(report, versions)


def read(report: Sequence[Mapping[str, Any]], versions: Versions) -> Answer:
    """Return what a report of pip-audit says. What it skipped, or left out, was not asked."""
    asked = {canonicalize_name(entry["name"]) for entry in report if "skip_reason" not in entry}
    reasons = [str(entry["skip_reason"]) for entry in report if "skip_reason" in entry]
    vulnerable = tuple(
        f"{entry['name']} {entry['version']}: {advisory['id']}"
        + (f", mended in {', '.join(advisory['fix_versions'])}" if advisory.get("fix_versions") else "")
        for entry in report
        for advisory in entry.get("vulns", ())
        if not {advisory["id"], *advisory.get("aliases", ())} & ACCEPTED.keys()
    )
    return Answer(vulnerable, tuple(sorted(set(versions) - asked)), reasons[0] if reasons else "")


def find(versions: Versions, cache: Path, ask: Ask = look_up, now: Callable[[], float] = time.time) -> Answer:
    """Return what is known of these versions, asking only if that is too long ago."""
    named = hashlib.sha256(json.dumps([sorted(versions.items()), sorted(ACCEPTED)]).encode()).hexdigest()
    try:
        known = json.loads(cache.read_text(encoding="utf-8"))
        vulnerable, unasked = map(tuple, known["lists"])
        answer = Answer(vulnerable, unasked, known["reason"])
        if known["of"] == named and 0 <= now() - known["at"] < (PATIENCE if answer.unasked else FRESH):
            return answer
    except (OSError, ValueError, KeyError, TypeError):
        pass
    answer = _ask(versions, ask)
    lists = answer.vulnerable, answer.unasked
    cache.write_text(json.dumps({"of": named, "at": now(), "lists": lists, "reason": answer.reason}), encoding="utf-8")
    return answer


def _ask(versions: Versions, ask: Ask) -> Answer:
    if _PROBE in versions:
        probed = ask({_PROBE: versions[_PROBE]})
        if probed.unasked:
            return Answer(unasked=tuple(sorted(versions)), reason=probed.reason)
    return ask(versions)
