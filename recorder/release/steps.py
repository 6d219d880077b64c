"""The steps of a release that are done on this machine, in order: from recorded bundles to a signed stage."""

from __future__ import annotations

import re
import shutil
from collections import Counter
from collections.abc import Callable
from dataclasses import asdict, dataclass
from fnmatch import fnmatchcase
from functools import reduce
from operator import or_
from pathlib import Path
from typing import Any

from recorder.bundle import layout
from recorder.bundle.files import write_file
from recorder.bundle.find import is_bundle
from recorder.bundle.findings import Report
from recorder.bundle.manifest import bundle_files
from recorder.bundle.reader import Bundle
from recorder.bundle.state import RUNNING, SEALED
from recorder.bundle.verify import verify_bundle
from recorder.canonical import parse_utc
from recorder.errors import BundleError, UsageError
from recorder.release.contents import CARD, CITATION, CRATE, CROISSANT, DATA, OPENNESS, Contents
from recorder.release.damaged import DamagedBundle
from recorder.release.describe import describe as described
from recorder.release.export import Exported, export_model, exportable_steps, why_not
from recorder.release.manifest import RELEASE, RUNS, Release, parse_release
from recorder.release.parents import edited_config
from recorder.release.pseudonyms import KINDS, Pseudonyms, read_or_make_key
from recorder.release.redaction import redact as redacted
from recorder.release.replacement import Replacer
from recorder.release.report.page import parent_config, parent_of
from recorder.release.report.page import report as report_page
from recorder.release.reserved import check_names
from recorder.release.secrets.gate import once_a_file, scan_bundle
from recorder.release.secrets.names import machine_names, recorded_names
from recorder.release.secrets.private_rules import Names
from recorder.release.secrets.rule import HIDDEN
from recorder.release.secrets.scanner import Scanner
from recorder.release.signing import sign_release
from recorder.release.stage import list_stage, record_stage
from recorder.release.stated_secrets import stated_secrets, top_secrets
from recorder.release.statement import STATEMENT, Statement, kept_statement, read_statement
from recorder.release.training_data import check_data, data_files, stage_data
from recorder.release.work import Work

_WITHHELD = "withheld by the publisher"
# In the mask of a private name: without a key, so that names could be tried against it.
_DIGEST = re.compile(rf"({HIDDEN}(?:{'|'.join(KINDS)})):[0-9a-f]+>")


class SecretsFound(BundleError):
    """Secrets bar a release. `findings` are records of them, each with its `run`."""

    def __init__(self, findings: list[dict[str, Any]]) -> None:
        super().__init__(
            f"{_count(len(findings), 'secret')} must not be published: revoke what is real, and withhold its file "
            "(--withhold PATH); let through what is none (--allow FINGERPRINT)"
        )
        self.findings = findings


@dataclass(frozen=True)
class Step:
    """One step: does its part of the work and returns what to say of it in a line."""

    name: str
    run: Callable[[Work], str]


def verify(work: Work) -> str:
    """Refuse what is open or does not verify, unless the release is to be marked as it is."""
    runs, faults = [], []
    for path in work.request.bundles:
        report = verify_bundle(path)
        if report.state == RUNNING:
            raise UsageError(f"{path.name} is still being written: wait for its end, or stop it")
        if fault := fault_of(report):
            faults.append(f"{path.name} {fault}")
            if not work.request.as_is:
                continue
        state = "sealed" if report.state == SEALED else "open"
        runs.append({"id": path.name, "state": state, "outcome": _opened(path, fault).outcome})
    if faults and not work.request.as_is:
        raise BundleError(f"{'; '.join(faults)}; --as-is publishes it, and says so")
    work.facts |= {"runs": runs, "problems": faults}
    said = f"{_count(len(runs), 'bundle')}, {'; '.join(faults) or 'consistent'}"
    if work.request.data is None:
        return said
    known = check_data(work.request.data, map(Bundle, work.request.bundles))
    return f"{said}; {len(data_files(work.request.data))} of {_count(known, 'file')} of training data, as recorded"


