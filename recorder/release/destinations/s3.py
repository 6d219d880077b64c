"""S3, and what speaks its protocol, as a place for releases: boto3, AWS_ENDPOINT_URL and its usual credentials."""

from __future__ import annotations

import base64
import hashlib
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any
from urllib.parse import urlparse

from recorder.errors import MachineError, TransferError, UsageError
from recorder.release.destinations.protocol import BLOCK, NotListed
from recorder.release.manifest import FileRecord

# A larger file goes in parts, which are kept by the server when this process is killed.
_PART = 16 << 20
_MOST_PARTS = 9000
_LISTING = "ListObjectsV2"
_NOT_THERE = {"NoSuchKey", "404", "NotFound"}
_DENIED = {"AccessDenied", "403"}
_NAMED = {
    "AccessDenied": "access denied: the key lacks the permission, or was revoked",
    "403": "access denied: the key lacks the permission, or was revoked",
    "InvalidAccessKeyId": "the access key is unknown: it is wrong, or was revoked",
    "SignatureDoesNotMatch": "the secret key does not belong to the access key",
    "ExpiredToken": "the session token has expired: renew it and call again",
    "NoSuchBucket": "there is no such bucket: create it, or name another",
    "PreconditionFailed": "someone else has put it there meanwhile",
    "BadDigest": "the server received other bytes than were sent: call again",
}


