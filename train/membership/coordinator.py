"""The one truth about who is in the run and what they agreed on: a state machine without sockets, threads or clocks.

Inputs are what workers and the driver say, that a connection ended, and the time; outputs are messages to workers and
notices to the driver. A round is committed when every member voted alike, and never otherwise: what one member was told
to apply, all that live were told to apply, so no two members ever differ by a step.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterable

from train.membership import notices
from train.membership.messages import (
    Action,
    Arrived,
    Busy,
    Commit,
    Dismiss,
    Ended,
    Form,
    Hello,
    Message,
    Position,
    Ready,
    Reform,
    Seat,
    Source,
    Stage,
    Vote,
)
from train.membership.peers import Membership, Peer

# A worker says every half second that it is there; one that is stopped, or whose network is cut, does not.
SILENT_SECONDS = 10.0
# From its process to its connection, and from there until it can enter a membership, a worker may take this long each:
# importing torch from a slow disk takes minutes, and so does compiling a large model.
START_SECONDS = 900.0
# Where nobody has come to the exchange yet, a round may take this many times as long as the longest before it; and who
# has come waits so many times as long for those that are busy.
_PATIENCE = 10
# An exchange that breaks so often in a row, with every member alive, will not heal by itself.
_BARREN_MEMBERSHIPS = 20


def longest_wait(hang_seconds: float) -> float:
    """Seconds after which the coordinator has ended any wait in the exchange.

    It is that of the busy ones, of those that were to come after them, and of as much again for a slow machine.
    """
    return (_PATIENCE + 2) * hang_seconds


class Coordinator:
    """Forms memberships of at least `min_workers`, commits rounds, and has whoever hangs or differs expelled.

    `hang_seconds` is how long the others wait for one that does not come. Every input may fill `outbox` (worker,
    message), `hang_ups` and `notices`; the caller empties them. It ends the connections of those in `hang_ups` and says
    so with `disconnected`: a machine that is cut off or without power never ends one by itself.
    """

    def __init__(self, min_workers: int, hang_seconds: float) -> None:
        self.min_workers = min_workers
        self.hang_seconds = hang_seconds
        self.outbox: list[tuple[str, Message]] = []
        self.hang_ups: list[str] = []
        self.notices: list[notices.Notice] = []
        self.step = 0
        self.over = False
        self._peers: dict[str, Peer] = {}
        self._expected = 1
        self._membership: Membership | None = None
        self._number = -1
        self._source: Source | None = None
        self._agreed: int | None = None
        self._reason = "start"
        self._forming_since: float | None = None
        self._asked = False
        self._said_waiting = False
        self._patience_is_over = False
        self._longest_round = 0.0
        self._barren = 0
        self._save = False

    # What the driver says.

    def expect(self, workers: int, now: float) -> None:
        """A membership that has no living state waits for so many workers, but not longer than for a hung one."""
        self._expected = workers
        self._try_to_form(now)

    def make_do(self, now: float) -> None:
        """The run is about to end: whoever is there goes on, however few they are."""
        self.min_workers = self._expected = 1
        self._try_to_form(now)

    def begin_from(self, source: Source, now: float) -> None:
        """The answer to `NeedSource`: the state with which the next membership begins."""
        self._source = source
        self._try_to_form(now)

    def let_go(self, worker: str, reason: str, now: float) -> None:
        """A worker is to leave at the next step boundary at which the others can go on without it."""
        peer = self._peers.get(worker)
        if peer is None or peer.gone:
            return
        peer.leaving = reason
        if peer.seat is None:
            self._dismiss(peer, reason)
        self._try_to_form(now)

    def died(self, worker: str) -> None:
        """The process of a worker is known to be gone, whatever its connection says."""
        if worker in self._peers:
            self.hang_ups.append(worker)

    def urge(self, worker: str, reason: str, now: float) -> None:
        """A worker is to leave soon, also where too few stay: then a checkpoint is saved before that."""
        if worker in self._peers:
            self._peers[worker].urged = True
            self.let_go(worker, reason, now)

    def save_soon(self) -> None:
        """After the next step a checkpoint is written, whether one is due or not."""
        self._save = True

    def paused(self, seconds: float, now: float) -> None:
        """This process did not run for the last `seconds`: what it could not hear in them is held against nobody."""
        for peer in self._peers.values():
            # Some may have been heard, or have arrived, since.
            peer.unheard = min(peer.unheard + seconds, now - peer.last_heard)
            peer.since = min(peer.since + seconds, now)
            if peer.arrived is not None:
                peer.arrived = min(peer.arrived + seconds, now)
        if self._membership is not None:
            self._membership.round_began = min(self._membership.round_began + seconds, now)
            if self._membership.busy is not None:
                self._membership.busy = min(self._membership.busy + seconds, now)
        if self._forming_since is not None:
            self._forming_since = min(self._forming_since + seconds, now)

    # What workers say.

    def hello(self, hello: Hello, now: float) -> None:
        """A worker connected."""
        self._peers[hello.worker] = Peer(hello, now, now)
        self.notices.append(notices.WorkerConnected(hello))

    def ready(self, worker: str, message: Ready, now: float) -> None:
        """A worker is in no membership and can enter one. From a member it says that the exchange broke."""
        peer = self._peers[worker]
        if peer.gone:
            return
        if self.over:
            self._dismiss(peer, "the run has ended")
            return
        if self._membership is not None:
            if worker in self._membership.workers:
                self._barren += 1
                self._drop_round("stuck", now)
            elif peer.hello.rank not in {seat.rank for seat in self._membership.form.seats}:
                self._membership.changing = True
        peer.ready = message
        if self._barren > _BARREN_MEMBERSHIPS:
            self.over = True
            self.notices.append(notices.Stuck(self._barren))
            self._dismiss_others([])
            return
        self._try_to_form(now)

    def arrived(self, worker: str, message: Arrived, now: float) -> None:
        """A worker waits for the others in the exchange."""
        if self._is_present(message.membership, message.round):
            self._peers[worker].arrived = now

    def busy(self, message: Busy, now: float) -> None:
        """A worker gets on with what the others wait for, or with what another of those has to wait for."""
        if self._is_present(message.membership, message.round):
            assert self._membership is not None
            self._membership.busy = now

    def vote(self, worker: str, message: Vote, now: float) -> None:
        """A worker has the result of a round."""
        if self._is_present(message.membership, message.round):
            peer = self._peers[worker]
            peer.vote = message
            if peer.arrived is None and message.subject != "end":
                # The others are waited for from here on; but at the end somebody may be writing a checkpoint.
                peer.arrived = now
            self._count_votes(now)

    def ended(self, worker: str, message: Ended) -> None:
        """A worker has done its work."""
        self._peers[worker].gone = True
        self.notices.append(notices.WorkerEnded(worker, message.outcome))

    def heard(self, worker: str, now: float) -> None:
        """Anything came from a worker."""
        peer = self._peers[worker]
        peer.last_heard, peer.unheard = now, 0.0

    def disconnected(self, worker: str, now: float) -> None:
        """The connection to a worker ended."""
        peer = self._peers.pop(worker)
        if not peer.gone or peer.leaving in _EXPULSIONS:
            self.notices.append(notices.WorkerLost(peer.hello, peer.seat, self.step, peer.last_heard, now))
        current = self._membership
        self._barren = 0
        if current is not None and worker in current.workers and not self.over:
            self._drop_round("worker lost", now)
        elif current is None and peer.seat == self._number and self._reason == "stuck":
            self._reason = "worker lost"
        self._try_to_form(now)

    def tick(self, now: float) -> None:
        """Time passed: expel whoever is silent or keeps the others waiting."""
        limit = min(SILENT_SECONDS, self.hang_seconds)
        for worker, peer in list(self._peers.items()):
            silent = now - peer.last_heard - peer.unheard
            if not peer.gone and silent > limit:
                self._expel(worker, "silent", {"silent_seconds": round(silent, 3)}, now)
            elif not peer.gone and peer.seat is None and peer.ready is None and now - peer.since > START_SECONDS:
                self._expel(worker, "hung", {"waited_seconds": round(now - peer.since, 3)}, now)
        if self._membership is not None and not self.over:
            self._tick_round(self._membership, now)
        elif self._forming_since is not None and now - self._forming_since > self.hang_seconds:
            for worker in self._awaited():
                self._expel(worker, "hung", {"waited_seconds": round(now - self._forming_since, 3)}, now)
            self._patience_is_over = True
            self._try_to_form(now)

    # Rounds.

    def _is_present(self, membership: int, round: int) -> bool:
        current = self._membership
        return current is not None and (membership, round) == (self._number, current.round) and not self.over

    def _count_votes(self, now: float) -> None:
        current = self._membership
        assert current is not None
        votes = {worker: vote for worker in current.workers if (vote := self._peers[worker].vote) is not None}
        if len(votes) < len(current.workers):
            return
        if len({(vote.subject, vote.step, vote.digest) for vote in votes.values()}) == 1:
            vote = next(iter(votes.values()))
            if current.parting and vote.subject == "sum" and (urged := self._cornered(current)):
                self._part(urged, now)
            else:
                self._commit(current, vote, now)
        else:
            self._settle_difference(votes, now)

    def _commit(self, current: Membership, vote: Vote, now: float) -> None:
        self._longest_round = max(self._longest_round, now - current.round_began)
        self._barren = 0
        if vote.subject == "sum":
            self.step = vote.step
        elif vote.subject == "state":
            self._agreed = vote.step
        elif vote.subject == "end":
            self.over = True
            self.notices.append(notices.EndAgreed(vote.digest))
        if current.round == 0:
            self.notices.append(notices.FirstCommit(self._number, vote.step, now))
        if vote.subject == "sum" and self._cornered(current):
            self._save = current.parting = True
        save = self._save and vote.subject == "sum"
        self._save &= not save
        # An evaluation is done when it is recorded: until then nobody leaves or joins, or it would be done again.
        stays = self.over or vote.subject == "evaluation"
        leaving = [] if stays or save else self._able_to_leave(current)
        changing = not stays and (current.changing or bool(leaving))
        for worker in current.workers:
            peer = self._peers[worker]
            peer.arrived = peer.vote = None
            action: Action = "reform" if changing else "go on"
            if worker in leaving:
                action, peer.gone = "leave", True
                self.notices.append(notices.WorkerLeft(peer.hello, self.step, peer.leaving or ""))
            self.outbox.append((worker, Commit(self._number, current.round, action, save)))
        if self.over:
            self._dismiss_others(current.workers)
        elif changing:
            self._begin_forming("worker left" if leaving else "worker joined", now)
            self._try_to_form(now)
        else:
            current.round, current.round_began, current.busy = current.round + 1, now, None

    def _able_to_leave(self, current: Membership) -> list[str]:
        """The members that were asked to leave, as far as enough others stay or come, and one stays who has the state.

        Who comes in place of one that has the same rank comes when that one leaves, since a rank has one worker.
        """
        ranks = {seat.rank for seat in current.form.seats}
        others = [peer for worker, peer in self._peers.items() if worker not in current.workers]
        coming = {peer.hello.rank for peer in others if peer.ready is not None and not peer.gone}
        asked = [seat for seat in current.form.seats if self._peers[seat.worker].leaving is not None]
        asked.sort(key=lambda seat: (seat.rank not in coming, seat.rank))
        leaving: list[str] = []
        there = len(ranks | coming)
        for seat in asked:
            there -= seat.rank not in coming
            if there < self.min_workers or len(leaving) + 1 == len(ranks):
                break
            leaving.append(seat.worker)
        return leaving

    def _cornered(self, current: Membership) -> list[str]:
        """The members that must leave, but cannot without the others having to wait, or the state going with them."""
        urged = [worker for worker in current.workers if self._peers[worker].urged]
        able = self._able_to_leave(current) if urged else []
        return [worker for worker in urged if worker not in able]

    def _part(self, urged: list[str], now: float) -> None:
        """Let members go that had to stay for the checkpoint; the step since then is dropped, and no other is lost."""
        for worker in urged:
            peer = self._peers[worker]
            self.notices.append(notices.WorkerLeft(peer.hello, self.step, peer.leaving or ""))
            self._dismiss(peer, peer.leaving or "")
        self._drop_round("worker left", now)
        self._try_to_form(now)

    def _settle_difference(self, votes: dict[str, Vote], now: float) -> None:
        """Most members are right and the others are expelled; without a majority nobody can tell, and the run stops."""
        digests = Counter((vote.subject, vote.step, vote.digest) for vote in votes.values())
        right, count = digests.most_common(1)[0]
        odd = [worker for worker, vote in votes.items() if (vote.subject, vote.step, vote.digest) != right]
        undecided = 2 * count <= len(votes)
        state = right[0] == "state"
        by_rank = {str(self._peers[worker].hello.rank): vote.digest for worker, vote in votes.items()}
        expelled = [] if undecided else [self._peers[worker].hello.rank for worker in odd]
        self.notices.append(notices.Difference(right[0], right[1], by_rank, expelled, self._number, undecided))
        if undecided:
            self.over = True
            self._dismiss_others([])
            return
        self._drop_round("state differs" if state else "worker lost", now, discard=state)
        for worker in odd:
            reason = "state differs" if state else "sum differs"
            self._expel(worker, reason, {"digest": votes[worker].digest, "majority": right[2]}, now)
        self._try_to_form(now)

    def _tick_round(self, current: Membership, now: float) -> None:
        arrivals = {worker: self._peers[worker].arrived for worker in current.workers}
        came = [time for time in arrivals.values() if time is not None]
        missing = [w for w, time in arrivals.items() if time is None and self._peers[w].vote is None]
        patience = self.hang_seconds if came else _PATIENCE * max(self.hang_seconds, self._longest_round)
        waited = now - max(came, default=current.round_began)
        if waited <= patience:
            return
        if not missing:
            # Whoever hangs in the exchange does not answer to this, and is expelled while the next one is formed.
            self._barren += 1
            self._drop_round("stuck", now)
            return
        gets_on = current.busy is not None and now - current.busy <= self.hang_seconds
        if came and gets_on and now - min(came) <= _PATIENCE * self.hang_seconds:
            return  # a state or a checkpoint takes its time; but a disk may hang for ever
        for worker in missing:
            self._expel(worker, "hung", {"waited_seconds": round(waited, 3), "step": self.step + 1}, now)
        self._try_to_form(now)

    def _expel(self, worker: str, reason: str, evidence: dict[str, object], now: float) -> None:
        """Have a worker killed. It counts for nothing from here on, and its connection is ended."""
        peer = self._peers[worker]
        peer.gone, peer.leaving = True, reason
        self.hang_ups.append(worker)
        self.notices.append(notices.WorkerExpelled(peer.hello, peer.seat, reason, evidence))
        if self._membership is not None and worker in self._membership.workers and not self.over:
            self._drop_round("worker lost", now)

    def _drop_round(self, reason: str, now: float, discard: bool = False) -> None:
        """End the membership without a commit: its members redo the round in the next one."""
        current = self._membership
        assert current is not None
        for worker in current.workers:
            if worker in self._peers:
                self.outbox.append((worker, Reform(self._number, discard)))
        self._begin_forming(reason, now)

    # Forming.

    def _begin_forming(self, reason: str, now: float) -> None:
        current = self._membership
        assert current is not None
        for worker in current.workers:
            if peer := self._peers.get(worker):
                peer.ready = peer.arrived = peer.vote = None
        self._membership, self._forming_since, self._reason = None, now, reason

    def _awaited(self) -> list[str]:
        """Members of the last membership that have not said yet that they can enter the next."""
        return [w for w, p in self._peers.items() if p.seat == self._number and p.ready is None and not p.gone]

    def _try_to_form(self, now: float) -> None:
        if self.over or self._membership is not None or (self._number >= 0 and self._awaited()):
            return
        able = self._able()
        if len(able) < max(1, self.min_workers):
            if self._number >= 0 and not self._said_waiting:
                self._said_waiting = True
                self.notices.append(notices.Waiting(len(able), self.min_workers))
            return
        if any(p.position is not None for p in able.values()) or self._has_source(able, now):
            self._form(able, now)

    def _able(self) -> dict[str, Peer]:
        """Who can enter the next membership: of two with one rank, the one that was in the last."""
        ready = [(w, p) for w, p in self._peers.items() if p.ready is not None and not p.gone]
        ready.sort(key=lambda item: item[1].seat == self._number and self._number >= 0)
        return dict({peer.hello.rank: (worker, peer) for worker, peer in ready}.values())

    def _has_source(self, able: dict[str, Peer], now: float) -> bool:
        """Whether as many are here as can be expected, and the driver has said what state to begin with."""
        if self._forming_since is None:
            self._forming_since = now
        if len(able) < self._expected and not self._patience_is_over:
            return False
        if any(peer.urged and peer.gone for peer in self._peers.values()):
            return False  # it is still writing the checkpoint to begin with
        if self._source is not None and self._source.kind == "memory" and not _holders(able, self._source.step):
            self._source, self._asked = None, False
        if self._source is None and not self._asked:
            self._asked = True
            offers = {w: p.ready.offers for w, p in able.items() if p.ready is not None}
            self.notices.append(notices.NeedSource(offers, self._agreed, self._reason))
        return self._source is not None

    def _form(self, able: dict[str, Peer], now: float) -> None:
        self._number += 1
        peers = sorted(able.values(), key=lambda peer: peer.hello.rank)
        seats = [Seat(peer.hello.worker, peer.hello.rank, peer.hello.node) for peer in peers]
        source, position, holders = self._begin_with(able)
        savers = list({seat.node: seat.worker for seat in reversed(seats)}.values())
        form = Form(self._number, seats, source, position, holders, savers)
        self._membership = Membership(form, now)
        self.step = position.step
        for peer in peers:
            peer.seat, peer.arrived, peer.vote = self._number, None, None
            self.outbox.append((peer.hello.worker, form))
        self.notices.append(notices.Formed(form, self._reason, {w: p.hello for w, p in able.items()}, now))
        self._source, self._forming_since = None, None
        self._asked = self._said_waiting = self._patience_is_over = False

    def _begin_with(self, able: dict[str, Peer]) -> tuple[Source, Position, list[str]]:
        """The newest living state, or what the driver chose; where in the round it is; and who has it."""
        live = {w: p.position for w, p in able.items() if p.position is not None}
        if live:
            newest = max(live.values(), key=lambda position: (position.step, position.stage))
            return Source("live", newest.step), newest, sorted(w for w, position in live.items() if position == newest)
        source = self._source
        assert source is not None
        if source.kind == "memory":
            return source, Position(source.step, Stage.EVALUATION), _holders(able, source.step)
        return source, Position(source.step, Stage.SETTLED), sorted(able)

    def _dismiss_others(self, members: Iterable[str]) -> None:
        for worker in self._peers.keys() - set(members):
            if not self._peers[worker].gone:
                self._dismiss(self._peers[worker], "the run has ended")

    def _dismiss(self, peer: Peer, reason: str) -> None:
        peer.gone = True
        self.outbox.append((peer.hello.worker, Dismiss(reason)))


_EXPULSIONS = frozenset({"hung", "silent", "state differs", "sum differs"})


def _holders(able: dict[str, Peer], step: int) -> list[str]:
    return sorted(w for w, p in able.items() if p.ready is not None and step in p.ready.offers)
