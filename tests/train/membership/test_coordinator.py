"""The coordinator's promises, under every order of messages, deaths, silences and errors that hypothesis finds."""

from __future__ import annotations

from typing import TypeVar

import hypothesis.strategies as st
import pytest
from hypothesis import settings
from hypothesis.stateful import RuleBasedStateMachine, initialize, precondition, rule
from simulated_run import EVALUATION_EVERY, HANG_SECONDS, STEPS, TICK, SimulatedRun, SimulatedWorker, hello

from train.membership import notices
from train.membership.coordinator import START_SECONDS, Coordinator, longest_wait
from train.membership.messages import (
    Arrived,
    Busy,
    Commit,
    Dismiss,
    Ended,
    Form,
    Position,
    Ready,
    Source,
    Stage,
    Vote,
)

Notice = TypeVar("Notice")

EVALUATIONS = {
    (step, f"evaluation {' '.join(f'sum {n}' for n in range(1, step + 1))}")
    for step in range(EVALUATION_EVERY, STEPS + 1, EVALUATION_EVERY)
}
PICK = st.integers(min_value=0, max_value=9)


class AnyRun(RuleBasedStateMachine):
    """Whatever happens, nothing that `SimulatedRun` asserts is broken; and left in peace, the run comes to its end."""

    @initialize(min_workers=st.integers(1, 3), more=st.integers(0, 2))
    def begin(self, min_workers: int, more: int) -> None:
        self.ranks = range(min_workers + more)
        self.run = SimulatedRun(min_workers, len(self.ranks))

    def _pick(self, number: int, well: bool = True) -> SimulatedWorker | None:
        workers = [worker for worker in self.run.workers.values() if worker.is_well or not well]
        return workers[number % len(workers)] if workers else None

    def _missing(self) -> list[int]:
        staying = [name for name, worker in self.run.workers.items() if not worker.has_ended]
        there = {int(name.split("-")[1].split(".")[0]) for name in staying if name not in self.run.leaving}
        return [rank for rank in self.ranks if rank not in there]

    @precondition(lambda self: not self.run.over and self._missing())
    @rule(number=PICK, node=st.sampled_from(["node-a", "node-b"]))
    def start(self, number: int, node: str) -> None:
        missing = self._missing()
        self.run.start(missing[number % len(missing)], node)

    @rule(number=PICK)
    def deliver(self, number: int) -> None:
        if (worker := self._pick(number, well=False)) and worker.sent:
            self.run.deliver(worker)

    @rule(number=PICK)
    def receive(self, number: int) -> None:
        if (worker := self._pick(number)) and worker.received:
            self.run.receive(worker)

    @rule(number=PICK)
    def act(self, number: int) -> None:
        if worker := self._pick(number):
            self.run.act(worker)

    @rule(times=st.integers(1, 6))
    def get_on(self, times: int) -> None:
        for _ in range(times):
            self.run.get_on()

    @precondition(lambda self: not self.run.over)
    @rule(number=PICK, with_words=st.booleans())
    def die(self, number: int, with_words: bool) -> None:
        if worker := self._pick(number, well=False):
            self.run.die(worker, with_words)

    @precondition(lambda self: not self.run.over)
    @rule(number=PICK)
    def fall_silent(self, number: int) -> None:
        if worker := self._pick(number):
            worker.is_silent = True

    @precondition(lambda self: not self.run.over)
    @rule(number=PICK)
    def hang(self, number: int) -> None:
        # One that hangs before it asks to join is waited for by nobody, and not looked for.
        if (worker := self._pick(number)) and not worker.sent:
            worker.is_hung = True

    @precondition(lambda self: not self.run.over)
    @rule(number=PICK)
    def err(self, number: int) -> None:
        # Two that err alike are a majority of three: nobody could tell.
        if (worker := self._pick(number)) and not any(other.errs for other in self.run.workers.values()):
            worker.errs = True

    @rule(number=PICK)
    def break_exchange(self, number: int) -> None:
        if worker := self._pick(number):
            self.run.break_exchange(worker)

    @rule(number=PICK)
    def let_go(self, number: int) -> None:
        if worker := self._pick(number):
            self.run.let_go(worker)

    @rule(ticks=st.integers(1, 20))
    def pass_time(self, ticks: int) -> None:
        self.run.pass_time(ticks * TICK)

    def teardown(self) -> None:
        """Lost workers are replaced and nothing more goes wrong: then the run ends, unless it was stopped."""
        if not hasattr(self, "run"):
            return
        for _ in range(60):
            if self.run.over:
                break
            for rank in self._missing():
                self.run.start(rank)
            # A hung worker is found when the others have waited ten times as long, where that is not in the exchange.
            self.run.pass_time(HANG_SECONDS)
        assert self.run.over
        self.run.pass_time(HANG_SECONDS)
        stopped = any(isinstance(n, notices.Stuck | notices.Difference) for n in self.run.notices)
        if not stopped:
            assert self.run.coordinator.step == STEPS
            assert {step for step, _ in self.run.record} == {step for step, _ in EVALUATIONS}


