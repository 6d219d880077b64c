from __future__ import annotations

from pathlib import Path

import pytest

from recorder.bundle import layout
from recorder.bundle.find import bundles, find_run
from recorder.canonical import readable_json, utc_text
from recorder.errors import RunNotFound


@pytest.fixture
def root(tmp_path: Path) -> Path:
    for number, name in enumerate(["alpha-1", "alpha-2", "beta", "gamma"]):
        write_run(tmp_path / "runs" / name, created=utc_text(1000.0 - number))
    (tmp_path / "runs" / ".locks").mkdir()
    (tmp_path / "runs" / "no-bundle").mkdir()
    return tmp_path / "runs"


def write_run(path: Path, **content: object) -> None:
    path.mkdir(parents=True)
    (path / layout.RUN).write_bytes(readable_json({"id": path.name, **content}))


def test_an_id_and_its_unique_beginning(root: Path) -> None:
    assert find_run("alpha-1", root) == root / "alpha-1"
    assert find_run("b", root) == root / "beta"


def test_an_id_that_is_the_beginning_of_another_is_itself(root: Path) -> None:
    write_run(root / "bet")
    assert find_run("bet", root) == root / "bet"


def test_latest_is_the_newest_by_its_own_time(root: Path) -> None:
    assert find_run("latest", root) == root / "alpha-1"
    write_run(root / "damaged", created=7)
    assert find_run("latest", root) == root / "alpha-1"


def test_a_path_is_whatever_holds_a_run(root: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    assert find_run(str(root / "beta"), tmp_path / "elsewhere") == root / "beta"
    assert find_run(f"{root}/alpha-1/../beta", root).resolve() == root / "beta"
    monkeypatch.chdir(root / "gamma")
    assert find_run(".", tmp_path) == root / "gamma"


@pytest.mark.parametrize(
    ("reference", "told"),
    [
        ("alpha", "'alpha' is the beginning of 2 runs (alpha-1, alpha-2); write more of it"),
        ("gama", "did you mean gamma?"),
        ("zzz", "there are alpha-1, alpha-2, beta, gamma, or say latest"),
        ("", "a run's name is missing"),
        ("..", "no run '..'"),
        ("../../etc", "'../../etc' is no bundle"),
        ("no-bundle", "no run 'no-bundle'"),
        ("runs/missing", "it is not a folder that holds a run.json"),
        ("a\0b", "no run"),
        ("x" * 5000, "no run"),
        ("[a", "no run"),
    ],
)
def test_what_names_no_run_is_told_in_one_line(root: Path, reference: str, told: str) -> None:
    with pytest.raises(RunNotFound) as caught:
        find_run(reference, root)
    assert told in str(caught.value)
    assert "\n" not in str(caught.value)


def test_an_empty_and_a_missing_folder_are_told_apart(tmp_path: Path) -> None:
    with pytest.raises(RunNotFound, match="there is no run in"):
        find_run("latest", tmp_path)
    with pytest.raises(RunNotFound, match="does not exist"):
        find_run("a", tmp_path / "missing")


def test_many_candidates_are_not_all_listed(root: Path) -> None:
    for number in range(20):
        write_run(root / f"many-{number:02d}")
    with pytest.raises(RunNotFound, match=r"20 runs \(many-00, .*many-04 and 15 more\)"):
        find_run("many", root)


def test_only_folders_with_a_run_are_bundles(root: Path) -> None:
    assert [path.name for path in bundles(root)] == ["alpha-1", "alpha-2", "beta", "gamma"]
