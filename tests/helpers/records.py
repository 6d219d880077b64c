"""Small made-up records of a config, a machine, packages, source and data, as the capturing rooms write them."""

from __future__ import annotations

import copy
from typing import Any

import yaml

from recorder.bundle import layout
from recorder.canonical import digest, digest_json, readable_json
from recorder.capture.archive import SourceFile, pack

CONFIG: dict[str, Any] = {
    "seed": 1,
    "run": {"name": "demo", "id": "demo-1", "resume": None, "fork": None, "dir": "runs"},
    "cluster": {"address": "local", "workers": 2, "threads": 1},
    "train": {
        "steps": 12,
        "micro_batches": 4,
        "micro_batch_size": 2,
        "precision": "fp32",
        "compile": False,
        "reduction": "tree",
    },
    "model": {"_target_": "train.model.Llama", "hidden_size": 16, "rms_norm_eps": 1.0e-5},
    "data": {"source": "stories", "tokenizer": "chars", "sequence_length": 8, "cache": ".cache/data"},
    "optim": {"lr": 3.0e-3, "betas": [0.9, 0.95], "schedule": "cosine"},
    "checkpoint": {"every": 5, "keep": 2},
    "recorder": {"fingerprint_every": 3, "spool": None},
}
PACKAGES = {
    "python": {"version": "3.11.9", "implementation": "cpython"},
    "packages": [
        {"name": "blake3", "version": "1.0.11", "installer": "pip", "editable": False, "origin": None},
        {"name": "torch", "version": "2.13.0+cpu", "installer": "pip", "editable": False, "origin": None},
    ],
    "unreadable": 0,
}
SYSTEM: dict[str, Any] = {
    "hostname": "node-a",
    "python": {"version": "3.11.9", "implementation": "cpython", "build": "main", "compiler": "GCC 12.2.0"},
    "os": {"system": "Linux", "kernel": "6.1.0", "kernel_build": "#1 SMP", "distribution": None, "libc": None},
    "cpu": {
        "model": "Example CPU",
        "identity": "6 85 7",
        "architecture": "x86_64",
        "physical_cores": 2,
        "logical_cores": 2,
        "isa": ["avx2", "fma"],
        "flags_digest": None,
    },
    "memory_bytes": 8 << 30,
    "disk": {"total_bytes": 1 << 40, "free_bytes": 1 << 39},
    "limits": {"cpus": None, "memory_bytes": None, "affinity": 2},
    "gpu": {"devices": [], "driver": None, "cuda_driver": None, "problem": None},
    "container": {"kind": None, "image": None, "image_digest": None, "image_id": None},
    "clock": {"source": "tsc", "time_zone": "UTC", "utc_offset_seconds": 0},
    "environment": {"OMP_NUM_THREADS": "1"},
}
DETERMINISM: dict[str, Any] = {
    "device": "cpu",
    "device_model": ["Example CPU 6 85 7"],
    "isa": ["avx2", "fma"],
    "torch": "2.13.0+cpu",
    "libraries": {"mkl": "2024.2", "onednn": None},
    "overrides": {},
    "threads": 1,
    "precision": "fp32",
    "compile": False,
    "id": "0123456789abcdef",
    "promised": True,
}
NODE = {"system": SYSTEM, "packages": PACKAGES, "determinism": DETERMINISM}
SOURCE_FILES = (SourceFile(b"model.py", b"HIDDEN = 16\n", False), SourceFile(b"train.py", b"print('train')\n", True))


def captured_files(config: dict[str, Any], source: tuple[SourceFile, ...] = SOURCE_FILES) -> dict[str, bytes]:
    """The files that a driver captures before the first step, by their place in the bundle."""
    archive = pack(source)
    return {
        layout.RESOLVED_CONFIG: yaml.safe_dump(config, sort_keys=False).encode(),
        layout.OVERRIDES: b"[]\n",
        layout.PACKAGES: readable_json(PACKAGES),
        layout.SYSTEM: readable_json(SYSTEM),
        layout.SOURCE: readable_json(source_record(source, archive)),
        layout.SOURCE_ARCHIVE: archive,
        layout.SOURCE_PATCH: b"",
        layout.DATASET: readable_json(dataset_record()),
    }


def config_with(**values: Any) -> dict[str, Any]:
    """CONFIG with dotted keys changed; a double underscore stands for the dot."""
    config = copy.deepcopy(CONFIG)
    for key, value in values.items():
        section, _, name = key.partition("__")
        if name:
            config[section][name] = value
        else:
            config[section] = value
    return config


def source_record(source: tuple[SourceFile, ...], archive: bytes) -> dict[str, Any]:
    """source.json of a clean repository with these files."""
    files = [
        {"path": file.name.decode(), "executable": file.executable, "size": len(file.data), "blake3": digest(file.data)}
        for file in source
    ]
    return {
        "is_repository": True,
        "problem": None,
        "commit": "1" * 40,
        "branch": "main",
        "remote_url": None,
        "prefix": "",
        "dirty": False,
        "submodules": [],
        "untracked": [],
        "files": files,
        "excluded": [],
        "patch": {"size": 0, "blake3": digest(b""), "omitted": []},
        "archive": {"size": len(archive), "blake3": digest(archive)},
    }


def dataset_record() -> dict[str, Any]:
    """dataset.json of generated stories."""
    shard = {"file": "train-00000.bin", "bytes": 4000, "blake3": digest(b"shard")}
    table = {"file": "train-documents.bin", "bytes": 48, "blake3": digest(b"table")}
    split = {"documents": 2, "tokens": 4000, "shards": [shard], "document_table": table}
    return {
        "format": 1,
        "source": {"kind": "stories", "seed": 1, "megabytes": 0.01},
        "inputs": [],
        "licence": "CC0-1.0",
        "address": digest_json("request"),
        "content": digest_json("content"),
        "documents": 2,
        "characters": 4000,
        "tokenizer": {"kind": "chars", "vocabulary_size": 40, "end_of_document": 0, "blake3": digest(b"tokenizer")},
        "token_type": "uint8",
        "byte_order": "little",
        "split": {"validation_fraction": 0.02},
        "order": {"name": "example", "version": 1},
        "splits": {"train": split, "validation": split},
    }
