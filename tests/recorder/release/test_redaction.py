"""A redacted copy names nobody, verifies, says what was done to it, and lets no other change pass."""

from __future__ import annotations

import base64
import json
import re
import shutil
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
from helpers import bundles
from helpers.records import captured_files, config_with
from helpers.tampering import edit_json, flip, overwrite

from recorder.bundle import layout
from recorder.bundle.addenda import REDACTION, append_addendum, chain_problem, read_addenda
from recorder.bundle.files import digest_file
from recorder.bundle.findings import anchored_by_root
from recorder.bundle.manifest import bundle_files
from recorder.bundle.reader import Bundle
from recorder.bundle.verify import verify_bundle
from recorder.canonical import canonical_json, digest, digest_json, readable_json
from recorder.capture.archive import SourceFile
from recorder.cli.main import main
from recorder.errors import RecorderError, UsageError
from recorder.ledger.chain import link
from recorder.ledger.parquet import read_segment
from recorder.release.redaction import Redaction, redact
from recorder.release.secrets.gate import scan_bundle
from recorder.release.secrets.names import recorded_names
from recorder.release.secrets.private_rules import Names
from recorder.run import Run
from recorder.tracking.stage_pointer import StagePointer

KEY = bytes(range(32))
USER = "kim" + "berly"
ADDENDUM = "addenda/0001-redaction.json"


def private_builder(root: Path) -> bundles.RunBuilder:
    """A run whose record names a host and a user in every kind of file."""
    config = config_with(data__cache=f"/home/{USER}/cache")
    source = (SourceFile(b"train.py", f"DATA = '/home/{USER}/data'\n".encode(), True),)
    files = captured_files(config, source)
    files[layout.SOURCE_PATCH] = f"+# by {USER}\n".encode()
    builder = bundles.RunBuilder(root, config=config, files=files, command=f"python /home/{USER}/train.py").create()
    builder.join().print(f"hello from node-a, {USER} at 10.1.2.3", "plain")
    for number in range(6):
        builder.run.writer.add_system_row({"node": "node-a" if number % 3 else None, "cpu_percent": 1.0})
    return builder.steps(1, 5).checkpoint(5).steps(6, 8)


def private_run(root: Path) -> Path:
    return private_builder(root).finish(8).close()