TestAnyRun = AnyRun.TestCase
TestAnyRun.settings = settings(max_examples=100, stateful_step_count=40)


# Examples: what the driver is told, and when.


def told(run: SimulatedRun, kind: type[Notice]) -> list[Notice]:
    return [notice for notice in run.notices if isinstance(notice, kind)]


def trained(workers: int, min_workers: int = 1, steps: int = 3) -> SimulatedRun:
    """A run of so many workers that has committed so many steps, with nothing on its way."""
    run = SimulatedRun(min_workers, workers)
    for rank in range(workers):
        run.start(rank)
    while run.coordinator.step < steps:
        run.get_on()
    return run


def finish(run: SimulatedRun) -> None:
    run.pass_time(30)
    assert run.over
    assert run.coordinator.step == STEPS
    assert set(run.record) == EVALUATIONS


@pytest.mark.parametrize("workers", [1, 2, 5])
def test_an_undisturbed_run(workers: int) -> None:
    run = trained(workers)
    finish(run)
    (formed,) = told(run, notices.Formed)
    assert (formed.reason, formed.form.source, formed.form.position) == ("start", Source("start", 0), Position(0))
    assert [(n.membership, n.step) for n in told(run, notices.FirstCommit)] == [(0, 1)]
    assert [n.outcome for n in told(run, notices.EndAgreed)] == [f"end {' '.join(run.saved)}"]
    assert len(told(run, notices.WorkerEnded)) == workers
    assert told(run, notices.WorkerLost) == []


def test_a_run_begins_when_all_that_are_expected_are_there() -> None:
    run = SimulatedRun(min_workers=1, workers=3)
    run.start(0)
    run.start(1)
    run.pass_time(HANG_SECONDS - TICK)
    assert told(run, notices.NeedSource) == []
    run.start(2)
    run.get_on()
    assert [len(n.offers) for n in told(run, notices.NeedSource)] == [3]


def test_it_begins_without_one_that_does_not_come() -> None:
    run = SimulatedRun(min_workers=1, workers=3)
    run.start(0)
    run.start(1)
    run.pass_time(HANG_SECONDS + 2 * TICK)
    assert [len(n.form.seats) for n in told(run, notices.Formed)] == [2]


def test_a_lost_worker_costs_its_step_and_the_others_go_on() -> None:
    run = trained(3)
    run.die(run.workers["rank-1.0"])
    run.get_on()
    (lost,) = told(run, notices.WorkerLost)
    assert (lost.hello.worker, lost.membership, lost.step) == ("rank-1.0", 0, 3)
    after = told(run, notices.Formed)[-1]
    assert ([seat.worker for seat in after.form.seats], after.reason) == (["rank-0.0", "rank-2.0"], "worker lost")
    assert (after.form.source, after.form.holders) == (Source("live", 3), ["rank-0.0", "rank-2.0"])
    finish(run)


def test_one_that_joins_gets_the_state_and_the_lost_ones_place() -> None:
    run = trained(3)
    run.die(run.workers["rank-1.0"])
    run.start(1)
    run.pass_time(1)
    after = told(run, notices.Formed)[-1]
    assert [seat.worker for seat in after.form.seats] == ["rank-0.0", "rank-1.1", "rank-2.0"]
    assert after.form.holders == ["rank-0.0", "rank-2.0"]
    finish(run)


