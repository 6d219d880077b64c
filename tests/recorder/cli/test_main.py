from __future__ import annotations

import os
import subprocess
import sys
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

from recorder.cli import list as list_command
from recorder.cli import main as main_module
from recorder.cli.main import main
from recorder.errors import MachineError, RecordingError

Recorder = Callable[..., Any]

COMMANDS = ["list", "show", "timeline", "verify", "diff", "doctor", "release", "get"]


@pytest.mark.parametrize(
    ("arguments", "told"),
    [
        ([], "recorder: say which command; there are list, show,"),
        (["verfy"], "recorder: there is no command 'verfy'"),
        (["verfy"], "did you mean verify?"),
        (["show"], "recorder: the following arguments are required: RUN (see recorder show --help)"),
        (["show", "a", "--colour"], "unrecognized arguments: --colour"),
        (["list", "--runs"], "expected one argument"),
        (["show", "zzz", "--runs", "/nowhere"], "recorder: the folder /nowhere does not exist"),
    ],
)
def test_wrong_use_is_one_line_and_exit_code_2(
    arguments: list[str], told: str, capsys: pytest.CaptureFixture[str]
) -> None:
    assert main(arguments) == 2
    captured = capsys.readouterr()
    assert told in captured.err
    assert captured.err.count("\n") == 1
    assert captured.out == ""


@pytest.mark.parametrize("command", COMMANDS)
def test_help_has_an_example_and_the_exit_codes(command: str, capsys: pytest.CaptureFixture[str]) -> None:
    with pytest.raises(SystemExit) as ended:
        main([command, "--help"])
    assert ended.value.code == 0
    text = capsys.readouterr().out
    assert f"recorder {command}" in text.split("example")[1]
    assert "exit codes: 0" in text


def test_the_general_help_names_every_command(capsys: pytest.CaptureFixture[str]) -> None:
    with pytest.raises(SystemExit):
        main(["--help"])
    text = capsys.readouterr().out
    assert all(f"  {command} " in text for command in COMMANDS)
    assert "latest" in text


@pytest.mark.parametrize(("error", "code"), [(RecordingError("full"), 1), (MachineError("no GPU"), 3)])
def test_errors_raised_on_purpose_are_one_line(
    error: Exception, code: int, recorder: Recorder, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(list_command, "run", lambda arguments: (_ for _ in ()).throw(error))
    said = recorder("list")
    assert (said.code, said.err) == (code, f"recorder: {error}\n")


def test_other_errors_keep_their_traceback(recorder: Recorder, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(list_command, "run", lambda arguments: 1 // 0)
    with pytest.raises(ZeroDivisionError):
        recorder("list")


def test_ctrl_c_is_quiet(recorder: Recorder, monkeypatch: pytest.MonkeyPatch) -> None:
    def interrupted(arguments: object) -> int:
        raise KeyboardInterrupt

    monkeypatch.setattr(list_command, "run", interrupted)
    assert recorder("list").code == 130


def test_a_reader_that_went_away_is_no_error(runs: Path) -> None:
    process = subprocess.Popen(
        [sys.executable, "-m", main_module.__name__, "timeline", "resumed", "--runs", str(runs)],
        stdout=subprocess.PIPE,
        stderr=subprocess.PIPE,
    )
    assert process.stdout is not None
    process.stdout.close()
    _, err = process.communicate()
    assert (process.returncode, err) == (141, b"")


def test_what_a_bundle_says_cannot_steer_the_terminal(recorder: Recorder, tmp_path: Path) -> None:
    from helpers.bundles import RunBuilder

    builder = RunBuilder(tmp_path / "runs", name="demo\x1b[2J", command="python \x1b]0;title\x07").create()
    builder.run.event("note", text="\x1b[31mred\r\x9b2J")
    builder.close()
    for command in ("show", "timeline", "list"):
        out = recorder(command, *([] if command == "list" else ["demo-1"]), root=tmp_path / "runs").out
        assert not {"\x1b", "\x07", "\r", "\x9b"} & set(out)


def test_a_digest_check_loads_nothing_slow(runs: Path) -> None:
    script = (
        "import sys; from recorder.cli.main import main; "
        f"code = main(['verify', 'finished', '--digests', '--runs', {str(runs)!r}]); "
        "slow = {'pyarrow', 'rich', 'yaml', 'fastjsonschema', 'torch', 'ray', 'hydra', 'numpy', 'psutil', 'pydantic'}; "
        "sys.exit(code or f'loaded {slow & set(sys.modules)}' if slow & set(sys.modules) else code)"
    )
    environment = {**os.environ, "PYTHONPATH": os.pathsep.join(sys.path)}
    done = subprocess.run([sys.executable, "-c", script], env=environment, capture_output=True, text=True, check=False)
    assert done.returncode == 0, done.stderr
    assert "consistent" in done.stdout
