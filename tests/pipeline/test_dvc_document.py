"""Every command of docs/dvc.md runs, as it is written and in order, in a repository whose pipeline has run once."""

from __future__ import annotations

import re

from helpers.commands import REPOSITORY
from helpers.pipelines import Checkout


def test_every_command_of_the_document_runs(trained: Checkout) -> None:
    blocks = re.findall(r"```sh\n(.*?)```", (REPOSITORY / "docs" / "dvc.md").read_text(), re.DOTALL)
    done = trained.run("bash", "-ec", "set -x\n" + "".join(blocks))
    assert done.code == 0, done.out[-3000:]
    assert len(blocks) == 3
    assert done.out.count("consistent, unanchored") == 5
    assert "NOT CONSISTENT" not in done.out
    assert len(trained.bundles()) == 2