def test_below_the_least_number_the_others_wait() -> None:
    run = trained(2, min_workers=2)
    run.die(run.workers["rank-0.0"])
    run.pass_time(20 * HANG_SECONDS)
    assert told(run, notices.Waiting) == [notices.Waiting(1, 2)]
    assert run.coordinator.step == 3
    run.start(0)
    finish(run)
    assert told(run, notices.Formed)[-1].form.source == Source("live", 3)


def test_where_nobody_is_left_the_driver_says_what_to_begin_with() -> None:
    run = trained(2)
    for name in list(run.workers):
        run.die(run.workers[name])
    assert told(run, notices.Waiting) == [notices.Waiting(0, 1)]
    run.start(0)
    run.start(1)
    run.get_on()
    assert told(run, notices.NeedSource)[-1].agreed == 2
    assert told(run, notices.Formed)[-1].form.source == Source("storage", 2)
    finish(run)


def test_a_source_in_memory_is_asked_for_again_when_its_holders_died() -> None:
    run = SimulatedRun(min_workers=1, workers=1)
    coordinator, now = run.coordinator, 0.0
    coordinator.hello(hello("rank-0.0"), now)
    coordinator.ready("rank-0.0", Ready(None, [4]), now)
    assert isinstance(coordinator.notices[-1], notices.NeedSource)
    coordinator.disconnected("rank-0.0", now)
    coordinator.begin_from(Source("memory", 4), now)
    coordinator.notices.clear()
    coordinator.hello(hello("rank-0.1"), now)
    coordinator.ready("rank-0.1", Ready(None, []), now)
    assert [n.offers for n in coordinator.notices if isinstance(n, notices.NeedSource)] == [{"rank-0.1": []}]
    coordinator.begin_from(Source("start", 0), now)
    assert isinstance(coordinator.notices[-1], notices.Formed)


def test_only_those_who_have_the_snapshot_hold_it() -> None:
    coordinator = Coordinator(1, HANG_SECONDS)
    coordinator.expect(2, 0.0)
    for worker, offers in (("rank-0.1", [2]), ("rank-1.1", [2, 4])):
        coordinator.hello(hello(worker), 0.0)
        coordinator.ready(worker, Ready(None, offers), 0.0)
    coordinator.begin_from(Source("memory", 4), 0.0)
    form = coordinator.outbox[-1][1]
    assert isinstance(form, Form)
    # The states were compared before the snapshot was made; what else follows a step is due again.
    assert (form.holders, form.position) == (["rank-1.1"], Position(4, Stage.EVALUATION))


@pytest.mark.parametrize("hidden", ["is_silent", "is_hung"])
def test_who_keeps_the_others_waiting_is_expelled(hidden: str) -> None:
    run = trained(3)
    setattr(run.workers["rank-2.0"], hidden, True)
    run.pass_time(2 * HANG_SECONDS)
    (expelled,) = told(run, notices.WorkerExpelled)
    reason = {"is_silent": "silent", "is_hung": "hung"}[hidden]
    assert (expelled.hello.worker, expelled.reason, expelled.membership) == ("rank-2.0", reason, 0)
    assert [lost.hello.worker for lost in told(run, notices.WorkerLost)] == ["rank-2.0"]
    finish(run)


@pytest.mark.parametrize("hidden", ["is_silent", "is_hung"])
def test_a_time_in_which_the_driver_did_not_run_is_held_against_nobody(hidden: str) -> None:
    """After it who is well has as much patience as before, and who is not is found as soon as without it."""
    run = trained(3)
    setattr(run.workers["rank-2.0"], hidden, True)
    run.pass_time(HANG_SECONDS / 2)
    run.now += 3600
    run.do(lambda coordinator: coordinator.paused(3600, run.now))
    run.do(lambda coordinator: coordinator.tick(run.now))
    assert told(run, notices.WorkerExpelled) == []
    run.pass_time(HANG_SECONDS / 2 + 2 * TICK)
    assert [n.hello.worker for n in told(run, notices.WorkerExpelled)] == ["rank-2.0"]
    (lost,) = told(run, notices.WorkerLost)
    assert (lost.last_heard < 3600) == (hidden == "is_silent"), "what is recorded is when it was heard"
    run.pass_time(30)
    assert run.coordinator.step == STEPS


