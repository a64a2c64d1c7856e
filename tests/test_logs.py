"""One event is one line, whatever is in it; and programs find its fields by name."""

from __future__ import annotations

import io
import json
import logging
import os
import pty
import subprocess
import sys
from contextlib import contextmanager
from typing import TYPE_CHECKING, Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from proxy import logs
from proxy.logs import MOST, JsonFormatter, TextFormatter, visible

if TYPE_CHECKING:
    from collections.abc import Iterator

HOSTILE = [
    "a\nERROR proxy: forged",
    "a\r\n2026-01-01 00:00:00,000 ERROR proxy: forged",
    "\x1b[2J\x1b[1;1H",
    "a\x00b",
    "\x85next line of Latin-1",
    "\u2028\u2029",
    "\u202egnp.exe",
    "\udc80\udcff",
    "\ud800",
    "\x7f\x9b31m",
]


def record(sentence: str, *args: Any, exc_info: Any = None) -> logging.LogRecord:
    return logging.LogRecord("proxy.somewhere", logging.WARNING, __file__, 1, sentence, args, exc_info)


def broken(message: str) -> Any:
    try:
        raise ValueError(message)
    except ValueError:
        return sys.exc_info()


@pytest.mark.parametrize("text", HOSTILE)
def test_what_others_wrote_is_one_line_in_text_and_can_be_printed_anywhere(text: str) -> None:
    line = TextFormatter().format(record("answered 502: code=%s: %s", "x", text))

    assert len(line.splitlines()) == 1
    assert line.isprintable()
    line.encode("utf-8")


@pytest.mark.parametrize("text", HOSTILE)
def test_what_others_wrote_is_one_object_in_json_that_every_parser_takes(text: str) -> None:
    line = JsonFormatter().format(record("answered 502: code=%s: %s", text, text))

    assert line.isascii()
    assert len(line.splitlines()) == 1
    said = json.loads(line)
    json.dumps(said, ensure_ascii=False).encode("utf-8")  # no lone surrogates
    assert set(said) == {"time", "level", "logger", "message", "code"}


@given(st.text(st.characters()), st.text(st.characters()))
def test_no_text_makes_two_lines_of_one_event(first: str, second: str) -> None:
    event = record("it broke: what=%s: %s", first, second)

    assert len(TextFormatter().format(event).splitlines()) == 1
    assert "\n" not in JsonFormatter().format(event)


@pytest.mark.parametrize("text", HOSTILE)
def test_error_in_a_traceback_can_forge_no_event_either(text: str) -> None:
    event = record("it broke", exc_info=broken(text))

    first, *others = TextFormatter().format(event).split("\n")
    said = json.loads(JsonFormatter().format(event))

    assert first.endswith("WARNING proxy.somewhere: it broke")
    assert others
    assert all(line.startswith("    ") and line.isprintable() for line in others)
    assert said["exception"].startswith("Traceback")


def test_fields_of_the_sentence_are_fields_of_the_json_with_their_types() -> None:
    sentence = "workspace %s: id=%s after=%.1fs try=%d of 100%% ok=%s: %s"

    said = json.loads(JsonFormatter().format(record(sentence, "runs", "demo", 1.25, 3, True, "id=other")))

    assert said["message"] == "workspace runs: id=demo after=1.2s try=3 of 100% ok=True: id=other"
    assert {name: said[name] for name in ("id", "after", "try", "ok")} == {
        "id": "demo", "after": 1.25, "try": 3, "ok": True,
    }  # fmt: skip


def test_no_field_takes_the_place_of_what_every_line_has() -> None:
    said = json.loads(JsonFormatter().format(record("level=%s time=%s message=%s", "forged", 1, 2)))

    assert said["level"] == "warning"
    assert said["message"] == "level=forged time=1 message=2"
    assert said["time"].endswith("Z")


@pytest.mark.parametrize("value", [float("nan"), float("inf"), object(), None, b"\xff"])
def test_value_that_json_has_no_word_for_is_text(value: object) -> None:
    said = json.loads(JsonFormatter().format(record("x=%s", value)))

    assert said["x"] == str(value)


def test_sentence_without_arguments_is_taken_as_it_is() -> None:
    assert json.loads(JsonFormatter().format(record("100% of id=%s")))["message"] == "100% of id=%s"


