"""`report.html`: one run on one page, in one file that opens offline."""

from __future__ import annotations

import re
from collections.abc import Sequence
from dataclasses import asdict
from typing import Any

from recorder.bundle.find import is_bundle
from recorder.bundle.reader import Bundle
from recorder.errors import BundleError
from recorder.release.report import charts, contents, overview
from recorder.release.report.charts import Chart
from recorder.release.report.curves import Curves, read_curves
from recorder.release.report.history import History, read_history
from recorder.release.report.html import Markup, document, section, tag, together

_SCRIPTS = ("scale.js", "chart.js", "cursor.js", "theme.js", "report.js")
_SECTION = re.compile(r'<section id="([a-z]+)" data-title="([^"]*)">')


def report(bundle: Bundle, parent: dict[str, Any] | None = None) -> str:
    """The page of a run. The same bundle gives the same bytes.

    `parent` is the config of the run it was forked from, where that is at hand, to say what differs. Memory grows with
    the ledger, and not with the number of steps. Raises BundleError when the bundle is damaged.
    """
    return report_of(bundle, read_curves(bundle), parent)


def report_of(bundle: Bundle, curves: Curves, parent: dict[str, Any] | None) -> str:
    """As `report`, from curves that were read before."""
    try:
        history = read_history(bundle, curves)
        return _page(bundle, curves, history, parent)
    except (LookupError, TypeError, ValueError, AttributeError) as error:
        raise BundleError(f"a record of {bundle.path.name} is not as its schema says ({error!r}); verify it") from None


def parent_of(bundle: Bundle) -> Bundle | None:
    """The run that this one was forked from, if it lies beside it."""
    named = bundle.info.get("parent")
    beside = bundle.path.resolve().parent / str(named.get("run")) if isinstance(named, dict) else None
    return Bundle(beside) if beside is not None and is_bundle(beside) else None


def parent_config(bundle: Bundle) -> dict[str, Any] | None:
    """The config of the run that this one was forked from, if it lies beside it."""
    parent = parent_of(bundle)
    return parent.config if parent is not None else None


def _page(bundle: Bundle, curves: Curves, history: History, parent: dict[str, Any] | None) -> str:
    training, logged = charts.training_charts(curves, history), charts.logged_charts(curves)
    system = charts.system_charts(curves)
    body = together(
        [
            _curves(training, logged, history),
            overview.course(bundle, curves),
            _system(system),
            overview.about(bundle),
            *contents.sections(bundle, history, parent),
        ]
    )
    data = {
        "charts": charts.record([*training, *logged, *system]),
        "moments": [asdict(moment) for moment in history.moments],
    }
    page = [navigation(body), overview.head(bundle, curves), tag("main", body, id="main")]
    root = bundle.manifest["root"] if bundle.manifest else None
    return document(f"{bundle.id}: report", together(page), _SCRIPTS, data, root)


def navigation(body: Markup) -> Markup:
    """Links to the sections of a page, and the choice between light and dark."""
    links = [tag("li", tag("a", Markup(title), href=f"#{id_}")) for id_, title in _SECTION.findall(body)]
    theme = tag("button", "Theme: system", type="button", id="theme", hidden=True)
    menu = tag("nav", tag("div", tag("ul", *links), theme), aria_label="Sections of this page")
    return together([tag("a", "Skip to the content", href="#main", class_="skip"), menu])


def _curves(training: Sequence[Chart], logged: Sequence[Chart], history: History) -> Markup:
    if not training and not logged:
        return section("curves", "Curves", tag("p", "No step was recorded."))
    figures = [chart.figure(wide=number == 0) for number, chart in enumerate(training)]
    own = [tag("h3", "Logged by the training script"), tag("div", *(c.figure() for c in logged), class_="charts")]
    return section(
        "curves",
        "Curves",
        tag("p", downsampling([*training, *logged]), id="downsampling"),
        tag(
            "p",
            "The curves are drawn by a script in this page; all else is here without it.",
            class_="unscripted",
        ),
        tag("div", id="tools", class_="tools"),
        tag("ul", id="legend", class_="legend"),
        tag("div", *figures, class_="charts"),
        *(own if logged else []),
        _moments(history),
    )


def downsampling(drawn: Sequence[Chart]) -> str:
    """What a point of these charts stands for."""
    width = charts.coarsest(list(drawn))
    if width == 1:
        return "Every recorded step is drawn."
    return (
        f"A point stands for up to {width:,} steps: the line is their mean, and the band around it reaches from the "
        "least to the greatest of all their values, so no extreme is left out. Least and greatest are exact."
    )


def _moments(history: History) -> Markup | None:
    if not history.moments:
        return None
    items = [
        tag("li", f"step {moment.step:g}: {moment.text}" + (f", and {moment.more:,} more here" if moment.more else ""))
        for moment in history.moments
    ]
    return tag("details", tag("summary", f"What is marked on the curves ({len(items):,})"), tag("ul", *items))


def _system(system: Sequence[Chart]) -> Markup:
    if not system:
        return section("system", "System", tag("p", "No system metrics were recorded."))
    figures = tag("div", *(chart.figure() for chart in system), class_="charts")
    width = charts.coarsest(list(system))
    drawn = "Every second is drawn." if width == 1 else f"A point stands for up to {width:,} seconds; bands as above."
    return section("system", "System", tag("p", f"Over the time since the run began. {drawn}"), figures)
