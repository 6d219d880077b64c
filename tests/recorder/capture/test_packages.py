import json
import subprocess
import sys
from pathlib import Path

import pytest
from hypothesis import given
from hypothesis import strategies as st
from packaging.requirements import Requirement
from packaging.version import Version

from recorder.canonical import canonical_json
from recorder.capture.packages import canonical_name, capture_packages, requirements_text


@pytest.fixture
def install(tmp_path, monkeypatch):
    """Lays out distributions as an installer leaves them, in a folder that is all there is to be found."""
    monkeypatch.setattr(sys, "path", [str(tmp_path)])

    def lay_out(name, version, *, folder=tmp_path, suffix="dist-info", url=None, installer="pip", description=""):
        info = folder / f"{name}-{version}.{suffix}"
        info.mkdir(parents=True)
        file = "METADATA" if suffix == "dist-info" else "PKG-INFO"
        (info / file).write_text(f"Metadata-Version: 2.1\nName: {name}\nVersion: {version}\n\n{description}")
        if installer:
            (info / "INSTALLER").write_text(f"{installer}\n")
        if url:
            (info / "direct_url.json").write_text(json.dumps(url))

    return lay_out


def only_requirement(text: str) -> str:
    return text.splitlines()[1]


def test_names_versions_and_installers(install, tmp_path, monkeypatch):
    monkeypatch.setattr(sys, "path", [str(tmp_path / "first"), str(tmp_path)])
    install("Zope.Interface", "5.0", installer="conda", folder=tmp_path / "first")
    install("alpha_beta", "1.0rc1", description="Version: 9\n\nName: other\n")
    captured = capture_packages()
    assert captured["packages"] == [
        {"name": "alpha-beta", "version": "1.0rc1", "installer": "pip", "editable": False, "origin": None},
        {"name": "zope-interface", "version": "5.0", "installer": "conda", "editable": False, "origin": None},
    ]
    assert captured["python"]["implementation"] == sys.implementation.name
    assert captured["unreadable"] == 0


def test_index_package(install):
    install("alpha", "1.0")
    assert only_requirement(requirements_text(capture_packages())) == "alpha==1.0"


def test_repository_package_is_asked_for_by_its_commit_without_the_password(install):
    commit, word = "0123456789" * 4, "pass" + "word"
    url = {
        "url": f"https://me:{word}@example.org/alpha.git",
        "vcs_info": {"vcs": "git", "commit_id": commit, "requested_revision": "main"},
        "subdirectory": "python",
    }
    install("alpha", "1.0", url=url)
    captured = capture_packages()
    assert word.encode() not in canonical_json(captured)
    line = only_requirement(requirements_text(captured))
    assert line == f"alpha @ git+https://example.org/alpha.git@{commit}#subdirectory=python"
    assert Requirement(line).url


def test_archive_package_is_asked_for_by_its_digest(install):
    digest = "ab" * 32
    url = {"url": "https://example.org/alpha-1.0-py3-none-any.whl", "archive_info": {"hashes": {"sha256": digest}}}
    install("alpha", "1.0", url=url)
    line = only_requirement(requirements_text(capture_packages()))
    assert line == f"alpha @ https://example.org/alpha-1.0-py3-none-any.whl#sha256={digest}"
    assert Requirement(line).url


def test_editable_package_is_a_comment(install):
    install("alpha", "1.0", url={"url": "file:///srv/alpha", "dir_info": {"editable": True}})
    captured = capture_packages()
    assert captured["packages"][0]["editable"] is True
    assert only_requirement(requirements_text(captured)) == "# editable: alpha 1.0"


@pytest.mark.parametrize(
    ("url", "note"),
    [
        ({"url": "file:///srv/alpha.whl", "archive_info": {}}, "from a local file"),
        ({"url": "file:///srv/alpha", "dir_info": {}}, "from a local file"),
        (
            {"url": "file:///srv/alpha", "vcs_info": {"vcs": "git", "commit_id": "ab"}},
            "from a local repository, commit ab",
        ),
    ],
)
def test_local_files_are_asked_for_by_version(install, url, note):
    install("alpha", "1.0", url=url)
    assert only_requirement(requirements_text(capture_packages())) == f"alpha==1.0  # {note}"


