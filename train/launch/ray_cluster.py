"""Ray and Ray Train, touched here, in `ray_callbacks` and in `bootstrap` only;
`tests/train/launch/test_ray_contract.py` pins what we use.

`TorchTrainer` starts the workers and tells when one is lost. Nothing of the record and no checkpoint goes through
`ray.train.report`, which needs every worker to be there.
"""

from __future__ import annotations

import os
from concurrent.futures import Future, ThreadPoolExecutor, wait
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from recorder.errors import MachineError
from train.config import ClusterConfig
from train.launch.job import Job

# Read by Ray at import in this process, and handed on to its own. What they turn off we do not use: each is a process
# to start or a stream to redirect.
_ENVIRONMENT = {
    "RAY_TRAIN_V2_ENABLED": "1",
    "RAY_TRAIN_ENABLE_PREEMPTION_WATCHER": "0",
    "RAY_TRAIN_METRICS_ENABLED": "0",
    "RAY_TRAIN_ENABLE_PRINT_PATCH": "0",
    "RAY_TRAIN_ENABLE_WORKER_STRUCTURED_LOGGING": "0",
    "RAY_TRAIN_ENABLE_CONTROLLER_STRUCTURED_LOGGING": "0",
    "RAY_TRAIN_HEALTH_CHECK_INTERVAL_S": "0.5",
    "RAY_CHDIR_TO_TRIAL_DIR": "0",
    "RAY_USAGE_STATS_ENABLED": "0",
    "RAY_ACCEL_ENV_VAR_OVERRIDE_ON_ZERO": "0",
}
_OBJECT_STORE_BYTES = 256 << 20


@dataclass(frozen=True)
class Loss:
    """A worker that Ray reports as failed; `died` tells a lost process from one that raised an exception."""

    rank: int | None
    died: bool
    evidence: str


class RayCluster:
    """A Ray cluster for one run: one of our own on this machine, or a connection to one that is up.

    `start` returns at once and Ray comes up beside the caller. Everything is done in one thread that lives as long as
    the cluster: Ray's processes ask the kernel to end them with the thread that started them.
    """

    def __init__(self, config: ClusterConfig, folder: Path, gpus: int) -> None:
        self.config = config
        self.folder = folder
        self.gpus = gpus
        self._thread = ThreadPoolExecutor(1, "ray")
        self._ready: Future[None] = self._thread.submit(self._start)

    @staticmethod
    def load() -> None:
        """Import what `launch` needs: seconds that can be spent while Ray comes up."""
        import ray.train.torch  # noqa: F401

    def wait_until_ready(self) -> None:
        """Wait for Ray. Raises MachineError when it could not be started or is too small."""
        self._ready.result()

    def nodes(self) -> dict[str, dict[str, Any]]:
        """The nodes Ray knows: id to address, whether it is alive, and the reason of its death as Ray tells it."""
        import ray

        return {
            node["NodeID"]: {
                "alive": node["Alive"],
                "address": node["NodeManagerAddress"],
                "death_reason": node.get("DeathReason"),
                "death_message": node.get("DeathReasonMessage"),
            }
            for node in ray.nodes()
        }

    def launch(self, job: Job, archive: bytes, code: Path) -> WorkerGroup:
        """Start the workers of `job`; they unpack `archive` below `code`."""
        return WorkerGroup(self._thread.submit(self._fit, job, archive, code))

    def shutdown(self) -> None:
        """Stop what this object started, workers that still train included."""
        import ray

        wait([self._ready])
        ray.shutdown()
        self._thread.shutdown()

    def _start(self) -> None:
        os.environ.update({name: os.environ.get(name, value) for name, value in _ENVIRONMENT.items()})
        import ray

        common: dict[str, Any] = {"log_to_driver": False, "configure_logging": False, "namespace": self.folder.name}
        try:
            if self.config.address == "local":
                ray.init(
                    address="local",
                    num_cpus=self.config.workers * self.config.cpus_per_worker,
                    num_gpus=self.gpus,
                    include_dashboard=False,
                    object_store_memory=_OBJECT_STORE_BYTES,
                    **common,
                )
            else:
                ray.init(address=self.config.address, **common)
        except (OSError, RuntimeError, ValueError) as error:
            reason = str(error).strip().splitlines()[0]
            raise MachineError(f"Ray cannot be reached with cluster.address={self.config.address}: {reason}") from error
        self._check_size()

    def _check_size(self) -> None:
        """Ray would wait for ever for workers that do not fit. Raises MachineError."""
        import ray

        needed, present = self.config.workers * self.config.cpus_per_worker, ray.cluster_resources().get("CPU", 0)
        if present < needed:
            ray.shutdown()
            raise MachineError(
                f"cluster.workers={self.config.workers} need {needed} CPUs, the cluster has {present:.0f}: lower "
                "cluster.workers or cluster.cpus_per_worker"
            )

    def _fit(self, job: Job, archive: bytes, code: Path) -> None:
        cluster_trainer(self, job, archive, code).fit()