def test_who_was_heard_after_a_pause_has_no_more_patience_than_others() -> None:
    run = trained(3)
    run.now += 3600
    run.get_on()
    run.workers["rank-2.0"].is_silent = True
    run.do(lambda coordinator: coordinator.paused(3600, run.now))
    run.pass_time(HANG_SECONDS + 2 * TICK)
    assert [n.hello.worker for n in told(run, notices.WorkerExpelled)] == ["rank-2.0"]


def test_who_comes_to_form_is_waited_for_without_the_time_that_the_driver_did_not_run() -> None:
    run = SimulatedRun(min_workers=1, workers=3)
    run.start(0)
    run.get_on()
    run.pass_time(HANG_SECONDS / 2)
    run.now += 3600
    run.do(lambda coordinator: coordinator.paused(3600, run.now))
    run.pass_time(HANG_SECONDS / 4)
    assert told(run, notices.Formed) == []
    run.pass_time(HANG_SECONDS)
    assert len(told(run, notices.Formed)) == 1


def test_who_waits_for_the_state_of_one_that_hangs_goes_with_it_and_the_run_goes_on() -> None:
    run = trained(2, min_workers=2)
    run.die(run.workers["rank-0.0"])
    run.get_on()
    run.workers["rank-1.0"].is_hung = True
    run.start(0)
    run.pass_time(12 * HANG_SECONDS)
    assert {n.reason for n in told(run, notices.WorkerExpelled)} == {"hung"}
    for rank in (0, 1):
        if not any(name.startswith(f"rank-{rank}.") for name in run.workers):
            run.start(rank)
    finish(run)


def test_what_an_expelled_worker_still_says_ends_no_membership() -> None:
    run = trained(3)
    coordinator, worker = run.coordinator, run.workers["rank-2.0"]
    coordinator._expel(worker.name, "hung", {}, run.now)
    coordinator.hang_ups.clear()  # its words are on their way while its connection is being ended
    for other in ("rank-0.0", "rank-1.0"):
        coordinator.ready(other, Ready(Position(3), []), run.now)
    coordinator.ready(worker.name, Ready(Position(3), []), run.now)
    assert coordinator._membership is not None
    assert not coordinator._membership.changing


def test_who_cannot_enter_a_membership_in_time_is_expelled() -> None:
    """It pings, from a thread of its own, and what it prepares itself with does not end."""
    coordinator = Coordinator(2, HANG_SECONDS)
    coordinator.hello(hello("rank-0.0"), 0.0)
    coordinator.hello(hello("rank-1.0"), 0.0)
    coordinator.ready("rank-0.0", Ready(None, []), 1.0)
    for now in (START_SECONDS, START_SECONDS + TICK):
        for worker in ("rank-0.0", "rank-1.0"):
            coordinator.heard(worker, now)
        assert not any(isinstance(notice, notices.WorkerExpelled) for notice in coordinator.notices)
        coordinator.tick(now)
    (expelled,) = [notice for notice in coordinator.notices if isinstance(notice, notices.WorkerExpelled)]
    assert (expelled.hello.worker, expelled.reason, expelled.membership) == ("rank-1.0", "hung", None)


