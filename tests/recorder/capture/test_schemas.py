import copy
import json
import os
from importlib.resources import files

import fastjsonschema
import pytest

from recorder.capture.packages import capture_packages
from recorder.capture.source import capture_source
from recorder.capture.system import capture_system


def validate(name, value):
    schema = json.loads((files("recorder.bundle.schemas") / f"{name}.json").read_text())
    assert schema["$schema"] == "http://json-schema.org/draft-07/schema#"
    fastjsonschema.compile(schema)(value)


@pytest.fixture
def source(work):
    work.write("train.py", "old\n")
    work.write(".env")
    work.commit()
    work.write(".env", "new\n")
    work.write("untracked.py")
    (work.root / "link").symlink_to("train.py")
    return lambda: capture_source(work.root, 32_000_000).record


def test_what_is_captured_fits_its_schema(source, tmp_path, monkeypatch):
    validate("source", source())
    validate("packages", capture_packages())
    validate("system", capture_system(os.environ))
    monkeypatch.setenv("PATH", str(tmp_path))
    validate("source", source())


@pytest.mark.parametrize(
    ("name", "path", "wrong"),
    [
        ("source", ("files", 0, "blake3"), "short"),
        ("source", ("commit",), "main"),
        ("source", ("patch", "omitted", 0, "reason"), None),
        ("packages", ("packages", 0, "version"), 1),
        ("system", ("cpu", "isa"), "avx2"),
        ("system", ("memory_bytes",), -1),
        ("system", ("gpu", "devices"), {}),
    ],
)
def test_what_is_wrong_is_found_and_what_is_new_is_carried(source, name, path, wrong):
    make = {"source": source, "packages": capture_packages, "system": lambda: capture_system({})}[name]
    value = make() | {"of a later version": 1}
    validate(name, value)
    broken = copy.deepcopy(value)
    *parents, last = path
    inner = broken
    for key in parents:
        inner = inner[key]
    inner[last] = wrong
    with pytest.raises(fastjsonschema.JsonSchemaValueException):
        validate(name, broken)
