"""A worker's life: set up as recorded, join, train, finish. What goes wrong is in the record before it is raised."""

from __future__ import annotations

import os
import platform
import threading
import time
import traceback
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import torch
import torch.distributed as dist
from torch import Tensor

from recorder.canonical import digest_json
from recorder.capture.determinism import determinism_class
from recorder.capture.packages import capture_packages
from recorder.capture.system import capture_system
from recorder.capture.torch_build import torch_facts
from recorder.checkpoint.writer import CheckpointWriter
from recorder.errors import RecorderError, RunFailed
from recorder.ledger import events
from recorder.ledger.processes import is_alive
from recorder.ledger.streams import StreamCapture
from recorder.worker import WorkerRecorder
from train.config import Config
from train.data import open_prepared
from train.launch.devices import DETERMINISTIC_CUDA
from train.launch.job import Job
from train.loop import train_loop
from train.step.accumulate import Root
from train.step.exchange import Exchange, SingleExchange, TreeExchange
from train.step.native import NativeExchange
from train.step.tree import ranges
from train.training import Training

_DRIVER_LOOK_SECONDS = 1.0


class PeerLost(RunFailed):
    """The exchange with the other workers broke: one of them is gone, and the step cannot be completed."""


def run_in_ray(message: dict[str, Any]) -> None:
    """The training function of a Ray Train worker."""
    import ray
    import ray.train

    context = ray.train.get_context()
    node = ray.get_runtime_context().get_node_id()
    run_worker(Job.from_message(message), context.get_world_rank(), context.get_local_rank(), node)


def run_worker(job: Job, rank: int, local_rank: int, node: str) -> None:
    """Run one worker of `job` to its end. With several workers torch's default process group must be up.

    Raises RuntimeError when the worker failed; what happened is in the record by then.
    """
    spool = Path(job.spool)
    recorder = WorkerRecorder(spool, f"rank-{rank}", job.membership, rank, job.workers)
    recorder.activate()
    streams = StreamCapture(spool, f"rank-{rank}.{job.membership}", recorder.spool)
    _watch_driver(job)
    failure: Exception | None = None
    try:
        _train(job, recorder, local_rank, node)
    except PeerLost as error:
        failure = error
        recorder.event(events.EXCHANGE_FAILED, rank=rank, message=str(error))
    except Exception as error:
        failure = error
        recorder.event(
            events.EXCEPTION,
            rank=rank,
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


def _train(job: Job, recorder: WorkerRecorder, local_rank: int, node: str) -> None:
    config = Config.model_validate(job.config)
    device = _set_up_torch(config, job.device)
    data = open_prepared(Path(job.data))
    training = Training(config, data, _exchange(config, job.workers), device)
    if job.restore is not None:
        training.check_fingerprint(training.restore(Path(job.restore)))
    with recorder.accounted():
        _join(job, config, recorder, local_rank, node)
    checkpoints = CheckpointWriter(Path(job.bundle), lambda saved: recorder.event(events.CHECKPOINT_SAVED, **saved))
    outcome = train_loop(training, recorder, checkpoints, data)
    recorder.event(
        events.WORKER_FINISHED,
        rank=recorder.rank,
        outcome=outcome,
        step=training.step,
        fingerprint=training.fingerprint(),
        cpu_seconds=time.process_time(),
        recording_cpu_seconds=recorder.cpu_seconds,
    )


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


def _exchange(config: Config, workers: int) -> Exchange:
    if workers == 1:
        return SingleExchange()
    group = dist.group.WORLD
    assert group is not None
    exchange: Exchange = NativeExchange(group) if config.train.reduction == "native" else TreeExchange(group)
    return GuardedExchange(exchange)


class GuardedExchange:
    """Tells a broken exchange from an error of the model: what the process group raises becomes PeerLost."""

    def __init__(self, exchange: Exchange) -> None:
        self._exchange = exchange
        self.rank = exchange.rank
        self.workers = exchange.workers

    def sum(self, partial: Sequence[Root], micro_batches: int) -> Tensor:
        """See `Exchange.sum`. Raises PeerLost."""
        try:
            return self._exchange.sum(partial, micro_batches)
        except (RuntimeError, ConnectionError) as error:
            raise PeerLost(f"the exchange broke: {str(error).splitlines()[0]}") from error


def _join(job: Job, config: Config, recorder: WorkerRecorder, local_rank: int, node: str) -> None:
    """Record who joined with what, and once a node what the node is."""
    system, facts = capture_system(os.environ), torch_facts()
    determinism = determinism_class(
        system,
        facts,
        device=job.device,
        threads=config.cluster.threads,
        precision=config.train.precision,
        compile=config.train.compile,
    )
    if local_rank == 0:
        environment = {"system": system, "torch": facts, "packages": capture_packages(), "determinism": determinism}
        recorder.event(events.NODE_ENVIRONMENT, node=node, environment=environment)
    owned = ranges(config.train.micro_batches, job.workers)[recorder.rank]
    recorder.event(
        events.WORKER_JOINED,
        rank=recorder.rank,
        node=node,
        host=platform.node(),
        pid=os.getpid(),
        membership=job.membership,
        micro_batches=[owned.start, owned.stop],
        device=job.device,
        determinism=determinism["id"],
        config_digest=digest_json(job.config),
        source_digest=job.source_digest,
    )


def _watch_driver(job: Job) -> None:
    """End this process soon after the driver is gone: nothing it computes would be collected."""
    if platform.node() != job.driver_host:
        return

    def watch() -> None:
        while is_alive(job.driver_pid, job.driver_started):
            time.sleep(_DRIVER_LOOK_SECONDS)
        os._exit(1)

    threading.Thread(target=watch, name="driver-watch", daemon=True).start()