def test_the_next_begins_when_the_last_that_had_to_leave_has_written_its_checkpoint() -> None:
    coordinator = Coordinator(1, HANG_SECONDS)
    coordinator.hello(hello("rank-0.0"), 0.0)
    coordinator.ready("rank-0.0", Ready(None, []), 0.0)
    coordinator.begin_from(Source("start", 0), 0.0)
    coordinator.hello(hello("rank-0.1"), 0.0)
    coordinator.ready("rank-0.1", Ready(None, []), 0.0)
    coordinator.urge("rank-0.0", "its node is drained", 0.0)
    for step in (1, 2):
        coordinator.vote("rank-0.0", Vote(0, step - 1, "sum", step, "alike"), 0.0)
    commits = [message for _, message in coordinator.outbox if isinstance(message, Commit)]
    assert [(commit.round, commit.save) for commit in commits] == [(0, True)], "the second step is dropped"
    assert ("rank-0.0", Dismiss("its node is drained")) in coordinator.outbox
    coordinator.notices.clear()
    coordinator.tick(0.5)
    coordinator.ended("rank-0.0", Ended("asked to leave"))
    assert not any(isinstance(notice, notices.NeedSource) for notice in coordinator.notices)
    coordinator.disconnected("rank-0.0", 1.0)
    (needs,) = [notice for notice in coordinator.notices if isinstance(notice, notices.NeedSource)]
    assert needs.reason == "worker left"


def test_one_wrong_result_among_three_is_expelled() -> None:
    run = trained(3)
    run.workers["rank-1.0"].errs = True
    run.pass_time(1)
    (difference,) = told(run, notices.Difference)
    assert (difference.expelled, difference.undecided) == ([1], False)
    (expelled,) = told(run, notices.WorkerExpelled)
    assert expelled.reason == f"{difference.subject} differs"
    run.start(1)
    finish(run)


def evaluating(workers: int) -> SimulatedRun:
    """A run whose workers are about to evaluate."""
    run = trained(workers, steps=EVALUATION_EVERY)
    while any(worker.position != Position(EVALUATION_EVERY, Stage.EVALUATION) for worker in run.workers.values()):
        run.get_on()
    return run


@pytest.mark.parametrize("workers", [1, 3])
def test_an_evaluation_may_take_longer_than_a_hung_worker_is_waited_for(workers: int) -> None:
    run = evaluating(workers)
    for worker in run.workers.values():
        worker.acts_to_evaluate = round(3 * HANG_SECONDS / TICK)
    finish(run)
    assert told(run, notices.WorkerExpelled) == []
    assert len(told(run, notices.Formed)) == 1
    assert len(run.record) == len(EVALUATIONS)


def test_a_wrong_evaluation_is_nobodys_record_even_if_it_is_the_leaders() -> None:
    run = evaluating(3)
    run.workers["rank-0.0"].errs = True
    run.pass_time(1)
    (difference,) = told(run, notices.Difference)
    assert (difference.subject, difference.expelled) == ("evaluation", [0])
    assert [n.reason for n in told(run, notices.WorkerExpelled)] == ["sum differs"]
    finish(run)
    assert len(run.record) == len(EVALUATIONS)


@pytest.mark.parametrize("recorded", [False, True])
def test_an_evaluation_whose_leader_is_lost_is_never_missing(recorded: bool) -> None:
    run = evaluating(2)
    leader, other = run.workers.values()
    while not any(isinstance(message, Commit) for message in leader.received):
        for worker in (leader, other):
            run.act(worker)
            while worker.sent:
                run.deliver(worker)
    if recorded:
        run.receive(leader)
    run.die(leader)
    assert len(run.record) == recorded
    finish(run)
    assert len(run.record) == len(EVALUATIONS) + recorded


def test_nobody_joins_between_an_evaluation_and_its_record() -> None:
    run = evaluating(2)
    run.deliver(run.start(2))
    finish(run)
    assert len(run.record) == len(EVALUATIONS)
    assert [n.form.position.stage for n in told(run, notices.Formed)] == [Stage.SETTLED] * 2


def test_a_wrong_state_is_given_up_by_all() -> None:
    run = trained(3, steps=2)
    run.workers["rank-1.0"].errs = True
    run.pass_time(1)
    assert told(run, notices.Difference)[0].subject == "state"
    run.start(1)
    run.pass_time(1)
    after = told(run, notices.Formed)[-1]
    assert (after.reason, after.form.source) == ("state differs", Source("start", 0))
    finish(run)


