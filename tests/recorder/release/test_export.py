from __future__ import annotations

import json
import subprocess
import sys
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest
import torch
from helpers.commands import REPOSITORY
from helpers.records import config_with
from helpers.releases import contents_of
from helpers.trained import POSITIONS, SHAPE, llama, trained
from transformers import AutoModelForCausalLM, AutoTokenizer, LlamaForCausalLM

from recorder.bundle import layout
from recorder.bundle.reader import Bundle
from recorder.bundle.verify import verify_bundle
from recorder.checkpoint.record import read_commit_marker
from recorder.errors import BundleError, RecordingError, UsageError
from recorder.release import llama as exported_llama
from recorder.release.card import model_card
from recorder.release.export import export_model, why_not
from train.data.tokenizer import BytesTokenizer, CharsTokenizer, Tokenizer
from train.model.arguments import LLAMA_TARGETS, LlamaArguments

CHARS = CharsTokenizer("\n !'?abcdeé🙂")
VARIANTS: dict[str, dict[str, Any]] = {
    "plain": {},
    "tied": {"tie_word_embeddings": True},
    "grouped": {"num_key_value_heads": 2},
    "one key head, tied, dropout": {"num_key_value_heads": 1, "tie_word_embeddings": True, "dropout": 0.1},
    "constants": {"rope_theta": 500000.0, "rms_norm_eps": 1e-5},
}


@pytest.mark.parametrize("shape", VARIANTS.values(), ids=VARIANTS.keys())
@pytest.mark.parametrize("tokenizer", [BytesTokenizer(), CHARS], ids=["bytes", "chars"])
def test_transformers_computes_our_logits_bit_for_bit(
    tmp_path: Path, tokenizer: Tokenizer, shape: dict[str, Any]
) -> None:
    ours = llama(tokenizer, **shape)
    done = export_model(Bundle(trained(tmp_path / "runs", tokenizer, {4: ours}, **shape)), tmp_path / "out")
    assert (done.run, done.step, done.checkpoint) == ("demo-1", 4, "checkpoints/step-00000004")
    assert sorted(path.name for path in (tmp_path / "out").iterdir()) == list(done.files)
    theirs = AutoModelForCausalLM.from_pretrained(tmp_path / "out", attn_implementation="sdpa").eval()
    assert isinstance(theirs, LlamaForCausalLM)
    assert theirs.dtype == torch.float32
    tied = theirs.lm_head.weight is theirs.model.embed_tokens.weight
    assert tied == theirs.config.tie_word_embeddings == shape.get("tie_word_embeddings", False)
    for length in (POSITIONS, 7, 1):
        tokens = torch.randint(0, tokenizer.vocabulary_size, (3, length), generator=torch.Generator().manual_seed(1))
        with torch.no_grad():
            logits = ours(tokens)
            assert logits.std() > 0.1
            assert torch.equal(logits, theirs(tokens).logits)
            assert torch.equal(logits, theirs(tokens, use_cache=False).logits)


def test_nothing_is_initialised_and_nothing_left_over(tmp_path: Path) -> None:
    bundle = Bundle(trained(tmp_path / "runs", CHARS, {2: llama(CHARS)}))
    export_model(bundle, tmp_path / "out")
    _, loading = LlamaForCausalLM.from_pretrained(tmp_path / "out", output_loading_info=True)
    assert not any(loading[key] for key in ("missing_keys", "unexpected_keys", "mismatched_keys"))


def test_text_goes_in_and_comes_out(tmp_path: Path) -> None:
    export_model(Bundle(trained(tmp_path / "runs", CHARS, {2: llama(CHARS)})), tmp_path / "out")
    tokenizer = AutoTokenizer.from_pretrained(tmp_path / "out")
    model = AutoModelForCausalLM.from_pretrained(tmp_path / "out")
    assert model.config.eos_token_id == model.generation_config.eos_token_id == tokenizer.eos_token_id
    assert model.config.bos_token_id is tokenizer.bos_token_id is None
    read = tokenizer("a bad é🙂", return_tensors="pt")
    assert read.input_ids.tolist() == [CHARS.encode("a bad é🙂").tolist()]
    written = model.generate(**read, do_sample=False)
    assert written.shape[1] <= POSITIONS
    assert tokenizer.decode(written[0]).startswith("a bad é🙂")


