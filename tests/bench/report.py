"""Samples, and what is said about them: medians, spread, ratios, and whether each bar is reached."""

from __future__ import annotations

import statistics
from collections import defaultdict
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Any, Final

from tests.bench.contestants import DIRECT, OURS

if TYPE_CHECKING:
    from tests.bench.cases import Bar, Case

_NOISE: Final = 0.05  # where a bar is "as much as", so much less is still as much
_BUSY: Final = 0.85  # of its core: who used less was not the limit


@dataclass
class Samples:
    """Every value of one case, by metric and contestant, in the order of repetitions."""

    case: Case
    values: dict[str, dict[str, list[float]]] = field(default_factory=lambda: defaultdict(lambda: defaultdict(list)))
    busy: dict[str, list[float]] = field(default_factory=lambda: defaultdict(list))

    def add(self, contestant: str, metrics: dict[str, float], busy: float) -> None:
        """Keep what one measurement found."""
        for metric, value in metrics.items():
            self.values[metric][contestant].append(value)
        self.busy[contestant].append(busy)

    def complete(self) -> None:
        """Add what is more than direct."""
        for metric in self.case.added:
            direct = self.values[metric].get(DIRECT, [])
            for contestant, values in list(self.values[metric].items()):
                if contestant != DIRECT and direct:
                    pairs = zip(values, direct, strict=False)
                    self.values[f"added {metric}"][contestant] = [value - floor for value, floor in pairs]

    def ratio(self, metric: str, against: str, of: str = OURS) -> float | None:
        """Return the median of the ratios in each repetition; None where too many of theirs are not above zero."""
        found = self.values.get(metric, {})
        pairs = list(zip(found.get(of, ()), found.get(against, ()), strict=False))
        ratios = [mine / theirs for mine, theirs in pairs if theirs > 0]
        return statistics.median(ratios) if ratios and len(ratios) * 2 > len(pairs) else None

    def is_load_bound(self, contestant: str) -> bool:
        """Tell whether something else than the contestant was the limit."""
        busy = self.busy.get(contestant, [])
        is_judged = self.case.is_saturating and contestant != DIRECT and busy
        return bool(is_judged) and statistics.median(busy) < _BUSY

    def as_json(self) -> dict[str, Any]:
        """Return everything."""
        return {
            "title": self.case.title,
            "metrics": {
                metric: {
                    name: {"median": statistics.median(values), "spread": spread(values), "all": values}
                    for name, values in found.items()
                }
                for metric, found in self.values.items()
            },
            "ratios": {
                metric: {name: self.ratio(metric, name) for name in found if name != OURS}
                for metric, found in self.values.items()
                if OURS in found
            },
            "busy": {name: statistics.median(values) for name, values in self.busy.items()},
            "bars": [{**vars(bar), "found": self.found(bar), "verdict": self.verdict(bar)} for bar in self.case.bars],
        }

    def found(self, bar: Bar) -> float | None:
        """Return what stands against a bar."""
        if bar.against is not None:
            return self.ratio(bar.metric, bar.against, bar.of)
        values = self.values.get(bar.metric, {}).get(bar.of)
        return statistics.median(values) if values else None

    def verdict(self, bar: Bar) -> str:
        """Say in a word whether it is reached."""
        found = self.found(bar)
        if found is None:
            return "not measured"
        if found >= bar.bound if bar.at_least else found <= bar.bound:
            return "reached"
        is_even = bar.against is not None and bar.bound == 1 and bar.at_least
        return "within noise" if is_even and found >= bar.bound * (1 - _NOISE) else "missed"


def spread(values: list[float]) -> float:
    """Return the distance of the most from the least, as a share of the median."""
    middle = statistics.median(values)
    return (max(values) - min(values)) / abs(middle) if middle else 0.0


def number(value: float) -> str:
    """Return three significant digits, or whole numbers with commas."""
    return f"{value:,.0f}" if abs(value) >= 100 else f"{value:.3g}"


def table(results: list[Samples], names: list[str]) -> str:
    """Return a Markdown table: medians with half the spread, and ratios of ours to each."""
    rows = [["case", "", *names]]
    rows.append(["---"] * len(rows[0]))
    for samples in results:
        for metric, found in samples.values.items():
            row = [samples.case.title, metric]
            for name in names:
                if not (values := found.get(name)):
                    row.append("")
                    continue
                cell = number(statistics.median(values))
                if len(values) > 1:
                    cell += f" ±{spread(values) * 50:.0f} %"
                ratio = samples.ratio(metric, name) if name != OURS and not samples.case.once else None
                if ratio is not None:
                    cell += f" ({ratio:.2f} x)"
                row.append(cell + (" *" if samples.is_load_bound(name) else ""))
            rows.append(row)
    return "\n".join(f"| {' | '.join(row)} |" for row in rows)


def bars(results: list[Samples]) -> str:
    """Return a Markdown table of what is to be reached."""
    rows = ["| case | must be | is | |", "| --- | --- | --- | --- |"]
    for samples in results:
        for bar in samples.case.bars:
            sign = "≥" if bar.at_least else "≤"
            what = f"{bar.metric} {sign} " + (
                f"{bar.bound:g} x {bar.against}" if bar.against is not None else number(bar.bound)
            )
            if bar.of != OURS:
                what = f"{bar.of}: {what}"
            found = samples.found(bar)
            shown = "" if found is None else f"{found:.2f} x" if bar.against is not None else number(found)
            rows.append(f"| {samples.case.title} | {what} | {shown} | {samples.verdict(bar)} |")
    return "\n".join(rows)