class S3Prefix:
    """What lies below `s3://bucket/prefix`. Reads without credentials where there are none."""

    def __init__(self, url: str, part: int = _PART) -> None:
        parsed = urlparse(url)
        self._bucket, prefix = parsed.netloc, parsed.path.strip("/")
        if not self._bucket:
            raise UsageError(f"{url} names no bucket: s3://BUCKET/PREFIX")
        self._prefix = f"{prefix}/" if prefix else ""
        self._part = part
        self.url = f"s3://{self._bucket}/{prefix}".rstrip("/")
        self._client = _client()

    def list(self) -> dict[str, int]:
        """The size of every object below the prefix. Raises NotListed where reading is allowed and listing is not."""
        found: dict[str, int] = {}
        with self._errors("its list"):
            pages = self._client.get_paginator("list_objects_v2").paginate(Bucket=self._bucket, Prefix=self._prefix)
            for page in pages:
                found |= {item["Key"][len(self._prefix) :]: int(item["Size"]) for item in page.get("Contents", ())}
        # What consoles make when they are asked for a folder: an empty object whose name ends with a slash.
        return {path: size for path, size in found.items() if size or (path and not path.endswith("/"))}

    def sha256(self, path: str) -> str | None:
        """What was noted with the object when it was put."""
        with self._errors(path):
            head = self._client.head_object(**self._object(path))
        stated: str | None = head["Metadata"].get("sha256")
        return stated

    def read(self, path: str, start: int = 0) -> Iterator[bytes]:
        """The content of an object from `start` on."""
        ranged = {"Range": f"bytes={start}-"} if start else {}
        with self._errors(path):
            yield from self._client.get_object(**self._object(path), **ranged)["Body"].iter_chunks(BLOCK)

    def put(self, path: str, source: Path, record: FileRecord, *, replace: bool = False) -> None:
        """Put an object in one request or, a large one, in parts; the server compares what it received."""
        kept = {"Metadata": {"sha256": record.sha256}}
        condition = {} if replace else {"IfNoneMatch": "*"}
        with self._errors(path):
            if record.size > self._part:
                self._put_in_parts(path, source, record.size, kept, condition)
                return
            checksum = base64.b64encode(bytes.fromhex(record.sha256)).decode()
            self._client.put_object(
                **self._object(path), Body=source.read_bytes(), ChecksumSHA256=checksum, **kept, **condition
            )

    def remove(self, path: str) -> None:
        """Delete an object."""
        with self._errors(path):
            self._client.delete_object(**self._object(path))

    def what_stays(self) -> str | None:
        """Versions, in a bucket that keeps them, or does not say whether it does."""
        delete = "delete the old ones with your provider's tools"
        try:
            with self._errors("whether it keeps versions"):
                status = self._client.get_bucket_versioning(Bucket=self._bucket).get("Status")
        except (TransferError, FileNotFoundError):
            return f"{self.url} does not say whether it keeps versions of objects: if it does, {delete}"
        return f"{self.url} keeps versions of objects: {delete}" if status else None

    def flush(self) -> None:
        """Nothing waits."""

    def _put_in_parts(
        self, path: str, source: Path, size: int, kept: dict[str, Any], condition: dict[str, Any]
    ) -> None:
        length = max(self._part, -(-size // _MOST_PARTS))
        upload = self._begun(path)
        there = self._parts(path, upload) if upload else {}
        if upload is None:
            upload = str(self._client.create_multipart_upload(**self._object(path), **kept)["UploadId"])
        parts = []
        with source.open("rb") as file:
            for number in range(1, -(-size // length) + 1):
                data = file.read(length)
                md5 = hashlib.md5(data, usedforsecurity=False)
                tag = there.get(number)
                if tag != md5.hexdigest():
                    content = base64.b64encode(md5.digest()).decode()
                    sent = self._client.upload_part(
                        **self._object(path), UploadId=upload, PartNumber=number, Body=data, ContentMD5=content
                    )
                    tag = sent["ETag"].strip('"')
                parts.append({"PartNumber": number, "ETag": tag})
        self._client.complete_multipart_upload(
            **self._object(path), UploadId=upload, MultipartUpload={"Parts": parts}, **condition
        )

    def _begun(self, path: str) -> str | None:
        """The upload of this object that an earlier call began, the newest of several."""
        key = self._prefix + path
        answer = self._client.list_multipart_uploads(Bucket=self._bucket, Prefix=key)
        begun = [item for item in answer.get("Uploads", ()) if item["Key"] == key]
        return str(max(begun, key=lambda item: item["Initiated"])["UploadId"]) if begun else None

    def _parts(self, path: str, upload: str) -> dict[int, str]:
        pages = self._client.get_paginator("list_parts").paginate(**self._object(path), UploadId=upload)
        return {part["PartNumber"]: part["ETag"].strip('"') for page in pages for part in page.get("Parts", ())}

    def _object(self, path: str) -> dict[str, str]:
        return {"Bucket": self._bucket, "Key": self._prefix + path}

    @contextmanager
    def _errors(self, what: str) -> Iterator[None]:
        from boto3.exceptions import Boto3Error
        from botocore.exceptions import BotoCoreError, ClientError

        try:
            yield
        except ClientError as error:
            code = str(error.response.get("Error", {}).get("Code", "unknown"))
            if code in _NOT_THERE:
                raise FileNotFoundError(what) from None
            reason = _NAMED.get(code) or f"{code}: {error.response.get('Error', {}).get('Message', '')}"
            kind = NotListed if code in _DENIED and error.operation_name == _LISTING else TransferError
            raise kind(f"{self.url}: {what}: {reason}") from error
        except (BotoCoreError, Boto3Error) as error:
            raise TransferError(f"{self.url}: {what}: {str(error).splitlines()[0]}") from error


def _client() -> Any:
    try:
        import boto3
        from botocore import UNSIGNED
        from botocore.config import Config
    except ImportError:
        raise MachineError(
            "s3:// needs boto3: pip install 'run-recorder[s3]'; a public bucket reads as https://"
        ) from None
    session = boto3.Session()
    options = {} if session.get_credentials() else {"signature_version": UNSIGNED}
    region = session.region_name or "us-east-1"
    # Checksums are ours: servers that speak the protocol need not know the newer ones.
    config = Config(
        **options, request_checksum_calculation="when_required", response_checksum_validation="when_required"
    )
    return session.client("s3", region_name=region, config=config)
