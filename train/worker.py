"""A worker's life: set up as recorded, join, train, finish. What goes wrong is in the record before it is raised."""

from __future__ import annotations

import os
import platform
import time
import traceback
from pathlib import Path
from typing import Any

import torch

from recorder.canonical import digest_json
from recorder.capture.determinism import determinism_class
from recorder.capture.packages import capture_packages
from recorder.capture.system import capture_system
from recorder.capture.torch_build import torch_facts
from recorder.checkpoint.memory import Snapshot, local_node_key, memory_folder
from recorder.errors import BundleError, RecorderError
from recorder.ledger import events
from recorder.ledger.processes import start_ticks
from recorder.ledger.streams import StreamCapture
from recorder.release.secrets.masking import mask_values
from recorder.worker import WorkerRecorder
from train.config import Config
from train.data import PreparedData, open_prepared
from train.launch.devices import DETERMINISTIC_CUDA
from train.launch.job import Job
from train.loop import TrainLoop
from train.membership.coordinator import longest_wait
from train.membership.group import Group, Meeting
from train.membership.member import Dismissed, Member, MembershipOver
from train.membership.messages import Form, Hello, Position
from train.membership.transfer import Received, receive_state, send_state
from train.saving import Saver
from train.step.exchange import Exchange, SingleExchange, TreeExchange
from train.step.native import NativeExchange
from train.step.tree import ranges
from train.training import Training


def run_in_ray(message: dict[str, Any]) -> None:
    """The method of the Ray actor that is a worker."""
    import ray

    context = ray.get_runtime_context()
    address: str = ray.util.get_node_ip_address()  # type: ignore[no-untyped-call]
    run_worker(Job.from_message(message), context.get_node_id(), address)


def run_worker(job: Job, node: str, address: str) -> None:
    """Run one worker to its end, on the node `node`, where other workers reach it at `address`.

    Raises RuntimeError when the worker failed; what happened is in the record by then.
    """
    spool = Path(job.spool)
    recorder = WorkerRecorder(spool, f"rank-{job.rank}", job.incarnation, job.rank)
    recorder.activate()
    streams = StreamCapture(spool, job.worker, recorder.spool)
    failure: Exception | None = None
    try:
        Worker(job, recorder, node, address).live()
    except Exception as error:
        failure = error
        recorder.event(
            events.EXCEPTION,
            rank=job.rank,
            worker=job.worker,
            kind=type(error).__name__,
            message=str(error),
            expected=isinstance(error, RecorderError),
            traceback=traceback.format_exc(),
        )
    finally:
        streams.close()
        recorder.close()
    if failure is not None:
        # Ray pickles what is raised here: a plain exception reaches a driver that lacks the user's modules.
        raise RuntimeError(f"{type(failure).__name__}: {failure}")


