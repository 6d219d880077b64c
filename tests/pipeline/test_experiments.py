"""`dvc exp run` in the workspace, in a temporary copy and from the queue: its runs stay, and say what was trained."""

from __future__ import annotations

import json
from typing import Any

from helpers.commands import verify_json
from helpers.dvc_repositories import git
from helpers.pipelines import Checkout, ran

from recorder.bundle.reader import Bundle


def test_an_experiment_in_the_workspace_trains_what_it_was_told(trained: Checkout) -> None:
    trained.commit()
    trained.dvc("exp", "run", "--name", "faster", "-S", "optim.lr=0.01")
    first, second = trained.bundles()
    assert Bundle(second).config["optim"]["lr"] == 0.01
    assert verify_json(trained.folder, second)["findings"] == []
    # The repro of what it left does nothing: params.yaml stays as the experiment has it.
    assert ran(trained.dvc("repro")) == []
    (shown,) = _experiments(trained)
    assert shown["name"] == "faster"
    assert shown["params"]["params.yaml"]["optim"]["lr"] == 0.01
    assert shown["metrics"]["pipeline/verify.json"]["run"] == second.name
    changed = json.loads(trained.dvc("exp", "diff", "HEAD", "faster", "--json").splitlines()[0])
    assert changed["params"]["params.yaml"]["optim.lr"] == {"old": 0.003, "new": 0.01, "diff": 0.007}
    assert f"runs/{second.name}.dvc" in git(trained.folder, "ls-tree", "-r", "--name-only", _rev(trained))
    # Back to the first, and to the experiment: both bundles stay where they are.
    git(trained.folder, "checkout", "--quiet", "--force", "main")
    trained.dvc("exp", "apply", "faster")
    assert trained.pointer()["run"] == second.name
    assert trained.bundles() == [first, second]


def test_a_temporary_copy_and_the_queue_leave_their_bundles_in_the_repository(trained: Checkout) -> None:
    trained.commit()
    trained.dvc("exp", "run", "--queue", "--name", "queued", "-S", "optim.lr=0.02")
    trained.dvc("exp", "run", "--temp", "--name", "apart", "-S", "optim.lr=0.03")
    # This holds DVC's lock until it has ended.
    trained.dvc("exp", "run", "--run-all", "--jobs", "1")
    assert {shown["name"] for shown in _experiments(trained)} == {"queued", "apart"}
    by_rate = {Bundle(path).config["optim"]["lr"]: path for path in trained.bundles()}
    assert set(by_rate) == {0.003, 0.02, 0.03}
    for rate, name in ((0.02, "queued"), (0.03, "apart")):
        bundle = by_rate[rate]
        assert bundle.with_name(f"{bundle.name}.dvc").is_file()
        trained.dvc("exp", "apply", name)
        assert trained.pointer()["run"] == bundle.name
        assert trained.run("recorder", "verify", "pipeline/train.json").code == 0
        assert ran(trained.dvc("repro")) == []
    assert set(trained.bundles()) == set(by_rate.values())
    for bundle in trained.bundles():
        assert verify_json(trained.folder, bundle)["findings"] == []


def _experiments(checkout: Checkout) -> list[dict[str, Any]]:
    """Name, parameters and metrics of each experiment, as `dvc exp show` has them."""
    found = []
    for commit in json.loads(checkout.dvc("exp", "show", "--json", "--no-pager")):
        for experiment in commit.get("experiments") or []:
            (revision,) = experiment["revs"]
            data = revision["data"]
            found.append(
                {
                    "name": experiment["name"],
                    "rev": revision["rev"],
                    "params": {file: value["data"] for file, value in data["params"].items()},
                    "metrics": {file: value["data"] for file, value in data["metrics"].items()},
                }
            )
    return found


def _rev(checkout: Checkout) -> str:
    return str(_experiments(checkout)[0]["rev"])
