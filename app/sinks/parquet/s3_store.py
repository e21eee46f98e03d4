"""A bucket as the store of a lake: S3, and servers with the S3 API.

An object becomes visible only when complete, so the server copies staged files to their names. pyarrow has no
conditional write for S3: a claim is checked for, written and read again. Two processes can both see their own claim
when one is paused between these requests; docs/sinks.md describes the consequence.
"""

import time
import uuid
from collections.abc import Iterable, Iterator, Sequence
from contextlib import contextmanager, suppress
from typing import Any

import pyarrow as pa
from pyarrow import fs

from app.settings import Settings
from app.sinks.parquet.names import STAGING
from app.sinks.parquet.stored import StoredFile
from app.sinks.port import SinkMisconfigured

CONNECT_SECONDS, REQUEST_SECONDS = 3.0, 8.0  # below the ten seconds in which a sink has to stop
ATTEMPTS = 2  # of a request; the runner retries without limit
_NEVER = ("NO_SUCH_BUCKET", "INVALID_ACCESS_KEY_ID", "SIGNATURE_DOES_NOT_MATCH", "INVALID_CLIENT_TOKEN_ID")
_LOCK = "_compaction.lock"
LOCK_SECONDS = 6 * 3600.0  # an older lock is of a process that was killed


def s3_store(settings: Settings) -> "S3Store":
    """The store of `s3://bucket/prefix`, connected with the first request. Raises SinkMisconfigured for an address
    without a bucket, and for an access key without a secret key or the reverse.
    """
    place = settings.parquet_dir.removeprefix("s3://").strip("/")
    if not place:
        raise SinkMisconfigured("IOT_PARQUET_DIR: name a bucket, s3://bucket/prefix")
    key, secret = settings.parquet_s3_access_key, settings.parquet_s3_secret
    if (key is None) != (secret is None):
        raise SinkMisconfigured(
            "IOT_PARQUET_S3_ACCESS_KEY and IOT_PARQUET_S3_SECRET_KEY go together: set both, or neither"
        )
    scheme, _, address = (settings.parquet_s3_endpoint or "").rpartition("://")
    ca = settings.parquet_s3_ca_file
    try:
        system = fs.S3FileSystem(
            access_key=key,
            secret_key=secret,
            region=settings.parquet_s3_region or None,
            scheme=scheme or "https",
            endpoint_override=address.rstrip("/") or None,
            connect_timeout=CONNECT_SECONDS,
            request_timeout=REQUEST_SECONDS,
            retry_strategy=fs.AwsStandardS3RetryStrategy(max_attempts=ATTEMPTS),
            background_writes=False,
            allow_delayed_open=True,  # a small object is one request
            tls_ca_file_path=str(ca) if ca else None,
        )
    except (pa.ArrowException, ValueError) as error:
        raise SinkMisconfigured(f"IOT_PARQUET_DIR: {place}: {error}") from error
    return S3Store(system, place)


class S3Store:
    """The objects of a bucket whose keys begin with a prefix."""

    def __init__(self, system: Any, place: str) -> None:
        """`system` is a pyarrow.fs.S3FileSystem, `place` is `bucket` or `bucket/prefix`."""
        self._system, self._place = system, place

    def check(self) -> None:
        """As in LakeStore: checks that an object can be written and removed."""
        probe = f"{STAGING}/probe"
        try:
            self.put(probe, b"probe")
            self.remove([probe])
        except OSError as error:
            if any(name in str(error) for name in _NEVER) or isinstance(error, FileNotFoundError):
                raise SinkMisconfigured(f"IOT_PARQUET_DIR: s3://{self._place}: {error}") from error
            raise

    def put(self, path: str, content: Any) -> None:
        """As in LakeStore. A stream that fails may leave a partial object, under a name that readers ignore. Raises
        OSError also when the object is shorter than what was written.
        """
        with self._system.open_output_stream(self._key(path)) as stream:
            stream.write(content)
        stored = self._system.get_file_info(self._key(path))
        if stored.type != fs.FileType.File or stored.size != len(memoryview(content)):
            raise OSError(f"s3://{self._key(path)} has {stored.size} bytes, not the {len(memoryview(content))} written")

    def put_new(self, path: str, content: bytes) -> bool:
        """As in LakeStore, as far as S3 allows: of two concurrent writes the last wins, and both callers see which."""
        if self.read(path) is not None:
            return False
        self.put(path, content)
        return self.read(path) == content

    def move(self, source: str, target: str) -> bool:
        """As in LakeStore: the server copies the object, then the source is removed."""
        if self._system.get_file_info(self._key(source)).type == fs.FileType.NotFound:
            return False
        try:
            self._system.copy_file(self._key(source), self._key(target))
        except OSError:
            if self._system.get_file_info(self._key(source)).type == fs.FileType.NotFound:
                return False  # another process has moved it
            raise
        self.remove([source])
        return True

    def read(self, path: str) -> bytes | None:
        """As in LakeStore."""
        try:
            with self._system.open_input_file(self._key(path)) as file:
                content: bytes = file.read()
                return content
        except FileNotFoundError:
            return None

    def list(self, folder: str = "") -> Sequence[StoredFile]:
        """As in LakeStore."""
        selector = fs.FileSelector(self._key(folder).rstrip("/"), allow_not_found=True, recursive=True)
        return sorted(
            StoredFile(found.path[len(self._place) + 1 :], found.size)
            for found in self._system.get_file_info(selector)
            if found.type == fs.FileType.File
        )

    def remove(self, paths: Iterable[str]) -> None:
        """As in LakeStore."""
        for path in paths:
            with suppress(FileNotFoundError):
                self._system.delete_file(self._key(path))

    def input(self, path: str) -> Any:
        """As in LakeStore."""
        return self._system.open_input_file(self._key(path))

    @contextmanager
    def alone(self) -> Iterator[bool]:
        """As in LakeStore: an object with its time of creation, valid for LOCK_SECONDS."""
        now = time.time()
        before = (self.read(_LOCK) or b"0").split()[0]
        if abs(now - float(before)) < LOCK_SECONDS:
            yield False
            return
        ours = f"{now:.6f} {uuid.uuid4().hex}".encode()
        self.put(_LOCK, ours)
        try:
            yield self.read(_LOCK) == ours
        finally:
            if self.read(_LOCK) == ours:
                self.remove([_LOCK])

    def _key(self, path: str) -> str:
        return f"{self._place}/{path}" if path else self._place