class Worker:
    """One process of the run: it goes from one membership to the next until the run ends or it is let go."""

    def __init__(self, job: Job, recorder: WorkerRecorder, node: str, address: str) -> None:
        self._job = job
        self._recorder = recorder
        self._node = node
        self._address = address
        self._config = Config.model_validate(job.config)
        hello = Hello(
            job.token, job.worker, job.rank, node, platform.node(), os.getpid(), start_ticks(os.getpid()), address
        )
        self._member = Member(job.coordinator, hello)
        self._meeting = Meeting(job.meeting)
        self._device = _set_up_torch(self._config, job.device)
        key = local_node_key() if self._config.cluster.address == "local" else node
        named = {"node": node, "rank": job.rank, "worker": job.worker}
        self._saver = Saver(Path(job.bundle), memory_folder(Path(job.bundle), key), recorder.event, named)
        self._data = open_prepared(Path(job.data))
        self._begin_anew(self._data)
        self._offers: dict[int, Snapshot] = {}
        self._rejected: set[Snapshot] = set()
        self._broken_transfers = 0
        self._joined = False

    def live(self) -> None:
        """Take part until the run ends. Raises what makes the run fail."""
        position: Position | None = None
        try:
            while True:
                self._offers = self._to_offer() if position is None else {}
                form = self._member.ready(position, sorted(self._offers))
                group = None
                try:
                    group = self._enter(form)
                    self._take_state(form, group, position)
                    self._training.exchange = self._exchange(group)
                    self._loop.position = position = form.position
                    outcome = self._loop.run()
                    break
                except MembershipOver as over:
                    if not over.told:
                        self._recorder.event(
                            events.EXCHANGE_FAILED, rank=self._job.rank, worker=self._job.worker, message=str(over)
                        )
                    position = None if over.discard or position is None else self._loop.position
                finally:
                    if group is not None:
                        group.close()
            self._finish(outcome)
        except Dismissed as dismissed:
            self._saver.wait()
            self._saver.close(remove_snapshots=False)
            self._member.ended(str(dismissed))

    def _begin_anew(self, data: PreparedData) -> None:
        """A training at step 0."""
        self._training = Training(self._config, data, self._device)
        if self._config.train.compile:
            # What would hold up the others in their first step with this worker is done before it asks to join.
            self._training.warm_up()
        self._loop = TrainLoop(self._training, self._recorder, self._saver, data, self._member)
        self._is_untouched = True

    def _enter(self, form: Form) -> Group | None:
        """Take a seat, and meet the others if there are any."""
        place = [seat.worker for seat in form.seats].index(self._job.worker)
        self._saver.is_leader = place == 0
        self._saver.is_saver = self._job.worker in form.savers
        self._recorder.enter(form.membership, len(form.seats))
        if not self._joined:
            self._joined = True
            with self._recorder.accounted():
                self._introduce(form, place)
        if len(form.seats) == 1:
            return None
        limit = longest_wait(self._config.cluster.hang_seconds)
        return Group(self._member, form, self._meeting, self._device, self._address, limit)

    def _exchange(self, group: Group | None) -> Exchange:
        if group is None:
            return SingleExchange()
        return NativeExchange(group) if self._config.train.reduction == "native" else TreeExchange(group)

    def _take_state(self, form: Form, group: Group | None, position: Position | None) -> None:
        """Come to the state that the membership begins with, and give it to those that lack it."""
        source = form.source
        if source.kind == "live":
            has_it = position == form.position
        elif source.kind == "memory":
            has_it = self._job.worker in form.holders
            if has_it:
                self._restore_snapshot(self._offers[source.step])
        else:
            has_it = True
            if source.path is not None:
                self._restore(Path(source.path))
            elif not self._is_untouched:
                # Also where a state that was being received came in part only.
                self._begin_anew(self._data)
        self._is_untouched = False
        if group is not None:
            self._transfer(form, group, has_it)

    def _restore(self, folder: Path) -> None:
        self._training.check_fingerprint(self._training.restore(folder))

    def _to_offer(self) -> dict[int, Snapshot]:
        return {step: found for step, found in self._saver.offers().items() if found not in self._rejected}

    def _restore_snapshot(self, snapshot: Snapshot) -> None:
        """Raises MembershipOver where it does not give the state it was made of: the next membership does without."""
        try:
            self._restore(snapshot.path)
        except BundleError as error:
            self._rejected.add(snapshot)
            raise MembershipOver(f"the snapshot in node memory is not used: {error}") from error

    def _receive(self, group: Group, place: int) -> Received:
        """Raises MembershipOver where the state came broken, to have it sent again; the second time, BundleError."""
        try:
            received = receive_state(self._training, group, place)
        except BundleError as error:
            self._broken_transfers += 1
            if self._broken_transfers > 1:
                raise
            raise MembershipOver(str(error)) from error
        self._broken_transfers = 0
        return received

    def _transfer(self, form: Form, group: Group, has_it: bool) -> None:
        """The holders share out those that lack the state; each of them receives it whole from one."""
        workers = [seat.worker for seat in form.seats]
        lacking = [worker for worker in workers if worker not in form.holders]
        for number, receiver in enumerate(lacking):
            giver = form.holders[number % len(form.holders)]
            if giver == self._job.worker:
                send_state(self._training, group, workers.index(receiver))
            elif receiver == self._job.worker and not has_it:
                received = self._receive(group, workers.index(giver))
                self._recorder.event(
                    events.STATE_RECEIVED,
                    rank=self._job.rank,
                    worker=self._job.worker,
                    from_rank=form.seats[workers.index(giver)].rank,
                    membership=form.membership,
                    step=self._training.step,
                    bytes=received.bytes,
                    seconds=received.seconds,
                    fingerprint=received.fingerprint,
                )

    def _introduce(self, form: Form, place: int) -> None:
        """Record who joined with what, and once a node what the node is."""
        system, facts = capture_system(os.environ), torch_facts()
        determinism = determinism_class(
            system,
            facts,
            device=self._job.device,
            threads=self._config.cluster.threads,
            precision=self._config.train.precision,
            compile=self._config.train.compile,
        )
        if self._saver.is_saver:
            environment = {"system": system, "torch": facts, "packages": capture_packages(), "determinism": determinism}
            self._recorder.event(events.NODE_ENVIRONMENT, node=self._node, environment=environment)
        owned = ranges(self._config.train.micro_batches, len(form.seats))[place]
        self._recorder.event(
            events.WORKER_JOINED,
            rank=self._job.rank,
            worker=self._job.worker,
            node=self._node,
            host=platform.node(),
            pid=os.getpid(),
            membership=form.membership,
            micro_batches=[owned.start, owned.stop],
            device=self._job.device,
            determinism=determinism["id"],
            config_digest=digest_json(mask_values(self._job.config)),
            source_digest=self._job.source_digest,
        )

    def _finish(self, outcome: str) -> None:
        self._saver.close(remove_snapshots=True)
        self._recorder.event(
            events.WORKER_FINISHED,
            rank=self._job.rank,
            worker=self._job.worker,
            outcome=outcome,
            step=self._training.step,
            fingerprint=self._training.fingerprint(),
            cpu_seconds=time.process_time(),
            recording_cpu_seconds=self._recorder.cpu_seconds,
        )
        self._member.ended(outcome)


def _set_up_torch(config: Config, kind: str) -> torch.device:
    """Everything the bits depend on that is a setting of the process."""
    torch.set_num_threads(config.cluster.threads)
    if config.train.compile:
        torch.use_deterministic_algorithms(True)
    else:
        # The same flag, without the second that the call above takes to tell a compiler which is not used.
        torch.set_deterministic_debug_mode("error")
    torch.backends.cudnn.benchmark = False
    if kind == "cuda":
        os.environ.update(DETERMINISTIC_CUDA)
        torch.cuda.set_device(0)
    return torch.device(kind)
