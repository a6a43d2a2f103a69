"""S3 buckets, through fsspec: the file system, and its errors as ours. The only module that imports fsspec."""

from __future__ import annotations

from typing import Any

from schemas.errors import BadSettings, MediaRefused, MillraceError, RetryLater

# A store that does not answer is told from a slow one by these; botocore alone waits 60 s and tries five times.
CONNECT_LIMIT_S, READ_LIMIT_S, TRIES = 10, 30, 2


def s3() -> Any:
    """fsspec's S3 file system; keys, region and endpoint come from the AWS variables. Raises BadSettings."""
    import fsspec

    limits = {"connect_timeout": CONNECT_LIMIT_S, "read_timeout": READ_LIMIT_S, "retries": {"max_attempts": TRIES}}
    try:
        return fsspec.filesystem("s3", default_fill_cache=False, use_listings_cache=False, config_kwargs=limits)
    except ImportError as error:
        raise BadSettings("s3:// needs the s3 group: ./millrace setup s3") from error


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
