"""Every kind is found, by its name, wherever it stands; what only looks alike is not."""

from __future__ import annotations

import json

import pytest
from arms.planted import KEYS, NAMES, Sample, key_lines, samples

from recorder.release.secrets.credential_rules import CREDENTIALS
from recorder.release.secrets.private_rules import Names, private_rules
from recorder.release.secrets.scanner import Scanner

PLANTED = samples(1)
SCANNER = Scanner(NAMES)


def kinds_and_secrets(text: str, scanner: Scanner = SCANNER) -> list[tuple[str, str]]:
    return [(span.kind, text[span.start : span.end]) for span in scanner.spans(text)]


def test_a_sample_of_every_kind_is_planted_and_there_are_more_than_forty() -> None:
    kinds = {rule.kind for rule in (*CREDENTIALS, *private_rules(NAMES))}
    assert {sample.kind for sample in PLANTED} == kinds
    assert len(kinds) >= 80


@pytest.mark.parametrize("sample", PLANTED, ids=lambda sample: sample.kind)
@pytest.mark.parametrize(
    "around",
    [
        "{}",
        "2026-11-21T08:00:00.000000Z stdout {}",
        "+{}",
        "    {}  # why",
        "export X; {}",
        "\x1b[32m{}\x1b[0m",
    ],
)
def test_a_secret_is_found_with_exactly_its_extent(sample: Sample, around: str) -> None:
    assert (sample.kind, sample.secret) in kinds_and_secrets(around.format(sample.line))


@pytest.mark.parametrize("sample", PLANTED, ids=lambda sample: sample.kind)
def test_a_secret_is_found_in_json(sample: Sample) -> None:
    text = json.dumps({"text": f"before\n{sample.line}\nafter", "n": 1})
    found = kinds_and_secrets(text)
    assert (sample.kind, json.dumps(sample.secret)[1:-1]) in found


@pytest.mark.parametrize("sample", PLANTED, ids=lambda sample: sample.kind)
def test_the_first_look_leaves_the_line_whether_lines_are_few_or_many(sample: Sample) -> None:
    for count in (1, 30, 500):
        lines = [b"step 1/250  loss 4.1299  0 tokens/s  2 workers"] * count
        lines[count // 2] = sample.line.encode()
        assert [hit.number for hit in SCANNER.hits(lines)] == [count // 2]


@pytest.mark.parametrize(("kind", "what"), KEYS)
@pytest.mark.parametrize("lead", ["", "2026-11-21T08:00:00.000000Z stdout ", "+", "      "])
def test_a_key_over_many_lines_is_one_finding_and_all_of_its_body_is_covered(kind: str, what: str, lead: str) -> None:
    lines, body = key_lines(2, what)
    hits = list(SCANNER.hits([f"{lead}{line}".encode() for line in ["before", *lines, "after"]]))
    assert [hit.text[span.start : span.end] for hit in hits for span in hit.spans] == body
    assert [(span.kind, span.continued) for hit in hits for span in hit.spans][:2] == [(kind, False), (kind, True)]


@pytest.mark.parametrize(
    "text",
    [
        "step 29/250  loss 2.4429  11,005 tokens/s  2 workers  checkpoint none  ETA 82 s",
        "password: str, token: str = ''",
        "password=getpass.getpass()",
        "password = os.environ['PASSWORD']",
        "api_key=${API_KEY}",
        "https://user:<password>@host/x",
        "https://user:$PASSWORD@host/x",
        "git@github.com:lab/model.git",
        "nvidia-curand-cu12==10.3.5.147",
        '"version": "10.3.5.147"',
        "10.123 seconds, 10.0.1",
        "http://127.0.0.1:8265 and 0.0.0.0:80 and 192.0.2.1",
        "commit 3fa9c1d27e3fa9c1d27e3fa9c1d27e3fa9c1d27e",
        "blake3 " + "0123456789abcdef" * 4,
        "_has_key = re.compile('-----BEGIN [A-Z]+ PRIVATE KEY-----')",
        "-----BEGIN CERTIFICATE-----",
        "hf_hub_download(repo_id)",
        "from sk-learn import task-runner",
        "00:00:00:00:00:00",
        "2026-11-21T08:00:00.000000Z stdout at 08:12:13",
        "/home/user/x /home/<name>/y",
        "someone@example.com",
        "<hidden:password:3673>",
        "token_bytes(32) max_tokens=4096",
        "access_token=/etc/secrets/file1/token",
        "sign(private_key=key, password=password)",
        "a name, as in `password=password_of_user`, and",
        '("PuTTY-User-Key-File-3: {}"),',
    ],
)
def test_what_looks_alike_is_no_finding(text: str) -> None:
    assert kinds_and_secrets(text) == []


@pytest.mark.parametrize(
    ("text", "found"),
    [
        ("on vm: up", ["vm"]),
        ("vm", ["vm"]),
        ("vm.lab.org", ["vm"]),
        ("vmstat kvm vm2 vm-2 vm_max my-vm", []),
        ("/runs/anna/x by anna, not annabel", ["anna", "anna"]),
    ],
)
def test_names_are_found_as_whole_words(text: str, found: list[str]) -> None:
    scanner = Scanner(Names(frozenset({"vm"}), frozenset({"anna"})))
    assert [secret for _, secret in kinds_and_secrets(text, scanner)] == found


def test_names_that_everybody_has_are_not_looked_for() -> None:
    scanner = Scanner(Names(frozenset({"localhost", "a", "12", "0" * 56}), frozenset({"root", "ubuntu"})))
    assert kinds_and_secrets(f"root@localhost a 12 ubuntu {'0' * 56}", scanner) == []


def test_the_longest_of_overlapping_names_counts() -> None:
    scanner = Scanner(Names(frozenset({"box", "box.lab"})))
    assert kinds_and_secrets("box.lab box", scanner) == [("host-name", "box.lab"), ("host-name", "box")]
