"""What a worker trains with: model, optimizer, data and step, built from the config and put into a recorded state."""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path
from typing import Any

import torch
from torch import Tensor, nn

from recorder.bundle import layout
from recorder.canonical import readable_json
from recorder.checkpoint.fingerprint import fingerprint
from recorder.errors import BundleError, UsageError
from train.config import Config
from train.data import DataOrder, PreparedData
from train.model import build_model
from train.optim import AdamW
from train.step.evaluate import evaluate
from train.step.exchange import Exchange, SingleExchange
from train.step.forward import Forward
from train.step.quorum import Quorum
from train.step.randomness import randomness_key
from train.step.step import StepResult, TrainStep


class Training:
    """A run's state after `step` steps, the same on every worker, and the two things done with it.

    The whole resume state is: model tensors, optimizer tensors and scalars, and the step; the place in the data and
    all randomness are functions of the step and the config.
    """

    def __init__(self, config: Config, data: PreparedData, device: torch.device) -> None:
        self.config = config
        self.device = device
        self.step = 0
        self._length = config.data.sequence_length
        self._data = data
        vocabulary = data.vocabulary_size
        self.model = build_model(
            config.model, vocabulary_size=vocabulary, sequence_length=self._length, seed=config.seed
        ).to(device)
        self.optimizer = AdamW(self.model.named_parameters(), config.optim)
        train = config.train
        sequences = data.sequences("train", self._length)
        self.order = DataOrder(config.seed, sequences, train.micro_batches, train.micro_batch_size)
        self._validation_sequences = data.sequences("validation", self._length)
        model = torch.compile(self.model, dynamic=False) if train.compile else self.model
        assert isinstance(model, nn.Module)
        self.forward = Forward(model, seed=config.seed, device=device, precision=train.precision)
        self._step = TrainStep(self.forward, self._train_batch, self.optimizer, SingleExchange(), train, config.optim)

    @property
    def tokens(self) -> int:
        """Tokens trained on since step 0."""
        train = self.config.train
        return self.step * train.micro_batches * train.micro_batch_size * self._length

    def warm_up(self) -> None:
        """Have the compiler do its work: a micro-batch forwards and backwards, which leaves the state as it is."""
        loss = self.forward.loss(self._train_batch, "train", 1, 0)
        torch.autograd.grad(loss, self.optimizer.parameters, allow_unused=True)

    @property
    def exchange(self) -> Exchange:
        """How this worker sums with the others; replaced when the others are not the same any more."""
        return self._step.exchange

    @exchange.setter
    def exchange(self, exchange: Exchange) -> None:
        self._step.exchange = exchange

    def take_step(self, stop_requested: bool, quorum: Quorum) -> StepResult:
        """Take the next step; see `TrainStep.run`. A step that raises leaves the state as it was."""
        result = self._step.run(self.step + 1, stop_requested=stop_requested, quorum=quorum)
        self.step += 1
        return result

    def evaluate(self, quorum: Quorum) -> float:
        """The validation loss of the state, nats per token. Raises what the quorum and the exchange raise."""
        return evaluate(
            self.forward,
            self._validation_batch,
            self.exchange,
            step=self.step,
            micro_batches=self.config.train.eval_micro_batches,
            quorum=quorum,
        )

    def fingerprint(self) -> str:
        """The fingerprint of the whole resume state."""
        key = f"{randomness_key(self.config.seed, self.step)} {readable_json(self.optimizer.scalars()).decode()}"
        tensors = {f"{file}/{name}": tensor for file, part in self.files().items() for name, tensor in part.items()}
        return fingerprint(tensors, key)

    def files(self) -> dict[str, Mapping[str, Tensor]]:
        """The tensors of the resume state, by the file of a checkpoint that holds them."""
        return {layout.CHECKPOINT_MODEL: self._model_tensors(), layout.CHECKPOINT_OPTIMIZER: self.optimizer.tensors()}

    def state(self) -> dict[str, Any]:
        """The resume state that is not tensors, and what a reader of the checkpoint wants to know."""
        return {
            "tokens": self.tokens,
            "optimizer": self.optimizer.scalars(),
            "randomness": randomness_key(self.config.seed, self.step),
            "fingerprint": self.fingerprint(),
        }

    def restore(self, folder: Path) -> str:
        """Take over a checkpoint's state and return its recorded fingerprint.

        Raises UsageError when it is of another model, BundleError when the state it gives has another fingerprint.
        """
        import json

        from safetensors.torch import load_file

        marker = json.loads((folder / layout.CHECKPOINT_STATE).read_bytes())
        files = {name: load_file(folder / name) for name in self.files()}
        shapes = {name: tensor.shape for name, tensor in files[layout.CHECKPOINT_MODEL].items()}
        if shapes != {name: tensor.shape for name, tensor in self._model_tensors().items()}:
            raise UsageError(
                f"the checkpoint of step {marker['step']} is of another model; keep its model.* and data.*"
            )
        with torch.no_grad():
            for name, tensor in self._model_tensors().items():
                tensor.copy_(files[layout.CHECKPOINT_MODEL][name])
        self.optimizer.load(files[layout.CHECKPOINT_OPTIMIZER], marker["state"]["optimizer"])
        self.step = marker["step"]
        recorded: str = marker["state"]["fingerprint"]
        return recorded

    def set_scalars(self, step: int, optimizer: Mapping[str, int]) -> None:
        """What else belongs to a state whose tensors were put into those of `files`."""
        self.optimizer.load(self.optimizer.tensors(), optimizer)
        self.step = step

    def check_fingerprint(self, recorded: str) -> None:
        """Raise BundleError when the state's fingerprint is not the recorded one."""
        if (found := self.fingerprint()) != recorded:
            raise BundleError(f"the state of step {self.step} has fingerprint {found}, recorded was {recorded}")

    def _model_tensors(self) -> dict[str, Tensor]:
        """Parameters, tied ones once, and the buffers that belong to the state."""
        parameters = dict(self.model.named_parameters())
        persistent = self.model.state_dict(keep_vars=True)
        return parameters | {name: buffer for name, buffer in self.model.named_buffers() if name in persistent}

    def _train_batch(self, step: int, micro_batch: int) -> tuple[Tensor, Tensor]:
        return self._batch("train", self.order.sequences_of(step - 1, micro_batch))

    def _validation_batch(self, step: int, micro_batch: int) -> tuple[Tensor, Tensor]:
        del step
        size = self.config.train.micro_batch_size
        indices = [(micro_batch * size + row) % self._validation_sequences for row in range(size)]
        return self._batch("validation", indices)

    def _batch(self, split: str, indices: Any) -> tuple[Tensor, Tensor]:
        inputs, targets = self._data.batch(split, indices, self._length)
        return torch.from_numpy(inputs), torch.from_numpy(targets)