def test_of_two_that_differ_nobody_is_right() -> None:
    run = trained(2)
    run.workers["rank-1.0"].errs = True
    run.pass_time(1)
    (difference,) = told(run, notices.Difference)
    assert (difference.expelled, difference.undecided) == ([], True)
    assert told(run, notices.WorkerExpelled) == []
    assert len(told(run, notices.WorkerEnded)) == 2


def test_one_that_is_let_go_leaves_after_a_step_and_nothing_is_redone() -> None:
    run = trained(3)
    run.let_go(run.workers["rank-2.0"])
    run.pass_time(1)
    (left,) = told(run, notices.WorkerLeft)
    assert (left.hello.worker, left.reason) == ("rank-2.0", "drained")
    after = told(run, notices.Formed)[-1]
    assert (after.reason, after.form.source.step) == ("worker left", left.step)
    assert told(run, notices.WorkerLost) == []
    finish(run)


def test_one_that_cannot_be_spared_stays_until_another_comes_and_costs_no_memberships() -> None:
    run = trained(2, min_workers=2, steps=1)
    run.let_go(run.workers["rank-1.0"])
    while run.coordinator.step < 3:
        run.get_on()
    assert told(run, notices.WorkerLeft) == []
    assert len(told(run, notices.Formed)) == 1
    run.start(1, "node-b")
    finish(run)
    assert [n.hello.worker for n in told(run, notices.WorkerLeft)] == ["rank-1.0"]
    _, second = told(run, notices.Formed)
    assert [seat.worker for seat in second.form.seats] == ["rank-0.0", "rank-1.1"]
    assert second.form.holders == ["rank-0.0"]


def test_all_leave_one_after_the_other_and_one_always_stays_who_has_the_state() -> None:
    run = trained(2)
    for worker in list(run.workers.values()):
        run.let_go(worker)
    run.start(0)
    run.start(1)
    finish(run)
    assert [n.hello.worker for n in told(run, notices.WorkerLeft)] == ["rank-0.0", "rank-1.0"]
    assert told(run, notices.WorkerLost) == []
    assert all(n.form.source.kind == "live" for n in told(run, notices.Formed)[1:])


def test_who_waits_for_the_place_of_one_that_stays_costs_no_memberships() -> None:
    run = trained(1, steps=1)
    run.let_go(run.workers["rank-0.0"])
    run.start(0)
    finish(run)
    assert len(told(run, notices.Formed)) == 1


def test_one_that_has_not_joined_yet_is_sent_away_at_once() -> None:
    run = SimulatedRun(min_workers=1, workers=2)
    run.start(0)
    run.get_on()
    run.let_go(run.workers["rank-0.0"])
    run.get_on()
    assert [n.worker for n in told(run, notices.WorkerEnded)] == ["rank-0.0"]


def test_an_exchange_that_never_works_stops_the_run() -> None:
    run = trained(2)
    for _ in range(100):
        if not run.over:
            run.get_on()
            for worker in list(run.workers.values()):
                run.break_exchange(worker)
    assert len(told(run, notices.Stuck)) == 1


def test_who_comes_when_the_run_is_over_is_sent_away() -> None:
    run = trained(2)
    finish(run)
    late = run.start(0)
    run.get_on()
    run.get_on()
    assert late.has_ended


def test_in_a_comparison_of_states_only_who_does_not_vote_is_expelled() -> None:
    run = trained(3, steps=2)
    run.workers["rank-1.0"].is_hung = True
    run.pass_time(2 * HANG_SECONDS)
    assert [n.hello.worker for n in told(run, notices.WorkerExpelled)] == ["rank-1.0"]


def waits_for_two(coordinator: Coordinator) -> None:
    """A membership of three begins, and one of them is at the exchange at once."""
    coordinator.expect(3, 0.0)
    for rank in range(3):
        coordinator.hello(hello(f"rank-{rank}.0"), 0.0)
        coordinator.ready(f"rank-{rank}.0", Ready(None, []), 0.0)
    coordinator.begin_from(Source("start", 0), 0.0)
    coordinator.arrived("rank-2.0", Arrived(0, 0), 0.0)


