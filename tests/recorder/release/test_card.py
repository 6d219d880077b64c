from __future__ import annotations

import re
from collections.abc import Iterator
from dataclasses import replace
from pathlib import Path
from urllib.parse import unquote

import pytest
import yaml
from helpers.bundles import RunBuilder, failed, killed, resumed
from helpers.records import NODE, captured_files, config_with, dataset_record
from helpers.releases import STATED, bare_contents, contents_of, golden_contents
from huggingface_hub import ModelCard, ModelCardData

from recorder.bundle import layout
from recorder.canonical import readable_json
from recorder.errors import BundleError
from recorder.release.card import model_card
from recorder.release.contents import Contents
from recorder.release.hub_metadata import metadata
from recorder.release.statement import parse_statement

LINK = re.compile(r"\[((?:[^\]\\]|\\.)*)\]\(([^)]*)\)(?: `([0-9a-f]+)`)?")
MADE_LATER = {"openness.json", "CITATION.cff", "ro-crate-metadata.json", "croissant.json"}


@pytest.fixture(params=["full", "bare", "resumed", "failed"])
def contents(request: pytest.FixtureRequest, tmp_path: Path) -> Contents:
    release, runs = tmp_path / "release", tmp_path / "runs"
    if request.param == "full":
        return golden_contents(release)
    if request.param == "bare":
        return bare_contents(release)
    return contents_of(release, {"resumed": resumed, "failed": failed}[request.param](runs))


def test_every_number_is_in_a_row_that_links_to_a_released_file_with_its_digest(contents: Contents) -> None:
    card = model_card(contents).decode()
    for line in body(card):
        cells = line.split(" | ")
        if not re.search(r"\d", LINK.sub("", cells[0] if line.startswith("#") else " ".join(cells[:-1]))):
            continue
        links = LINK.findall(cells[-1])
        assert links, f"no source: {line}"
        assert all(unquote(path) in contents.files and digits for _, path, digits in links), line


def test_every_link_leads_to_a_file_of_the_release_and_every_digest_is_its(contents: Contents) -> None:
    card = model_card(contents).decode()
    links = LINK.findall(card)
    assert len(links) > 30
    for _, path, digits in links:
        place = unquote(path)
        if place.startswith("https://"):
            assert place in STATED.values()
        elif place not in MADE_LATER:
            assert str(contents.files[place]["sha256"]).startswith(digits)


def test_sources_have_full_digests(contents: Contents) -> None:
    card = model_card(contents).decode()
    above, sources = card.split("## Sources")
    named = {unquote(path) for _, path, digits in LINK.findall(above) if digits}
    listed = {unquote(path): row for row in sources.splitlines() for _, path, _ in LINK.findall(row)}
    assert listed.keys() == named
    for path, row in listed.items():
        assert f"`{contents.files[path]['sha256']}` | `{contents.files[path]['blake3']}`" in row


def test_the_metadata_is_what_the_hub_takes(contents: Contents) -> None:
    card = ModelCard(model_card(contents).decode())
    assert isinstance(card.data, ModelCardData)
    given = card.data.to_dict()
    assert given == metadata(contents)
    assert given["license"] in {"apache-2.0", "unknown"}
    assert ModelCardData(**given).to_dict() == given
    assert all(line.strip() for line in card.data.to_yaml().splitlines())


def test_a_fact_whose_file_is_withheld_is_not_told(tmp_path: Path) -> None:
    whole = model_card(contents_of(tmp_path / "a", resumed(tmp_path / "runs"))).decode()
    assert "| seed | 1 |" in whole
    assert "| source | kind stories" in whole
    assert re.search(r"\| training loss at step 12 \| 1\.6 \|", whole)
    assert re.search(r"\| 2 \| [^|]*Z \| [^|]*Z \| finished \|", whole)
    less = contents_of(tmp_path / "b", resumed(tmp_path / "more"), without=("dataset.json", ".parquet", "0001.jsonl"))
    partly = model_card(less).decode()
    assert "| source | kind stories" not in partly
    assert "training loss" not in partly
    assert "Not recorded, or not released." in partly
    assert "| seed | 1 |" in partly


