"""Credentials are masked before they are written: nothing of them is left, nothing else is touched."""

from __future__ import annotations

import re

import pytest
from arms.planted import KEYS, Sample, key_lines, samples
from hypothesis import given
from hypothesis import strategies as st

from recorder.release.secrets.credential_rules import CREDENTIALS
from recorder.release.secrets.masking import LineMasker, mask_text, mask_values

KINDS = {rule.kind for rule in CREDENTIALS}
PLANTED = [sample for sample in samples(3) if sample.kind in KINDS]
PRIVATE = [sample for sample in samples(3) if sample.kind not in KINDS]
TEXT = st.text(st.characters(codec="utf-8", exclude_characters="\n"), max_size=40)
MASK = re.compile(r"<hidden:[a-z-]+:[0-9a-f]{4,8}>")


@pytest.mark.parametrize("sample", PLANTED, ids=lambda sample: sample.kind)
def test_nothing_of_the_secret_is_left_and_the_rest_of_the_line_is(sample: Sample) -> None:
    text = mask_text(sample.line)
    before, _, after = sample.line.partition(sample.secret)
    assert MASK.fullmatch(text.removeprefix(before).removesuffix(after))


@pytest.mark.parametrize("sample", PRIVATE, ids=lambda sample: sample.kind)
def test_names_are_recorded_as_they_are(sample: Sample) -> None:
    assert mask_text(sample.line) == sample.line


def test_equal_secrets_have_equal_masks_and_others_have_others() -> None:
    one, two = (next(sample for sample in samples(seed) if sample.kind == "github-token") for seed in (4, 5))
    assert mask_text(f"{one.secret} {one.secret}").split(" ")[0] == mask_text(one.secret)
    assert mask_text(one.secret) != mask_text(two.secret)


def test_less_is_shown_of_what_people_choose() -> None:
    digests = {sample.kind: mask_text(sample.line).rpartition(">")[0].rpartition(":")[2] for sample in PLANTED}
    assert {kind for kind, own in digests.items() if len(own) == 4} == {
        *("password", "url-password", "database-url", "netrc-password")
    }


@given(st.sampled_from(PLANTED), TEXT, TEXT)
def test_masking_leaves_no_secret_whatever_is_around_it(sample: Sample, before: str, after: str) -> None:
    text = mask_text(f"{before} {sample.line} {after}")
    assert sample.secret not in text


@given(st.lists(st.one_of(TEXT, st.sampled_from([sample.line for sample in PLANTED])), max_size=100))
def test_masking_keeps_the_number_of_lines_and_masks_nothing_twice(lines: list[str]) -> None:
    once = LineMasker().mask(lines)
    assert len(once) == len(lines)
    assert LineMasker().mask(once) == once


@given(st.text())
def test_any_text_can_be_masked(text: str) -> None:
    assert mask_text(text).count("\n") == text.count("\n")


def test_lone_surrogates_do_no_harm() -> None:
    secret = PLANTED[20]
    assert mask_text(f"\udcff {secret.line}").startswith("\udcff ")
    assert LineMasker().mask(["\udcff"] * 100) == ["\udcff"] * 100


@pytest.mark.parametrize("what", [what for _, what in KEYS])
@pytest.mark.parametrize("size", [1, 3, 200])
def test_a_key_that_comes_in_parts_is_masked_whole(what: str, size: int) -> None:
    lines, body = key_lines(6, what)
    wanted = ["before", *lines, "after", "x" * 40]
    masker, got = LineMasker(), []
    for start in range(0, len(wanted), size):
        got += masker.mask(wanted[start : start + size])
    assert not any(line in text for line in body for text in got)
    assert [line for line in got if "<hidden:" not in line] == [line for line in wanted if line not in body]


def test_values_are_masked_by_what_they_are_and_by_the_key_they_stand_under() -> None:
    token, word = next(sample.secret for sample in PLANTED if sample.kind == "huggingface-token"), "hunter" + "2222"
    values = {"a": {"password": word, "tokenizer": "chars", "n": 1, "x": None}, "files": [f"s3://k:{word}@b/c", token]}
    masked = mask_values(values)
    assert word not in str(masked)
    assert token not in str(masked)
    assert masked["a"] | {"password": 0} == {"password": 0, "tokenizer": "chars", "n": 1, "x": None}
    assert mask_values(masked) == masked


def test_values_without_credentials_are_equal_to_what_they_were() -> None:
    values = {
        "run": {"name": "demo", "id": None},
        "data": {"files": ["a.txt"]},
        "optim": {"lr": 1e-3, "betas": [0.9, 1]},
    }
    assert mask_values(values) == values


@pytest.mark.parametrize("password", ["correcthorsebattery", "correct horse battery", "aaa", "settings.py", "zebra[1]"])
@pytest.mark.parametrize("key", ["password", "db_passwd", "DB_PASS", "smtp_pwd", "passphrase"])
def test_whatever_stands_under_the_key_of_a_password_is_masked(key: str, password: str) -> None:
    masked = mask_values({key: password, "overrides": [f"+db.{key}={password}"], "deep": {key: [password]}})
    assert password not in str(masked)
    assert all(MASK.fullmatch(text) for text in (masked[key], masked["deep"][key][0]))
    assert masked["overrides"][0].startswith(f"+db.{key}=<hidden:password:")
    assert mask_values(masked) == masked


@pytest.mark.parametrize("value", ["", "null", "${oc.env:DB_PASSWORD}", "<password>", "***", "changeme", None, True, 8])
def test_placeholders_under_the_key_of_a_password_stay(value: object) -> None:
    assert mask_values({"password": value, "n_pass": "second", "password_file": "x"}) == {
        "password": value,
        "n_pass": "second",
        "password_file": "x",
    }


@pytest.mark.parametrize("line", ["DB_PASSWORD={}", "password: {}", "{{'password': '{}'}}", 'smtp_pwd = "{}"'])
def test_a_password_of_letters_is_masked_in_a_line_of_a_log(line: str) -> None:
    word = "correcthorse" + "battery"
    assert word not in mask_text(line.format(word))
    for name in ("password_of_user)", "password)", "getpass.getpass()", "password_of_user`"):
        assert mask_text(f"connect(password={name}") == f"connect(password={name}"
