"""S3 buckets, through fsspec: the file system, and its errors as ours. The only module that imports fsspec."""

from __future__ import annotations

from contextlib import suppress
from typing import Any

from schemas.errors import BadSettings, MediaRefused, MillraceError, RetryLater

# A store that does not answer is told from a slow one by these. botocore alone waits 60 s and tries five times, and fsspec repeats
# all of that five times.
CONNECT_LIMIT_S, READ_LIMIT_S, TRIES = 5, 15, 2
CALL_LIMIT_S = 60.0  # for a list or a small object, however slowly it comes
COPY_LIMIT_S = 1_800.0  # for a large one


def s3() -> Any:
    """fsspec's S3 file system; keys, region and endpoint come from the AWS variables. Its calls take a `timeout` in seconds. Raises
    BadSettings."""
    import fsspec

    limits = {"connect_timeout": CONNECT_LIMIT_S, "read_timeout": READ_LIMIT_S, "retries": {"total_max_attempts": TRIES}}
    try:
        system = fsspec.filesystem("s3", default_fill_cache=False, use_listings_cache=False, config_kwargs=limits)
    except ImportError as error:
        raise BadSettings("s3:// needs the s3 group: ./millrace setup s3") from error
    system.retries = 1  # botocore has tried again already
    return system


def objects_of(uri: str, most: int) -> tuple[list[dict[str, Any]], bool]:
    """`name` (BUCKET/KEY), `size` in bytes and `ETag` of the objects directly below `s3://BUCKET/PREFIX`, or of the object of that name,
    and whether these are all. No objects if there are neither. Asks for one page of at most `most` names, which is at most 1,000.
    Raises what fsspec raises."""
    system, (bucket, _, key) = s3(), uri.removeprefix("s3://").rstrip("/").partition("/")
    page = system.call_s3("list_objects_v2", Bucket=bucket, Prefix=f"{key}/", Delimiter="/", MaxKeys=most, timeout=CALL_LIMIT_S)
    found = [
        {"name": f"{bucket}/{entry['Key']}", "size": entry["Size"], "ETag": entry["ETag"]}
        for entry in page.get("Contents", ())
        if not entry["Key"].endswith("/")  # a mark that stands for the folder
    ]
    if not found:
        with suppress(FileNotFoundError):
            entry = system.info(f"{bucket}/{key}", timeout=CALL_LIMIT_S)
            found = [{name: entry[name] for name in ("name", "size", "ETag")}] if entry["type"] == "file" else []
    return found, not page.get("IsTruncated", False)


class store_errors:  # noqa: N801  # used as a function
    """Translates errors of the store to ours: a missing or forbidden object is `refused`, any other error is tried again."""

    def __init__(self, uri: str, refused: type[MillraceError] = MediaRefused) -> None:
        self._uri, self._refused = uri, refused

    def __enter__(self) -> None: ...

    def __exit__(self, kind: Any, error: BaseException | None, trace: Any) -> None:
        match error:
            case FileNotFoundError() | PermissionError() | IsADirectoryError() | NotADirectoryError():
                raise self._refused(f"{self._uri} cannot be read: {error}") from error
            case None | MillraceError():
                return
            case Exception() if type(error).__name__ in ("ParamValidationError", "ValueError"):  # an invalid object name
                raise self._refused(f"{self._uri!r:.300} names no object: {error}") from error
            case Exception():
                raise RetryLater(f"{self._uri}: the store does not answer: {error}") from error
