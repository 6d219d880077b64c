"""The coordinator with simulated workers: messages take their time, workers die, stop, hang, join, leave and err.

A simulated worker does what `train.worker` and `train.loop` do with the coordinator's messages; its state is the list
of the results it has applied. Nothing here has sockets, threads or clocks.
"""

from __future__ import annotations

from collections import deque
from collections.abc import Callable
from dataclasses import dataclass, field

from train.membership import notices
from train.membership.coordinator import Coordinator
from train.membership.messages import (
    Arrived,
    Commit,
    Dismiss,
    Ended,
    Form,
    Hello,
    Message,
    Position,
    Ready,
    Reform,
    Source,
    Stage,
    Vote,
)
from train.step.quorum import Subject

STEPS, STATE_EVERY, EVALUATION_EVERY = 8, 2, 4
HANG_SECONDS = 3.0
TICK = 0.25

_EXCHANGED = ("sum", "evaluation")  # what the members compute together

State = tuple[str, ...]  # the digest of each step


def hello(worker: str, node: str = "node-a") -> Hello:
    """A worker of the name `rank-<rank>.<number>`."""
    rank = int(worker.split("-")[1].split(".")[0])
    return Hello("token", worker, rank, node, "host", 1000 + rank, 1, "127.0.0.1")


@dataclass
class SimulatedWorker:
    """One process. `sent` and `received` are what is on its way; each is delivered in order."""

    name: str
    record: list[tuple[int, str]]  # of the run: the evaluations that its leaders recorded, by step
    sent: deque[Message] = field(default_factory=deque)
    received: deque[Message] = field(default_factory=deque)
    state: State | None = None
    position: Position | None = None
    form: Form | None = None
    round: int = 0
    has_arrived: bool = False
    has_evaluated: bool = False
    acts_to_evaluate: int = 0  # how often it has to act until its part of an evaluation is done
    acts: int = 0
    voted: tuple[Subject, int, str] | None = None
    has_ended: bool = False
    is_silent: bool = False
    is_hung: bool = False
    errs: bool = False  # its next result is wrong

    @property
    def is_well(self) -> bool:
        return not self.is_silent and not self.is_hung

    def say_ready(self) -> None:
        self.form, self.has_arrived, self.has_evaluated, self.voted, self.acts = None, False, False, None, 0
        self.sent.append(Ready(self.position, []))

    def subject(self) -> tuple[Subject, int]:
        """What the next round is about."""
        assert self.position is not None
        step = self.position.step
        if self.position.stage == Stage.STATE:
            return "state", step
        if self.position.stage == Stage.EVALUATION:
            return "recorded" if self.has_evaluated else "evaluation", step
        return ("end", step) if step == STEPS else ("sum", step + 1)

    def digest(self) -> str:
        """The result of the round. One error is enough: a wrong state stays wrong."""
        subject, step = self.subject()
        wrong = "wrong " if self.errs and subject != "end" else ""
        if subject == "sum":
            return f"{wrong}sum {step}"
        if subject == "recorded":
            return ""
        return f"{wrong}{subject} {' '.join(self.state or ())}"

    def take(self, message: Message) -> None:
        """What the worker does with a message."""
        if isinstance(message, Form) and self.form is None:
            self.form, self.round = message, 0
            if self.position != message.position:
                self.position = self.state = None
        elif isinstance(message, Dismiss):
            self._end()
        elif isinstance(message, Reform):
            self._reform(message)
        elif isinstance(message, Commit) and self.form is not None and message.membership == self.form.membership:
            self._commit(message)

    def _reform(self, message: Reform) -> None:
        if self.form is None:
            assert not message.discard or self.position is None, "a state is discarded whose owner is not there to know"
        elif self.form.membership == message.membership:
            if message.discard:
                self.position = self.state = None
            self.say_ready()

    def _commit(self, message: Commit) -> None:
        assert message.round == self.round, "a commit of another round than the worker's"
        assert self.voted is not None, "a commit that the worker has not voted for"
        subject, step = self.subject()
        self.round, self.has_arrived, self.voted, self.acts, voted = self.round + 1, False, None, 0, self.voted
        if subject == "sum":
            assert self.state is not None
            self.state = (*self.state, f"sum {step}")
            due = step % STATE_EVERY == 0 or step == STEPS
            self.position = Position(step, Stage.STATE if due else Stage.SETTLED)
        elif subject == "state":
            self.position = Position(step, Stage.SETTLED if step % EVALUATION_EVERY else Stage.EVALUATION)
        elif subject == "evaluation":
            self._evaluate(voted[2])
        elif subject == "recorded":
            self.position, self.has_evaluated = Position(step, Stage.SETTLED), False
        if subject == "end" or message.action == "leave":
            self._end()
        elif message.action == "reform":
            self.say_ready()

    def _evaluate(self, digest: str) -> None:
        assert self.form is not None
        assert self.position is not None
        self.has_evaluated = True
        if self.form.seats[0].worker == self.name:
            self.record.append((self.position.step, digest))

    def _end(self) -> None:
        self.has_ended, self.form = True, None
        self.sent.append(Ended("finished"))


