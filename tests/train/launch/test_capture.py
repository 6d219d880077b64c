import json
from pathlib import Path

import pytest

from recorder.bundle import layout
from recorder.bundle.schema import schema_of, violation
from recorder.canonical import digest_json
from train.config import Config
from train.data.preparation import prepare
from train.data.tokenizer import tokenizer_from_json
from train.launch.capture import capture


def test_what_is_captured_holds_all_that_makes_the_tokenizer(
    tmp_path: Path, config: Config, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.chdir(tmp_path)
    (tmp_path / "train.py").write_text("pass\n")
    small = config.data.model_copy(update={"megabytes": 0.1, "cache": str(tmp_path / "cache")})
    prepared = prepare(small)
    files = capture(config, {}, tmp_path, prepared, {"overrides": [], "config": {}}).files
    record = json.loads(files[layout.TOKENIZER])
    assert violation(str(schema_of(layout.TOKENIZER)), record) is None
    assert digest_json(record) == json.loads(files[layout.DATASET])["tokenizer"]["blake3"]
    assert tokenizer_from_json(record).digest == prepared.tokenizer.digest
