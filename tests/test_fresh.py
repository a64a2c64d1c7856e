"""Files that change while the proxy runs: used when they have changed, kept as they were where they cannot be."""

from __future__ import annotations

import asyncio
import os
from typing import TYPE_CHECKING

import pytest

from proxy.fresh import INTERVAL, Fresh
from tests.gateway.conftest import HandClock
from tests.relay.origin import until

if TYPE_CHECKING:
    from pathlib import Path


class Value:
    """What is read from a file: a number."""

    def __init__(self, path: Path) -> None:
        self.path = path
        self.read: list[int] = []

    def use(self) -> None:
        self.read.append(int(self.path.read_text()))


@pytest.fixture
def value(tmp_path: Path) -> Value:
    (tmp_path / "number").write_text("1")
    return Value(tmp_path / "number")


@pytest.fixture
def fresh(value: Value) -> Fresh:
    found = Fresh(HandClock())
    found.watch("the number", [value.path], value.use)
    return found


def test_a_file_is_used_at_once_and_again_only_when_its_content_has_changed(value: Value, fresh: Fresh) -> None:
    fresh.look()
    os.utime(value.path, (0, 0))
    fresh.look()
    assert value.read == [1]

    value.path.write_text("2")
    fresh.look()
    fresh.look()

    assert value.read == [1, 2]


def test_a_defect_in_the_use_of_one_file_is_tried_again_and_keeps_no_other_from_being_read(
    value: Value, caplog: pytest.LogCaptureFixture
) -> None:
    fresh, is_broken, broken = Fresh(HandClock()), False, Value(value.path)

    def use() -> None:
        if is_broken:
            raise KeyError("number")
        broken.use()

    fresh.watch("the first", [value.path], use)
    fresh.watch("the second", [value.path], value.use)
    value.path.write_text("2")
    is_broken = True
    fresh.look()
    fresh.look()
    assert (broken.read, value.read) == ([1], [1, 2])
    assert [record.message for record in caplog.records if record.exc_info] == ["the first: its use broke"]

    is_broken = False
    fresh.look()

    assert broken.read == [1, 2]


def test_what_cannot_be_used_at_first_is_the_caller_s_affair(tmp_path: Path) -> None:
    value, fresh = Value(tmp_path / "missing"), Fresh(HandClock())

    with pytest.raises(OSError, match="No such file"):
        fresh.watch("the number", [value.path], value.use)
    value.path.write_text("1")
    fresh.look()

    assert value.read == []


def test_a_change_is_seen_through_the_links_that_kubernetes_swaps(tmp_path: Path) -> None:
    for version, text in (("..1", "1"), ("..2", "2")):
        (tmp_path / version).mkdir()
        (tmp_path / version / "number").write_text(text)
        os.utime(tmp_path / version / "number", (1, 1))
    (tmp_path / "..data").symlink_to("..1")
    (tmp_path / "number").symlink_to("..data/number")
    value, fresh = Value(tmp_path / "number"), Fresh(HandClock())
    fresh.watch("the number", [value.path], value.use)

    (tmp_path / "..next").symlink_to("..2")
    (tmp_path / "..next").rename(tmp_path / "..data")
    fresh.look()

    assert value.read == [1, 2]


def test_what_cannot_be_used_is_said_once_and_tried_until_it_can(
    value: Value, fresh: Fresh, caplog: pytest.LogCaptureFixture
) -> None:
    value.path.write_text("secret-that-is-no-number")
    fresh.look()
    fresh.look()
    value.path.unlink()
    fresh.look()
    assert value.read == [1]
    said = [record.getMessage() for record in caplog.records if record.levelname == "ERROR"]
    assert len(said) == 2
    assert all("the number cannot be used; what was read before stays in use" in text for text in said)

    value.path.write_text("1")  # as it was before
    fresh.look()

    assert value.read == [1, 1]


def test_what_failed_for_another_reason_than_its_content_is_tried_again(tmp_path: Path) -> None:
    path, faults, used = tmp_path / "file", [ValueError("between two writes")], []
    path.write_text("a")
    fresh = Fresh(HandClock())

    def use() -> None:
        if path.read_text() == "b" and faults:
            raise faults.pop()
        used.append(path.read_text())

    fresh.watch("it", [path], use)
    path.write_text("b")
    fresh.look()
    assert used == ["a"]
    fresh.look()

    assert used == ["a", "b"]


async def test_it_looks_every_few_seconds_and_outlives_a_defect(value: Value, caplog: pytest.LogCaptureFixture) -> None:
    clock = HandClock()
    fresh, defects = Fresh(clock), 0

    def use() -> None:
        nonlocal defects
        if value.path.read_text() == "2":
            defects += 1
            raise RuntimeError("a defect")
        value.use()

    fresh.watch("the number", [value.path], use)
    task = asyncio.create_task(fresh.run())
    for text in ("2", "3"):
        value.path.write_text(text)
        await until(lambda: clock._sleepers and not clock._sleepers[-1][1].done())
        clock.advance(INTERVAL)
        await until(lambda text=text: value.read[-1] == 3 if text == "3" else defects)  # type: ignore[misc]
    task.cancel()

    assert value.read == [1, 3]
    assert "the number: its use broke" in caplog.text