class WorkerGroup:
    """A launched group of workers, waited for from the driver's main thread, which also takes signals."""

    def __init__(self, fit: Future[None]) -> None:
        self._fit = fit

    def wait(self, seconds: float) -> bool:
        """Wait at most `seconds`; whether the group has ended."""
        return bool(wait([self._fit], seconds).done)

    def losses(self) -> list[Loss]:
        """The workers that failed, as Ray tells it; empty when all returned. Call it when the group has ended.

        When Ray Train itself failed, its workers are gone with it: one loss that names no rank.
        """
        from ray.exceptions import RayActorError
        from ray.train.v2.api.exceptions import WorkerGroupError

        error = self._fit.exception()
        if error is None:
            return []
        if not isinstance(error, WorkerGroupError):
            return [Loss(None, True, _summary(error))]
        failures = error.worker_failures.items()
        return [Loss(rank, _has_cause(failure, RayActorError), _summary(failure)) for rank, failure in sorted(failures)]


def cluster_trainer(cluster: RayCluster, job: Job, archive: bytes, code: Path) -> Any:
    """The TorchTrainer of one launch: no retries of its own, since the driver decides where to go on from."""
    import ray
    from ray import cloudpickle
    from ray.train import FailureConfig, RunConfig, ScalingConfig
    from ray.train.torch import TorchConfig, TorchTrainer

    from train.launch import bootstrap, ray_callbacks

    class Trainer(TorchTrainer):
        def _create_default_callbacks(self) -> list[Any]:
            callbacks = super()._create_default_callbacks()  # type: ignore[misc]
            return ray_callbacks.without_unused(callbacks, own_cluster=config.address == "local")

    for module in (bootstrap, ray_callbacks):
        cloudpickle.register_pickle_by_value(module)
    config, gpus = cluster.config, cluster.gpus
    resources = {"CPU": config.cpus_per_worker} | ({"GPU": 1} if gpus else {})
    return Trainer(
        bootstrap.start_worker,
        train_loop_config={
            "archive": ray.put(archive),
            "code": str(code),
            "digest": job.source_digest,
            "job": job.message(),
        },
        torch_config=TorchConfig(backend="nccl" if gpus else "gloo"),
        scaling_config=ScalingConfig(
            num_workers=config.workers, use_gpu=bool(gpus), resources_per_worker=resources, placement_strategy="PACK"
        ),
        run_config=RunConfig(
            name=f"attempt-{job.attempt:04d}-{job.membership}",
            storage_path=str(cluster.folder),
            failure_config=FailureConfig(max_failures=0),
        ),
    )


def _has_cause(error: BaseException | None, kind: type[BaseException]) -> bool:
    while error is not None:
        if isinstance(error, kind) or isinstance(getattr(error, "health_check_failure", None), kind):
            return True
        error = error.__cause__ or getattr(error, "_base_exc", None)
    return False


def _summary(error: BaseException, limit: int = 2000) -> str:
    return f"{type(error).__name__}: {error}"[:limit]
