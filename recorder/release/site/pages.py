"""The pages of a catalogue: an index of all runs, and a report of each."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

from recorder.bundle.find import created
from recorder.bundle.reader import Bundle
from recorder.bundle.state import bundle_state
from recorder.cli.quantities import count, minute
from recorder.errors import BundleError, UsageError
from recorder.release.report.curves import read_curves
from recorder.release.report.html import Child, Markup, document, section, tag, together
from recorder.release.report.page import navigation, parent_config, report_of
from recorder.release.site.catalogue import Entry, entry, is_released, runs_in

INDEX = "index.html"
_SCRIPTS = ("scale.js", "chart.js", "cursor.js", "theme.js", "runs.js", "site.js")
_HEAD = (
    ("run", "run"),
    ("created", "begun (UTC)"),
    ("outcome", "end"),
    ("lost", "workers lost"),
    ("step", "steps"),
    ("loss", "loss"),
    ("validation", "validation"),
)
_NUMBERS = frozenset({"lost", "step", "loss", "validation"})
# Buckets of the curves of all runs together: what keeps the index small however many there are.
_BUCKETS, _MOST, _LEAST = 40_000, 300, 20


@dataclass(frozen=True)
class Site:
    """What was written: the runs, newest first, and how many in the folder are not released.

    Those are among the runs only when that was asked for.
    """

    entries: list[Entry]
    unreleased: int


def write_site(folder: Path, out: Path, *, unreleased: bool = False) -> Site:
    """Write the catalogue of the released runs in `folder` to `out`: `index.html`, and a report of each beside it.

    Those that are not in a release name hosts, people and places, and are left out unless `unreleased`. A run whose
    record is damaged is listed as that. Raises UsageError when there is no run, or `out` cannot be written.
    """
    try:
        every = runs_in(folder)
    except OSError as error:
        raise UsageError(f"{folder} cannot be read ({error.strerror}); name a folder of runs or releases") from None
    if not every:
        raise UsageError(f"there is no run in {folder}; name a folder that holds bundles, or releases with them")
    bare = {path for path in every if not is_released(path)}
    chosen = [path for path in every if unreleased or path not in bare]
    if not chosen:
        raise UsageError(
            f"no run in {folder} is released: name a folder of releases, or list your own runs with --unreleased"
        )
    entries, names = [], {INDEX}
    try:
        out.mkdir(parents=True, exist_ok=True)
        for path in chosen:
            page = _free(path.name, names)
            entries.append(_write_run(path, out, page))
        entries.reverse()
        title = "Runs, not all of them released" if unreleased and bare else "Released runs"
        (out / INDEX).write_text(index(entries, title), "utf-8")
    except OSError as error:
        raise UsageError(f"{out} cannot be written ({error.strerror}); name a folder with --out DIR") from None
    return Site(entries, len(bare))


def _free(run: str, names: set[str]) -> str:
    """A name for a run's page that no other has: copies of a run may lie in several releases."""
    number, name = 1, f"{run}.html"
    while name in names:
        number += 1
        name = f"{run}-{number}.html"
    names.add(name)
    return name


def _write_run(path: Path, out: Path, page: str) -> Entry:
    bundle = Bundle(path)
    try:
        curves = read_curves(bundle)
        seen = entry(bundle, curves, page)
        text = report_of(bundle, curves, parent_config(bundle))
    except (BundleError, LookupError, TypeError, ValueError, AttributeError) as error:
        return Entry(
            path.name, created(path), problem=" ".join(str(error).split()), outcome=f"damaged, {bundle_state(path)}"
        )
    (out / page).write_text(text, "utf-8")
    return seen


def index(entries: Sequence[Entry], title: str) -> str:
    """The index of a catalogue; `entries` newest first."""
    body = together([_runs(entries), _comparison()])
    ended = [f"{sum(e.outcome == word for e in entries)} {word}" for word in dict.fromkeys(e.outcome for e in entries)]
    head = tag("header", tag("h1", title), tag("p", f"{count(len(entries), 'run')}: {', '.join(ended)}."))
    buckets = max(_LEAST, min(_MOST, _BUCKETS // max(1, len(entries))))
    data = {"runs": [found.record(buckets) for found in entries]}
    page = together([navigation(body), head, tag("main", body, id="main")])
    return document(title, page, _SCRIPTS, data)


def _runs(entries: Sequence[Entry]) -> Markup:
    sweeps: dict[str | None, list[tuple[int, Entry]]] = {}
    for number, found in enumerate(entries):
        # A run of no sweep is a group of its own, at its own place.
        sweeps.setdefault(found.sweep or f"\0{number}", []).append((number, found))
    rows = []
    for sweep, members in sweeps.items():
        if members[0][1].sweep is not None:
            title = f"sweep {sweep}: {count(len(members), 'run')}"
            rows.append(
                tag("tr", tag("th", title, colspan=len(_HEAD) + 2, scope="colgroup"), class_="group", data_sweep=sweep)
            )
        rows += [_row(number, found) for number, found in members]
    heads = [tag("th", tag("span", "Compare", class_="visually-hidden"), scope="col")]
    for key, label in _HEAD:
        button = tag("button", label, type="button", data_key=key)
        heads.append(tag("th", button, scope="col", class_="number" if key in _NUMBERS else None))
    heads.append(tag("th", "loss curve", scope="col"))
    search = tag("input", type="search", id="search", autocomplete="off", placeholder="name, end, or config: lr=0.001")
    tools = [
        tag("label", "Search ", search),
        tag("button", "Sweeps together", type="button", id="sweeps", aria_pressed="true"),
    ]
    table = tag(
        "table",
        tag("caption", "All runs, whatever became of them. A column's name sorts by it.", id="told"),
        tag("thead", tag("tr", *heads)),
        tag("tbody", *rows),
        id="runs",
    )
    scroll = tag("div", table, class_="scroll", tabindex=0, role="region", aria_label="All runs")
    status = tag("p", id="status", role="status", class_="dim")
    return section("all", "Runs", tag("div", *tools, class_="tools", id="tools", hidden=True), status, scroll)


def _row(number: int, found: Entry) -> Markup:
    box = tag(
        "input", type="checkbox", data_select=number, aria_label=f"compare {found.run}", disabled=found.curve is None
    )
    name: Child = tag("a", found.run, href=found.page) if found.page else found.run
    note = found.problem or (f"fork of {found.parent}" if found.parent else None)
    cells = [
        tag("td", box),
        tag("th", name, tag("small", tag("br"), note) if note else None, scope="row"),
        tag("td", minute(found.created)),
        tag("td", tag("span", found.outcome, class_=f"badge {found.style}"), _attempts(found)),
        tag("td", f"{found.lost:,}", class_="number"),
        tag("td", "-" if found.step is None else f"{found.step:,}", class_="number"),
        tag("td", "-" if found.loss is None else f"{found.loss:.4f}", class_="number"),
        tag("td", "-" if found.validation is None else f"{found.validation:.4f}", class_="number"),
        tag("td", data_spark=number),
    ]
    return tag("tr", *cells, data_run=number)


def _attempts(found: Entry) -> Markup | None:
    return tag("small", f" {count(found.attempts, 'attempt')}") if found.attempts > 1 else None


def _comparison() -> Markup:
    return section(
        "compare",
        "Compare",
        tag(
            "p",
            "To search, sort and compare needs the script in this page; the list does not.",
            class_="unscripted",
        ),
        tag(
            "p", "Choose runs in the list to see their losses in one chart and in what their configs differ.", id="hint"
        ),
        tag("div", id="comparison"),
    )
