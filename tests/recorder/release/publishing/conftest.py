from __future__ import annotations

import os
import shutil
from collections.abc import Iterator
from pathlib import Path

import pytest
from helpers import bundles
from helpers.dvc_repositories import isolate_dvc, new_repository
from helpers.hub_server import TOKEN, Hub, hub_server
from helpers.object_servers import BUCKET, add_s3_remote, s3_server
from helpers.publishing import Keys, Open, Recorder, Said, make_key, publish

from recorder.cli.main import main
from recorder.release.destinations.folder import Folder
from recorder.release.destinations.s3 import S3Prefix
from recorder.release.places import open_destination


@pytest.fixture(autouse=True)
def _isolated(tmp_path: Path) -> Iterator[None]:
    before = dict(os.environ)
    isolate_dvc(tmp_path / "dvc-settings")
    os.environ |= {"AWS_ACCESS_KEY_ID": "anyone", "AWS_SECRET_ACCESS_KEY": "anything", "AWS_MAX_ATTEMPTS": "1"}
    os.environ |= {"AWS_DEFAULT_REGION": "us-east-1", "AWS_EC2_METADATA_DISABLED": "true"}
    os.environ |= {"HF_HOME": str(tmp_path / "hf")}
    yield
    os.environ.clear()
    os.environ.update(before)


@pytest.fixture(scope="session")
def keys(tmp_path_factory: pytest.TempPathFactory) -> Keys:
    folder = tmp_path_factory.mktemp("keys")
    return Keys(make_key(folder / "own.pem"), folder / "own.pub", make_key(folder / "other.pem").with_suffix(".pub"))


@pytest.fixture(scope="session")
def made(tmp_path_factory: pytest.TempPathFactory, keys: Keys) -> Path:
    """A folder with `runs/` of a finished and a killed run, and `released/`, the signed release of the first."""
    folder = tmp_path_factory.mktemp("made")
    bundles.finished(folder / "runs")
    bundles.killed(folder / "runs", "killed-1")
    publish(folder, folder / "released", key=keys.private)
    return folder


@pytest.fixture
def lab(made: Path, tmp_path: Path) -> Path:
    """A copy of `made` to change."""
    return Path(shutil.copytree(made, tmp_path / "lab"))


@pytest.fixture
def recorder(lab: Path, capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch) -> Recorder:
    """Run `recorder` in this process, in the folder of the lab."""
    monkeypatch.chdir(lab)

    def run(*arguments: str) -> Said:
        code = main([*map(str, arguments)])
        captured = capsys.readouterr()
        return Said(code, captured.out, captured.err)

    return run


@pytest.fixture(scope="session")
def s3_port(tmp_path_factory: pytest.TempPathFactory) -> Iterator[int]:
    before = dict(os.environ)
    with s3_server(tmp_path_factory.mktemp("s3") / "log") as port:
        yield port
    os.environ.clear()
    os.environ.update(before)


@pytest.fixture
def bucket(s3_port: int, monkeypatch: pytest.MonkeyPatch) -> str:
    """A prefix of its own in the bucket."""
    monkeypatch.setenv("AWS_ENDPOINT_URL", f"http://127.0.0.1:{s3_port}")
    return f"s3://{BUCKET}/{os.urandom(6).hex()}"


@pytest.fixture
def hub(monkeypatch: pytest.MonkeyPatch) -> Iterator[Hub]:
    monkeypatch.setenv("HF_TOKEN", TOKEN)
    with hub_server() as (address, held):
        monkeypatch.setenv("HF_ENDPOINT", address)
        yield held


@pytest.fixture(params=["folder", "s3", "hf", "dvc"])
def opened(request: pytest.FixtureRequest, tmp_path: Path, lab: Path) -> Open:
    """A place, opened anew each time."""
    if request.param == "folder":
        return lambda: Folder(tmp_path / "place")
    if request.param == "s3":
        prefix = request.getfixturevalue("bucket")
        return lambda: S3Prefix(prefix)
    if request.param == "hf":
        request.getfixturevalue("hub")
        return lambda: open_destination("hf://lab/demo", lab / "runs")
    new_repository(lab)
    add_s3_remote(lab, request.getfixturevalue("s3_port"), "store")
    return lambda: open_destination("dvc://store/demo", lab / "runs")