def test_what_is_too_long_is_cut_and_says_so() -> None:
    assert visible("a" * (MOST + 5)) == "a" * MOST + "… (5 more)"
    assert len(JsonFormatter().format(record("%s", "a" * 1_000_000))) < 2 * MOST
    assert len(TextFormatter().format(record("x", exc_info=broken("b" * 1_000_000)))) < 3 * MOST


def test_words_of_other_languages_stay_readable() -> None:
    assert visible("Übung café 日本 🙂") == "Übung café 日本 🙂"


@contextmanager
def unconfigured() -> Iterator[None]:
    """Leave the root logger as a new process finds it, for as long as this lasts."""
    root = logging.getLogger()
    handlers, level = root.handlers[:], root.level
    root.handlers.clear()
    try:
        yield
    finally:
        root.handlers[:] = handlers
        root.setLevel(level)


class Terminal(io.StringIO):
    def isatty(self) -> bool:
        return True


@pytest.mark.parametrize(
    ("form", "stream", "is_json"),
    [
        ("auto", Terminal(), False),
        ("auto", io.StringIO(), True),
        ("json", Terminal(), True),
        ("text", io.StringIO(), False),
    ],
)
def test_terminal_gets_text_and_everything_else_json_unless_it_is_set(
    form: str, stream: io.StringIO, is_json: bool
) -> None:
    with unconfigured():
        logs.configure("info", form, stream)

        logging.getLogger("proxy.somewhere").info("workspace running: id=%s", "demo")
        logging.getLogger("proxy.somewhere").debug("nobody asked")

    [line] = stream.getvalue().splitlines()
    assert line.startswith("{") is is_json
    assert "workspace running: id=demo" in line


def test_log_of_a_process_whose_output_is_no_terminal_is_json(tmp_path: Any) -> None:
    command = [
        sys.executable,
        "-m",
        "proxy",
        "serve",
        "--listen=127.0.0.1:0",
        "--ops-listen=off",
        f"--local-root={tmp_path / 'ws'}",
    ]

    with subprocess.Popen(command, stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True) as process:
        assert process.stdout is not None
        process.stdout.readline()
        process.terminate()
        _, log = process.communicate(timeout=30)

    lines = [json.loads(line) for line in log.splitlines()]
    assert [line["message"].partition(":")[0] for line in lines] == ["shutting down", "stopped"]
    assert (lines[0]["signal"], lines[0]["grace"]) == ("SIGTERM", 10)


SAID_BY_PYTHON = """
import asyncio, gc, logging, sys, threading, warnings
from proxy import logs

class Broken:
    def __del__(self): raise ValueError("unraisable\\nforged")

    def __repr__(self): raise ValueError("no repr")

def fail(): raise ValueError("in a thread\\nforged")

async def forget():
    task = asyncio.create_task(asyncio.to_thread(fail))
    await asyncio.wait([task])
    del task
    gc.collect()

logs.configure("info", "json", sys.stderr)
logs.log_what_python_says()
warnings.warn("odd\\nforged", RuntimeWarning)
broken = Broken()
del broken
thread = threading.Thread(target=fail)
thread.start()
thread.join()
asyncio.run(forget())
raise SystemError("uncaught\\nforged")
"""


def test_what_python_itself_says_is_logged_too() -> None:
    done = subprocess.run([sys.executable, "-c", SAID_BY_PYTHON], capture_output=True, text=True, check=False)

    said = [json.loads(line) for line in done.stderr.splitlines()]
    assert done.returncode == 1
    assert [(line["level"], line["logger"]) for line in said] == [
        ("warning", "py.warnings"),
        ("error", "proxy.logs"),
        ("error", "proxy.logs"),
        ("error", "asyncio"),
        ("critical", "proxy.logs"),
    ]
    assert all("forged" in line.get("exception", line["message"]) for line in said)


def test_log_of_a_process_on_a_terminal_is_text(tmp_path: Any) -> None:
    ours, theirs = pty.openpty()
    command = [
        sys.executable,
        "-m",
        "proxy",
        "serve",
        "--listen=127.0.0.1:0",
        "--ops-listen=off",
        f"--local-root={tmp_path / 'ws'}",
    ]
    try:
        with subprocess.Popen(command, stdout=subprocess.PIPE, stderr=theirs, text=True) as process:
            os.close(theirs)
            assert process.stdout is not None
            process.stdout.readline()
            process.terminate()
            process.wait(30)
            log = os.read(ours, 10_000).decode()
    finally:
        os.close(ours)

    assert " INFO proxy.app: shutting down: signal=SIGTERM " in log
