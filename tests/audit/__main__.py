"""Look for known vulnerabilities, dangerous calls and secrets; exit with 1 if there are any."""

from __future__ import annotations

import os
import subprocess
import sys
from pathlib import Path
from typing import Final

from tests.audit import dependencies, leaks

BANDIT_OPTIONS: Final = ("--severity-level", "medium")  # of the rest, which needs a look each time, Ruff has most
ROOT: Final = Path(__file__).parent.parent.parent


def main() -> int:
    """Say what was found; return the exit status."""
    cache = Path(sys.prefix)
    calls = subprocess.run(
        [sys.executable, "-m", "bandit", "--quiet", *BANDIT_OPTIONS, "--recursive", "proxy"], cwd=ROOT, check=False
    )
    if calls.returncode == 0:
        print("No dangerous call found (bandit).")
    names = leaks.committed(ROOT)
    secrets = leaks.find(ROOT, names, cache / ".scanned.json")
    print("\n".join(secrets) or f"No secret found in {len(names)} files (detect-secrets).")
    answer = dependencies.find(dependencies.shipped(), cache / ".audited.json")
    print("\n".join(answer.vulnerable) or tell(answer))
    is_unasked = bool(answer.unasked) and os.environ.get("REQUIRE_AUDIT", "") not in {"", "0"}
    return 1 if calls.returncode or secrets or answer.vulnerable or is_unasked else 0


def tell(answer: dependencies.Answer) -> str:
    """Return what is known where no vulnerability is."""
    if not answer.unasked:
        return "No known vulnerability in what is installed (pip-audit)."
    some = ", ".join(answer.unasked[:3]) + (" and others" if len(answer.unasked) > 3 else "")
    return (
        f"WARNING: {len(answer.unasked)} PACKAGES WERE NOT LOOKED UP for known vulnerabilities ({some}): this package "
        f"index has no advisories, or is out of reach ({answer.reason}). REQUIRE_AUDIT=1 makes that a failure."
    )


if __name__ == "__main__":
    sys.exit(main())
