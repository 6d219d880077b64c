"""The training loop."""

from __future__ import annotations

import math
import time
from dataclasses import replace
from typing import Any, Protocol

from recorder.ledger import events
from recorder.worker import WorkerRecorder
from train.data import PreparedData
from train.membership.messages import Position, Stage
from train.sample import sample_text
from train.saving import Saver
from train.step.quorum import Quorum
from train.step.step import StepResult
from train.training import Training


class Agreement(Quorum, Protocol):
    """The quorum of a membership, which may end with each commit; `save_wanted` is what the last one said."""

    save_wanted: bool

    def busy(self) -> None:
        """Called now and then while the others may have to wait; raises when the membership has ended."""

    def after_commit(self) -> None:
        """Called when what was agreed on is applied and recorded; raises when the membership ends with it."""


class TrainLoop:
    """Trains in rounds: each is agreed on by all members, and applied by all or by none.

    Between rounds `position` says what is done. When the quorum raises, in the middle of whatever, the state is the one
    of `position`, and `run` goes on from there with other members. All members run this with the same state; the
    leader alone writes checkpoints and speaks for all in events, and every member records every step.
    """

    def __init__(
        self, training: Training, recorder: WorkerRecorder, saver: Saver, data: PreparedData, quorum: Agreement
    ) -> None:
        self.position = Position(0)
        self._training = training
        self._config = training.config
        self._recorder = recorder
        self._saver = saver
        self._data = data
        self._quorum = quorum
        self._evaluated: tuple[int, str] | None = None  # what this member recorded last: the step, and the loss

    def run(self) -> str:
        """Train to the last step, or until a stop is requested: `finished` or `interrupted`.

        Raises NonFiniteError when the policy says so, and whatever the quorum and the exchange raise.
        """
        self._follow_up()
        while not self._is_last():
            self._take_step()
            self._follow_up()
        self._saver.wait(self._quorum.busy)
        self._save()  # the leader that began to write the last checkpoint may be gone
        self._saver.wait(self._quorum.busy)
        outcome = "finished" if self.position.step >= self._config.train.steps else "interrupted"
        self._quorum.agree("end", self.position.step, outcome)
        return outcome

    def _take_step(self) -> None:
        began = time.perf_counter()
        result = self._training.take_step(self._recorder.mailbox.stop_requested(), self._quorum)
        self.position = Position(self._training.step, Stage.STATE, result.stop_requested, self._quorum.save_wanted)
        with self._recorder.accounted():
            fingerprint = self._training.fingerprint() if self._fingerprint_is_due() else None
            self._record(result, fingerprint, time.perf_counter() - began)
        result.raise_if_stopped()
        self._quorum.after_commit()

    def _follow_up(self) -> None:
        """What is due after a step, from the stage that was reached."""
        step = self.position.step
        if self.position.stage == Stage.STATE:
            agreed = self._state_is_due()
            if agreed:
                self._quorum.agree("state", step, self._training.fingerprint())
            self._reach(Stage.EVALUATION)
            if self._is_due(self._config.checkpoint.memory_every):
                with self._recorder.accounted():
                    self._saver.snapshot(self._training)
            if agreed:
                self._quorum.after_commit()
        if self.position.stage == Stage.EVALUATION:
            evaluated = step == self._config.train.steps or self._is_due(self._config.train.eval_every)
            if evaluated:
                self._evaluate()
            self._reach(Stage.SAVE)
            if evaluated:
                self._quorum.after_commit()
        if self.position.stage == Stage.SAVE:
            self._save()
            self._reach(Stage.SETTLED)

    def _save(self) -> None:
        """A checkpoint, if one is due and the leader before this one has not written it."""
        if self._checkpoint_is_due():
            with self._recorder.accounted():
                self._saver.save(self._training, self._quorum.busy)

    def _evaluate(self) -> None:
        """Agree on the validation loss, and have the leader record it before anybody goes on.

        Where the leader is lost before it has, the others evaluate again: no evaluation is missing from the record,
        and one is there twice only where its leader was lost just after recording it.
        """
        step, began = self.position.step, time.perf_counter()
        loss = self._training.evaluate(self._quorum)
        seconds, digest = time.perf_counter() - began, loss.hex()
        self._quorum.agree("evaluation", step, digest)
        if self._saver.is_leader and self._evaluated != (step, digest):
            self._evaluated = step, digest
            self._record_evaluation(loss, seconds)
        self._quorum.agree("recorded", step, "")

    def _record_evaluation(self, loss: float, seconds: float) -> None:
        """Record the validation loss, and a sample if one is wanted."""
        step = self.position.step
        self._recorder.event(events.EVALUATED, step=step, split="validation", loss=loss, seconds=seconds)
        if self._config.train.sample_tokens:
            prompt = self._data.prompt()
            text = sample_text(
                self._training.model,
                self._data.tokenizer,
                prompt,
                tokens=self._config.train.sample_tokens,
                context=self._config.data.sequence_length,
                seed=self._config.seed,
                step=step,
            )
            self._recorder.event(events.SAMPLE, step=step, prompt=prompt, text=text)

    def _record(self, result: StepResult, fingerprint: str | None, seconds: float) -> None:
        """Record what a step did, in one write, and say so if its numbers are not finite."""
        step = self._training.step
        values: dict[str, Any] = {
            "loss": result.loss,
            "learning_rate": result.learning_rate,
            "grad_norm": result.grad_norm,
            "tokens": self._training.tokens,
            "order_digest": self._training.order.digest(step - 1),
            "gradient_digest": result.gradient_digest,
            "fingerprint": fingerprint,
            "skipped": None if result.outcome == "updated" else 1,
            "compute_seconds": result.seconds.compute,
            "exchange_seconds": result.seconds.exchange,
            "update_seconds": result.seconds.update,
            "step_seconds": seconds,
        }
        self._recorder.step(step, **values)
        if self._saver.is_leader and not (math.isfinite(result.loss) and math.isfinite(result.grad_norm)):
            policy, loss, norm = self._config.train.non_finite, result.loss, result.grad_norm
            self._recorder.event(events.STEP_NON_FINITE, step=step, loss=loss, grad_norm=norm, policy=policy)

    def _is_last(self) -> bool:
        return self.position.stopping or self.position.step >= self._config.train.steps

    def _fingerprint_is_due(self) -> bool:
        return self._is_due(self._config.recorder.fingerprint_every) or self._state_is_due()

    def _state_is_due(self) -> bool:
        """States are compared before anything is saved: what is saved is what most members had."""
        return self._checkpoint_is_due() or self._is_due(self._config.checkpoint.memory_every)

    def _checkpoint_is_due(self) -> bool:
        return self._is_last() or self.position.saving or self._is_due(self._config.checkpoint.every)

    def _is_due(self, every: int) -> bool:
        return every > 0 and self.position.step % every == 0

    def _reach(self, stage: Stage) -> None:
        self.position = replace(self.position, stage=stage)
