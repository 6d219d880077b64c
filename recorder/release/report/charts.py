"""Which curves a report draws, as data for its script and as figures that say the same in words."""

from __future__ import annotations

import re
from collections.abc import Iterator, Mapping
from dataclasses import asdict, dataclass, field
from typing import Any

from recorder.cli.quantities import size
from recorder.ledger.columns import KNOWN
from recorder.release.report.curves import THROUGHPUT, Curves
from recorder.release.report.envelope import Envelope
from recorder.release.report.history import History
from recorder.release.report.html import Markup, tag

STEPS, SECONDS = "steps", "seconds"
# Buckets of all curves of a kind together: what keeps the page below 5 MB.
_OF_A_METRIC, _OF_LOGGED, _OF_SYSTEM = 5000, 12000, 14000
_TRAINING = (
    ("loss", "Loss", "nats per token"),
    ("learning_rate", "Learning rate", ""),
    (THROUGHPUT, "Throughput", "tokens per second"),
    ("grad_norm", "Gradient norm", "L2, before clipping"),
    ("step_seconds", "Time of a step", "seconds, of the slowest worker"),
)
_SYSTEM = (
    ("cpu_percent", "Processors", "% of all cores"),
    ("memory_used_bytes", "Memory used", "bytes"),
    ("memory_percent", "Memory used", "%"),
    ("load_1m", "Load", "over a minute"),
    (r"disk_(read|write)_bytes_per_s", "Disk", "bytes per second"),
    ("disk_free_bytes", "Disk free", "bytes"),
    (r"network_(sent|received)_bytes_per_s", "Network", "bytes per second"),
    (r"gpu(\d+)_utilisation_percent", "GPU use", "%"),
    (r"gpu(\d+)_memory_used_bytes", "GPU memory", "bytes"),
    (r"gpu(\d+)_power_watts", "GPU power", "watts"),
    (r"gpu(\d+)_temperature_c", "GPU temperature", "°C"),
    ("gpu_energy_joules", "Energy of all GPUs", "joules"),
)


@dataclass
class Chart:
    """One chart: its `lines` each have a name, a colour, whether they count, and a curve; `dots` are points on it."""

    id: str
    title: str
    unit: str
    axis: str
    words: str
    lines: list[dict[str, Any]] = field(default_factory=list)
    dots: dict[str, Any] | None = None

    def figure(self, *, wide: bool = False) -> Markup:
        """The place where the script draws it, with what can be said of it in words."""
        caption = tag("figcaption", self.title, tag("small", self.unit))
        style = "chart wide" if wide else "chart"
        return tag("figure", caption, tag("p", self.words, class_="dim"), class_=style, data_chart=self.id)


def training_charts(curves: Curves, history: History) -> list[Chart]:
    """The charts over the steps that every run has, as far as it recorded them."""
    found = [
        _over_steps(f"metric-{name}", title, unit, curves, curves.columns[name].at_most(_OF_A_METRIC))
        for name, title, unit in _TRAINING
        if name in curves.columns and curves.columns[name].size
    ]
    if history.validation.size:
        dots = history.validation.record("validation")
        if found and found[0].id == "metric-loss":
            found[0].dots = dots
        else:
            found.insert(0, Chart("validation", "Validation loss", "nats per token", STEPS, "", dots=dots))
    return found


def logged_charts(curves: Curves) -> list[Chart]:
    """A chart for everything that the training script logged itself."""
    names = [name for name in curves.columns if name not in KNOWN and name != THROUGHPUT and curves.columns[name].size]
    share = _OF_LOGGED // max(1, len(names))
    return [
        _over_steps(f"logged-{n}", name, "", curves, curves.columns[name].at_most(share))
        for n, name in enumerate(names)
    ]


def system_charts(curves: Curves) -> list[Chart]:
    """Charts over the time, a line for each node and device."""
    share = _OF_SYSTEM // max(1, len(curves.system))
    found = []
    for number, (pattern, title, unit) in enumerate(_SYSTEM):
        matches = [match for name in sorted(curves.system) if (match := re.fullmatch(pattern, name))]
        lines = [line for match in matches for line in _system_lines(match, curves.system[match[0]].at_most(share))]
        for colour, line in enumerate(lines):
            line["colour"] = colour % 8
        if lines:
            words = _words({_device(match): curves.system[match[0]] for match in matches}, "bytes" in pattern)
            found.append(Chart(f"system-{number}", title, unit, SECONDS, words, lines))
    return found


def record(charts: list[Chart]) -> list[dict[str, Any]]:
    """As JSON for the script."""
    return [asdict(chart) for chart in charts]


def coarsest(charts: list[Chart]) -> int:
    """The most steps that one point of these charts stands for."""
    return max((line["curve"]["width"] for chart in charts for line in chart.lines), default=1)


def _over_steps(id_: str, title: str, unit: str, curves: Curves, envelope: Envelope) -> Chart:
    chart = Chart(id_, title, unit, STEPS, _words({"": envelope}))
    for group in envelope.groups:
        line = curves.lines[group]
        parts = [f"attempt {line.attempt}"] if line.attempt is not None else []
        parts += [f"membership {line.membership}"] if line.membership is not None else []
        parts += [] if line.kept else ["superseded"]
        colour = (line.membership if line.membership is not None else line.attempt or 0) % 2
        entry = {"name": ", ".join(parts), "colour": colour, "kept": line.kept, "curve": envelope.record(group)}
        chart.lines.append(entry)
    # What no longer counts lies under what counts.
    chart.lines.sort(key=lambda entry: bool(entry["kept"]))
    return chart


def _system_lines(match: re.Match[str], envelope: Envelope) -> Iterator[dict[str, Any]]:
    for node in sorted(envelope.groups):
        name = ", ".join(part for part in (_device(match), node) if part)
        yield {"name": name, "colour": 0, "kept": True, "curve": envelope.record(node)}


def _device(match: re.Match[str]) -> str:
    """`gpu 0`, `read`, `sent`; nothing for what a node has one of."""
    if not match.groups():
        return ""
    return f"gpu {match[1]}" if match[0].startswith("gpu") else match[1]


def _words(envelopes: Mapping[str, Envelope], is_bytes: bool = False) -> str:
    """The least and the greatest value of each curve, for those who do not see it."""
    said = []
    for name, envelope in envelopes.items():
        buckets = [bucket for group in envelope.groups.values() for bucket in group.values()]
        finite = [bucket for bucket in buckets if bucket.count]
        if not finite:
            continue
        low, high = min(bucket.low for bucket in finite), max(bucket.high for bucket in finite)
        shown = (size(low), size(high)) if is_bytes else (f"{low:.6g}", f"{high:.6g}")
        bad = sum(bucket.bad for bucket in buckets)
        left_out = f", {bad:,} not finite" if bad else ""
        label = f"{name}: " if name else ""
        said.append(f"{label}least {shown[0]}, greatest {shown[1]}{left_out}")
    return "; ".join(said)
