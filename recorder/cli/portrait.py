"""A run on one screen: its facts as JSON, and the same facts in lines for a person."""

from __future__ import annotations

import math
from collections import Counter
from collections.abc import Iterator
from dataclasses import asdict
from typing import Any

from recorder.bundle import layout
from recorder.bundle.reader import Bundle
from recorder.bundle.state import OPEN, RUNNING
from recorder.cli.losses import effective_words, recovery_facts, recovery_words
from recorder.cli.quantities import between, count, minute, size, sparkline

Facts = dict[str, Any]

_CURVE_WIDTH = 48
# Two lines of a narrow terminal; --json has all of it.
_LONGEST = 132
_TRAIN_KEYS = ("steps", "micro_batches", "micro_batch_size", "precision", "reduction", "compile")
_OPTIM_KEYS = ("lr", "schedule", "weight_decay")


def portrait(bundle: Bundle) -> Facts:
    """What `recorder show --json` prints. Raises BundleError for what is damaged."""
    course = bundle.course
    files, bytes_ = bundle.size()
    return {
        "run": bundle.id,
        "path": str(bundle.path),
        "state": bundle.state,
        "outcome": bundle.outcome,
        "created": bundle.info.get("created"),
        "command": bundle.info.get("command"),
        "parent": bundle.info.get("parent"),
        "determinism": bundle.info.get("determinism"),
        "root": bundle.manifest["root"] if bundle.manifest else None,
        "times": course.times,
        "config": bundle.config,
        "data": bundle.document(layout.DATASET),
        "source": _source(bundle),
        "environment": _environment(bundle),
        "results": _results(bundle),
        "checkpoints": [asdict(checkpoint) for checkpoint in bundle.checkpoints],
        "workers": course.workers,
        **recovery_facts(bundle),
        "torn": bundle.torn_tails(),
        "events": course.counts,
        "files": files,
        "bytes": bytes_,
    }


def lines(facts: Facts) -> Iterator[tuple[str, str]]:
    """Label and text of each line for a person."""
    yield "state", _standing(facts)
    yield "when", _when(facts)
    if effective := effective_words(facts):
        yield "training", effective
    yield "command", _command(facts["command"])
    if parent := facts["parent"]:
        yield "fork of", f"{parent.get('run')} at step {parent.get('step')}"
    if facts["config"]:
        yield "config", _config(facts["config"])
        yield "model", _model(facts["config"])
    if facts["data"]:
        yield "data", _data(facts["data"])
    if facts["source"]:
        yield "source", _source_text(facts["source"])
    if facts["environment"]:
        yield "machine", _machine(facts["environment"])
    if facts["determinism"]:
        yield "same bits", _determinism(facts["determinism"])
    yield from _result_lines(facts["results"])
    yield "checkpoints", _checkpoints(facts["checkpoints"])
    yield "workers", _workers(facts)
    if cost := recovery_words(facts["recovery"]):
        yield "losses", cost
    yield "record", _record(facts)
    yield "next", _next(facts)


def _source(bundle: Bundle) -> Facts:
    recorded = bundle.document(layout.SOURCE) or {}
    return {key: recorded[key] for key in ("commit", "branch", "dirty") if key in recorded}


def _environment(bundle: Bundle) -> Facts:
    system, packages = bundle.document(layout.SYSTEM) or {}, bundle.document(layout.PACKAGES) or {}
    versions = {package["name"]: package["version"] for package in packages.get("packages", [])}
    gpus = Counter(device.get("name") for device in (system.get("gpu") or {}).get("devices") or [])
    found = {
        "host": system.get("hostname"),
        "nodes": bundle.course.counts.get("node.environment", 0),
        "cpu": (system.get("cpu") or {}).get("model"),
        "gpus": dict(gpus),
        "python": (packages.get("python") or {}).get("version"),
        "packages": {name: versions[name] for name in ("torch", "ray") if name in versions},
    }
    return found if system or packages else {}


def _results(bundle: Bundle) -> Facts:
    rows = bundle.committed.rows
    losses = [(row["step"], row["loss"]) for row in rows if "loss" in row]
    evaluations = bundle.course.evaluations
    return {
        "first_step": rows[0]["step"] if rows else None,
        "last_step": rows[-1]["step"] if rows else None,
        "tokens": rows[-1].get("tokens") if rows else None,
        "repeated": len(bundle.committed.superseded),
        "step_seconds": _median([row["step_seconds"] for row in rows if "step_seconds" in row]),
        "first_loss": losses[0][1] if losses else None,
        "last_loss": losses[-1][1] if losses else None,
        "validation": evaluations[-1] if evaluations else None,
        "curve": sparkline([loss for _, loss in losses], _CURVE_WIDTH) if losses else "",
    }


