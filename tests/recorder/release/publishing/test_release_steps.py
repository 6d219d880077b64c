"""The whole of `recorder release`: what bars it, what it leaves out, whom it names, and what it is made of."""

from __future__ import annotations

import hashlib
import json
import re
import shutil
from pathlib import Path
from typing import Any

import pytest
import yaml
from helpers.bundles import RunBuilder, finished, killed
from helpers.hub_server import Hub
from helpers.pages import Elements
from helpers.private_runs import HOST, LOG, MACHINE, PRIVATE, USER, leaking, naming, private_model, token
from helpers.publishing import Recorder, Said, content
from helpers.records import config_with
from helpers.tampering import overwrite

from recorder.bundle import layout
from recorder.bundle.rows import read_rows
from recorder.bundle.verify import verify_bundle
from recorder.release import steps
from recorder.release.destinations.folder import Folder
from recorder.release.manifest import RELEASE
from recorder.release.secrets.private_rules import Names
from recorder.release.verify_release import verify_release
from recorder.release.work import FOLDER

TOKEN = token()
OPTIMIZERS = "checkpoints/*/optimizer.safetensors"


@pytest.fixture(scope="module")
def recorded(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A folder with `runs/`: a model whose record names people, a run with a credential in its log, and an open one."""
    folder = tmp_path_factory.mktemp("recorded")
    private_model(folder / "runs")
    leaking(folder / "runs", "leak-1", f"{TOKEN.line} on {HOST}")
    killed(folder / "runs", "killed-1")
    return folder


@pytest.fixture
def lab(recorded: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """A copy of it to work in, on a machine with names of its own."""
    monkeypatch.setattr(steps, "machine_names", lambda: MACHINE)
    return Path(shutil.copytree(recorded, tmp_path / "lab"))


def released(folder: Path) -> dict[str, Any]:
    """release.json of the release in `folder`, which is as it should be."""
    report = verify_release(Folder(folder))
    assert report.findings == ()
    document: dict[str, Any] = json.loads((folder / RELEASE).read_bytes())
    return document


def publish(recorder: Recorder, *arguments: str, to: str = "out") -> Said:
    said = recorder("release", *arguments, "--to", to)
    assert (said.code, said.err) == (0, ""), said.err
    return said


def fingerprint(recorder: Recorder) -> str:
    said = recorder("release", "leak-1", "--to", "out", "--json")
    [found] = json.loads(said.out)["secrets"]
    return str(found["fingerprint"])


def test_a_credential_in_a_log_bars_the_release_each_time(recorder: Recorder, lab: Path) -> None:
    for _ in range(2):
        said = recorder("release", "leak-1", "--to", "out")
        assert said.code == 1
        [line] = [line for line in said.out.splitlines() if f"leak-1/{LOG}" in line]
        place, kind, *excerpt, own = line.split()
        assert (place, kind) == (f"leak-1/{LOG}:2", "github-token")
        assert "<hidden:github-token:" in " ".join(excerpt)
        assert len(own) == 16
        assert said.err.count("\n") == 1
        assert "1 secret must not be published: revoke what is real" in said.err
        assert TOKEN.secret not in said.out + said.err
        assert not (lab / "out").exists()
    document = json.loads(recorder("release", "leak-1", "--to", "out", "--json").out)
    assert (document["ok"], document["published"]) == (False, False)
    assert [(found["run"], found["path"], found["line"]) for found in document["secrets"]] == [("leak-1", LOG, 2)]
    assert document["secrets"][0]["fingerprint"] == own
    assert recorder("release", "demo-1", "leak-1", "--to", "out").code == 1
    assert not (lab / "out").exists()


def test_what_is_allowed_is_published_and_release_json_says_so(recorder: Recorder, lab: Path) -> None:
    own = fingerprint(recorder)
    said = publish(recorder, "demo-1", "leak-1", "--allow", own)
    assert ", 1 allowed" in said.out
    document = released(lab / "out")
    [allowed] = document["allowed"]
    assert (allowed["run"], allowed["path"], allowed["line"], allowed["fingerprint"]) == ("leak-1", LOG, 2, own)
    assert TOKEN.secret not in (lab / "out" / RELEASE).read_text()
    assert TOKEN.line in (lab / "out/runs/leak-1" / LOG).read_text()
    assert "<hidden:host-name>" in allowed["excerpt"], "a digest of it would let names be tried"


def test_a_fingerprint_of_nothing_is_a_line(recorder: Recorder, lab: Path) -> None:
    said = recorder("release", "leak-1", "--to", "out", "--allow", fingerprint(recorder), "--allow", "0" * 16)
    assert said.code == 2
    assert said.err.count("\n") == 1
    assert f"--allow {'0' * 16}: nothing that was found has this fingerprint" in said.err
    assert not (lab / "out").exists()


def test_a_dry_run_lists_what_bars_the_release_and_all_files(recorder: Recorder, lab: Path) -> None:
    said = recorder("release", "leak-1", "--to", "out", "--dry-run")
    assert said.code == 1
    assert f"leak-1/{LOG}:2  github-token" in said.out
    assert "  README.md" in said.out
    assert "nothing was sent" in said.out.splitlines()[-1]
    planned = json.loads(recorder("release", "leak-1", "--to", "out", "--dry-run", "--json").out)
    assert (planned["ok"], len(planned["secrets"])) == (False, 1)
    assert planned["sent"].keys() >= {"report.html", f"runs/leak-1/{LOG}"}
    assert recorder("release", "leak-1", "--to", "out").code == 1
    assert not (lab / "out").exists()
    assert recorder("release", "demo-1", "--to", "out", "--dry-run").code == 0


def test_a_withheld_file_bars_nothing(recorder: Recorder, lab: Path) -> None:
    publish(recorder, "leak-1", "--withhold", LOG)
    [stone] = released(lab / "out")["withheld"]
    assert (stone["run"], stone["path"], stone["reason"]) == ("leak-1", LOG, "withheld by the publisher")
    assert not any(TOKEN.secret.encode() in data for data in content(lab / "out").values())


def test_what_is_withheld_has_tombstones_and_everything_says_so(recorder: Recorder, lab: Path) -> None:
    said = publish(recorder, "demo-1", "--withhold", f"{OPTIMIZERS}=too big for us")
    names = [f"checkpoints/step-0000000{step}/optimizer.safetensors" for step in (2, 4)]
    assert f"withheld: {', '.join(names)}" in said.out
    document = released(lab / "out")
    assert [(stone["path"], stone["reason"]) for stone in document["withheld"]] == [
        (name, "too big for us") for name in names
    ]
    assert {stone["date"] for stone in document["withheld"]} == {document["created"][:10]}
    assert not [path for path in document["files"] if path.endswith("optimizer.safetensors")]
    assert "the model after step 4, and each of 2 checkpoints" in said.out, "weights can do without it"
    bundle = verify_bundle(lab / "out/runs/demo-1")
    assert (bundle.findings, bundle.counts["withheld"]) == ((), 2)
    rows = [line for line in (lab / "out/README.md").read_text().splitlines() if "too big for us" in line]
    assert len(rows) == 2
    verified = recorder("verify", "out")
    assert (verified.code, "too big for us" in verified.out) == (0, True)
    assert (lab / "runs/demo-1" / names[0]).exists()


def test_optimizer_states_and_the_order_of_the_data_are_included(recorder: Recorder, lab: Path) -> None:
    publish(recorder, "demo-1")
    files = released(lab / "out")["files"]
    for step in (2, 4):
        path = f"checkpoints/step-0000000{step}/optimizer.safetensors"
        assert (lab / "out/runs/demo-1" / path).read_bytes() == (lab / "runs/demo-1" / path).read_bytes()
        assert f"runs/demo-1/{path}" in files
    recorded = json.loads((lab / "runs/demo-1/data/dataset.json").read_bytes())
    assert json.loads((lab / "out/runs/demo-1/data/dataset.json").read_bytes())["order"] == recorded["order"]
    rows = [list(read_rows(folder / "runs/demo-1", layout.METRICS)) for folder in (lab, lab / "out")]
    assert rows[0]
    assert [row["order_digest"] for row in rows[1]] == [row["order_digest"] for row in rows[0]]


def test_a_pattern_that_matches_nothing_is_a_line(recorder: Recorder, lab: Path) -> None:
    said = recorder("release", "demo-1", "--to", "out", "--withhold", "checkpoint/*")
    assert (said.code, said.err.count("\n")) == (2, 1)
    assert "--withhold checkpoint/*: no run of the release has such a file or folder" in said.err


def test_no_private_name_is_in_any_byte(recorder: Recorder, lab: Path) -> None:
    recorded = naming(lab / "runs/demo-1", PRIVATE)
    assert {name for _, name in recorded} == set(PRIVATE)
    assert {path for path, _ in recorded} == {
        *("bundle.json", "config/resolved.yaml", "environment/system.json", f"environment/nodes/{HOST}.json"),
        *("ledger/0001.jsonl", LOG, "source/source.tar.gz", "system/0001.parquet"),
    }
    publish(recorder, "demo-1", "--withhold", f"environment/nodes/{HOST}.json", "--withhold", OPTIMIZERS)
    publish(recorder, "demo-1", "killed-1", "--as-is", to="both")
    for out in ("out", "both"):
        released(lab / out)
        assert naming(lab / out, PRIVATE) == set()
        key = (lab / "runs/.pseudonym-key").read_bytes()
        assert not any(key in data or key.hex().encode() in data for data in content(lab / out).values())
    assert "user-" in (lab / "out/runs/demo-1/config/resolved.yaml").read_text()
    assert (lab / "out/runs/demo-1/source/source.tar.gz").read_bytes()[:2] == b"\x1f\x8b"


def test_one_run_may_name_the_machines_of_another(
    recorder: Recorder, lab: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    names = {"demo-1": Names(frozenset({"bastion-3"})), "other-1": Names()}
    monkeypatch.setattr(steps, "recorded_names", lambda path: names[path.name])
    leaking(lab / "runs", "other-1", "went on from where bastion-3 stopped")
    publish(recorder, "other-1", to="alone")
    assert naming(lab / "alone", ("bastion-3",))
    publish(recorder, "demo-1", "other-1")
    assert naming(lab / "out", ("bastion-3",)) == set()


def test_the_model_is_the_checkpoints_to_the_byte(recorder: Recorder, lab: Path) -> None:
    said = publish(recorder, "demo-1")
    assert "the model after step 4, and each of 2 checkpoints" in said.out
    out, saved = lab / "out", lab / "runs/demo-1/checkpoints"
    assert (out / "model.safetensors").read_bytes() == (saved / "step-00000004/model.safetensors").read_bytes()
    for step in (2, 4):
        assert (out / f"checkpoints/step-0000000{step}/config.json").read_bytes() == (out / "config.json").read_bytes()
        weights = f"step-0000000{step}/model.safetensors"
        assert (out / "checkpoints" / weights).read_bytes() == (saved / weights).read_bytes()
    assert {"config.json", "tokenizer.json", "report.html"} < released(out)["files"].keys()
    for name in ("README.md", "ro-crate-metadata.json"):
        text = (out / name).read_text()
        assert "report.html" in text, f"{name} was written before the report"
        assert "model.safetensors" in text
    assert "demo-1" in (out / "report.html").read_text()


def test_each_checkpoint_is_fetched_as_a_model_that_loads(recorder: Recorder, lab: Path) -> None:
    publish(recorder, "demo-1")
    top = {path.name for path in (lab / "out").iterdir() if path.name.endswith((".json", ".safetensors"))}
    for step in (2, 4):
        assert recorder("get", "out", "--checkpoint", str(step), "--out", f"got-{step}").code == 0
        files = {path.name for path in (lab / f"got-{step}/checkpoints/step-0000000{step}").iterdir()}
        assert {"config.json", "model.safetensors", "tokenizer.json"} <= files <= top
        assert not (lab / f"got-{step}/model.safetensors").exists()


def test_the_last_checkpoint_is_a_revision_of_the_hub_too(recorder: Recorder, lab: Path, hub: Hub) -> None:
    publish(recorder, "demo-1", to="hf://lab/demo")
    held = hub.repositories["lab/demo"]
    assert held.branches.keys() == {"main", "step-00000002", "step-00000004"}
    last, newest = held.files("step-00000004"), held.files("main")
    assert "config.json" in last
    assert {name: newest[name] for name in last} == last
    sent = hashlib.sha256(last["model.safetensors"]).hexdigest()
    assert hub.uploads.count(sent) == 1, "one object, however often it is named"


def forked(lab: Path) -> None:
    """A run `fork-1` with another learning rate and home than its parent, whose config has names and a password."""
    of_parent = {"data__files": f"/home/{USER}/files", "data__store": f"s3://anyone:{TOKEN.secret}@store/x"}
    finished(lab / "runs", "parent-1", config=config_with(**of_parent))
    of_fork = {"data__files": "/home/mmustermann/files", "data__store": "s3://store/x", "optim__lr": 0.5}
    parent = {"run": "parent-1", "step": 5}
    fork = RunBuilder(lab / "runs", "fork-1", config=config_with(**of_fork), parent=parent).create()
    fork.restored(5).join().steps(6, 8).finish(8).close()


def test_the_report_of_a_fork_says_what_differs_from_its_parent_and_names_nobody(recorder: Recorder, lab: Path) -> None:
    forked(lab)
    publish(recorder, "fork-1")
    page = Elements((lab / "out/report.html").read_text()).text
    assert re.search(r"parent-1 at step 5.*optim\.lr0\.0030\.5", page)
    assert re.search(r"data\.files/home/(user-\w{10})/files/home/(?!\1)user-\w{10}/files", page)
    assert re.search(r"data\.stores3://\S*<hidden:[a-z-]+:\w+>@store/xs3://store/x", page)
    assert TOKEN.secret not in page
    assert naming(lab / "out", PRIVATE) == set()


def test_a_fork_whose_config_is_withheld_is_compared_with_nothing(recorder: Recorder, lab: Path) -> None:
    forked(lab)
    publish(recorder, "fork-1", "--withhold", "config")
    page = Elements((lab / "out/report.html").read_text()).text
    assert "A fork of parent-1 at step 5, which was not at hand to be compared with." in page


def test_weights_that_are_withheld_are_not_exported(recorder: Recorder, lab: Path) -> None:
    said = publish(recorder, "demo-1", "--withhold", "checkpoints/step-00000004/model.safetensors", to="one")
    assert "the model after step 2" in said.out
    said = publish(recorder, "demo-1", "--withhold", "checkpoints/*/model.safetensors", to="none")
    assert "no model at the top: demo-1 has no complete checkpoint" in said.out
    for out in ("one", "none"):
        assert not [path for path in released(lab / out)["files"] if "step-00000004/model" in path]
    assert "config.json" not in released(lab / "none")["files"]
    said = publish(recorder, "demo-1", "--withhold", "data/tokenizer.json", to="untold")
    assert "no model at the top: demo-1 has no data/tokenizer.json" in said.out
    assert "model.safetensors" not in released(lab / "untold")["files"]


def test_a_tokenizer_that_had_to_be_edited_is_not_exported(
    recorder: Recorder, lab: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(steps, "machine_names", lambda: Names(frozenset({"abcde"})))
    said = publish(recorder, "demo-1")
    assert "no model at the top: data/tokenizer.json of demo-1 does not match its digest" in said.out
    assert "model.safetensors" not in released(lab / "out")["files"]


def test_several_runs_have_a_report_each_and_no_model_at_the_top(recorder: Recorder, lab: Path) -> None:
    said = publish(recorder, "demo-1", "killed-1", "--as-is")
    assert "no model at the top: there are several runs" in said.out
    files = released(lab / "out")["files"]
    top = {path for path in files if "/" not in path}
    assert {"report-demo-1.html", "report-killed-1.html"} < top
    assert not top & {"report.html", "model.safetensors", "config.json"}
    for run in ("demo-1", "killed-1"):
        assert run in (lab / "out" / f"report-{run}.html").read_text()
    card = (lab / "out/README.md").read_text()
    assert card.index("## Run demo-1") < card.index("## Run killed-1")


def test_what_is_stated_is_in_the_card_and_makes_another_release(recorder: Recorder, lab: Path) -> None:
    (lab / "said.yaml").write_text("title: Stories of bees\nlicences: {model: Apache-2.0}\n")
    publish(recorder, "demo-1", "--statement", "said.yaml")
    assert "# Stories of bees" in (lab / "out/README.md").read_text()
    assert "Stories of bees" in (lab / "out/CITATION.cff").read_text()
    (lab / "said.yaml").write_text("title: Stories of wasps\n")
    assert recorder("release", "demo-1", "--statement", "said.yaml", "--to", "out").code == 2, "it is another release"
    publish(recorder, "demo-1", "--statement", "said.yaml", to="second")
    assert "# Stories of wasps" in (lab / "second/README.md").read_text()
    (lab / "said.yaml").write_text("titel: x\n")
    said = recorder("release", "demo-1", "--statement", "said.yaml", "--to", "third")
    assert (said.code, said.err.count("\n")) == (2, 1)
    assert "a statement has no key 'titel'" in said.err


def test_an_open_run_is_marked_wherever_it_is_published(recorder: Recorder, lab: Path) -> None:
    assert recorder("release", "killed-1", "--to", "out").code == 1
    publish(recorder, "killed-1", "--as-is")
    document = released(lab / "out")
    assert document["as_is"]
    assert [(run["state"], run["root"]) for run in document["runs"]] == [("open", None)]
    assert "> - killed-1 is open: its run ended without a seal" in (lab / "out/README.md").read_text()
    assert "released as is" in recorder("verify", "out").out


def test_why_it_is_published_as_it_is_names_nobody(recorder: Recorder, lab: Path) -> None:
    overwrite(lab / f"runs/demo-1/environment/nodes/{HOST}.json", b"{}\n")
    publish(recorder, "demo-1", "--as-is")
    assert released(lab / "out")["as_is"]
    assert "> - demo-1 does not verify (environment/nodes/host-" in (lab / "out/README.md").read_text()
    assert naming(lab / "out", (HOST, USER)) == set()


def test_a_damaged_checkpoint_is_published_as_it_is_without_an_export(recorder: Recorder, lab: Path) -> None:
    path = lab / "runs/demo-1/checkpoints/step-00000004/model.safetensors"
    overwrite(path, path.read_bytes()[:-1] + b"?")
    assert recorder("release", "demo-1", "--to", "out").code == 1
    said = publish(recorder, "demo-1", "--as-is")
    assert "no model at the top: " in said.out
    assert "does not match its recorded digest" in said.out
    assert "model.safetensors" not in released(lab / "out")["files"]


def test_the_journal_is_never_published(recorder: Recorder, lab: Path) -> None:
    publish(recorder, "demo-1")
    assert (lab / "runs" / FOLDER).is_dir()
    assert not [path for path in content(lab / "out") if "steps.json" in path or ".tmp" in path]


def test_a_credential_in_what_is_stated_bars_the_release(recorder: Recorder, lab: Path) -> None:
    word = "Zx8" + "qPw3vT"
    (lab / "said.yaml").write_text(f"title: Bees\nurl: https://bob:{word}@example.org/bees\n")
    asked = ("release", "demo-1", "--to", "out", "--statement", "said.yaml", "--withhold", f"{LOG}={TOKEN.line}")
    said = recorder(*asked)
    assert said.code == 1
    assert [line.split()[:2] for line in said.out.splitlines() if "<hidden:" in line] == [
        ["--statement/said.yaml:2", "url-password"],
        [f"--withhold/{LOG}:1", "github-token"],
    ]
    assert "2 secrets must not be published" in said.err
    assert word not in said.out + said.err
    assert TOKEN.secret not in said.out + said.err
    assert not (lab / "out").exists()
    found = json.loads(recorder(*asked, "--dry-run", "--json").out)["secrets"]
    assert [record["kind"] for record in found] == ["url-password", "github-token"]
    publish(recorder, *asked[1:2], *asked[4:], *(f"--allow={record['fingerprint']}" for record in found))
    assert word in (lab / "out/README.md").read_text()


def test_the_texts_at_the_top_are_looked_at_once_more(
    recorder: Recorder, lab: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(steps, "described", lambda contents: {"README.md": f"x\n{TOKEN.line}\n".encode()})
    said = recorder("release", "demo-1", "--to", "out")
    assert (said.code, said.err.count("\n")) == (1, 1)
    assert [line.split()[:2] for line in said.out.splitlines() if "<hidden:" in line] == [
        ["README.md:2", "github-token"]
    ]
    assert not (lab / "out").exists()


def test_a_reason_names_nobody(recorder: Recorder, lab: Path) -> None:
    publish(recorder, "demo-1", "--withhold", f"{LOG}=it is of {USER}", "--withhold", OPTIMIZERS)
    assert any(stone["reason"].startswith("it is of user-") for stone in released(lab / "out")["withheld"])
    assert naming(lab / "out", (USER,)) == set()


def test_a_user_who_is_called_like_a_key_of_the_config_is_refused_and_may_be_allowed(
    recorder: Recorder, lab: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(steps, "machine_names", lambda: MACHINE | Names(users=frozenset({"train"})))
    for _ in range(2):
        said = recorder("release", "demo-1", "--to", "out")
        assert (said.code, said.err.count("\n")) == (2, 1)
        assert "user-name 'train' is also a key of the config" in said.err
        assert not (lab / "out").exists()
    asked = said.err[said.err.index("--allow") :].rstrip(")\n").split()
    publish(recorder, "demo-1", *asked)
    original, released_config = (
        yaml.safe_load((folder / "config/resolved.yaml").read_text())
        for folder in (lab / "runs/demo-1", lab / "out/runs/demo-1")
    )
    assert released_config["train"] == original["train"]
    assert released_config["model"] == original["model"]
    assert "model.safetensors" in released(lab / "out")["files"]
    assert naming(lab / "out", PRIVATE) == set()


def test_a_dry_run_tells_the_fingerprints_of_names(recorder: Recorder, lab: Path) -> None:
    planned = json.loads(recorder("release", "demo-1", "--to", "out", "--dry-run", "--json").out)
    users = [name for name in planned["names"] if name["kind"] == "user-name" and name["path"] == LOG]
    assert [(user["line"], user["places"]) for user in users] == [(1, 1), (2, 1)]
    assert {name["run"] for name in planned["names"]} == {"demo-1"}
    assert not any(name in json.dumps(planned["names"]) for name in (USER, "mmustermann"))
    assert recorder("release", "demo-1", "--to", "out", f"--allow={users[0]['fingerprint']}").code == 0
    log = (lab / "out/runs/demo-1" / LOG).read_bytes()
    assert (USER.encode() in log, b"mmustermann" in log) == (True, False)
