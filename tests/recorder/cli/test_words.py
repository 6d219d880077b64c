from __future__ import annotations

from recorder.cli import words as words_module
from recorder.cli.words import BOOKKEEPING, words
from recorder.ledger import events


def test_every_type_of_event_has_words() -> None:
    known = {value for name, value in vars(events).items() if name.isupper() and isinstance(value, str)}
    assert words_module._TEMPLATES.keys() | BOOKKEEPING == known


def test_what_is_missing_is_a_question_mark() -> None:
    assert words(events.STEP_REDONE, {}) == "steps will be redone"
    assert words(events.RUN_SCALED, {"workers": 1}) == "the run is to have 1 worker, before: ?"
    assert words(events.TRAINING_RESUMED, {"steps_redone": 0}) == (
        "training goes on ? after the loss: 0 steps redone, ? lost"
    )


def test_a_process_that_was_lost_before_it_joined_has_no_number() -> None:
    assert words(events.WORKER_LOST, {"rank": 1, "pid": 7, "cause": "x"}) == "rank 1 is lost, pid 7: x"
    assert words(events.WORKER_LOST, {"rank": 1, "pid": None, "cause": "x"}) == "rank 1 is lost, before it joined: x"
