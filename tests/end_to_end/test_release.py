"""A real run with two node losses, released, fetched by another account without torch, checked, seen and run."""

from __future__ import annotations

import json
import os
import shutil
import subprocess
import sys
import tempfile
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import pytest
import torch
from helpers.browsers import browser, opened
from helpers.clusters import QUICK_TO_NOTICE, nodes
from helpers.commands import TINY, TrainProcess, events_of, has_event, only_bundle, recorder, steps_of_newest
from helpers.object_servers import BUCKET, s3_server
from helpers.outsiders import NOBODY, Outsider, reader_packages
from helpers.publishing import content, make_key
from safetensors.torch import load_file
from transformers import AutoModelForCausalLM, AutoTokenizer, LlamaForCausalLM

from recorder.bundle import layout
from recorder.bundle.reader import Bundle
from train.config import ModelConfig
from train.data.tokenizer import Tokenizer, tokenizer_from_json
from train.model.build import build_model

STEPS = 480
FOREIGN = ("torch", "ray", "hydra", "dvc", "numpy", "transformers", "model_signing", "train")
TOKENS = [[5, 3, 8, 1, 1, 2, 9, 4, 7, 30, 12]]


@dataclass(frozen=True)
class Released:
    """A bundle, the nodes that its run lost, the releases of it, and the key to check them with."""

    bundle: Path
    lost: list[str]
    folder: Path
    bucket: str
    server: str
    public_key: Path


@pytest.fixture(scope="module")
def public() -> Iterator[Path]:
    """A folder that every account can reach, which pytest's own are not."""
    with tempfile.TemporaryDirectory() as name:
        Path(name).chmod(0o755)
        yield Path(name)


@pytest.fixture(scope="module")
def released(tmp_path_factory: pytest.TempPathFactory, public: Path) -> Iterator[Released]:
    lab = tmp_path_factory.mktemp("lab")
    lost = train_and_lose_nodes(lab)
    key = make_key(lab / "key.pem")
    (public / "key.pub").write_bytes(key.with_suffix(".pub").read_bytes())
    before = dict(os.environ)
    with s3_server(lab / "s3.log") as port:
        server = f"http://127.0.0.1:{port}"
        os.environ["AWS_ENDPOINT_URL"] = server
        for to in (str(public / "stories"), f"s3://{BUCKET}/lab/stories"):
            done = recorder(lab, "release", "latest", "--to", to, "--key", str(key))
            assert done.code == 0, done.out + done.err
        os.environ.clear()
        os.environ.update(before)
        yield Released(
            bundle=only_bundle(lab),
            lost=lost,
            folder=public / "stories",
            bucket=f"s3://{BUCKET}/lab/stories",
            server=server,
            public_key=public / "key.pub",
        )


def train_and_lose_nodes(folder: Path) -> list[str]:
    """Train on three nodes and lose two of them, one after the other; which ones."""
    lost: list[str] = []
    with nodes(3, QUICK_TO_NOTICE) as cluster:
        arguments = [f"train.steps={STEPS}", "checkpoint.every=160", "checkpoint.keep=0", "cluster.workers=3"]
        running = TrainProcess(folder, *TINY, *arguments, f"cluster.address={cluster.address}")
        running.wait_for(has_event("membership.changed"))
        while len(lost) < 2:
            workers = 3 - len(lost)
            bundle = running.wait_for(lambda bundle, workers=workers: steps_of_newest(bundle, workers) >= 5)  # type: ignore[misc]
            lost.append(events_of(bundle, "membership.changed")[-1]["fields"]["workers"][-1]["node"])
            cluster.lose(lost[-1])
            running.wait_for(has_event("node.lost", len(lost)))
        done = running.wait()
    assert done.code == 0, done.err
    return lost


@pytest.fixture(scope="module")
def outsider(public: Path) -> Outsider:
    """Nobody, with what reads bundles and checks signatures and nothing else."""
    return Outsider(public / "reader", *reader_packages("signature"))


@pytest.fixture(scope="module")
def fetched(released: Released, outsider: Outsider) -> Path:
    """The release from the folder, as an outsider has fetched and checked it."""
    for package in (*FOREIGN, "boto3"):
        assert f"No module named '{package}'" in outsider.run("-c", f"import {package}").err
    done = outsider.recorder("get", str(released.folder), "--anchor", str(released.public_key))
    assert done.code == 0, done.out + done.err
    verified = outsider.recorder("verify", "stories", "--anchor", str(released.public_key))
    assert (verified.code, verified.out.splitlines()[0]) == (0, "stories: consistent, anchored")
    assert outsider.recorder("verify", "stories/runs/" + released.bundle.name).code == 0
    for command in ("show", "timeline"):
        shown = outsider.recorder(command, released.bundle.name, "--runs", "stories/runs")
        assert (shown.code, shown.out.count("node lost") >= 2) == (0, True), shown.out + shown.err
    return outsider.home / "stories"


