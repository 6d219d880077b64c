"""Runs whose record names people, machines and places in every kind of file, and a look at every byte for them."""

from __future__ import annotations

import gzip
import io
import re
from collections.abc import Iterator
from pathlib import Path
from unittest import mock

import pyarrow.parquet as pq
from arms.planted import Sample, samples

from helpers import bundles
from helpers.trained import llama, trained
from recorder.capture.archive import SourceFile
from recorder.release.secrets.masking import LineMasker
from recorder.release.secrets.private_rules import Names
from train.data.tokenizer import CharsTokenizer

HOST, USER = "node-a", "kim" + "berly"
# What no record of the run says are names, and the machine does that it is released on.
MACHINE = Names(frozenset({"trainbox-17"}), frozenset({"mmustermann"}))
PRIVATE = (HOST, USER, "trainbox-17", "mmustermann", "10.1.2.3")
LOG = "logs/0001/rank-0.log"


def private_model(root: Path) -> Path:
    """A sealed run `demo-1` with a real model after steps 2 and 4."""
    tokenizer = CharsTokenizer("\n abcde")

    def prepare(builder: bundles.RunBuilder) -> None:
        builder.print(f"hello from {HOST}, {USER} at 10.1.2.3", "mmustermann on trainbox-17", "plain")
        for number in range(4):
            builder.run.writer.add_system_row({"node": HOST if number % 3 else None, "cpu_percent": 1.0})

    return trained(
        root,
        tokenizer,
        {step: llama(tokenizer, seed=step) for step in (2, 4)},
        source=(SourceFile(b"train.py", f"DATA = '/home/{USER}/data'\n".encode(), True),),
        values={"data__cache": f"/home/{USER}/cache"},
        prepare=prepare,
    )


def token() -> Sample:
    """A credential that is made up here."""
    return next(sample for sample in samples(17) if sample.kind == "github-token")


def leaking(root: Path, run_id: str, line: str) -> Path:
    """A sealed run in whose log `line` stands, as if nothing had been masked when it was written."""
    with mock.patch.object(LineMasker, "mask", lambda self, lines: lines):
        builder = bundles.RunBuilder(root, run_id).create().join().print("hello", line)
        return builder.steps(1, 3).finish(3).close()


def texts(folder: Path) -> Iterator[tuple[str, bytes]]:
    """Every file below `folder` by its path, which is part of it, and what archives and tables hold unpacked."""
    for path in sorted(path for path in folder.rglob("*") if path.is_file()):
        name, data = path.relative_to(folder).as_posix(), path.read_bytes()
        yield name, name.encode() + b"\n" + data
        if data[:2] == b"\x1f\x8b":
            yield name, gzip.decompress(data)
        if data[:4] == b"PAR1":
            table = pq.read_table(io.BytesIO(data))
            yield name, repr((table.schema.metadata, table.to_pylist())).encode()


def naming(folder: Path, names: tuple[str, ...]) -> set[tuple[str, str]]:
    """Which files below `folder` hold which of `names`: path and name. HOST is the beginning of other words."""
    ends = r"(?![A-Za-z0-9_-])"
    word = re.compile("|".join(re.escape(name) + (ends if name == HOST else "") for name in names).encode())
    return {(path, match.decode()) for path, data in texts(folder) for match in word.findall(data)}