def secrets(work: Work) -> str:
    """Find what must not be published.

    Raises UsageError for an allowed fingerprint of nothing that is there, and for a name that cannot be replaced.
    """
    allow = work.request.allow
    stated = stated_secrets(work.request.statement, work.request.withhold)
    found = [record for record in stated if record["fingerprint"] not in allow]
    allowed = [record for record in stated if record["fingerprint"] in allow]
    private: Counter[str] = Counter()
    names_found: list[dict[str, Any]] = []
    unknown = set(allow) - {record["fingerprint"] for record in allowed}
    names, scanned = _names(work), 0
    for path in work.request.bundles:
        left_out = set(_withheld(work, path))
        verdict = scan_bundle(path, names, allow, left_out)
        check_names(path, names, verdict.private, left_out)
        found += [{"run": path.name, **finding.record()} for finding in verdict.credentials]
        allowed += [{"run": path.name, **finding.record()} for finding in verdict.allowed]
        private.update(finding.kind for finding in verdict.private)
        names_found += [{"run": path.name, **record} for record in once_a_file(verdict.private)]
        unknown &= set(verdict.unknown)
        scanned += verdict.bytes
    kept = 0
    if work.request.data is not None:
        verdict = scan_bundle(work.request.data, names, work.request.allow)
        found += [{"run": DATA, **finding.record()} for finding in verdict.credentials]
        allowed += [{"run": DATA, **finding.record()} for finding in verdict.allowed]
        unknown &= set(verdict.unknown)
        scanned, kept = scanned + verdict.bytes, len(verdict.private)
    if unknown:
        raise UsageError(f"--allow {min(unknown)}: nothing that was found has this fingerprint")
    work.facts |= {"secrets": found, "allowed": allowed, "private": dict(sorted(private.items()))}
    work.facts["names"] = names_found
    said = [f"{_count(len(found), 'secret')} in {scanned / 1e6:.1f} MB", f"{sum(private.values())} private names"]
    said += [f"{kept} in the training data, which stay"] if kept else []
    return ", ".join([*said, *([f"{len(allowed)} allowed"] if allowed else [])])


def redact(work: Work) -> str:
    """Stage the bundles, with pseudonyms for private names and tombstones for what is withheld."""
    key, names, allow = read_or_make_key(work.request.runs), _names(work), work.request.allow
    edited: list[dict[str, Any]] = []
    stones: list[dict[str, Any]] = []
    for path in work.request.bundles:
        target = work.stage / RUNS / path.name
        # Of a call that was killed after it had made the copy.
        shutil.rmtree(target, ignore_errors=True)
        done = redacted(
            path, target, names=names, key=key, allow=allow, withhold=_withheld(work, path), clock=_clock(work)
        )
        edited += [{"run": path.name, **edit} for edit in done.edits]
        stones += [{"run": path.name, **stone} for stone in done.tombstones]
    told = _replacer(work, names)
    # Both are published, and name files.
    problems = [told.text(problem)[0] for problem in work.facts["problems"]]
    allowed = [
        found | {"path": told.text(found["path"])[0], "excerpt": _DIGEST.sub(r"\1>", found["excerpt"])}
        for found in work.facts["allowed"]
    ]
    work.facts |= {"edited": edited, "withheld": stones, "problems": problems, "allowed": allowed}
    said = f"{_count(len(edited), 'file')} edited, {len(stones)} withheld"
    if work.request.data is None:
        return said
    return f"{said}, {_count(stage_data(work.request.data, work.stage / DATA), 'file')} of training data"


def export(work: Work) -> str:
    """Put the newest model where `transformers` loads it from, and each one, that too, below checkpoints/."""
    bundles = _staged(work)
    if len(bundles) > 1:
        return "no model at the top: there are several runs"
    [bundle] = bundles
    if reason := why_not(bundle):
        return f"no model at the top: {reason}"
    steps = exportable_steps(bundle)
    last = steps[-1]
    exported = _export(work, bundle, work.stage, last)
    if isinstance(exported, str):
        return f"no model at the top: {exported}"
    work.facts["exported"] = asdict(exported)
    tried = [_export(work, bundle, work.stage / layout.checkpoint_folder(step), step) for step in steps]
    done = sum(isinstance(one, Exported) for one in tried)
    return f"the model after step {last}, and each of {_count(done, 'checkpoint')}"


def report(work: Work) -> str:
    """A page for each run."""
    bundles = _staged(work)
    names = ["report.html"] if len(bundles) == 1 else [f"report-{bundle.id}.html" for bundle in bundles]
    said = []
    for name, bundle, original in zip(names, bundles, work.request.bundles, strict=True):
        try:
            write_file(work.stage / name, report_page(bundle, _parent_config(work, bundle, original)).encode())
        except BundleError as error:
            if not work.facts["problems"]:
                raise
            said.append(f"no {name}: {error}")
        else:
            said.append(name)
    return ", ".join(said)


def describe(work: Work) -> str:
    """What was stated, card, RO-Crate, citation, openness checklist and, where there is data, Croissant."""
    for name in (CARD, CITATION, CRATE, CROISSANT, OPENNESS):
        (work.stage / name).unlink(missing_ok=True)
    stated = _statement(work)
    write_file(work.stage / STATEMENT, stated.data())
    exported = work.facts.get("exported")
    contents = Contents(
        bundles=tuple(_staged(work)),
        files={name: asdict(record) for name, record in record_stage(work.stage).items()},
        created=work.created,
        statement=stated,
        exported=Exported(**exported | {"files": tuple(exported["files"])}) if exported else None,
        withheld=tuple(work.facts["withheld"]),
        edited=tuple(work.facts["edited"]),
        problems=tuple(work.facts["problems"]),
    )
    made = described(contents)
    for name, data in made.items():
        write_file(work.stage / name, data)
    return ", ".join(sorted(made))