def _median(values: list[float]) -> float | None:
    return sorted(values)[len(values) // 2] if values else None


def _standing(facts: Facts) -> str:
    if facts["state"] == OPEN:
        return f"open, {facts['outcome'] or 'killed'}: it was never sealed; a resume goes on with it"
    if facts["state"] == RUNNING:
        return "running"
    return f"{facts['outcome']}, sealed, root {str(facts['root'])[:16]}"


def _when(facts: Facts) -> str:
    text = f"{minute(str(facts['created']))} UTC"
    if facts["times"]:
        text += f", {between(*facts['times'])}"
    ends = [str(attempt["outcome"] or facts["state"]) for attempt in facts["attempts"]]
    return f"{text} in {count(len(ends), 'attempt')} ({', '.join(ends)})" if len(ends) > 1 else text


def _command(command: Any) -> str:
    return _cut(" ".join(map(str, command)) if isinstance(command, list) else str(command or "not recorded"))


def _config(config: Facts) -> str:
    train, optim, cluster = (_section(config, name) for name in ("train", "optim", "cluster"))
    parts = [f"seed {config.get('seed')}"]
    parts += [f"{key} {train[key]}" for key in _TRAIN_KEYS if train.get(key) not in (None, False)]
    parts += [f"{key} {optim[key]}" for key in _OPTIM_KEYS if key in optim]
    parts += [f"workers {cluster['workers']}"] if "workers" in cluster else []
    return ", ".join(parts)


def _model(config: Facts) -> str:
    model = _section(config, "model")
    arguments = ", ".join(f"{key}={value}" for key, value in model.items() if key != "_target_")
    return _cut(f"{model.get('_target_', 'not recorded')}({arguments})")


def _data(data: Facts) -> str:
    inputs, source = data.get("inputs") or [], data.get("source") or {}
    splits = data.get("splits") or {}
    parts = [count(len(inputs), "file") if inputs else str(source.get("kind"))]
    parts += [f"{split['tokens']:,} {name} tokens" for name, split in splits.items() if "tokens" in split]
    parts += [f"{_section(data, 'tokenizer').get('kind')} tokenizer"] if data.get("tokenizer") else []
    return ", ".join([*parts, f"licence {data.get('licence') or 'not stated'}"])


def _source_text(source: Facts) -> str:
    if not source.get("commit"):
        return "no commit; all files are in the archive"
    state = "with changes that are in the archive" if source.get("dirty") else "unchanged"
    return f"commit {source['commit'][:12]} on {source.get('branch') or 'no branch'}, {state}"


def _machine(environment: Facts) -> str:
    gpus = [f"{number} x {name}" for name, number in environment["gpus"].items()]
    parts = [str(environment["host"]), str(environment["cpu"]), *gpus, f"Python {environment['python']}"]
    return ", ".join([*parts, *(f"{name} {version}" for name, version in environment["packages"].items())])


def _determinism(found: Facts) -> str:
    promise = "on any machine of class" if found.get("promised", True) else "not promised (reduction native); class"
    keys = ("device", "torch", "precision")
    return f"{promise} {found.get('id')}: {', '.join(str(found[key]) for key in keys if key in found)}"


def _result_lines(results: Facts) -> Iterator[tuple[str, str]]:
    if results["last_step"] is None:
        yield "steps", "none"
        return
    steps = f"{results['first_step']} to {results['last_step']}"
    if results["tokens"] is not None:
        steps += f", {results['tokens']:,} tokens"
    if results["step_seconds"] is not None:
        steps += f", {1000 * results['step_seconds']:.0f} ms a step"
    if results["repeated"]:
        steps += f", {results['repeated']} recorded more than once"
    yield "steps", steps
    if results["first_loss"] is not None:
        text = f"{results['first_loss']:.4f} to {results['last_loss']:.4f}"
        if validation := results["validation"]:
            text += f", validation {float(validation.get('loss', math.nan)):.4f} at step {validation.get('step')}"
        yield "loss", text
        yield "", results["curve"]


def _checkpoints(checkpoints: list[Facts]) -> str:
    present = [found for found in checkpoints if found["removed"] is None]
    if not checkpoints:
        return "none"
    steps = ", ".join(str(found["step"]) for found in present[-5:]) or "none"
    more = "… " if len(present) > 5 else ""
    removed = len(checkpoints) - len(present)
    text = f"{more}{steps} ({size(sum(found['size'] for found in present))})"
    return text + (f", {removed} removed" if removed else "")


def _workers(facts: Facts) -> str:
    numbers = facts["workers"]
    text = " then ".join(map(str, numbers[:6])) + (" …" if len(numbers) > 6 else "") if numbers else "none joined"
    losses = [f"rank {loss.get('rank')} ({loss.get('cause')})" for loss in facts["losses"]]
    more = f" and {len(losses) - 3} more" if len(losses) > 3 else ""
    nodes_lost = facts["recovery"]["nodes_lost"]
    nodes = f", {count(nodes_lost, 'node')} lost" if nodes_lost else ""
    return text + (f"; lost: {', '.join(losses[:3])}{more}" if losses else ", none lost") + nodes


def _record(facts: Facts) -> str:
    events = count(sum(facts["events"].values()), "event")
    torn = [f"; {name} ends in a torn record of {bytes_} bytes" for name, bytes_ in facts["torn"]]
    return f"{count(facts['files'], 'file')}, {size(facts['bytes'])}, {events}{''.join(torn)}"


def _next(facts: Facts) -> str:
    run = facts["run"]
    commands = [f"recorder timeline {run}", f"recorder verify {run}"]
    if facts["state"] == OPEN or facts["outcome"] == "interrupted":
        commands.insert(0, f"python train.py run.resume={run}")
    return "\n".join(commands)


def _cut(text: str) -> str:
    return text if len(text) <= _LONGEST else f"{text[: _LONGEST - 1]}…"


def _section(mapping: Facts, name: str) -> Facts:
    section = mapping.get(name)
    return section if isinstance(section, dict) else {}
