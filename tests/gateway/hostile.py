"""The requests of hostile clients (`requests.yaml`), as bytes."""

from __future__ import annotations

import re
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Final, TypeAlias

from proxy.settings_yaml import read_typed_yaml

_NEVER_PLAIN: Final = re.compile(rb"^(Expect|Upgrade):|^Connection: close", re.IGNORECASE | re.MULTILINE)
_PLAIN_LINE: Final = re.compile(rb"GET /ws/demo/[!$-;=?-Z_a-z~]* HTTP/1\.1")

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

    @property
    def block(self) -> bytes:
        """What stands below the first line, up to the first empty one."""
        return self.send[self.send.find(b"\r\n") + 2 :].partition(b"\r\n\r\n")[0] + b"\r\n\r\n"

    @property
    def is_express(self) -> bool:
        """Whether it can be told from its bytes alone that its meaning is plain, once its headers are known."""
        line, _, rest = self.send.partition(b"\r\n")
        is_plain = _PLAIN_LINE.fullmatch(line) is not None and _NEVER_PLAIN.search(rest) is None
        return is_plain and rest == self.block and self.statuses == (200,)

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
