"""`dvc repro`: what runs, what does not, and what it leaves."""

from __future__ import annotations

import json

import pytest
import yaml
from helpers.commands import events_of
from helpers.dvc_repositories import git
from helpers.pipelines import Checkout, ran

from recorder.bundle.reader import Bundle

STAGES = ["inputs", "prepare", "train", "verify", "report"]


@pytest.mark.cluster
def test_a_fresh_clone_does_all_of_it_and_leaves_nothing_to_commit_by_surprise(
    fresh_repro: tuple[Checkout, str],
) -> None:
    checkout, said = fresh_repro
    assert ran(said) == STAGES
    (bundle,) = checkout.bundles()
    manifest = json.loads((bundle / "bundle.json").read_bytes())
    pointer = checkout.pointer()
    assert (pointer["run"], pointer["root"], pointer["bundle"]) == (
        bundle.name,
        manifest["root"],
        f"runs/{bundle.name}",
    )
    assert pointer["config_digest"] == events_of(bundle, "attempt.started")[0]["fields"]["config_digest"]
    assert git(checkout.folder, "rev-list", "--count", "HEAD").strip() == "1"
    assert git(checkout.folder, "diff", "--cached", "--name-only").split() == [f"runs/{bundle.name}.dvc"]
    assert git(checkout.folder, "diff", "--name-only") == ""
    assert json.loads((checkout.folder / "pipeline/verify.json").read_bytes())["ok"]


def test_again_it_does_nothing(trained: Checkout) -> None:
    said = trained.dvc("repro")
    assert ran(said) == []
    assert "up to date" in said
    assert "up to date" in trained.dvc("status")
    assert len(trained.bundles()) == 1


def test_a_changed_comment_trains_nothing_again(trained: Checkout) -> None:
    for path in sorted((trained.folder / "conf").rglob("*.yaml")):
        path.write_text(f"# another comment\n{path.read_text()}\n# and one more\n")
    (trained.folder / "params.yaml").open("a").write("# a comment\n")
    assert ran(trained.dvc("repro")) == []
    for name in ("train.py", "train/loop.py"):
        text = (trained.folder / name).read_text().replace('"""', '"""Another docstring. ', 1)
        (trained.folder / name).write_text(f"{text}\n# a comment\n")
    (trained.folder / "requirements.lock").open("a").write("# a comment\n")
    # DVC cannot tell comments in code; the first stage can, and costs no second.
    assert ran(trained.dvc("repro")) == ["inputs"]
    assert ran(trained.dvc("repro")) == []
    assert len(trained.bundles()) == 1


def test_a_changed_learning_rate_runs_again_from_train(trained: Checkout) -> None:
    trained.commit()
    trained.change("conf/optim/adamw.yaml", {"lr": 0.004})
    said = trained.dvc("repro")
    assert ran(said) == ["inputs", "train", "verify", "report"]
    assert "params.yaml: optim.lr was 0.003, conf/ says 0.004" in said
    assert Bundle(trained.bundles()[-1]).config["optim"]["lr"] == 0.004
    lock = yaml.safe_load((trained.folder / "dvc.lock").read_text())
    assert lock["stages"]["train"]["params"]["params.yaml"]["optim"]["lr"] == 0.004
    shown = json.loads(trained.dvc("metrics", "diff", "HEAD", "--json").splitlines()[0])
    assert shown["pipeline/metrics.json"]["loss"]["new"]
    assert '"step": "12"' in trained.dvc("plots", "show", "--show-vega", "loss")


def test_a_result_that_dvc_was_killed_before_noting_is_taken_and_a_forced_run_is_another(trained: Checkout) -> None:
    (bundle,) = trained.bundles()
    before = sorted((bundle / "ledger").iterdir())
    pointer = (trained.folder / "pipeline/train.json").read_bytes()
    _forget_training(trained)
    said = trained.dvc("repro")
    assert f"run {bundle.name} has finished for the same inputs: nothing is trained again" in said
    assert ran(said)[:1] == ["train"]
    assert (trained.folder / "pipeline/train.json").read_bytes() == pointer
    assert trained.bundles() == [bundle]
    assert sorted((bundle / "ledger").iterdir()) == before
    trained.dvc("repro", "--single-item", "--force", "train")
    assert len(trained.bundles()) == 2


def _forget_training(checkout: Checkout) -> None:
    """As if DVC had been killed right after the run was sealed."""
    lock = yaml.safe_load((checkout.folder / "dvc.lock").read_text())
    for stage in ("train", "verify", "report"):
        del lock["stages"][stage]
    (checkout.folder / "dvc.lock").write_text(yaml.safe_dump(lock))
    (checkout.folder / "pipeline/train.json").unlink()
