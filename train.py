"""Train a model on Ray and leave a sealed record of it. `python train.py --help` shows the configuration."""

from __future__ import annotations

import os
import sys
from pathlib import Path

import hydra
from hydra.core.hydra_config import HydraConfig
from omegaconf import DictConfig

from recorder.errors import RecorderError
from train.ancestors import stop_with_dvc
from train.compose import explain, plain, plain_hydra, validate
from train.launch.session import Request, train
from train.model import check_model
from train.origin import resolve_origin
from train.stage import asked_values, take_part
from train.sweep import sweep_id

_exit_codes: list[int] = []


@hydra.main(version_base="1.3", config_path="conf", config_name="config")
def run(cfg: DictConfig) -> None:
    """Train one run of the composed configuration; a sweep calls this once a run."""
    try:
        overrides = list(HydraConfig.get().overrides.task)
        origin = resolve_origin(*asked_values(plain(cfg), overrides))
        config = validate(origin.values)
        check_model(config.model)
        part = take_part(origin, config, _say)
        hydra_record = {"overrides": overrides, "config": plain_hydra()}
        request = Request(config, part, sys.argv, hydra_record, Path(__file__).parent, sweep_id())
        with os.fdopen(os.dup(2), "w") as terminal:
            _exit_codes.append(train(request, terminal))
    except RecorderError as error:
        _exit_codes.append(_report(error))
    if _exit_codes[-1] > 128:
        # A signal ends a sweep too. Ray's threads may be inside a call that it cut short, and would abort a usual exit.
        sys.stdout.flush()
        sys.stderr.flush()
        os._exit(_exit_codes[-1])


def main() -> int:
    """Run Hydra's command line; every mistake of the user's is one line and exit code 2."""
    os.environ.setdefault("HYDRA_FULL_ERROR", "1")
    stop_with_dvc(_say)
    try:
        run()
    except BrokenPipeError:
        # Whoever read the output has enough of it; nothing more is to be flushed into it.
        os.dup2(os.open(os.devnull, os.O_WRONLY), sys.stdout.fileno())
    except Exception as error:
        explained = explain(error)
        if explained is None:
            raise
        return _report(explained)
    return max(_exit_codes, default=0)


def _say(text: str) -> None:
    print(text, file=sys.stderr, flush=True)


def _report(error: RecorderError) -> int:
    print(f"train.py: {error}", file=sys.stderr)
    return error.exit_code


if __name__ == "__main__":
    sys.exit(main())