@pytest.mark.parametrize(
    ("path", "fact"),
    [
        ("run.json", "| seed |"),
        ("bundle.json", "| outcome |"),
        ("data/dataset.json", "| licence | CC0"),
        ("config/resolved.yaml", "| optimizer config |"),
        ("ledger/0001.jsonl", "| 1 | 2026"),
        ("environment/nodes/node-a.json", "| node |"),
        ("checkpoints/step-00000005/model.safetensors", "| released |"),
    ],
)
def test_a_file_that_is_there_and_not_released_is_no_source(tmp_path: Path, path: str, fact: str) -> None:
    whole = contents_of(tmp_path / "release", resumed(tmp_path / "runs"))
    less = replace(whole, files={name: whole.files[name] for name in whole.files if not name.endswith(path)})
    before, after = model_card(whole).decode(), model_card(less).decode()
    assert before.count(fact) == after.count(fact) + 1
    assert not [place for _, place, _ in LINK.findall(after) if place.endswith(path)]


def test_what_is_not_stated_is_called_that(tmp_path: Path) -> None:
    bare = model_card(bare_contents(tmp_path)).decode()
    assert bare.count("Not stated.") == 5
    assert "**Published as it is:** not every record in this release verifies." in bare
    assert "> - golden-1: 1 finding" in bare


def test_names_and_commands_cannot_put_anything_else_into_the_page(tmp_path: Path) -> None:
    nasty = "x](http://evil) | <script>alert(1)</script> `$(id)` @all &lt; \n# head"
    builder = RunBuilder(tmp_path / "runs", config=config_with(model={"_target_": nasty}), name=nasty, command=nasty)
    builder.create().join().steps(1, 1).finish(1)
    card = model_card(contents_of(tmp_path / "release", builder.close())).decode()
    assert "<script>" not in card
    assert "](http://evil)" not in card
    assert "\n# head" not in card
    assert "@all" not in card
    rows = [line for line in card.splitlines() if "script" in line and line.startswith("|")]
    assert rows
    assert all(len(re.findall(r"(?<!\\)\|", row)) == 4 for row in rows)


def test_a_licence_that_the_hub_does_not_know_is_named(tmp_path: Path) -> None:
    stated = parse_statement({"licences": {"model": "LicenseRef-Lab-1"}})
    found = metadata(contents_of(tmp_path / "release", resumed(tmp_path / "runs"), statement=stated))
    assert (found["license"], found["license_name"]) == ("other", "licenseref-lab-1")


def test_losses_that_are_no_numbers_are_shown_and_never_the_lowest(tmp_path: Path) -> None:
    builder = RunBuilder(tmp_path / "runs").create().join().steps(1, 2)
    for step, loss in ((1, float("nan")), (2, 2.5), (3, float("inf"))):
        builder.ranks[0].event("evaluated", step=step, split="validation", loss=loss, seconds=0.1)
    builder.finish(3)
    builder.drain()
    builder.ranks[0].event("evaluated", step=4, split="validation", loss=float("nan"), seconds=0.1)
    card = model_card(contents_of(tmp_path / "release", builder.close())).decode()
    assert "| validation loss at step 4 | NaN |" in card
    assert "| lowest validation loss at step 3 | 1.75 |" in card


def test_front_matter_is_yaml_between_rules(tmp_path: Path) -> None:
    card = model_card(golden_contents(tmp_path)).decode()
    _, front, _ = card.split("---\n", 2)
    assert yaml.safe_load(front)["language"] == ["en"]


def body(card: str) -> Iterator[str]:
    """The lines that people read and this program wrote: no metadata, code, quotes, headings, rules or sources."""
    text = re.sub(r"```.*?```", "", card.split("---\n", 2)[2].split("## Sources")[0], flags=re.DOTALL)
    withheld = text.partition("## Withheld and edited")[2].partition("## Openness")[0]
    openness = text.partition("## Openness")[2].partition("## Check it")[0]
    for line in text.replace(withheld, "").replace(openness, "").splitlines():
        if not line.startswith(("#", ">", "| ---")):
            yield line


