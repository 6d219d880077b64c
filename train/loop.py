"""The training loop."""

from __future__ import annotations

import math
import time
from typing import Any

from recorder.checkpoint.writer import CheckpointWriter
from recorder.ledger import events
from recorder.worker import WorkerRecorder
from train.data import PreparedData
from train.sample import sample_text
from train.training import Training


def train_loop(training: Training, recorder: WorkerRecorder, checkpoints: CheckpointWriter, data: PreparedData) -> str:
    """Train to the last step, or until a stop is requested: `finished` or `interrupted`.

    Every worker runs this with the same state. Rank 0 alone writes checkpoints and speaks for all in events; every
    worker records every step. Raises NonFiniteError when the policy says so, and what the exchange raises.
    """
    config = training.config
    steps, every = config.train.steps, config.checkpoint.every
    stopped = training.step >= steps
    while not stopped:
        began = time.perf_counter()
        result = training.take_step(recorder.mailbox.stop_requested())
        stopped = result.stop_requested or training.step == steps
        with recorder.accounted():
            needed = stopped or _due(training.step, config.recorder.fingerprint_every)
            fingerprint = training.fingerprint() if needed else None
            record_step(training, recorder, result, fingerprint, time.perf_counter() - began)
        result.raise_if_stopped()

        if training.step == steps or _due(training.step, config.train.eval_every):
            record_evaluation(training, recorder, data)
        if recorder.rank == 0 and (stopped or _due(training.step, every)):
            with recorder.accounted():
                checkpoints.save(training.step, training.files(), training.state())
    checkpoints.wait()
    return "finished" if training.step >= steps else "interrupted"


def record_step(
    training: Training, recorder: WorkerRecorder, result: Any, fingerprint: str | None, seconds: float
) -> None:
    """Record what a step did, in one write, and say so if its numbers are not finite."""
    recorder.step(
        training.step,
        loss=result.loss,
        learning_rate=result.learning_rate,
        grad_norm=result.grad_norm,
        tokens=training.tokens,
        order_digest=training.order.digest(training.step - 1),
        gradient_digest=result.gradient_digest,
        fingerprint=fingerprint,
        skipped=None if result.outcome == "updated" else 1,
        compute_seconds=result.seconds.compute,
        exchange_seconds=result.seconds.exchange,
        update_seconds=result.seconds.update,
        step_seconds=seconds,
    )
    if recorder.rank == 0 and not (math.isfinite(result.loss) and math.isfinite(result.grad_norm)):
        policy = training.config.train.non_finite
        recorder.event(
            events.STEP_NON_FINITE, step=training.step, loss=result.loss, grad_norm=result.grad_norm, policy=policy
        )


def record_evaluation(training: Training, recorder: WorkerRecorder, data: PreparedData) -> None:
    """Evaluate together; rank 0 records the loss and a sample."""
    began = time.perf_counter()
    loss = training.evaluate()
    if recorder.rank != 0:
        return
    seconds = time.perf_counter() - began
    recorder.event(events.EVALUATED, step=training.step, split="validation", loss=loss, seconds=seconds)
    config = training.config
    if config.train.sample_tokens:
        prompt = data.prompt()
        text = sample_text(
            training.model,
            data.tokenizer,
            prompt,
            tokens=config.train.sample_tokens,
            context=config.data.sequence_length,
            seed=config.seed,
            step=training.step,
        )
        recorder.event(events.SAMPLE, step=training.step, prompt=prompt, text=text)


def _due(step: int, every: int) -> bool:
    return every > 0 and step % every == 0
