"""Claim checks: data too large for a record is kept in a store, and the record contains its URI, sha256 and size.

(Hohpe and Woolf, Enterprise Integration Patterns, "Claim Check".) Only allow-listed roots are read, no link may lead out of
them, and data that was changed afterwards is refused. This module opens files with care; `buckets.py` reads buckets.
"""

from __future__ import annotations

import errno
import hashlib
import os
import stat
import tempfile
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any
from urllib.parse import unquote, urlsplit

from schemas.errors import BadSettings, MediaRefused, RetryLater
from streams.buckets import CALL_LIMIT_S, s3, store_errors
from streams.clock import Backoff, Clock, SystemClock

INLINE_BYTES = 512 * 1024  # a file of at most this size is sent inside its record
# Temporary errors: a file system is unreachable, or the process has no more handles. Any other error is a fault of the reference.
_PASSING = {
    errno.EIO,
    errno.ESTALE,
    errno.ETIMEDOUT,
    errno.EHOSTDOWN,
    errno.EHOSTUNREACH,
    errno.ENETUNREACH,
    errno.ECONNREFUSED,
    errno.ENOTCONN,
    errno.EMFILE,
    errno.ENFILE,
    errno.ENOMEM,
    errno.EAGAIN,
    errno.EINTR,
    errno.EBUSY,
}


@dataclass(frozen=True, slots=True)
class Reference:
    """The URI of an object, with its expected digest and size in bytes. sha256: hexadecimal."""

    uri: str
    sha256: str
    size: int


class ClaimChecks:
    """Reads under `roots`, writes under the first of them. roots: file:///folder or s3://bucket/prefix. A store that does not
    answer is not asked again at once (`Backoff`)."""

    def __init__(self, roots: Sequence[str], clock: Clock | None = None) -> None:
        self.roots = tuple(root.rstrip("/") for root in roots)
        self._clock = clock or SystemClock()
        self._backoff = Backoff(self._clock)
        for root in self.roots:
            if not root.startswith(("file:///", "s3://")):
                raise BadSettings(f"{root!r} is no root of claim checks: use file:///folder or s3://bucket/prefix")

    def fetch(self, reference: Reference, max_bytes: int) -> bytes:
        """Read and check an object. Raises MediaRefused with the reason, RetryLater if the store does not answer."""
        if not 0 <= reference.size <= max_bytes:
            raise MediaRefused(f"{reference.uri} is said to have {reference.size} bytes; at most {max_bytes} are read")
        scheme = _scheme(reference.uri)
        if scheme not in ("file", "s3"):
            raise MediaRefused(f"{reference.uri} is of a kind that is not read: use file:// or s3://")
        data = _read_file(self._allowed_file(reference.uri), reference) if scheme == "file" else self._read_s3(reference)
        if len(data) != reference.size:
            raise MediaRefused(f"{reference.uri} does not have the {reference.size} bytes that were announced: it was changed")
        found = hashlib.sha256(data).hexdigest()
        if found != reference.sha256.lower():
            raise MediaRefused(f"{reference.uri} has sha256 {found}, not the announced one: it was changed")
        return data

    def put(self, data: bytes) -> Reference:
        """Store an object under the first root, named by its digest, so that the same content is stored once."""
        digest = hashlib.sha256(data).hexdigest()
        uri = f"{self.roots[0]}/{digest[:2]}/{digest}"
        if uri.startswith("s3://"):
            with store_errors(uri):
                s3().pipe_file(uri, data, timeout=CALL_LIMIT_S)
            return Reference(uri, digest, len(data))
        file = _path(uri)
        file.parent.mkdir(parents=True, exist_ok=True)
        if not file.exists():
            handle, staging = tempfile.mkstemp(dir=file.parent)
            with os.fdopen(handle, "wb") as stream:
                stream.write(data)
            os.replace(staging, file)
        os.utime(file)  # restart its lifetime
        return Reference(file.as_uri(), digest, len(data))

    def clean(self, older_than_s: float, now_s: float) -> int:
        """Remove objects of the first root that were written more than `older_than_s` ago, and return their number. This age must
        cover the retention of the topics that refer to the objects."""
        root = self.roots[0]
        if root.startswith("s3://"):
            with store_errors(root):
                found = s3().find(root, detail=True)
                old = [name for name, info in found.items() if now_s - info["LastModified"].timestamp() > older_than_s]
                if old:
                    s3().rm(old)
            return len(old)
        gone = 0
        for file in _path(root).glob("??/*"):
            try:
                if now_s - file.stat(follow_symlinks=False).st_mtime > older_than_s:
                    file.unlink()
                    gone += 1
            except FileNotFoundError:
                continue
        return gone

    def _allowed_file(self, uri: str) -> Path:
        try:
            path = Path(os.path.realpath(_path(uri)))
        except (ValueError, OSError) as error:  # a NUL byte, or a name that no file system allows
            raise MediaRefused(f"{uri!r:.300} names no file: {error}") from error
        for root in self.roots:
            if root.startswith("file:") and path.is_relative_to(os.path.realpath(_path(root))):
                return path
        raise MediaRefused(f"{uri} does not lie under a root that this worker reads (MILLRACE_BLOB_ROOTS)")

    def _read_s3(self, reference: Reference) -> bytes:
        uri = reference.uri
        if ".." in uri.split("/") or not any(uri.startswith(f"{root}/") for root in self.roots if root.startswith("s3:")):
            raise MediaRefused(f"{uri} does not lie under a bucket that this worker reads (MILLRACE_BLOB_ROOTS)")
        started_s = self._clock.monotonic_s()
        if self._backoff.cause():
            raise RetryLater(f"{uri}: the store did not answer a moment ago, and is not asked again yet")
        try:
            with store_errors(uri):
                found: bytes = s3().cat_file(uri, start=0, end=reference.size + 1, timeout=CALL_LIMIT_S)
        except RetryLater as error:
            self._backoff.begin(started_s, str(error))
            raise
        return found


