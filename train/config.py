"""The configuration schema: frozen objects, validated at the door; nothing past it sees a DictConfig."""

from __future__ import annotations

from typing import Annotated, Any, Literal

from pydantic import BaseModel, ConfigDict, Field, model_validator

Positive = Annotated[int, Field(gt=0)]
Fraction = Annotated[float, Field(ge=0, le=1)]


class Section(BaseModel):
    """A group of keys: unknown keys are errors, values are checked strictly, nothing changes afterwards."""

    model_config = ConfigDict(extra="forbid", frozen=True, strict=True, allow_inf_nan=False, populate_by_name=True)


class RunConfig(Section):
    """Names of the run. `name` and `id` become folder names, so they are limited to safe characters.

    `params` is a file that takes the place of the composed config, `pointer` one that is to name the finished run.
    """

    name: Annotated[str, Field(pattern=r"^[A-Za-z0-9][A-Za-z0-9_.-]{0,63}$")]
    id: Annotated[str, Field(pattern=r"^[A-Za-z0-9][A-Za-z0-9_.-]{0,95}$")] | None
    resume: str | None
    fork: str | None
    dir: Annotated[str, Field(min_length=1)]
    params: str | None = None
    pointer: str | None = None


class ClusterConfig(Section):
    """Where the workers run, and what is done when they do not.

    Training goes on with `min_workers` and waits below it. A worker that keeps the others waiting for `hang_seconds` is
    killed; one that gets on with sending or saving the state has ten times as long. A rank that is lost `restarts`
    times in a row before it takes part in a step is not started again.
    """

    address: Annotated[str, Field(min_length=1)]
    workers: Positive
    min_workers: Positive
    cpus_per_worker: Positive
    threads: Positive
    use_gpu: Literal["auto", True, False]
    restarts: Annotated[int, Field(ge=0)]
    hang_seconds: Annotated[float, Field(ge=1)]


class TrainConfig(Section):
    """The step. `reduction=tree` promises the same bits for any number of workers; `native` is plain DDP."""

    steps: Positive
    micro_batches: Positive
    micro_batch_size: Positive
    precision: Literal["fp32", "bf16"]
    compile: bool
    reduction: Literal["tree", "native"]
    non_finite: Literal["stop", "skip", "continue"]
    eval_every: Annotated[int, Field(ge=0)]
    eval_micro_batches: Positive
    sample_tokens: Annotated[int, Field(ge=0)]


class DataConfig(Section):
    """What is read. `source=stories` generates its text; `source=text` reads `files`."""

    source: Literal["stories", "text"]
    tokenizer: Literal["bytes", "chars"]
    sequence_length: Positive
    validation_fraction: Annotated[float, Field(gt=0, lt=1)]
    licence: str | None
    cache: Annotated[str, Field(min_length=1)]
    megabytes: Annotated[float, Field(gt=0)] | None = None
    seed: int | None = None
    files: list[str] | None = None
    text_field: str | None = None

    @model_validator(mode="after")
    def _source_has_its_keys(self) -> DataConfig:
        wanted, foreign = {
            "stories": (("megabytes", "seed"), ("files", "text_field")),
            "text": (("files", "text_field"), ("megabytes", "seed")),
        }[self.source]
        for key in wanted:
            if getattr(self, key) is None:
                raise ValueError(f"data={self.source} needs data.{key}")
        for key in foreign:
            if getattr(self, key) is not None:
                raise ValueError(f"data.{key} has no meaning with data={self.source}")
        if self.files is not None and not self.files:
            raise ValueError("data.files is empty: name at least one .txt or .jsonl file or glob")
        return self


class ModelConfig(BaseModel):
    """A model: `_target_` is a dotted path to a class or function, the other keys are its arguments.

    The arguments of this project's own Llama are checked by `train.model`; those of a user's module by Python.
    """

    model_config = ConfigDict(extra="allow", frozen=True, strict=True, populate_by_name=True)

    target: Annotated[str, Field(alias="_target_", pattern=r"^[A-Za-z_][\w]*(\.[A-Za-z_]\w*)+$")]

    @property
    def arguments(self) -> dict[str, Any]:
        """The keyword arguments of the target."""
        return dict(self.model_extra or {})


class OptimConfig(Section):
    """AdamW and its schedule; learning rates are per step, `clip_norm` 0 means no clipping."""

    lr: Annotated[float, Field(gt=0)]
    betas: Annotated[list[Fraction], Field(min_length=2, max_length=2)]
    eps: Annotated[float, Field(gt=0)]
    weight_decay: Annotated[float, Field(ge=0)]
    clip_norm: Annotated[float, Field(ge=0)]
    schedule: Literal["cosine", "wsd", "constant"]
    warmup_steps: Annotated[int, Field(ge=0)]
    decay_fraction: Fraction
    min_lr_ratio: Fraction


class CheckpointConfig(Section):
    """`every` steps a checkpoint is written; the newest `keep` stay (0: all of them).

    Every `memory_every` steps each node keeps a snapshot of the state in its memory (0: never).
    """

    every: Positive
    keep: Annotated[int, Field(ge=0)]
    memory_every: Annotated[int, Field(ge=0)]


class RecorderConfig(Section):
    """What the record holds beyond what it always holds, where it waits until it is collected, and where it is kept.

    `dvc=auto` tracks the bundle where the working tree is a DVC repository; `push` names a DVC remote. Nothing is
    committed to git unless `git_commit` is set.
    """

    fingerprint_every: Annotated[int, Field(ge=0)]
    system_every: Annotated[float, Field(ge=0)]
    source_limit_mb: Annotated[float, Field(gt=0)]
    spool: str | None
    dvc: Literal["auto", True, False] = "auto"
    push: str | None = None
    git_commit: bool = False


class Config(Section):
    """A whole run's configuration, as recorded in `config/resolved.yaml`."""

    seed: Annotated[int, Field(ge=0, lt=2**63)]
    run: RunConfig
    cluster: ClusterConfig
    train: TrainConfig
    model: ModelConfig
    data: DataConfig
    optim: OptimConfig
    checkpoint: CheckpointConfig
    recorder: RecorderConfig

    @model_validator(mode="after")
    def _possible(self) -> Config:
        if self.cluster.min_workers > self.cluster.workers:
            raise ValueError(
                f"cluster.min_workers={self.cluster.min_workers} is more than cluster.workers={self.cluster.workers}: "
                "lower it, or raise cluster.workers"
            )
        if self.train.micro_batches < self.cluster.workers:
            raise ValueError(
                f"train.micro_batches={self.train.micro_batches} is less than cluster.workers={self.cluster.workers}: "
                "every worker needs at least one; raise train.micro_batches or lower cluster.workers"
            )
        if self.train.reduction == "native" and self.train.micro_batches % self.cluster.workers:
            raise ValueError(
                f"train.reduction=native needs train.micro_batches={self.train.micro_batches} to be a multiple of "
                f"cluster.workers={self.cluster.workers}"
            )
        return self