def _statement(work: Work) -> Statement:
    """What is stated now, else what a release that is made again has kept."""
    if work.request.statement is not None:
        return read_statement(work.request.statement)
    kept = work.stage / STATEMENT
    return kept_statement(kept) if kept.exists() else Statement()


def list_files(work: Work) -> str:
    """Write release.json. Raises SecretsFound for what came into the texts at the top unseen."""
    release = list_stage(work)
    known = {record["fingerprint"] for record in (*work.facts["secrets"], *work.facts["allowed"])}
    if found := [record for record in top_secrets(work.stage) if record["fingerprint"] not in known]:
        raise SecretsFound(found)
    return f"{len(release.files)} files, root {release.root}"


def sign(work: Work) -> str:
    """Sign every file, if a way to sign was named."""
    if work.request.signed is None:
        return "not signed: no --key and no --sigstore"
    release = staged_release(work)
    sign_release(work.stage, release.files, work.request.key)
    return f"{len(release.files) + 1} files, with {work.request.key or 'Sigstore'}"


# What is done at the destination follows.
STEPS = (
    Step("verify", verify),
    Step("secrets", secrets),
    Step("redact", redact),
    Step("export", export),
    Step("report", report),
    Step("describe", describe),
    Step("list", list_files),
    Step("sign", sign),
)


def staged_release(work: Work) -> Release:
    """The release.json in the stage."""
    return parse_release((work.stage / RELEASE).read_bytes(), str(work.stage))


def _staged(work: Work) -> list[Bundle]:
    return [_opened(work.stage / RUNS / path.name, work.facts["problems"]) for path in work.request.bundles]


def _opened(path: Path, problems: object) -> Bundle:
    """The bundle at `path`; of one with `problems` what can be read."""
    return DamagedBundle(path) if problems else Bundle(path)


def _export(work: Work, bundle: Bundle, target: Path, step: int) -> Exported | str:
    """The export of one checkpoint, or why there is none. Raises BundleError for one that was damaged on the way."""
    try:
        return export_model(bundle, target, step=step)
    except UsageError as error:
        return str(error)
    except BundleError as error:
        # What was edited, or is published as it is, need not fit its digests; all else was verified.
        if not work.facts["problems"] and not any(_is_of_the_model(edit["path"]) for edit in work.facts["edited"]):
            raise
        return str(error)


def _is_of_the_model(path: str) -> bool:
    return path.startswith(f"{layout.CHECKPOINTS}/") or layout.first_version(path) == layout.TOKENIZER


def _parent_config(work: Work, bundle: Bundle, original: Path) -> dict[str, Any] | None:
    """The config of the run that `original` was forked from, edited as the released `bundle` is.

    None when that run does not lie beside it, or when the config of this one is withheld.
    """
    if not is_bundle(original):
        # Of a release that is made again where the runs are not; in it they may lie beside each other.
        return parent_config(bundle)
    parent = parent_of(Bundle(original))
    if parent is None or bundle.captured(layout.RESOLVED_CONFIG) is None:
        return None
    return edited_config(parent, _replacer(work, _names(work) | recorded_names(parent.path)))


def _replacer(work: Work, names: Names) -> Replacer:
    return Replacer(Scanner(names), Pseudonyms(read_or_make_key(work.request.runs)), work.request.allow)


def _names(work: Work) -> Names:
    """The names that any of the runs tells of: a run may name the machines of another."""
    return reduce(or_, map(recorded_names, work.request.bundles), machine_names())


def _clock(work: Work) -> Callable[[], float]:
    """The time of the release, so that a step that is done again gives the same bytes."""
    return lambda: parse_utc(work.created)


def _withheld(work: Work, bundle: Path) -> dict[str, str]:
    """The files of a bundle that are withheld, with the reason: `PATTERN` or `PATTERN=REASON` of the command line.

    Raises UsageError for a pattern that no file of any bundle of the release matches.
    """
    chosen: dict[str, str] = {}
    for asked in work.request.withhold:
        pattern, _, reason = asked.partition("=")
        if not any(_matching(path, pattern) for path in work.request.bundles):
            raise UsageError(f"--withhold {pattern}: no run of the release has such a file or folder")
        chosen |= dict.fromkeys(_matching(bundle, pattern), reason or _WITHHELD)
    return chosen


def _matching(bundle: Path, pattern: str) -> list[str]:
    folder = f"{pattern.rstrip('/')}/"
    return [name for name in bundle_files(bundle) if name.startswith(folder) or fnmatchcase(name, pattern)]


def fault_of(report: Report) -> str | None:
    """Why a bundle is not fit to be published; None when it is."""
    if report.findings:
        first = report.findings[0]
        more = f" and {len(report.findings) - 1} more findings" if len(report.findings) > 1 else ""
        return f"does not verify ({first.file}: {first.reason}{more})"
    if report.state != SEALED:
        return "is open: its run ended without a seal (resume it, so that it ends in order)"
    return None


def _count(number: int, noun: str) -> str:
    return f"{number} {noun}{'' if number == 1 else 's'}"
