"""A sample of text from the model, so that a person sees what it has learned."""

from __future__ import annotations

import torch
from torch import nn

from train.data import Tokenizer
from train.step.randomness import reseed

_TEMPERATURE = 0.8


@torch.no_grad()
def sample_text(
    model: nn.Module, tokenizer: Tokenizer, prompt: str, *, tokens: int, context: int, seed: int, step: int
) -> str:
    """Up to `tokens` tokens after `prompt`, at temperature 0.8; stops at the end of a document.

    A function of the weights, the prompt and (seed, step) alone. The model is in evaluation mode meanwhile.
    """
    device = next(model.parameters()).device
    reseed(seed, "sample", step)
    modes = {module: module.training for module in model.modules()}
    model.eval()
    ids = [int(token) for token in tokenizer.encode(prompt)]
    start = len(ids)
    try:
        while len(ids) < start + tokens:
            window = torch.tensor([ids[-context:]], device=device)
            logits = model(window)[0, -1].float().cpu()
            token = int(torch.multinomial(torch.softmax(logits / _TEMPERATURE, 0), 1))
            if token == tokenizer.end_of_document:
                break
            ids.append(token)
    finally:
        for module, training in modes.items():
            module.training = training
    return tokenizer.decode(ids[start:])
