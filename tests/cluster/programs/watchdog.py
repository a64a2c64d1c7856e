"""Outlives the cluster for a moment: when its standard input ends, it kills every process that carries the mark.

A process is marked by an environment variable, which its children inherit, also those that start a session of their
own.
"""

import os
import signal
import sys
import time
from pathlib import Path

_LOOKS = 5


def read_environment(process: Path) -> bytes:
    """Return a process's environment: for an instant of its `exec` there is none, so look again."""
    for _ in range(_LOOKS):
        if environment := (process / "environ").read_bytes():
            return environment
        (process / "exe").readlink()  # fails for what has no program: a kernel thread, a zombie
        time.sleep(0.001)
    return b""


def marked(mark: bytes) -> list[int]:
    """Return the processes whose environment holds a variable that begins with `mark`."""
    found = []
    for entry in Path("/proc").iterdir():
        if entry.name.isdigit() and int(entry.name) != os.getpid():
            try:
                if b"\0" + mark in b"\0" + read_environment(entry):
                    found.append(int(entry.name))
            except OSError:
                continue  # it ended meanwhile, or is somebody else's
    return found


def kill_marked(mark: bytes) -> int:
    """Kill them and return how many there were."""
    found = marked(mark)
    for pid in found:
        try:
            os.kill(pid, signal.SIGKILL)
        except ProcessLookupError:
            continue
    return len(found)


if __name__ == "__main__":
    sys.stdin.read()
    while kill_marked(sys.argv[1].encode()):
        time.sleep(0.05)