def _scheme(uri: str) -> str:
    try:
        return urlsplit(uri).scheme
    except ValueError as error:
        raise MediaRefused(f"{uri!r:.300} is no URI: {error}") from error


def _path(uri: str) -> Path:
    return Path(unquote(urlsplit(uri).path))


def _read_file(path: Path, reference: Reference) -> bytes:
    """Read a regular file: not a link that has replaced it meanwhile, and at most one byte more than the announced size."""
    try:
        handle = os.open(path, os.O_RDONLY | os.O_NOFOLLOW | os.O_NONBLOCK | os.O_CLOEXEC)
        try:
            if not stat.S_ISREG(os.fstat(handle).st_mode):
                raise MediaRefused(f"{reference.uri} is not a file")
            with os.fdopen(handle, "rb", closefd=False) as stream:
                return stream.read(reference.size + 1)
        finally:
            os.close(handle)
    except OSError as error:
        if error.errno in _PASSING:
            raise RetryLater(f"{reference.uri}: the store does not answer: {error.strerror}") from error
        raise MediaRefused(f"{reference.uri} cannot be opened: {error.strerror}") from error


def split_media(fields: dict[str, Any], blobs: ClaimChecks | None) -> dict[str, Any]:
    """A media field for the bytes in "data": unchanged if they are small, otherwise a reference. Raises MediaRefused."""
    data: bytes = fields["data"]
    if len(data) <= INLINE_BYTES:
        return fields
    if blobs is None or not blobs.roots:
        raise MediaRefused(f"{len(data)} bytes are more than the {INLINE_BYTES} that travel inline, and no store is set")
    reference = blobs.put(data)
    return {"uri": reference.uri, "sha256": reference.sha256, "size": reference.size}


def references(fields: Any) -> Iterator[Reference]:
    """All references in a record's fields, at any depth."""
    if isinstance(fields, dict):
        if fields.get("uri") and fields.get("sha256"):
            yield Reference(fields["uri"], fields["sha256"], int(fields.get("size") or 0))
        for value in fields.values():
            yield from references(value)
    elif isinstance(fields, (list, tuple)):
        for value in fields:
            yield from references(value)
