import io
import tarfile

LIMIT = 32_000_000


def contents(archive: bytes) -> dict[str, bytes]:
    """The files of a source archive."""
    with tarfile.open(fileobj=io.BytesIO(archive), mode="r:gz") as opened:
        return {entry.name: opened.extractfile(entry).read() for entry in opened if entry.isfile()}


def reasons(record) -> dict[str, str]:
    """Why each excluded path of a source record is excluded."""
    return {entry["path"]: entry["reason"] for entry in record["excluded"]}


def paths(entries) -> list[str]:
    return [entry["path"] for entry in entries]
