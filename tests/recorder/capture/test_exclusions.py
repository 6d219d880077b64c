import pytest
from hypothesis import given
from hypothesis import strategies as st

from recorder.capture.exclusions import excluded_by_content, excluded_by_name, tool_folder
from recorder.capture.listing import path_text


@pytest.mark.parametrize(
    "name",
    [
        *(".env", ".ENV", ".envrc", "a/.env.production", ".envs/local/web", "prod.env", "id_rsa", "a/id_ed25519"),
        *("server.pem", "tls/server.key", ".netrc", "credentials.json", "aws/credentials", "kubeconfig"),
        *("team.kubeconfig", ".kube/config", ".aws/config", ".ssh/known_hosts", ".docker/config.json", ".npmrc"),
        *(".dvc/config.local", "my-service-account.json", "hf_token", "token", "odd\nname.pem", "\udcff.pem"),
    ],
)
def test_credential_names(name):
    assert excluded_by_name(name.encode("utf-8", "surrogateescape")) == "credentials, by its name"


@pytest.mark.parametrize("name", ["a/model.safetensors", "x.PT", "rows.parquet", "a.npy", "odd\nname.bin"])
def test_data_names(name):
    assert excluded_by_name(name.encode()) == "data, by its name"


@pytest.mark.parametrize(
    "name",
    [
        *("train.py", "environment.yaml", "src/environ.py", "id_rsa.pub", "credentials.py", "tokens.py", "keys.py"),
        *(
            "monkey.py",
            "token/__init__.py",
            "credentials/load.py",
            "pyproject.toml",
            ".gitignore",
            ".docker/Dockerfile",
        ),
        *("runs/a.dvc", ".dvc/config", "tokenizer.json", "config.json"),
    ],
)
def test_ordinary_names(name):
    assert excluded_by_name(name.encode()) is None


@pytest.mark.parametrize("kind", ["", "RSA ", "EC ", "OPENSSH ", "ENCRYPTED ", "PGP "])
@pytest.mark.parametrize("newline", ["\n", "\r\n", "\\n", "\n\n"])
def test_private_keys_are_found_wherever_they_stand(kind, newline):
    end = " BLOCK-----" if kind == "PGP " else "-----"
    key = f"-----BEGIN {kind}" + "PRIVATE" + f" KEY{end}{newline}" + "Proc-Type: 4,ENCRYPTED" + newline + "QUJD" * 8
    assert excluded_by_content(b"#" * 100_000 + key.encode()) == "holds a private key"


def test_code_and_public_keys_are_not_private_keys():
    header = "-----BEGIN {}" + "KEY-----"
    for text in (
        f'if line == "{header.format("PRIVATE ")}":\n    found = True\n',
        f"r'{header.format('[A-Z ]*PRIVATE ')}'\n",
        f"{header.format('PUBLIC ')}\n{'QUJD' * 16}\n",
    ):
        assert excluded_by_content(text.encode()) is None


def test_tool_folder_is_the_outermost():
    assert tool_folder(b"a/node_modules/b/__pycache__/c.js") == b"a/node_modules"
    assert tool_folder(b".venv/") == b".venv"
    assert tool_folder(b"venv") is None
    assert tool_folder(b"my_venv/a.py") is None


def name_from_text(text: str) -> bytes:
    name = b""
    while text:
        if text.startswith("\\x"):
            name, text = name + bytes.fromhex(text[2:4]), text[4:]
        else:
            name, text = name + text[0].encode(), text[2 if text.startswith("\\\\") else 1 :]
    return name


@given(st.one_of(st.binary(), st.text("\\x0éf\n").map(str.encode)))
def test_path_text_is_utf8_and_reversible(name):
    text = path_text(name)
    text.encode()
    assert name_from_text(text) == name