def test_the_weights_are_the_bytes_of_the_checkpoint(tmp_path: Path) -> None:
    bundle = Bundle(trained(tmp_path / "runs", CHARS, {2: llama(CHARS, 1), 4: llama(CHARS, 2)}))
    assert export_model(bundle, tmp_path / "newest").step == 4
    assert export_model(bundle, tmp_path / "earlier", step=2).step == 2
    for name, step in (("newest", 4), ("earlier", 2)):
        recorded = bundle.path / layout.checkpoint_folder(step) / layout.CHECKPOINT_MODEL
        assert (tmp_path / name / "model.safetensors").read_bytes() == recorded.read_bytes()


def test_the_same_again_gives_the_same_bytes(tmp_path: Path) -> None:
    bundle = Bundle(trained(tmp_path / "runs", CHARS, {2: llama(CHARS)}))
    before = {path.name: path.stat() for path in bundle.path.rglob("*")}
    export_model(bundle, tmp_path / "out")
    first = {path.name: path.read_bytes() for path in (tmp_path / "out").iterdir()}
    export_model(Bundle(bundle.path), tmp_path / "out")
    assert first == {path.name: path.read_bytes() for path in (tmp_path / "out").iterdir()}
    assert {name: (was.st_mtime_ns, was.st_mode) for name, was in before.items()} == {
        path.name: (path.stat().st_mtime_ns, path.stat().st_mode) for path in bundle.path.rglob("*")
    }
    assert verify_bundle(bundle.path).findings == ()


def test_a_damaged_checkpoint_is_refused_and_leaves_nothing(tmp_path: Path) -> None:
    bundle = Bundle(trained(tmp_path / "runs", CHARS, {2: llama(CHARS)}))
    path = bundle.path / layout.checkpoint_folder(2) / layout.CHECKPOINT_MODEL
    data = bytearray(path.read_bytes())
    data[-1] ^= 1
    path.chmod(0o644)
    path.write_bytes(data)
    with pytest.raises(BundleError, match="does not match its recorded digest"):
        export_model(bundle, tmp_path / "out")
    assert list((tmp_path / "out").iterdir()) == []


def test_another_model_is_refused_with_the_reason(tmp_path: Path) -> None:
    config = config_with(model={"_target_": "my.Model", "width": 3})
    files = {layout.RESOLVED_CONFIG: json.dumps(config).encode()}
    bundle = Bundle(trained(tmp_path / "runs", CHARS, {2: llama(CHARS)}, files=files))
    assert why_not(bundle) is not None
    with pytest.raises(
        UsageError, match=r"model\._target_=my\.Model cannot be exported: transformers has no such model"
    ):
        export_model(bundle, tmp_path / "out")


def test_a_run_without_a_checkpoint_is_refused(tmp_path: Path) -> None:
    bundle = Bundle(trained(tmp_path / "runs", CHARS, {}))
    assert why_not(bundle) == "demo-1 has no complete checkpoint"
    with pytest.raises(UsageError, match="demo-1 has no complete checkpoint to export"):
        export_model(bundle, tmp_path / "out")
    with pytest.raises(UsageError, match="no complete checkpoint of step 7"):
        export_model(bundle, tmp_path / "out", step=7)


def test_weights_of_another_shape_are_refused(tmp_path: Path) -> None:
    bundle = Bundle(trained(tmp_path / "runs", CHARS, {2: llama(CHARS, tie_word_embeddings=True)}))
    with pytest.raises(BundleError, match=r"lm_head\.weight is missing, expected was \(13, 48\) \(1 tensors differ\)"):
        export_model(bundle, tmp_path / "out")


def test_a_target_that_cannot_be_written_is_named(tmp_path: Path) -> None:
    bundle = Bundle(trained(tmp_path / "runs", CHARS, {2: llama(CHARS)}))
    (tmp_path / "out").write_text("a file")
    with pytest.raises(RecordingError, match="cannot write"):
        export_model(bundle, tmp_path / "out")


