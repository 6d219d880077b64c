"""Train a model on Ray and leave a sealed record of it. `python train.py --help` shows the configuration."""

from __future__ import annotations

import os
import sys
from pathlib import Path

import hydra
from hydra.core.hydra_config import HydraConfig
from omegaconf import DictConfig, OmegaConf

from recorder.errors import RecorderError
from train.compose import explain, plain, validate
from train.launch.session import Request, train
from train.model.arguments import check_model
from train.origin import resolve_origin
from train.sweep import sweep_id

_exit_codes: list[int] = []


@hydra.main(version_base="1.3", config_path="conf", config_name="config")
def run(cfg: DictConfig) -> None:
    """Train one run of the composed configuration."""
    overrides = list(HydraConfig.get().overrides.task)
    origin = resolve_origin(plain(cfg), overrides)
    config = validate(origin.values)
    check_model(config.model)
    own = OmegaConf.to_container(HydraConfig.instance().cfg or OmegaConf.create(), resolve=False, enum_to_str=True)
    hydra_record = {"overrides": overrides, "config": own}
    request = Request(config, origin, sys.argv, hydra_record, Path(__file__).parent, sweep_id())
    terminal = os.fdopen(os.dup(2), "w")
    _exit_codes.append(train(request, terminal))


def main() -> int:
    """Run Hydra's command line; every mistake of the user's is one line and exit code 2."""
    os.environ.setdefault("HYDRA_FULL_ERROR", "1")
    try:
        run()
    except RecorderError as error:
        print(f"train.py: {error}", file=sys.stderr)
        return error.exit_code
    except Exception as error:
        explained = explain(error)
        if explained is None:
            raise
        print(f"train.py: {explained}", file=sys.stderr)
        return explained.exit_code
    return max(_exit_codes, default=0)


if __name__ == "__main__":
    sys.exit(main())
