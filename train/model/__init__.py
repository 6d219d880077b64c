"""Models: this project's Llama, any model a user names, and the check of their arguments.

Importing this package does not import torch, so that the driver can check a configuration before anything slow;
`train.model.Llama` and `train.model.build_model` load it when they are first used.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

from train.model.arguments import LlamaArguments, check_model

if TYPE_CHECKING:
    from train.model.build import build_model
    from train.model.llama import Llama

__all__ = ["Llama", "LlamaArguments", "build_model", "check_model"]


def __getattr__(name: str) -> Any:
    if name == "Llama":
        from train.model.llama import Llama

        return Llama
    if name == "build_model":
        from train.model.build import build_model

        return build_model
    raise AttributeError(f"module {__name__!r} has no attribute {name!r}")