@pytest.fixture(scope="module")
def original(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return private_run(tmp_path_factory.mktemp("original") / "runs")


def make(bundle: Path, target: Path, **options: Any) -> Redaction:
    return redact(bundle, target, names=recorded_names(bundle), key=KEY, clock=lambda: 1.79e9, **options)


@pytest.fixture
def copy(original: Path, tmp_path: Path) -> Path:
    target = tmp_path / "out" / "demo-1"
    make(original, target)
    return target


def content(bundle: Path) -> dict[str, str]:
    return {name: digest_file(bundle / name).blake3 for name in [*bundle_files(bundle), layout.MANIFEST]}


def test_the_copy_verifies_names_nobody_and_the_original_is_as_it_was(original: Path, copy: Path) -> None:
    names = recorded_names(original)
    assert (names.hosts, names.users) == ({"node-a"}, {USER})
    before = verify_bundle(original)
    report = verify_bundle(copy)
    assert (before.findings, report.findings) == ((), ())
    assert report.root == before.root
    assert any(note.startswith("edited since it was recorded") for note in report.notes)
    assert not any(note.startswith("edited") for note in before.notes)
    verdict = scan_bundle(copy, names)
    assert (verdict.credentials, verdict.private) == ((), ())
    assert {finding.path.split("!")[0] for finding in scan_bundle(original, names).private} > {
        *("run.json", "config/resolved.yaml", "source/source.tar.gz", "source/diff.patch"),
        *("system/0001.parquet", "ledger/0001.jsonl", "logs/0001/rank-0.log", "bundle.json"),
    }


def test_a_quick_look_at_the_copy_says_the_same(copy: Path) -> None:
    report = verify_bundle(copy, quick=True)
    assert report.findings == ()
    assert report.counts["edited"] == len(read_addenda(copy)[0].fields["edits"])


def test_the_copy_reads_like_the_original_with_other_names(original: Path, copy: Path) -> None:
    ours, theirs = Bundle(original), Bundle(copy)
    assert list(ours.rows()) == list(theirs.rows())
    assert [event["hash"] for event in ours.events()] == [event["hash"] for event in theirs.events()]
    [host] = {event["fields"]["node"] for event in theirs.events() if event["type"] == "worker.joined"}
    assert list(theirs.nodes()) == [host]
    assert host.startswith("host-")
    assert [row["node"] for row in theirs.rows("system") if "node" in row] == [host] * 4
    user = theirs.config["data"]["cache"].split("/")[2]
    assert user.startswith("user-")
    assert user in (copy / "source/diff.patch").read_text()


def test_names_get_the_same_pseudonyms_each_time_and_others_with_another_key(original: Path, tmp_path: Path) -> None:
    one, two = make(original, tmp_path / "1"), make(original, tmp_path / "2")
    assert one == two
    assert content(tmp_path / "1") == content(tmp_path / "2")
    other = redact(original, tmp_path / "3", names=recorded_names(original), key=bytes(32))
    tos = [{change["to"] for edit in made.edits for change in edit["changes"]} for made in (one, other)]
    assert not tos[0] & tos[1]


def test_what_is_not_edited_is_not_copied(original: Path, copy: Path) -> None:
    name = "checkpoints/step-00000005/model.safetensors"
    assert (copy / name).samefile(original / name)
    assert not (copy / "run.json").samefile(original / "run.json")


def test_a_run_without_names_gets_no_addendum(tmp_path: Path) -> None:
    bundle = bundles.finished(tmp_path / "runs")
    result = redact(bundle, tmp_path / "out", names=recorded_names(tmp_path / "none"), key=KEY)
    assert result == Redaction((), (), None)
    assert content(tmp_path / "out") == content(bundle)


@pytest.mark.parametrize("kind", ["killed", "resumed", "continued", "failed"])
def test_runs_of_every_course_still_verify(kind: str, tmp_path: Path) -> None:
    bundle = getattr(bundles, kind)(tmp_path / "runs")
    make(bundle, tmp_path / "out")
    report = verify_bundle(tmp_path / "out")
    assert report.findings == ()
    assert set(verify_bundle(bundle).notes) <= set(report.notes)
    assert scan_bundle(tmp_path / "out", recorded_names(bundle)).private == ()


def test_an_open_run_with_open_segments_still_verifies(tmp_path: Path) -> None:
    bundle = private_builder(tmp_path / "runs").drain().kill()
    make(bundle, tmp_path / "out")
    report = verify_bundle(tmp_path / "out")
    assert (report.findings, report.state) == ((), "open")


def test_a_copy_of_a_copy_still_verifies(copy: Path, original: Path, tmp_path: Path) -> None:
    names = recorded_names(original)
    strange = type(names)(hosts=frozenset({"redaction"}))
    with pytest.raises(UsageError, match="chain") as raised:
        redact(copy, tmp_path / "again", names=strange, key=KEY)
    allow = re.findall(r"--allow ([0-9a-f]{16})", str(raised.value))
    redact(copy, tmp_path / "allowed", names=strange, key=KEY, allow=allow)
    result = redact(copy, tmp_path / "again", names=type(names)(hosts=frozenset({"hello"})), key=KEY)
    assert [edit["path"] for edit in result.edits] == ["logs/0001/rank-0.log"]
    assert verify_bundle(tmp_path / "again").findings == ()
    assert verify_bundle(tmp_path / "again").counts["edited"] == verify_bundle(copy).counts["edited"]


def test_a_redacted_copy_cannot_be_resumed(copy: Path) -> None:
    with pytest.raises(UsageError, match="redacted copy"):
        Run.resume(copy)


def test_nothing_is_left_of_a_copy_that_could_not_be_made(original: Path, tmp_path: Path) -> None:
    with pytest.raises(UsageError, match=r"exists"):
        make(original, original)
    for path in ("ledger", "run.json", "bundle.json", "metrics/0001.parquet", "nothing"):
        with pytest.raises(UsageError, match="cannot be withheld"):
            make(original, tmp_path / "out", withhold={path: "why"})
    assert list(tmp_path.iterdir()) == []


def test_what_is_withheld_has_a_tombstone(original: Path, tmp_path: Path) -> None:
    target = tmp_path / "out"
    withheld = {"source": "not ours", "checkpoints/step-00000005/optimizer.safetensors": "large", "system": "dull"}
    withheld |= {"config/resolved.yaml": "secret", "environment/system.json": "x", "logs": "private"}
    result = make(original, target, withhold=withheld)
    report = verify_bundle(target)
    assert report.findings == ()
    assert report.counts["withheld"] == len(result.tombstones) == 8
    [note] = [note for note in report.notes if note.startswith("withheld")]
    assert "not ours (2026-09-21)" in note
    stone = next(stone for stone in result.tombstones if stone["path"] == "source/source.tar.gz")
    assert stone["blake3"] == digest_file(original / "source/source.tar.gz").blake3
    assert not (target / "source").exists()


def edit_addendum(copy: Path, change: Callable[[dict[str, Any]], None], rehash: bool = True) -> None:
    """Change the addendum as someone would who knows the format."""
    record = json.loads((copy / ADDENDUM).read_bytes())
    change(record)
    if rehash:
        content = {key: value for key, value in record.items() if key not in {"previous", "hash"}}
        record["hash"] = link(record["previous"], canonical_json(content))
    overwrite(copy / ADDENDUM, readable_json(record))


def edited_line(copy: Path, rehash: bool) -> None:
    """Change a listed line once more."""
    path = copy / "ledger/0001.jsonl"
    lines = path.read_bytes().splitlines(keepends=True)
    number = next(number for number, line in enumerate(lines) if b"host-" in line)
    event = json.loads(lines[number])
    event["attempt"] = 2
    lines[number] = canonical_json(event) + b"\n"
    path_data = b"".join(lines)
    overwrite(path, path_data)
    if rehash:
        edit_addendum(copy, lambda record: restate(record, "ledger/0001.jsonl", path))


def restate(record: dict[str, Any], name: str, path: Path) -> None:
    next(edit for edit in record["fields"]["edits"] if edit["path"] == name)["released"] = digest_file(path).record()


def unlisted_line(copy: Path) -> None:
    """Change a line that is not listed, and state the digest of the file that comes of it."""
    path = copy / "ledger/0001.jsonl"
    lines = path.read_bytes().splitlines(keepends=True)
    listed = next(
        e for e in json.loads((copy / ADDENDUM).read_bytes())["fields"]["edits"] if e["path"].endswith("0001.jsonl")
    )
    number = next(number for number in range(1, len(lines)) if str(number + 1) not in listed["lines"])
    event = json.loads(lines[number])
    event["fields"]["more"] = 1
    lines[number] = canonical_json(event) + b"\n"
    overwrite(path, b"".join(lines))
    edit_addendum(copy, lambda record: restate(record, "ledger/0001.jsonl", path))


def unlisted_row(copy: Path) -> None:
    """Change a row of a table that is not listed, and state the digest of the file that comes of it."""
    import pyarrow as pa
    import pyarrow.parquet as pq

    path = copy / "system/0001.parquet"
    table = pq.read_table(path)
    values = table.column("cpu_percent").to_pylist()
    values[0] = 99.0
    path.unlink()
    column = table.schema.get_field_index("cpu_percent")
    pq.write_table(table.set_column(column, table.schema.field(column), pa.array(values)), path)
    edit_addendum(copy, lambda record: restate(record, "system/0001.parquet", path))


def other_original(copy: Path) -> None:
    """Claim another original."""

    def change(record: dict[str, Any]) -> None:
        record["fields"]["edits"][0]["original"]["blake3"] = "0" * 64

    edit_addendum(copy, change)


def without_edit(copy: Path) -> None:
    edit_addendum(copy, lambda record: record["fields"]["edits"].pop(1))


def other_beginning(copy: Path) -> None:
    edit_addendum(copy, lambda record: record.update(previous="1" * 64))


def renumbered(copy: Path) -> None:
    edit_addendum(copy, lambda record: record.update(number=2))


def removed(copy: Path) -> None:
    (copy / ADDENDUM).unlink()


def revived(copy: Path) -> None:
    overwrite(copy / "source/notes.txt", b"more")


def extra_addendum(copy: Path) -> None:
    shutil.copy(copy / ADDENDUM, copy / "addenda/0003-redaction.json")


TAMPERING: dict[str, Callable[[Path], object]] = {
    "a byte of an edited log": lambda copy: flip(copy / "logs/0001/rank-0.log", 40),
    "a byte of an edited config": lambda copy: flip(copy / "config/resolved.yaml", 3),
    "a byte of an edited archive": lambda copy: flip(copy / "source/source.tar.gz", 30),
    "a byte of an edited table": lambda copy: flip(copy / "system/0001.parquet", 30),
    "a byte of run.json": lambda copy: flip(copy / "run.json", 20),
    "a byte of the manifest": lambda copy: flip(copy / "bundle.json", 30),
    "a byte of a file that was not edited": lambda copy: flip(copy / "checkpoints/step-00000005/model.safetensors", 3),
    "a byte of the addendum": lambda copy: flip(copy / ADDENDUM, 100),
    "an addendum with other content": lambda copy: edit_addendum(copy, lambda r: r.update(run="x"), rehash=False),
    "a listed line, edited once more": lambda copy: edited_line(copy, False),
    "a listed line, and the file's digest": lambda copy: edited_line(copy, True),
    "a line that is not listed": unlisted_line,
    "a row that is not listed": unlisted_row,
    "another original": other_original,
    "an edit that is not listed": without_edit,
    "another beginning": other_beginning,
    "another number": renumbered,
    "no addendum": removed,
    "a file nobody knows": revived,
    "an addendum too many": extra_addendum,
}


@pytest.mark.parametrize("tampering", TAMPERING)
def test_any_edit_that_is_not_listed_is_a_finding(tampering: str, original: Path, copy: Path) -> None:
    for name in bundle_files(copy):
        if (copy / name).stat().st_nlink > 1:  # the original's own file: what is changed here must be a copy
            data = (copy / name).read_bytes()
            (copy / name).unlink()
            (copy / name).write_bytes(data)
    assert verify_bundle(copy).findings == ()
    TAMPERING[tampering](copy)
    assert verify_bundle(copy).findings != ()
    assert verify_bundle(original).findings == ()


def test_every_change_is_listed_with_the_line_it_is_in(original: Path, copy: Path) -> None:
    [addendum] = read_addenda(copy)
    assert chain_problem(addendum, 1, verify_bundle(original).root) is None
    by_path = {edit["path"]: edit for edit in addendum.fields["edits"]}
    [log] = [edit for path, edit in by_path.items() if path.startswith("logs/")]
    assert [(change["line"], change["kind"]) for change in log["changes"]] == [
        (1, "host-name"),
        (1, "user-name"),
        (1, "private-address"),
    ]
    ledger = by_path["ledger/0001.jsonl"]
    lines = (copy / "ledger/0001.jsonl").read_bytes().splitlines(keepends=True)
    assert ledger["lines"] == {
        str(number): digest(line) for number, line in enumerate(lines, 1) if b"host-" in line or b"user-" in line
    }
    assert by_path["system/0001.parquet"]["rows"] == [[2, 3], [5, 6]]
    assert [change["place"] for change in by_path["source/source.tar.gz"]["changes"]] == ["train.py"]


def test_rows_keep_the_hashes_they_had(original: Path, copy: Path) -> None:
    tables = [read_segment(bundle / "system/0001.parquet").table for bundle in (original, copy)]
    assert tables[0].column("hash") == tables[1].column("hash")
    assert tables[0].column("node") != tables[1].column("node")


def test_credentials_are_masked_unless_allowed(tmp_path: Path) -> None:
    token = "ghp_" + "aB3" * 12
    builder = private_builder(tmp_path / "runs")
    builder.run.event("note", text=f"used {token}")
    bundle = builder.finish(8).close()
    [finding] = scan_bundle(bundle, recorded_names(bundle)).credentials
    make(bundle, tmp_path / "masked")
    make(bundle, tmp_path / "allowed", allow=[finding.fingerprint])
    texts = [
        b"".join((tmp_path / name / "ledger").joinpath(f).read_bytes() for f in ("0001.jsonl", "0002.jsonl"))
        for name in ("masked", "allowed")
    ]
    assert [token.encode() in text for text in texts] == [False, True]
    assert [verify_bundle(tmp_path / name).findings for name in ("masked", "allowed")] == [(), ()]


def test_what_cannot_be_edited_is_refused_by_name(tmp_path: Path) -> None:
    builder = private_builder(tmp_path / "runs")
    builder.run.writer._series["system"].append({"attempt": 1, "time": "x", f"used_by_{USER}": 1.0, f"{USER} %": 2.0})
    bundle = builder.finish(8).close()
    with pytest.raises(RecorderError, match=r"system/0002.parquet .*cannot be edited") as raised:
        make(bundle, tmp_path / "out")
    allow = re.findall(r"--allow ([0-9a-f]{16})", str(raised.value))
    make(bundle, tmp_path / "allowed", allow=allow)
    assert verify_bundle(tmp_path / "allowed").findings == ()
    make(bundle, tmp_path / "out", withhold={"system/0002.parquet": "names a person"})
    assert verify_bundle(tmp_path / "out").findings == ()


def forged(honest: Path, target: Path) -> Path:
    """Another run, whose manifest claims the root of the honest one and is listed as edited."""
    builder = bundles.RunBuilder(target.parent, target.name).create().join().steps(1, 3)
    made = builder.finish(3).close()
    original = digest_file(made / layout.MANIFEST).record()
    edit_json(made / layout.MANIFEST, lambda manifest: manifest.update(root=verify_bundle(honest).root))
    edit = {"path": layout.MANIFEST, "original": original, "released": digest_file(made / layout.MANIFEST).record()}
    edits = [edit | {"changes": [{"place": "", "line": 1, "kind": "host-name", "to": "host-0123456789"}]}]
    append_addendum(made, REDACTION, {"edits": edits, "tombstones": []}, root=verify_bundle(honest).root)
    return made


def test_a_claimed_root_anchors_nothing(original: Path, tmp_path: Path) -> None:
    report = verify_bundle(forged(original, tmp_path / "forged-1"))
    root = verify_bundle(original).root
    assert root is not None
    assert (report.findings, report.root) == ((), root), "in itself it is consistent"
    anchored = anchored_by_root(report, root)
    assert not anchored.anchored
    [finding] = anchored.findings
    assert (finding.file, finding.kind) == (layout.MANIFEST, "manifest")
    assert "its root is only claimed" in finding.reason
    assert anchored_by_root(verify_bundle(original), root).anchored


def test_a_root_does_not_vouch_for_a_copy_in_which_something_was_edited(tmp_path: Path) -> None:
    bundle = bundles.finished(tmp_path / "runs")
    [log] = [name for name in bundle_files(bundle) if name.endswith("rank-0.log")]
    names = Names(frozenset({"hello"}))
    redact(bundle, tmp_path / "copy", names=names, key=KEY)
    report = verify_bundle(tmp_path / "copy")
    assert (report.findings, report.edited) == ((), (log,))
    assert report.root is not None
    anchored = anchored_by_root(report, report.root)
    assert (anchored.ok, anchored.anchored) == (True, False)
    assert "vouches for the original, not for what was edited" in anchored.notes[-1]


def test_a_claimed_root_is_not_the_one_that_a_stage_names(
    original: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    made = forged(original, tmp_path / "forged-1")
    monkeypatch.chdir(tmp_path)
    pointer = StagePointer(made.name, made.name, digest_json(Bundle(made).config), str(verify_bundle(original).root))
    (tmp_path / "train.json").write_bytes(pointer.serialised())
    assert main(["verify", "train.json"]) == 1
    assert "the root that the pointer names is only claimed" in capsys.readouterr().out


def test_names_and_credentials_in_a_torn_record_are_found_and_replaced(tmp_path: Path) -> None:
    token = "ghp_" + "aB3" * 12
    torn = f'{{"t":1,"k":"message","text":"{USER} on node-a\nused {token}'.encode() + b"\xff"
    builder = private_builder(tmp_path / "runs")
    fields = {"spool": "rank-0.0.spool", "offset": 7, "bytes": len(torn), "base64": base64.b64encode(torn).decode()}
    builder.run.writer.add_event("spool.torn", fields)
    bundle = builder.finish(8).close()
    verdict = scan_bundle(bundle, recorded_names(bundle))
    [place] = {finding.path for finding in verdict.private if finding.path.endswith("!base64")}
    [found] = verdict.credentials
    [number] = [
        number
        for number, line in enumerate((bundle / place.removesuffix("!base64")).read_bytes().splitlines(), 1)
        if b'"spool.torn"' in line
    ]
    assert (found.path, found.line, found.kind) == (place, number, "github-token")
    made = make(bundle, tmp_path / "copy")
    assert verify_bundle(tmp_path / "copy").findings == ()
    [event] = [event for event in Bundle(tmp_path / "copy").events() if event["type"] == "spool.torn"]
    kept = base64.b64decode(event["fields"]["base64"])
    assert re.sub(rb"(host|user|<hidden:github-token)[-:][0-9a-f]+", rb"\1", kept) == (
        b'{"t":1,"k":"message","text":"user on host\nused <hidden:github-token>\xff'
    )
    [edit] = [edit for edit in made.edits if edit["path"] == place.removesuffix("!base64")]
    inside = [(change["line"], change["kind"]) for change in edit["changes"] if change["place"] == "base64"]
    assert inside == [(number, "user-name"), (number, "host-name"), (number, "github-token")]
    assert scan_bundle(tmp_path / "copy", recorded_names(bundle)).private == ()
