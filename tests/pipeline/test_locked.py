"""What dvc.lock holds is what was trained: seen before the first step, and afterwards."""

from __future__ import annotations

import json

import yaml
from helpers.commands import reached_step
from helpers.pipelines import Checkout, output


def test_a_command_that_trains_something_else_stops_before_the_first_step(trained: Checkout) -> None:
    """The known trap: DVC writes the parameter into params.yaml, and Hydra composes its own default."""
    _set_command(trained, "python train.py run.pointer=pipeline/train.json")
    done = trained.run("dvc", "exp", "run", "-S", "optim.lr=0.5")
    assert done.code != 0
    assert "DVC will lock optim.lr=0.5 (params.yaml), and optim.lr=0.003 would be trained" in done.out
    assert done.out.count("train.py: stage train") == 1
    assert len(trained.bundles()) == 1


def test_an_override_beside_the_parameters_stops_before_the_first_step(trained: Checkout) -> None:
    _set_command(trained, "python train.py run.params=params.yaml run.pointer=pipeline/train.json optim.lr=0.25")
    done = trained.run("dvc", "repro")
    assert done.code != 0
    assert "train.py: optim.lr is 0.25 on the command line and 0.003 in params.yaml" in done.out
    assert len(trained.bundles()) == 1


def test_parameters_edited_during_training_are_a_finding(trained: Checkout) -> None:
    trained.change("conf/config.yaml", {"train": {"steps": 100}})
    process = trained.start("dvc", "repro")
    bundle = trained.wait_for(reached_step(1), process, known=1)
    trained.change("params.yaml", {"optim": {"lr": 0.75}})
    assert process.wait(200) != 0
    said = "dvc.lock holds optim.lr=0.75 of stage train for this run, which trained with optim.lr=0.003"
    assert said in output(process)
    done = trained.run("recorder", "verify", bundle.name, "--json")
    (finding,) = json.loads(done.out)["findings"]
    assert (done.code, finding["kind"], finding["reason"]) == (1, "config", said)
    before = trained.bundles()[0]
    assert trained.run("recorder", "verify", before.name).code == 0


def _set_command(checkout: Checkout, command: str) -> None:
    path = checkout.folder / "dvc.yaml"
    document = yaml.safe_load(path.read_text())
    document["stages"]["train"]["cmd"] = command
    path.write_text(yaml.safe_dump(document, sort_keys=False))
