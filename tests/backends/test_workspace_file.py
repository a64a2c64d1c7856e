"""`.workspace.yaml`: edited by people and by us, written by anything that runs in the workspace."""

from __future__ import annotations

import os
from datetime import timedelta
from pathlib import Path

import pytest

from proxy.backends.workspace_file import MAX_BYTES, NAME, read, write
from proxy.errors import NotKept
from proxy.notes import Notes
from proxy.workspace_settings import WorkspaceSettings

EDITED = """\
# mine, do not delete
idle-ttl: 2h   # lunch
owner: 'ada'
colour: red
"""


def test_no_file_says_nothing(tmp_path: Path) -> None:
    assert read(tmp_path) == read(tmp_path / "missing") == Notes()


def test_file_that_a_person_wrote_is_read(tmp_path: Path) -> None:
    (tmp_path / NAME).write_text("idle-ttl: 2h\nprotect-busy: off\nmax-age: 1d\nprofile: gpu\nowner: ada\n")

    assert read(tmp_path) == Notes(WorkspaceSettings(timedelta(hours=2), False, timedelta(days=1), "gpu"), owner="ada")


def test_writing_changes_the_values_and_leaves_what_people_wrote_around_them(tmp_path: Path) -> None:
    (tmp_path / NAME).write_text(EDITED)

    notes = write(tmp_path, {"idle-ttl": "30m", "owner": None, "stop-reason": 'because: "so" \\1'})

    text = (tmp_path / NAME).read_text()
    assert text.startswith("# mine, do not delete\n")
    assert "colour: red\n" in text
    assert notes == read(tmp_path)
    assert (notes.settings.idle_ttl, notes.owner) == (timedelta(minutes=30), None)
    assert notes.stop_reason == 'because: "so" \\1'
    assert [entry.name for entry in tmp_path.iterdir()] == [NAME]


@pytest.mark.parametrize(
    "text", ["owner: |\n  ada\n  lovelace\n", "owner:\n  - ada\n", "{owner: ada}\n", '"owner": ada']
)
def test_value_of_another_form_is_replaced_too(tmp_path: Path, text: str) -> None:
    (tmp_path / NAME).write_text(text + "colour: red\n" if text.endswith("\n") and "{" not in text else text)

    assert write(tmp_path, {"owner": "grace"}).owner == "grace"
    assert read(tmp_path).owner == "grace"


def test_directory_is_made_where_it_is_missing(tmp_path: Path) -> None:
    assert write(tmp_path / "new" / "one", {"owner": "ada"}) == read(tmp_path / "new" / "one") == Notes(owner="ada")


@pytest.mark.parametrize(
    "broken", [b"a: [", b"- a\n- b\n", b"\xff\xfe", b"x" * (MAX_BYTES + 1), b"a: &a [*a]\n? [b]\n: c\n"]
)
def test_broken_file_is_reported_and_neither_fatal_nor_overwritten(tmp_path: Path, broken: bytes) -> None:
    (tmp_path / NAME).write_bytes(broken)

    notes = read(tmp_path)
    with pytest.raises(NotKept, match="is broken"):
        write(tmp_path, {"owner": "ada"})

    assert notes.settings == WorkspaceSettings()
    assert [NAME in complaint for complaint in notes.complaints] == [True]
    assert (tmp_path / NAME).read_bytes() == broken


def test_link_is_neither_read_nor_written_through(tmp_path: Path) -> None:
    secret = tmp_path / "secret"
    secret.write_text("owner: root\n")
    root = tmp_path / "workspace"
    root.mkdir()
    (root / NAME).symlink_to(secret)

    notes = read(root)
    with pytest.raises(NotKept):
        write(root, {"owner": "ada"})

    assert notes.owner is None
    assert "root" not in str(notes)
    assert secret.read_text() == "owner: root\n"


def test_pipe_is_not_waited_for(tmp_path: Path) -> None:
    os.mkfifo(tmp_path / NAME)

    assert len(read(tmp_path).complaints) == 1


def test_what_is_no_plain_file_leaves_no_descriptor_open(tmp_path: Path) -> None:
    (tmp_path / NAME).mkdir()
    before = len(list(Path("/proc/self/fd").iterdir()))

    for _ in range(3):
        assert read(tmp_path).complaints

    assert len(list(Path("/proc/self/fd").iterdir())) == before


def test_directory_in_its_place_is_a_complaint(tmp_path: Path) -> None:
    (tmp_path / NAME).mkdir()

    assert len(read(tmp_path).complaints) == 1
    with pytest.raises(NotKept):
        write(tmp_path, {"owner": "ada"})