def test_local_version_is_asked_for_without_its_local_part(install):
    install("torch", "2.13.0+cpu")
    assert only_requirement(requirements_text(capture_packages())) == "torch==2.13.0  # exactly 2.13.0+cpu"


def test_version_that_pip_would_refuse_is_a_comment(install):
    install("gpg", "1.18.0-unknown")
    assert only_requirement(requirements_text(capture_packages())).startswith("# not a version")


@pytest.mark.parametrize("broken", ["not json", "[]", '{"no": "url"}', '{"url": 1}', '{"url": "u", "dir_info": []}'])
def test_broken_direct_url_does_not_hide_the_package(install, tmp_path, broken):
    install("alpha", "1.0")
    (tmp_path / "alpha-1.0.dist-info" / "direct_url.json").write_text(broken)
    assert capture_packages()["packages"][0]["origin"] is None


def test_unreadable_distributions_are_counted(install, tmp_path):
    install("alpha", "1.0")
    (tmp_path / "beta-1.0.dist-info").mkdir()
    (tmp_path / "gamma-1.0.dist-info").mkdir()
    (tmp_path / "gamma-1.0.dist-info" / "METADATA").write_bytes(b"Name: gamma\nVersion: \xff\n")
    captured = capture_packages()
    assert captured["unreadable"] == 2
    assert [package["name"] for package in captured["packages"]] == ["alpha"]


def test_first_on_the_path_counts_unless_nobody_installed_it(install, tmp_path, monkeypatch):
    monkeypatch.setattr(sys, "path", [str(tmp_path / "first"), str(tmp_path / "second")])
    install("alpha", "1.0", folder=tmp_path / "first")
    install("alpha", "2.0", folder=tmp_path / "second")
    install("beta", "1.0", folder=tmp_path / "first", suffix="egg-info", installer=None)
    install("beta", "1.0", folder=tmp_path / "second", url={"url": "file:///b", "dir_info": {"editable": True}})
    captured = capture_packages()["packages"]
    assert [(package["version"], package["editable"]) for package in captured] == [("1.0", False), ("1.0", True)]


def test_pip_accepts_the_file_of_this_environment(tmp_path):
    file = tmp_path / "requirements.txt"
    file.write_text(requirements_text(capture_packages()))
    command = [sys.executable, "-m", "pip", "install", "--dry-run", "--no-index", "--no-deps", "-r", str(file)]
    result = subprocess.run(command, capture_output=True, text=True, check=False)
    assert result.returncode == 0, result.stderr
    assert "Would install" not in result.stdout


numbers = st.lists(st.integers(0, 99).map(str), min_size=1, max_size=4).map(".".join)
suffixes = st.tuples(
    st.sampled_from(["", "a1", "b2", ".rc3", "-alpha", "preview4"]),
    st.sampled_from(["", ".post1", "-2", "r3"]),
    st.sampled_from(["", ".dev0", "dev"]),
    st.sampled_from(["", "+cpu", "+cu.12-4"]),
).map("".join)


@given(numbers, suffixes)
def test_every_version_that_packaging_knows_is_asked_for(number, suffix):
    version = number + suffix
    package = {"name": "a", "version": version, "editable": False, "origin": None}
    text = requirements_text({"python": {"implementation": "cpython", "version": "3"}, "packages": [package]})
    assert Requirement(only_requirement(text).partition("  #")[0]).specifier.contains(
        Version(version), prereleases=True
    )


@pytest.mark.parametrize("name", ["A.b_C--d", "a-b-c-d"])
def test_canonical_name(name):
    assert canonical_name(name) == "a-b-c-d"


def test_what_a_package_brings_along_inside_itself_was_not_installed(monkeypatch):
    import setuptools

    vendored = str(Path(setuptools.__file__).parent / "_vendor")
    without = [entry for entry in sys.path if entry != vendored]
    monkeypatch.setattr(sys, "path", without)
    before = capture_packages()
    monkeypatch.setattr(sys, "path", [*without, vendored])
    assert capture_packages() == before