def test_a_run_that_did_not_record_its_tokenizer_takes_the_right_one_and_no_other(tmp_path: Path) -> None:
    bundle = Bundle(trained(tmp_path / "runs", CHARS, {2: llama(CHARS)}, files={layout.TOKENIZER: None}))
    with pytest.raises(
        UsageError, match=r"no data/tokenizer\.json: an older version recorded it; give the tokenizer\.json"
    ):
        export_model(bundle, tmp_path / "out")
    given = tmp_path / "given.json"
    given.write_text(json.dumps(CHARS.to_json()))
    assert "tokenizer.json" in export_model(bundle, tmp_path / "out", tokenizer=given).files
    given.write_text(json.dumps(CharsTokenizer("abcdefghijklm").to_json()))
    with pytest.raises(UsageError, match="is not the tokenizer of demo-1"):
        export_model(bundle, tmp_path / "out", tokenizer=given)
    given.write_text("{")
    with pytest.raises(UsageError, match="cannot be read"):
        export_model(bundle, tmp_path / "out", tokenizer=given)


def test_a_tokenizer_of_bytes_needs_no_record(tmp_path: Path) -> None:
    tokenizer = BytesTokenizer()
    bundle = Bundle(trained(tmp_path / "runs", tokenizer, {2: llama(tokenizer)}, files={layout.TOKENIZER: None}))
    assert export_model(bundle, tmp_path / "out").step == 2


def test_a_tokenizer_that_was_changed_is_refused(tmp_path: Path) -> None:
    other = json.dumps(CharsTokenizer("abcdefghijklm").to_json()).encode()
    bundle = Bundle(trained(tmp_path / "runs", CHARS, {2: llama(CHARS)}, files={layout.TOKENIZER: other}))
    with pytest.raises(BundleError, match="does not match its digest in data/dataset.json"):
        export_model(bundle, tmp_path / "out")


def test_no_torch_is_needed(tmp_path: Path) -> None:
    bundle = trained(tmp_path / "runs", CHARS, {2: llama(CHARS)})
    assert read_commit_marker(bundle / layout.checkpoint_folder(2)) is not None
    code = (
        "import sys; from pathlib import Path; from recorder.bundle.reader import Bundle\n"
        "from recorder.release.export import export_model\n"
        f"export_model(Bundle(Path({str(bundle)!r})), Path({str(tmp_path / 'out')!r}))\n"
        "print(*{name.split('.')[0] for name in sys.modules})"
    )
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True, cwd=REPOSITORY)
    assert not set(done.stdout.split()) & {"torch", "numpy", "transformers", "safetensors", "tokenizers", "train"}


def test_defaults_and_targets_are_those_of_training() -> None:
    assert exported_llama.TARGETS == LLAMA_TARGETS
    fields = LlamaArguments.model_fields
    assert {name: field.default for name, field in fields.items() if not field.is_required()} == exported_llama.DEFAULTS
    assert SHAPE.keys() == {name for name, field in fields.items() if field.is_required()}


def test_the_card_counts_the_parameters_of_the_newest_released_weights(tmp_path: Path) -> None:
    models = {2: llama(CHARS), 4: llama(CHARS)}
    path = trained(tmp_path / "runs", CHARS, models)
    exported = export_model(Bundle(path), tmp_path / "release")
    whole = contents_of(tmp_path / "release", path, exported=exported)
    count = sum(weight.numel() for weight in models[4].parameters())
    label = f"| parameters, counted, tied ones once | {count} |"
    (row,) = [line for line in model_card(whole).decode().splitlines() if line.startswith(label)]
    assert "[model.safetensors](model.safetensors)" in row
    assert "step-00000004/model.safetensors" in row
    weights = [name for name in whole.files if name.endswith("model.safetensors")]
    for withheld, source in ((["model.safetensors", weights[-1]], weights[-2]), (weights, None)):
        files = {name: record for name, record in whole.files.items() if name not in withheld}
        told = [
            line
            for line in model_card(replace(whole, files=files)).decode().splitlines()
            if line.startswith("| parameters")
        ]
        assert [source in line for line in told if source] == ([True] if source else [])
        assert bool(told) == (source is not None)
