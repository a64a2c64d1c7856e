"""Run one command and leave nothing of it behind: the parent of every notebook server on this machine.

A script of its own, standard library only: `python -I -S guard.py --grace SECONDS -- COMMAND...`. It ends the command
and all its descendants, those in sessions of their own too, when its standard input ends (the proxy alone holds the
other end, so the kernel closes it however the proxy ends), when a signal tells it to, or when the command has ended
by itself. It exits as the command did: with its status, or 128 + signal number; 127 not found, 126 cannot be run.

Linux: orphans come to it, for it is a subreaper, and if it is killed itself the command dies with it (prctl(2)).
Elsewhere it knows only the command's process group, and nothing ends the command when the guard is killed.
"""

from __future__ import annotations

import ctypes
import os
import selectors
import signal
import subprocess
import sys
import time

IS_LINUX = sys.platform == "linux"
NOT_FOUND, CANNOT_RUN = 127, 126  # POSIX, Shell Command Language, 2.8.2
SIGNAL_BASE = 128
_USAGE = 2
_TELLING = (signal.SIGTERM, signal.SIGINT, signal.SIGHUP)
_PR_SET_PDEATHSIG, _PR_SET_CHILD_SUBREAPER = 1, 36  # linux/prctl.h
_KILL_AFTER_SECONDS = 1.0
"""Between SIGTERM and SIGKILL for what is left when the command itself has ended."""
_TICK_SECONDS = 0.05
"""How often is looked again for what is left; only while ending."""


def descendants(ancestor: int, *, zombies: bool = False) -> list[int]:
    """Return the ids of all living descendants of a process, from one look at /proc: empty where there is none."""
    children: dict[int, list[tuple[int, str]]] = {}
    for name in os.listdir("/proc") if IS_LINUX else ():  # noqa: PTH208 - pathlib would double what a guard imports
        if name.isdecimal() and (stat := _read_stat(name)):
            # proc(5): pid (comm) state ppid ...; a comm may itself hold spaces and brackets
            state, parent = stat.rpartition(")")[2].split()[:2]
            children.setdefault(int(parent), []).append((int(name), state))
    found: list[int] = []
    parents = [ancestor]
    while parents:
        for pid, state in children.get(parents.pop(), ()):
            parents.append(pid)
            if zombies or state != "Z":
                found.append(pid)
    return found


def guarded(command: list[str], grace_seconds: float) -> list[str]:
    """Return the command line that runs a command under a guard."""
    return [sys.executable, "-I", "-S", __file__, "--grace", str(grace_seconds), "--", *command]


def describe(status: int) -> tuple[str, str]:
    """Return, for programs and for people, what a guard's exit status says of its command; negative is a signal."""
    if status == NOT_FOUND:
        return "command-not-found", "its command was not found"
    if status == CANNOT_RUN:
        return "command-not-executable", "its command cannot be executed"
    number = -status if status < 0 else status - SIGNAL_BASE
    if number not in signal.valid_signals():
        return "exited", f"it exited with status {status}"
    name = next((known.name for known in signal.Signals if known == number), f"signal {number}")
    hint = ", which the system also does when memory runs out" if number == signal.SIGKILL else ""
    return "exited", f"it was ended by {name}{hint}"


def kill_family(guard: int) -> None:
    """Kill what a guard should have ended; the guard itself when nothing else is left. One sweep, to be repeated."""
    for pid in descendants(guard) or [guard]:
        try:
            os.kill(pid, signal.SIGKILL)
        except (ProcessLookupError, PermissionError):
            continue


def _read_stat(pid: str) -> str:
    try:
        with open(f"/proc/{pid}/stat", encoding="utf-8", errors="replace") as file:  # noqa: PTH123 - as above
            return file.read()
    except OSError:  # it has just ended
        return ""


def _prctl(option: int, value: int) -> None:
    libc = ctypes.CDLL(None, use_errno=True)
    if libc.prctl(option, *(ctypes.c_ulong(number) for number in (value, 0, 0, 0))):
        raise OSError(ctypes.get_errno(), "prctl")


