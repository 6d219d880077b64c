"""A catalogue of runs: every run is there, whatever became of it, and the page works without a server."""

from __future__ import annotations

import json
import shutil
from pathlib import Path
from typing import Any

import pytest
from helpers.browsers import DESKTOP, PHONE, check_accessible, check_first_stop, opened
from helpers.bundles import finished
from helpers.pages import HOSTILE, hostile_run
from helpers.publishing import publish
from helpers.records import config_with

from recorder.bundle.reader import Bundle
from recorder.cli.main import main
from recorder.errors import UsageError
from recorder.release.report.page import report
from recorder.release.site.catalogue import runs_in
from recorder.release.site.pages import write_site

ROWS = (
    "[...document.querySelectorAll('#runs tbody tr')].map((row) => row.querySelector('th').innerText.split('\\n')[0])"
)


@pytest.fixture(scope="module")
def folder(runs: Path, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Runs of each kind, a sweep of two, a release that holds one, and a run whose record is damaged."""
    root = tmp_path_factory.mktemp("catalogue") / "runs"
    shutil.copytree(runs, root)
    for number, rate in enumerate((0.001, 0.01), 1):
        finished(root, f"swept-{number}", config=config_with(optim__lr=rate), sweep="sweep-1")
    finished(root / "release" / "runs", "released-1")
    damaged = finished(root, "damaged-1")
    ledger = sorted((damaged / "ledger").iterdir())[0]
    ledger.chmod(0o644)
    ledger.write_text("not an event\n")
    return root


@pytest.fixture(scope="module")
def site(folder: Path, tmp_path_factory: pytest.TempPathFactory) -> Path:
    out = tmp_path_factory.mktemp("site") / "out"
    write_site(folder, out, unreleased=True)
    return out


def test_every_run_is_found_and_has_its_report(folder: Path, site: Path) -> None:
    names = [path.name for path in runs_in(folder)]
    assert {"finished", "failed", "killed", "swept-1", "swept-2", "released-1", "damaged-1"} <= set(names)
    pages = {path.stem for path in site.glob("*.html")}
    assert pages == {*names, "index"} - {"damaged-1"}
    assert (site / "failed.html").read_text("utf-8") == report(Bundle(folder / "failed"))


def test_copies_of_a_run_have_pages_of_their_own(tmp_path: Path) -> None:
    for release in ("a", "b"):
        finished(tmp_path / "all" / release / "runs", "demo-1")
    entries = write_site(tmp_path / "all", tmp_path / "out", unreleased=True).entries
    assert sorted(entry.page or "" for entry in entries) == ["demo-1-2.html", "demo-1.html"]


def test_a_single_bundle_is_a_catalogue_too(tmp_path: Path) -> None:
    assert runs_in(finished(tmp_path / "runs")) == [tmp_path / "runs" / "demo-1"]


def test_the_command(folder: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    assert main(["site", str(folder), "--out", str(tmp_path / "out"), "--unreleased", "--json"]) == 1, (
        "a run is damaged"
    )
    told = json.loads(capsys.readouterr().out)
    assert Path(told["index"]).is_file()
    assert {run["run"]: run["outcome"] for run in told["runs"]}["damaged-1"] == "damaged, sealed"
    assert main(["site", str(tmp_path / "out")]) == 2
    assert "there is no run in" in capsys.readouterr().err
    assert main(["site", str(tmp_path / "nowhere")]) == 2
    with pytest.raises(UsageError, match="name a folder with --out DIR"):
        write_site(folder / "finished", tmp_path / "out" / "index.html", unreleased=True)


def test_what_is_not_released_is_left_out_unless_it_is_asked_for(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    publish(tmp_path, tmp_path / "all" / "stories", finished(tmp_path / "runs").name)
    finished(tmp_path / "all", "mine-1")
    finished(tmp_path / "all" / "stories" / "runs", "mine-2")
    site = ["site", str(tmp_path / "all"), "--out", str(tmp_path / "out")]
    assert main(site) == 0
    assert "2 runs not released: left out (--unreleased lists them too)" in capsys.readouterr().out
    assert {path.name for path in (tmp_path / "out").iterdir()} == {"index.html", "demo-1.html"}
    assert "<h1>Released runs</h1>" in (tmp_path / "out" / "index.html").read_text("utf-8")
    assert main([*site, "--unreleased"]) == 0
    told = capsys.readouterr().out
    assert "2 runs not released: their pages name hosts, people and places as recorded; do not publish them" in told
    pages = {path.name for path in (tmp_path / "out").iterdir()}
    assert pages == {"index.html", "demo-1.html", "mine-1.html", "mine-2.html"}
    assert "<h1>Runs, not all of them released</h1>" in (tmp_path / "out" / "index.html").read_text("utf-8")
    assert main(["site", str(tmp_path / "runs"), "--out", str(tmp_path / "other")]) == 2
    assert "is released: name a folder of releases, or list your own runs with --unreleased" in capsys.readouterr().err
    assert not (tmp_path / "other").exists()


@pytest.mark.parametrize("scheme", ["light", "dark"])
@pytest.mark.parametrize("size", [PHONE, DESKTOP], ids=["phone", "desktop"])
def test_the_index_is_readable(size: tuple[int, int], scheme: str, site: Path, chromium: Any, tmp_path: Path) -> None:
    with opened(chromium, site / "index.html", size=size, scheme=scheme) as page:
        check_first_stop(page)
        page.check("[aria-label='compare swept-1']")
        page.check("[aria-label='compare finished']")
        page.wait_for_selector("#comparison .plot svg path.line")
        check_accessible(page)
        page.screenshot(path=tmp_path / "seen.png", full_page=True)


def test_the_list_is_searched_and_sorted(site: Path, chromium: Any) -> None:
    with opened(chromium, site / "index.html") as page:
        everything = page.evaluate(ROWS)
        assert "sweep sweep-1: 2 runs" in everything
        assert everything.index("swept-1") - everything.index("sweep sweep-1: 2 runs") in (1, 2)
        page.fill("#search", "LR=0.01")
        assert page.evaluate(ROWS) == ["sweep sweep-1: 2 runs", "swept-2"]
        assert page.locator("#status").inner_text().startswith("1 of ")
        page.fill("#search", "abandoned")
        assert page.evaluate(ROWS) == ["killed"]
        page.fill("#search", "")
        page.get_by_role("button", name="Sweeps together").click()
        page.get_by_role("button", name="run", exact=True).click()
        assert page.evaluate(ROWS) == sorted(page.evaluate(ROWS))
        assert page.locator("th[aria-sort='ascending']").inner_text() == "run ▲"
        for name in ("loss", "loss ▲"):
            page.get_by_role("button", name=name, exact=True).click()
            assert page.evaluate(ROWS)[-1] == "damaged-1", "what has no loss comes last, whichever way the order goes"


def test_runs_are_compared(site: Path, chromium: Any) -> None:
    with opened(chromium, site / "index.html") as page:
        assert page.locator("#hint").is_visible()
        page.check("[aria-label='compare swept-1']")
        page.check("[aria-label='compare swept-2']")
        assert page.locator("#comparison .line").count() >= 2
        differing = page.locator("#comparison tbody tr").all_inner_texts()
        assert [text.split() for text in differing] == [["optim.lr", "0.001", "0.01"]] or [
            text.split() for text in differing
        ] == [["optim.lr", "0.01", "0.001"]]
        assert page.locator("[aria-label='compare damaged-1']").is_disabled()
        page.click("a[href='swept-1.html']")
        assert page.locator("h1").inner_text() == "swept-1"


def test_a_hostile_run_breaks_nothing(chromium: Any, tmp_path: Path) -> None:
    hostile_run(tmp_path / "runs")
    finished(tmp_path / "runs", "demo-2", sweep=HOSTILE)
    write_site(tmp_path / "runs", tmp_path / "out", unreleased=True)
    with opened(chromium, tmp_path / "out" / "index.html") as page:
        for box in page.locator("[data-select]").all():
            box.check()
        page.wait_for_selector("#comparison .plot svg path.line")
        assert page.locator("img").count() == 0
