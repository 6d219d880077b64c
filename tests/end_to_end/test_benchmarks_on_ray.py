"""The benchmarks that start Ray run. They are here to be spread over the processes of a run of all tests early on."""

from __future__ import annotations

from pathlib import Path

import pytest
from helpers.benchmarks import ON_RAY, run_benchmark


@pytest.mark.timeout(900)
@pytest.mark.parametrize("name", sorted(ON_RAY))
def test_a_benchmark_on_ray_runs(name: str, tmp_path: Path) -> None:
    run_benchmark(name, tmp_path)
