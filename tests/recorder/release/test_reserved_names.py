"""A name that is also a word of the record is refused before anything is replaced; others are not."""

from __future__ import annotations

from pathlib import Path

import pytest
from helpers import bundles
from helpers.records import config_with

from recorder.errors import UsageError
from recorder.release.reserved import check_names
from recorder.release.secrets.gate import scan_bundle
from recorder.release.secrets.private_rules import Names


@pytest.fixture(scope="module")
def bundle(tmp_path_factory: pytest.TempPathFactory) -> Path:
    config = config_with(model___target_="lab.nets.Tiny", data__cache="/data/anna")
    builder = bundles.RunBuilder(tmp_path_factory.mktemp("reserved") / "runs", config=config).create().join()
    builder.print("anna on node-a, as node-b said", "hidden_size joined")
    builder.run.writer.add_system_row({"node": "node-a", "heat": 1.0})
    return builder.steps(1, 3).finish(3).close()


def check(bundle: Path, name: str, left_out: tuple[str, ...] = ()) -> None:
    for names in (Names(users=frozenset({name})), Names(hosts=frozenset({name}))):
        check_names(bundle, names, scan_bundle(bundle, names, leave_out=left_out).private, left_out)


@pytest.mark.parametrize(
    ("name", "what"),
    [
        ("micro_batches", "a key of the config"),
        ("nets", "part of a _target_"),
        ("loss", "a column of metrics"),
        ("heat", "a column of system"),
        ("membership", "a column of metrics"),
        ("joined", "part of an event's type"),
        ("ledger", "the name of a file"),
        ("torch", "a package"),
        ("hostname", "a word of the bundle's format"),
        ("demo-1", "the run's id"),
    ],
)
def test_a_word_of_the_record_is_refused(name: str, what: str, bundle: Path) -> None:
    with pytest.raises(UsageError) as raised:
        check(bundle, name)
    said = str(raised.value)
    assert f"user-name {name!r} is also {what}" in said
    assert said.count("\n") == 0
    assert "(--allow " in said


@pytest.mark.parametrize("name", ["anna", "node-a", "node-b", "nobody-here"])
def test_a_name_that_stands_in_values_alone_is_not(name: str, bundle: Path) -> None:
    check(bundle, name)


def test_a_config_that_is_withheld_has_no_keys(bundle: Path) -> None:
    with pytest.raises(UsageError, match="is also a key of the config"):
        check(bundle, "hidden_size")
    check(bundle, "hidden_size", ("config/resolved.yaml",))
