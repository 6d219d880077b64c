"""`recorder release`, `get` and `verify` as they are typed."""

from __future__ import annotations

import json
from pathlib import Path

import pytest
from helpers.file_servers import file_server
from helpers.publishing import Keys, Recorder

from recorder.cli.quantities import size
from recorder.release.manifest import RELEASE
from recorder.release.steps import STEPS


def test_each_step_is_shown_and_the_root_at_the_end(recorder: Recorder, lab: Path, keys: Keys) -> None:
    said = recorder("release", "demo", "--to", "out", "--key", str(keys.private))
    assert said.code == 0
    steps = [line.split()[1] for line in said.out.splitlines() if line.partition(" ")[0].endswith("/10")]
    assert steps == [step.name for step in STEPS] + ["publish", "check"]
    root = json.loads((lab / "out" / RELEASE).read_bytes())["root"]
    assert said.out.splitlines()[-1] == f"published: out, root {root}"
    verified = recorder("verify", "out", "--anchor", root)
    assert (verified.code, "consistent, anchored" in verified.out) == (0, True)
    assert recorder("verify", "out", "--anchor", "f" * 64).code == 1


def test_a_dry_run_lists_files_and_sizes(recorder: Recorder, lab: Path) -> None:
    said = recorder("release", "demo-1", "--to", "out", "--dry-run")
    assert "runs/demo-1/run.json" in said.out
    assert not (lab / "out").exists()
    planned = json.loads(recorder("release", "demo-1", "--to", "out", "--dry-run", "--json").out)
    assert planned["published"] is False
    sent = planned["sent"]
    assert sent["runs/demo-1/source/source.tar.gz"] == (lab / "runs/demo-1/source/source.tar.gz").stat().st_size
    assert {"README.md", "report.html", "runs/demo-1/bundle.json"} < sent.keys()
    said_of_all = f"would go to out: {len(sent)} files, {size(sum(sent.values()))}; nothing was sent"
    assert said.out.splitlines()[-1] == said_of_all


@pytest.mark.parametrize(
    ("arguments", "code", "told"),
    [
        (["release", "demo-1"], 2, "the following arguments are required: --to"),
        (["release", "nobody", "--to", "out"], 2, "no run 'nobody'"),
        (["release", "demo-1", "demo-1", "--to", "out"], 2, "a run is named twice"),
        (["release", "killed-1", "--to", "out"], 1, "killed-1 is open"),
        (["release", "demo-1", "--to", "out", "--key", "none.pem"], 2, "cannot read the key none.pem"),
        (["release", "demo-1", "--to", "https://example.org/x"], 2, "can only be read"),
        (["release", "demo-1", "--to", "dvc://store"], 2, "is in no DVC repository"),
        (["release", "demo-1", "--to", "out", "--key", "a", "--sigstore"], 2, "not allowed with argument"),
        (["get", "nowhere"], 2, "there is no release at nowhere"),
        (["get", "released", "--only", "weights", "--out", "o"], 2, "there is no part 'weights'"),
        (["verify", "released", "--anchor", "none.pub"], 2, "cannot read the public key none.pub"),
        (["verify", "released", "--digests"], 2, "are for a bundle, not for a release"),
        (
            ["release", "demo-1", "--to", "out", "--statement", "none.yaml"],
            2,
            "the statement none.yaml cannot be read: No",
        ),
        (["release", "demo-1", "--to", "s3://[x"], 2, "'s3://[x' is no address (Invalid IPv6 URL): name a folder"),
        (["get", "https://[x"], 2, "'https://[x' is no address (Invalid IPv6 URL)"),
        (["verify", "s3://[x"], 2, "'s3://[x' is no address (Invalid IPv6 URL)"),
        (["verify", "S3://x"], 2, "'S3://x' is no place for a release"),
        (["verify", "demo-1", "--anchor", "none.pub"], 1, "not the none.pub that was given"),
    ],
)
def test_a_mistake_is_one_line(recorder: Recorder, arguments: list[str], code: int, told: str) -> None:
    said = recorder(*arguments)
    assert said.code == code
    assert told in said.err + said.out
    assert said.err.count("\n") <= 1


def test_a_fetched_release_is_used_by_every_command(recorder: Recorder, lab: Path, keys: Keys) -> None:
    with file_server(lab / "released") as (address, _):
        said = recorder("get", address, "--out", "got", "--anchor", str(keys.public))
    assert said.code == 0
    assert "consistent, anchored" in said.out
    assert "recorder show demo-1 --runs got/runs" in said.out
    for command in (["list"], ["show", "demo-1"], ["timeline", "demo-1"], ["verify", "demo-1"]):
        assert recorder(*command, "--runs", "got/runs").code == 0
    assert recorder("diff", "runs/demo-1", "got/runs/demo-1").code == 0


def test_a_part_is_used_as_far_as_it_goes(recorder: Recorder) -> None:
    fetched = json.loads(recorder("get", "released", "--only", "metrics", "--out", "got", "--json").out)
    assert fetched["ok"]
    assert "runs/demo-1/source/source.json" in fetched["not_fetched"]
    for command in (["list"], ["show", "demo-1"], ["timeline", "demo-1"], ["verify", "demo-1"]):
        assert recorder(*command, "--runs", "got/runs").code == 0, command
    assert "14 files were not fetched" in recorder("verify", "demo-1", "--runs", "got/runs").out


def test_the_folder_is_named_for_the_source_when_nothing_is_said(recorder: Recorder, lab: Path) -> None:
    (lab / "elsewhere").mkdir()
    (lab / "released").rename(lab / "elsewhere" / "tiny")
    assert recorder("get", "elsewhere/tiny/").code == 0
    assert (lab / "tiny" / RELEASE).exists()


def test_what_is_not_consistent_is_a_finding(recorder: Recorder, lab: Path) -> None:
    (path := lab / "released/runs/demo-1/metrics/0001.parquet").chmod(0o644)
    path.write_bytes(path.read_bytes()[:-1] + b"x")
    said = recorder("verify", "released", "--json")
    assert said.code == 1
    report = json.loads(said.out)
    assert (report["ok"], report["anchored"]) == (False, False)
    assert {finding["file"] for finding in report["findings"]} == {"runs/demo-1/metrics/0001.parquet"}


def test_a_root_anchors_a_bundle(recorder: Recorder, lab: Path) -> None:
    root = json.loads((lab / "runs/demo-1/bundle.json").read_bytes())["root"]
    assert "consistent, anchored" in recorder("verify", "demo-1", "--anchor", root).out
    assert "the root that was given is that of demo-1" in recorder("verify", "released", "--anchor", root).out
