"""The requests of hostile clients (`requests.yaml`), as bytes."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path
from typing import Any, Final, TypeAlias

from proxy.settings_yaml import read_typed_yaml

Seen: TypeAlias = tuple[str, str, bytes]
"""Method, target and body of a request, as somebody saw it."""


@dataclass(frozen=True)
class Case:
    """What one client sends, and what becomes of it."""

    name: str
    number: str
    send: bytes
    statuses: tuple[int, ...]
    reaches: tuple[Seen, ...]

    def __str__(self) -> str:
        return f"{self.number}-{self.name}"


def _cases() -> list[Case]:
    cases: list[Case] = []
    entries: Any = read_typed_yaml(Path(__file__).with_name("requests.yaml").read_text(encoding="utf-8"))
    for entry in entries:
        for line in entry.get("each", [""]):
            number = f"c{len(cases):03}"

            def fill(text: str, line: str = line, number: str = number) -> str:
                return text.replace("{line}", line).replace("{n}", number)

            status = entry["status"]
            reaches = tuple(
                (fill(method), fill(target), fill(body).encode("latin-1"))
                for method, target, body in entry.get("reaches", [])
            )
            statuses = tuple(status) if isinstance(status, list) else (status,)
            cases.append(Case(entry["name"], number, fill(entry["send"]).encode("latin-1"), statuses, reaches))
    return cases


CASES: Final = _cases()