class Guard:
    """The command, and what this process has been told."""

    def __init__(self, grace_seconds: float) -> None:
        self._grace_seconds = grace_seconds
        self._main = 0
        self._status: int | None = None
        self._is_told = False
        self._has_children = True
        self._untouchable: set[int] = set()
        self._selector = selectors.PollSelector()  # epoll refuses /dev/null
        self._selector.register(0, selectors.EVENT_READ)
        self._signals, wakeup = os.pipe()
        os.set_blocking(wakeup, False)
        self._selector.register(self._signals, selectors.EVENT_READ)
        signal.set_wakeup_fd(wakeup, warn_on_full_buffer=False)
        for number in (signal.SIGCHLD, *_TELLING):
            signal.signal(number, lambda *_: None)

    def run(self, command: list[str]) -> int:
        """Run the command; return the status to exit with when nothing of it is left."""
        try:
            self._spawn(command)
        except OSError as error:
            sys.stderr.write(f"cannot run {command[0]!r}: {error.strerror}\n")
            return NOT_FOUND if isinstance(error, FileNotFoundError) else CANNOT_RUN
        while self._status is None and not self._is_told:
            self._wait(None)
        self._end_main()
        self._end_rest()
        status = self._status or 0
        return status if status >= 0 else SIGNAL_BASE - status

    def _spawn(self, command: list[str]) -> None:
        guard = os.getpid()
        if IS_LINUX:
            _prctl(_PR_SET_CHILD_SUBREAPER, 1)

        def die_with_guard() -> None:
            if IS_LINUX:
                _prctl(_PR_SET_PDEATHSIG, signal.SIGKILL)
            if os.getppid() != guard:  # it died before the call above
                os._exit(CANNOT_RUN)

        # preexec_fn is safe in a single thread. A session of its own: `kill 0` in a notebook must not reach the guard.
        child = subprocess.Popen(  # noqa: S603 - no shell; the command is the administrator's
            command,
            stdin=subprocess.DEVNULL,
            start_new_session=True,
            preexec_fn=die_with_guard,  # noqa: PLW1509
        )
        self._main = child.pid
        child.returncode = 0  # it is reaped here, not by Popen

    def _wait(self, seconds: float | None) -> None:
        """Wait for a signal, a child's end or the end of standard input, and note it."""
        for key, _ in self._selector.select(seconds):
            received = os.read(key.fd, 4096)
            if key.fd == self._signals:
                self._is_told = self._is_told or any(number in _TELLING for number in received)
            elif not received:
                self._is_told = True
                self._selector.unregister(key.fd)
        self._reap()

    def _reap(self) -> None:
        try:
            while (ended := os.waitpid(-1, os.WNOHANG))[0]:
                if ended[0] == self._main:
                    self._status = os.waitstatus_to_exitcode(ended[1])
        except ChildProcessError:
            self._has_children = False

    def _end_main(self) -> None:
        """Give the command its grace: Jupyter ends its kernels itself on SIGTERM."""
        deadline = time.monotonic() + self._grace_seconds
        if self._status is None:
            self._kill(self._main, signal.SIGTERM)
        while self._status is None and (left := deadline - time.monotonic()) > 0:
            self._wait(left)
        if self._status is None:
            self._kill(self._main, signal.SIGKILL)

    def _end_rest(self) -> None:
        """End what is left, looking again until there is nothing: new ones can appear meanwhile.

        A subreaper has children as long as it has descendants: that is the truth, for one look at /proc can miss one
        that moves just then. What another user owns (sudo) cannot be ended from here, and is left.
        """
        if not IS_LINUX:
            self._end_group()
            return
        late = time.monotonic() + _KILL_AFTER_SECONDS
        asked: set[int] = set()
        self._reap()
        while self._has_children:
            left = set(descendants(os.getpid(), zombies=True))
            if left and left <= self._untouchable:
                sys.stderr.write(f"processes that cannot be ended: {sorted(left)}\n")
                return
            is_late = time.monotonic() >= late
            for pid in left if is_late else left - asked:
                self._kill(pid, signal.SIGKILL if is_late else signal.SIGTERM)
            asked |= left
            self._wait(_TICK_SECONDS)

    def _end_group(self) -> None:
        for number in (signal.SIGTERM, signal.SIGKILL):
            try:
                os.killpg(self._main, number)
            except (ProcessLookupError, PermissionError):  # macOS says EPERM of zombies
                return
            time.sleep(_KILL_AFTER_SECONDS)

    def _kill(self, pid: int, number: signal.Signals) -> None:
        try:
            os.kill(pid, number)
        except ProcessLookupError:
            pass
        except PermissionError:
            self._untouchable.add(pid)


def main(arguments: list[str]) -> int:
    """Guard a command, as the command line says; return the exit status."""
    match arguments:
        case ["--grace", seconds, "--", _, *_]:
            return Guard(float(seconds)).run(arguments[3:])
        case _:
            sys.stderr.write("usage: guard.py --grace SECONDS -- COMMAND...\n")
            return _USAGE


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