def expelled_by(coordinator: Coordinator, now: float) -> list[str]:
    """Who has been expelled when it is so late; everybody speaks."""
    for rank in range(3):
        if f"rank-{rank}.0" in coordinator._peers:
            coordinator.heard(f"rank-{rank}.0", now)
    coordinator.tick(now)
    return [n.hello.worker for n in coordinator.notices if isinstance(n, notices.WorkerExpelled)]


def test_who_gives_or_takes_the_state_is_waited_for_while_it_gets_on() -> None:
    coordinator = Coordinator(1, HANG_SECONDS)
    waits_for_two(coordinator)
    for half in range(2, 12):
        coordinator.busy(Busy(0, 0), half * HANG_SECONDS / 2)
        assert expelled_by(coordinator, (half + 1) * HANG_SECONDS / 2) == []
    assert expelled_by(coordinator, 11 * HANG_SECONDS / 2 + HANG_SECONDS + TICK) == ["rank-0.0", "rank-1.0"]


def test_who_is_busy_for_ever_is_not() -> None:
    coordinator = Coordinator(1, HANG_SECONDS)
    waits_for_two(coordinator)
    for half in range(1, 21):
        coordinator.busy(Busy(0, 0), half * HANG_SECONDS / 2)
        assert expelled_by(coordinator, half * HANG_SECONDS / 2) == []
    coordinator.busy(Busy(0, 0), 10 * HANG_SECONDS + TICK)
    assert expelled_by(coordinator, 10 * HANG_SECONDS + TICK) == ["rank-0.0", "rank-1.0"]
    assert longest_wait(HANG_SECONDS) > 10 * HANG_SECONDS + TICK


@pytest.mark.parametrize("late", [Busy(0, 1), Busy(1, 0)])
def test_who_was_busy_in_another_round_is_not_busy_in_this(late: Busy) -> None:
    coordinator = Coordinator(1, HANG_SECONDS)
    waits_for_two(coordinator)
    coordinator.busy(late, HANG_SECONDS)
    assert expelled_by(coordinator, HANG_SECONDS + TICK) == ["rank-0.0", "rank-1.0"]


def test_who_was_busy_is_at_the_exchange_with_all_others_and_that_is_stuck() -> None:
    coordinator = Coordinator(1, HANG_SECONDS)
    waits_for_two(coordinator)
    coordinator.busy(Busy(0, 0), 1.0)
    for rank in (0, 1):
        coordinator.arrived(f"rank-{rank}.0", Arrived(0, 0), 1.0)
    assert expelled_by(coordinator, 1.0 + HANG_SECONDS + TICK) == []
    assert coordinator._membership is None


def test_at_the_end_one_is_waited_for_longer_as_it_may_be_writing_a_checkpoint() -> None:
    coordinator = Coordinator(1, HANG_SECONDS)
    coordinator.expect(2, 0.0)
    for worker in ("rank-0.0", "rank-1.0"):
        coordinator.hello(hello(worker), 0.0)
        coordinator.ready(worker, Ready(None, []), 0.0)
    coordinator.begin_from(Source("start", 0), 0.0)
    coordinator.vote("rank-1.0", Vote(0, 0, "end", 8, "finished"), 0.0)

    def expelled_at(now: float) -> list[str]:
        for worker in ("rank-0.0", "rank-1.0"):
            coordinator.heard(worker, now)
        coordinator.tick(now)
        return [n.hello.worker for n in coordinator.notices if isinstance(n, notices.WorkerExpelled)]

    assert expelled_at(5 * HANG_SECONDS) == []
    assert expelled_at(11 * HANG_SECONDS) == ["rank-0.0"]


def test_what_comes_late_from_an_earlier_round_is_passed_over() -> None:
    run = trained(2)
    coordinator, before = run.coordinator, run.coordinator.step
    coordinator.vote("rank-0.0", Vote(0, 0, "sum", 1, "late"), run.now)
    coordinator.vote("rank-1.0", Vote(7, 0, "sum", 1, "of another membership"), run.now)
    coordinator.arrived("rank-0.0", Arrived(0, 0), run.now)
    assert coordinator.notices == []
    assert coordinator.outbox == []
    assert coordinator.step == before
    finish(run)