def test_an_export_of_another_checkpoint_is_refused(tmp_path: Path) -> None:
    contents = golden_contents(tmp_path)
    files = {**contents.files, "model.safetensors": contents.files["config.json"]}
    with pytest.raises(BundleError, match=r"model.safetensors is not runs/golden-1/checkpoints/step-00000012/"):
        model_card(replace(contents, files=files))


def test_reports_are_linked(tmp_path: Path) -> None:
    (tmp_path / "report.html").write_text("<html></html>")
    assert "To look at: [report.html](report.html)." in model_card(bare_contents(tmp_path)).decode()


def test_what_was_withheld_or_edited_is_listed_with_the_digest_of_the_original(tmp_path: Path) -> None:
    card = model_card(golden_contents(tmp_path / "full")).decode()
    assert f"| withheld | golden-1 | logs/0003/driver.log | it names people | `{'0' * 64}` |" in card
    assert f"| edited | golden-1 | run.json | redacted | `{'1' * 64}` |" in card
    bare = model_card(bare_contents(tmp_path / "bare")).decode()
    assert "Nothing that the runs recorded was withheld or edited." in bare


def test_of_many_input_files_the_first_are_listed_and_the_others_counted(tmp_path: Path) -> None:
    inputs = [{"path": f"{number}.txt", "bytes": number, "blake3": "0" * 64} for number in range(23)]
    files = captured_files(config_with()) | {layout.DATASET: readable_json(dataset_record() | {"inputs": inputs})}
    card = model_card(contents_of(tmp_path / "release", resumed(tmp_path / "runs", files=files))).decode()
    assert card.count("| file | path ") == 20
    assert "| further files, counted | 3 |" in card


def test_nodes_that_are_alike_are_one_row_with_a_source_each(tmp_path: Path) -> None:
    builder = RunBuilder(tmp_path / "runs").create().join()
    builder.ranks[1].event("node.environment", node="node-b", environment=NODE)
    card = model_card(contents_of(tmp_path / "release", builder.steps(1, 1).finish(1).close())).decode()
    (row,) = [line for line in card.splitlines() if "Example CPU" in line]
    assert row.startswith("| 2 nodes, counted, each | Example CPU, 2 cores |")
    assert "nodes/node-a.json" in row
    assert "nodes/node-b.json" in row


def test_of_a_step_that_was_recorded_several_times_the_row_that_counts_is_told(tmp_path: Path) -> None:
    builder = RunBuilder(tmp_path / "runs").create().join().steps(1, 5).checkpoint(5).steps(6, 7, loss=9.0).drain()
    builder.kill()
    builder.resume().restored(5).join().steps(6, 7, loss=0.5)
    contents = contents_of(tmp_path / "release", builder.finish(7).close())
    (bundle,) = contents.bundles
    committed = bundle.committed.rows
    card = model_card(contents).decode()
    told = re.findall(r"\| training loss at step (\d+) \| (\S+) \| \[metrics/(\d+)", card)
    assert told == [("1", str(committed[0]["loss"]), "0001"), ("7", "0.5", "0003")]


def test_a_run_of_one_step_has_one_loss(tmp_path: Path) -> None:
    builder = RunBuilder(tmp_path / "runs").create().join().steps(1, 1).finish(1)
    assert model_card(contents_of(tmp_path / "release", builder.close())).decode().count("| training loss at") == 1


def test_an_open_bundle_published_as_it_is_has_a_card_too(tmp_path: Path) -> None:
    card = model_card(contents_of(tmp_path / "release", killed(tmp_path / "runs"), problems=("it is open",))).decode()
    assert "> - it is open" in card
    assert "| training loss at step 6 |" in card
    assert "| outcome | finished" not in card
    assert "bundle.json" not in card
    assert re.search(r"\| 1 \| [^|]* \| not known \| not known \|", card)
