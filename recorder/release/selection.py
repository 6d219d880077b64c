"""Which files of a release somebody wants."""

from __future__ import annotations

from collections.abc import Collection, Iterable
from dataclasses import dataclass

from recorder.bundle import layout
from recorder.errors import UsageError
from recorder.release.manifest import CHECKPOINTS, RUNS

# Of a bundle, the record of the data; beside the bundles, the data where they are released.
DATA = "data"
# Without these a bundle cannot be read at all; they are small.
_ALWAYS = (layout.MANIFEST, layout.RUN, "config", layout.LEDGER, layout.ADDENDA)
# The parts of a bundle that can be asked for by name, and the model that lies beside the bundles.
PARTS = (
    layout.LEDGER,
    layout.METRICS,
    layout.SYSTEM_METRICS,
    layout.LOGS,
    layout.CHECKPOINTS,
    "config",
    "environment",
    "source",
    DATA,
)
MODEL = "model"


@dataclass(frozen=True)
class Selection:
    """What is wanted: everything, or one checkpoint's step, no checkpoints at all, or some parts."""

    checkpoint: int | None = None
    checkpoints: bool = True
    only: tuple[str, ...] = ()

    def of(self, paths: Collection[str]) -> set[str]:
        """Those of `paths` that are wanted. Raises UsageError when they have no such checkpoint or part."""
        if unknown := sorted(set(self.only) - {*PARTS, MODEL}):
            raise UsageError(f"there is no part {unknown[0]!r} of a release; there are {', '.join((*PARTS, MODEL))}")
        if self.checkpoint is not None and self.checkpoint not in (steps := checkpoint_steps(paths)):
            known = ", ".join(map(str, steps)) or "none"
            raise UsageError(f"the release has no checkpoint of step {self.checkpoint}; it has: {known}")
        return {path for path in paths if self._wants(path)}

    def _wants(self, path: str) -> bool:
        parts = path.split("/")
        if parts[0] == RUNS and len(parts) > 2:
            inside = parts[2:]
            if inside[0] in _ALWAYS:
                return True
            if inside[0] == layout.CHECKPOINTS:
                return self._wants_checkpoint(inside[1], layout.CHECKPOINTS)
            return not self.only or inside[0] in self.only
        if parts[0] == CHECKPOINTS and len(parts) > 2:
            return self._wants_checkpoint(parts[1], MODEL)
        if parts[0] == DATA and len(parts) > 1:
            return not self.only or DATA in self.only
        if is_model_file(path):
            return self.checkpoints and self.checkpoint is None and (not self.only or MODEL in self.only)
        return not self.only

    def _wants_checkpoint(self, name: str, part: str) -> bool:
        if not self.checkpoints or (self.only and part not in self.only):
            return False
        return self.checkpoint is None or layout.checkpoint_step(name) == self.checkpoint


def checkpoint_steps(paths: Iterable[str]) -> list[int]:
    """The steps of the checkpoints in `paths`, exported ones and those of the bundles."""
    names = {part for path in paths for part in path.split("/")[:-1]}
    return sorted({step for name in names if (step := layout.checkpoint_step(name)) is not None})


def is_model_file(path: str) -> bool:
    """Whether this is the exported final model's weights: the large file beside the bundles."""
    return "/" not in path and path.endswith(".safetensors")