@pytest.mark.timeout(600)
def test_an_outsider_gets_from_s3_what_the_folder_holds(released: Released, fetched: Path, public: Path) -> None:
    outsider = Outsider(public / "s3-reader", *reader_packages("signature", "s3"))
    server = {"AWS_ENDPOINT_URL": released.server, "AWS_DEFAULT_REGION": "us-east-1"}
    server |= {"AWS_ACCESS_KEY_ID": "reader", "AWS_SECRET_ACCESS_KEY": "anything"}
    done = outsider.recorder("get", released.bucket, "--anchor", str(released.public_key), **server)
    assert done.code == 0, done.out + done.err
    assert outsider.recorder("verify", "stories", "--anchor", str(released.public_key)).code == 0
    assert content(outsider.home / "stories") == content(fetched)
    assert content(fetched) == content(released.folder)
    assert {path.stat().st_uid for path in fetched.rglob("*")} == {NOBODY}


def test_the_stock_command_agrees(released: Released, fetched: Path) -> None:
    command = ["model_signing", "verify", "key", ".", "--signature", "model.sig", "--no-ignore-git-paths"]
    keyed = [sys.executable, "-m", *command, "--public_key", str(released.public_key)]
    done = subprocess.run(keyed, cwd=fetched, capture_output=True, text=True, check=False)
    assert (done.returncode, done.stdout.strip()) == (0, "Verification succeeded"), done.stderr


def test_a_byte_that_was_changed_is_found_by_the_outsider(
    released: Released, outsider: Outsider, fetched: Path
) -> None:
    changed = Path(shutil.copytree(fetched, fetched.parent / "changed"))
    weights = changed / "model.safetensors"
    weights.write_bytes(weights.read_bytes()[:-1] + b"\xff")
    found = outsider.recorder("verify", "changed", "--anchor", str(released.public_key))
    assert (found.code, "NOT CONSISTENT: 1 finding" in found.out, "model.safetensors" in found.out) == (1, True, True)


def test_the_report_opens_offline_and_shows_both_losses(released: Released, fetched: Path) -> None:
    with browser() as chromium, opened(chromium, fetched / "report.html") as page:
        page.wait_for_selector(".plot svg path.line")
        table = page.locator("#course table", has_text="worker-seconds lost")
        rows: list[str] = table.locator("tbody tr").all_inner_texts()
        shown = [row for row in rows if any(node[:24] in row for node in released.lost)]
        assert [row.split("\t")[4] for row in shown][:2] == ["node lost"] * 2
        assert {node for node in released.lost if any(node[:24] in row for row in shown)} == set(released.lost)
        assert page.locator(".plot").first.locator(".sign.lost").count() >= 2


def test_transformers_runs_the_model_with_our_logits(released: Released, fetched: Path) -> None:
    theirs = AutoModelForCausalLM.from_pretrained(fetched, attn_implementation="sdpa").eval()
    assert isinstance(theirs, LlamaForCausalLM)
    ours = trained_model(released.bundle)
    tokens = torch.tensor(TOKENS)
    with torch.no_grad():
        logits = ours(tokens)
        assert logits.std() > 0.1
        assert torch.equal(logits, theirs(tokens).logits)
    text = "Once upon a time"
    tokenizer = AutoTokenizer.from_pretrained(fetched)
    assert tokenizer(text).input_ids == tokenizer_of(released.bundle).encode(text).tolist()


def tokenizer_of(bundle: Path) -> Tokenizer:
    """The one that the run recorded."""
    return tokenizer_from_json(json.loads((bundle / layout.TOKENIZER).read_bytes()))


def trained_model(bundle: Path) -> Any:
    """The model as `train` computes it, with the weights of the bundle that was never released."""
    config = Bundle(bundle).config
    sizes = {
        "vocabulary_size": tokenizer_of(bundle).vocabulary_size,
        "sequence_length": config["data"]["sequence_length"],
        "seed": 0,
    }
    model = build_model(ModelConfig(**config["model"]), **sizes).eval()
    weights = load_file(bundle / layout.checkpoint_folder(STEPS) / layout.CHECKPOINT_MODEL)
    model.load_state_dict(weights, strict=False)
    assert set(weights) == {name for name, _ in model.named_parameters()}
    return model