class SimulatedRun:
    """A coordinator, its workers, and a driver that answers and kills as it is asked to. What must hold is asserted."""

    def __init__(self, min_workers: int, workers: int) -> None:
        self.coordinator = Coordinator(min_workers, HANG_SECONDS)
        self.now = 0.0
        self.workers: dict[str, SimulatedWorker] = {}
        self.dead: list[str] = []
        self.leaving: set[str] = set()
        self.notices: list[notices.Notice] = []
        self.saved: State = ()  # the last state that all agreed on and were done with: what a checkpoint would have
        self.record: list[tuple[int, str]] = []
        self.over = False
        self._numbers: dict[int, int] = {}
        self._forms: dict[int, Form] = {}
        self._committed: set[tuple[int, int]] = set()
        self.do(lambda coordinator: coordinator.expect(workers, self.now))

    # What happens.

    def start(self, rank: int, node: str = "node-a") -> SimulatedWorker:
        """Another process of the rank connects."""
        number = self._numbers.get(rank, 0)
        self._numbers[rank] = number + 1
        worker = SimulatedWorker(f"rank-{rank}.{number}", self.record)
        self.workers[worker.name] = worker
        self.do(lambda coordinator: coordinator.hello(hello(worker.name, node), self.now))
        worker.say_ready()
        return worker

    def die(self, worker: SimulatedWorker, with_words: bool = False) -> None:
        """A process ends, whether what it sent last still arrives or not."""
        while with_words and worker.sent:
            self.deliver(worker)
        if worker.name not in self.workers:
            return
        del self.workers[worker.name]
        self.dead.append(worker.name)
        self.do(lambda coordinator: coordinator.disconnected(worker.name, self.now))

    def let_go(self, worker: SimulatedWorker) -> None:
        """A worker is asked to leave; another may come in its place before it does."""
        self.leaving.add(worker.name)
        self.do(lambda coordinator: coordinator.let_go(worker.name, "drained", self.now))

    def deliver(self, worker: SimulatedWorker) -> None:
        """The coordinator receives the next message of a worker."""
        message = worker.sent.popleft()
        self.do(lambda coordinator: self._tell(coordinator, worker, message))
        if isinstance(message, Ended):
            self.die(worker)

    def receive(self, worker: SimulatedWorker) -> None:
        """A worker receives its next message. One that is leaving reads no more."""
        message = worker.received.popleft()
        if not worker.has_ended:
            worker.take(message)

    def act(self, worker: SimulatedWorker) -> None:
        """A worker goes on by itself: it comes to the exchange, has its result, or finds the exchange broken."""
        form = worker.form
        if form is None or worker.has_ended or worker.voted is not None:
            return
        if worker.state is None:
            self._take_state(worker, form)
        elif not worker.has_arrived:
            self._compute(worker, form)
        elif worker.subject()[0] not in _EXCHANGED or all(
            self._is_in(seat.worker, form, worker.round) for seat in form.seats
        ):
            worker.voted = (*worker.subject(), worker.digest())
            worker.sent.append(Vote(form.membership, worker.round, *worker.voted))
        elif any(seat.worker not in self.workers for seat in form.seats):
            worker.say_ready()

    def _compute(self, worker: SimulatedWorker, form: Form) -> None:
        """A worker does its part of the round."""
        worker.acts += 1
        subject = worker.subject()[0]
        worker.has_arrived = subject != "evaluation" or worker.acts > worker.acts_to_evaluate
        if subject in _EXCHANGED and worker.has_arrived:
            worker.sent.append(Arrived(form.membership, worker.round))

    def break_exchange(self, worker: SimulatedWorker) -> None:
        """A worker's exchange fails, for no reason that anybody knows."""
        if worker.form is not None and worker.voted is None and not worker.has_ended:
            worker.say_ready()

    def pass_time(self, seconds: float) -> None:
        """Time passes, in which everybody who is well gets on."""
        for _ in range(round(seconds / TICK)):
            self.get_on()
            self.now += TICK
            self.do(lambda coordinator: coordinator.tick(self.now))

    def get_on(self) -> None:
        """Everybody who is well does what there is to do, once; pings arrive."""
        for worker in list(self.workers.values()):
            if worker.is_silent:
                continue
            self.do(lambda coordinator, name=worker.name: coordinator.heard(name, self.now))
            if worker.is_hung:
                continue
            while worker.received:
                self.receive(worker)
            self.act(worker)
            while worker.sent and worker.name in self.workers:
                self.deliver(worker)

    def do(self, action: Callable[[Coordinator], object]) -> None:
        """The coordinator does something; its messages set out, and the driver answers its notices."""
        action(self.coordinator)
        outbox, self.coordinator.outbox = self.coordinator.outbox, []
        hang_ups, self.coordinator.hang_ups = self.coordinator.hang_ups, []
        self._check_outbox(outbox)
        for name, message in outbox:
            if name in self.workers:
                self.workers[name].received.append(message)
        told, self.coordinator.notices = self.coordinator.notices, []
        for notice in told:
            self.notices.append(notice)
            self._answer(notice)
        for name in hang_ups:
            if name in self.workers:
                self.die(self.workers[name])

    # What holds.

    def _check_outbox(self, outbox: list[tuple[str, Message]]) -> None:
        commits = [(name, message) for name, message in outbox if isinstance(message, Commit)]
        for key in {(message.membership, message.round) for _, message in commits}:
            told = [name for name, message in commits if (message.membership, message.round) == key]
            self._check_commit(key, told)
        for membership in {message.membership for _, message in outbox if isinstance(message, Form)}:
            forms = {name: m for name, m in outbox if isinstance(m, Form) and m.membership == membership}
            self._check_form(forms)

    def _check_commit(self, key: tuple[int, int], told: list[str]) -> None:
        """A round is committed once, to all members, and only when all had the same."""
        assert key not in self._committed, "a round is committed twice"
        self._committed.add(key)
        form = self._forms[key[0]]
        members = [seat.worker for seat in form.seats]
        assert sorted(told) == sorted(members), "a commit is sent to all members or to none"
        living = [self.workers[name] for name in members]
        votes = {worker.voted for worker in living}
        assert len(votes) == 1, "a commit of what members have different results of"
        assert None not in votes
        assert {worker.round for worker in living} == {key[1]}
        subject, step = living[0].subject()
        if subject == "recorded" or (subject == "state" and step % EVALUATION_EVERY):
            self.saved = living[0].state or ()

    def _check_form(self, forms: dict[str, Form]) -> None:
        """All members are told the same; they live, are enough, and those that have a state have the same one."""
        form = next(iter(forms.values()))
        seats = [seat.worker for seat in form.seats]
        assert set(forms) == set(seats)
        assert all(other == form for other in forms.values())
        assert form.membership == len(self._forms), "memberships are numbered one by one"
        assert [seat.rank for seat in form.seats] == sorted({seat.rank for seat in form.seats})
        assert len(seats) >= self.coordinator.min_workers
        assert not set(seats) & set(self.dead)
        states = {(w.position, w.state) for name in seats if (w := self.workers[name]).position is not None}
        assert len(states) <= 1, "living members differ when a membership is formed"
        if states:
            assert form.source.kind == "live"
            assert form.position == next(iter(states))[0]
        assert set(form.holders) <= set(seats)
        assert form.holders
        assert not any(self.workers[name].is_silent and self._was_expelled(name) for name in seats)
        self._forms[form.membership] = form

    def _was_expelled(self, worker: str) -> bool:
        return any(isinstance(n, notices.WorkerExpelled) and n.hello.worker == worker for n in self.notices)

    def _answer(self, notice: notices.Notice) -> None:
        if isinstance(notice, notices.NeedSource):
            source = Source("storage", len(self.saved)) if self.saved else Source("start", 0)
            self.do(lambda coordinator: coordinator.begin_from(source, self.now))
        elif isinstance(notice, notices.WorkerExpelled):
            worker = self.workers[notice.hello.worker]
            if notice.reason == "silent":
                assert worker.is_silent, "somebody who speaks is expelled for being silent"
            elif notice.reason == "hung":
                # Who waits for the state cannot be told from who hangs while giving it.
                wait = worker.state is None and not all(other.is_well for other in self.workers.values())
                assert wait or not worker.is_well, "somebody who is well is expelled for hanging"
        elif isinstance(notice, notices.Difference):
            votes = list(notice.digests.values())
            most = max(set(votes), key=votes.count)
            strict = 2 * votes.count(most) > len(votes)
            odd = [int(rank) for rank, digest in notice.digests.items() if digest != most]
            assert notice.undecided != strict
            assert sorted(notice.expelled) == (sorted(odd) if strict else [])
            assert odd, "all had the same"
            self.over |= notice.undecided
        elif isinstance(notice, notices.EndAgreed | notices.Stuck):
            self.over = True

    # The workers' insides.

    def _tell(self, coordinator: Coordinator, worker: SimulatedWorker, message: Message) -> None:
        if isinstance(message, Ready):
            coordinator.ready(worker.name, message, self.now)
        elif isinstance(message, Arrived):
            coordinator.arrived(worker.name, message, self.now)
        elif isinstance(message, Vote):
            coordinator.vote(worker.name, message, self.now)
        elif isinstance(message, Ended):
            coordinator.ended(worker.name, message)

    def _is_in(self, name: str, form: Form, round: int) -> bool:
        """Whether a member is at the exchange of the round, or past it."""
        other = self.workers.get(name)
        if other is None or other.form is None or other.form.membership != form.membership:
            return False
        return other.round > round or (other.round == round and other.has_arrived)

    def _take_state(self, worker: SimulatedWorker, form: Form) -> None:
        """The state that a membership begins with: from storage, or from a member that has it and is there."""
        if form.source.kind == "live":
            givers = [self.workers[name] for name in form.holders if name in self.workers]
            states = [giver.state for giver in givers if giver.form == form]
            if not givers:
                worker.say_ready()
            if not states:
                return
            worker.state = states[0]
        else:
            worker.state = self.saved[: form.source.step]
        worker.position = form.position
