"""Build the wheel and the sdist into dist/, look at both, install the wheel where nothing else is, and list its parts.

`make dist` runs it with the tools of the extra `release`. It publishes nothing. Exit status 1, and one line that says
why, if anything is not as it should be.
"""

from __future__ import annotations

import re
import shutil
import subprocess
import sys
import tarfile
import tempfile
import venv
import zipfile
from pathlib import Path
from typing import Final

from proxy.version import __version__

ROOT: Final = Path(__file__).parent.parent.parent
DIST: Final = ROOT / "dist"
# What a wheel without would only miss at run time.
NEEDED: Final = ("proxy/py.typed", "proxy/openapi.json", "proxy/pages/style.css", "proxy/pages/workspace.html")
ONLY_IN_SDIST: Final = ("tests/", "deploy/", "docs/", "Dockerfile", "Makefile")


class Wrong(Exception):
    """Something is not as it should be."""


def run(*command: str, cwd: Path = ROOT) -> str:
    """Run a program and return what it prints."""
    done = subprocess.run(command, cwd=cwd, capture_output=True, text=True, check=False)
    if done.returncode:
        raise Wrong(f"{' '.join(command)}: exit status {done.returncode}\n{done.stdout}{done.stderr}")
    return done.stdout


def build() -> tuple[Path, Path]:
    """Return the wheel, built from the sdist, and the sdist."""
    shutil.rmtree(DIST, ignore_errors=True)
    run(sys.executable, "-m", "build", "--outdir", str(DIST))
    (wheel,), (sdist,) = DIST.glob("*.whl"), DIST.glob("*.tar.gz")
    run(sys.executable, "-m", "twine", "check", "--strict", str(wheel), str(sdist))
    return wheel, sdist


def look(wheel: Path, sdist: Path) -> None:
    """Compare what is in them with what is in the repository."""
    with zipfile.ZipFile(wheel) as archive:
        held = set(archive.namelist())
    with tarfile.open(sdist) as archive:
        given = {member.name.partition("/")[2] for member in archive.getmembers() if member.isfile()}
    committed = set(run("git", "ls-files").splitlines())
    package = {name for name in committed if name.startswith("proxy/")}
    if missing := sorted(package - held) + [name for name in NEEDED if name not in held]:
        raise Wrong(f"missing in the wheel: {', '.join(missing)}")
    if stray := [name for name in held if not name.startswith(("proxy/", "notebook_proxy-"))]:
        raise Wrong(f"not of the package, and yet in the wheel: {', '.join(sorted(stray))}")
    if missing := sorted(name for name in committed if name.startswith(ONLY_IN_SDIST) and name not in given):
        raise Wrong(f"missing in the sdist: {', '.join(missing)}")
    for name in (wheel.name, sdist.name):
        if f"-{__version__}" not in name:
            raise Wrong(f"{name} is not of version {__version__}")


def install(wheel: Path) -> int:
    """Install the wheel into an environment of its own, ask it for its version, list its parts; return their number."""
    with tempfile.TemporaryDirectory() as where:
        venv.create(where, with_pip=True)
        python, command = f"{where}/bin/python", f"{where}/bin/notebook-proxy"
        run(python, "-m", "pip", "--disable-pip-version-check", "--quiet", "install", str(wheel), cwd=Path(where))
        told = run(command, "--version", cwd=Path(where)).strip()
        if told != f"notebook-proxy {__version__}":
            raise Wrong(f"the installed command says {told!r}, not version {__version__}")
        run(command, "serve", "--help", cwd=Path(where))
        run(python, "-m", "pip", "check", cwd=Path(where))
        run(python, "-m", "pip", "--quiet", "uninstall", "--yes", "pip", cwd=Path(where))
        bill = DIST / f"notebook-proxy-{__version__}.cdx.json"
        run(sys.executable, "-m", "cyclonedx_py", "environment", "--output-reproducible", "-o", str(bill), python)
    text = bill.read_text(encoding="utf-8")
    if '"notebook-proxy"' not in text or '"aiohttp"' not in text:
        raise Wrong(f"{bill.name} does not name what is installed")
    return len(re.findall(r'"purl":', text))


def told_in_changelog() -> None:
    """See that the changelog has something to say."""
    text = (ROOT / "CHANGELOG.md").read_text(encoding="utf-8")
    if "## [Unreleased]" not in text and f"## [{__version__}]" not in text:
        raise Wrong(f"CHANGELOG.md has neither [Unreleased] nor [{__version__}]")


def main() -> int:
    """Do all of it; return the exit status."""
    try:
        told_in_changelog()
        wheel, sdist = build()
        look(wheel, sdist)
        parts = install(wheel)
    except Wrong as wrong:
        print(f"not fit to be released: {wrong}", file=sys.stderr)
        return 1
    print(
        f"Built dist/{wheel.name} and dist/{sdist.name}; the wheel installs and runs, with {parts} parts (CycloneDX)."
    )
    return 0


if __name__ == "__main__":
    sys.exit(main())
