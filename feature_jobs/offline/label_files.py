"""Reads files of labels as people write them: ids as texts, and only times with an unambiguous meaning."""

from __future__ import annotations

import re
from pathlib import Path
from typing import TYPE_CHECKING, Any

from schemas.errors import BadSettings
from schemas.features import VIEWS

if TYPE_CHECKING:
    import pandas as pd

IDS = tuple(f"{view.entity}_id" for view in VIEWS)
TIME = "event_timestamp"
_ISO = re.compile(r"\d{4}-\d{2}-\d{2}([T ].*)?")
_WHOLE = re.compile(r"(\d+)(?:\.(\d{1,9})0*)?")
_NS = {10: 10**9, 13: 10**6, 16: 10**3}  # nanoseconds per unit, by number of digits: 2001 to 2286 in each unit
RULE = "ISO 8601 (2026-11-26T04:22:21Z; UTC where no offset is given), or seconds (10 digits), milliseconds (13) or microseconds (16) of the epoch"


def read_labels(file: Path) -> pd.DataFrame:
    """The file's columns, in its order: ids as texts (`007` and `NA` stay unchanged), `event_timestamp` in UTC. Raises
    BadSettings if a required column is missing or the meaning of a value is uncertain."""
    import pandas as pd

    try:
        if file.suffix == ".parquet":
            frame = pd.read_parquet(file)
        else:
            texts: dict[str, Any] = dict.fromkeys((*IDS, TIME), str)
            frame = pd.read_csv(file, converters=texts, index_col=False)
    except (OSError, ValueError) as error:  # pandas and Arrow report invalid content as ValueErrors
        raise BadSettings(f"{file} is not read: {error}") from error
    if TIME not in frame.columns or not any(name in frame.columns for name in IDS):
        raise BadSettings(f"{file} has columns {', '.join(map(str, frame.columns))}; {' or '.join(IDS)}, and {TIME} are needed")
    for name in IDS:
        if name in frame.columns:
            frame[name] = _ids(frame[name], file)
    frame[TIME] = times(frame[TIME], file)
    return frame


def _ids(column: pd.Series[Any], file: Path) -> pd.Series[Any]:
    kinds = {type(value) for value in column if not _absent(value)}
    if kinds <= {str}:
        return column.map(lambda value: "" if _absent(value) else value).astype(object)
    if column.dtype.kind in "iu":
        return column.astype(str).astype(object)
    raise BadSettings(f"{file}: column {column.name} has values of type {column.dtype}; ids are texts")


def _absent(value: Any) -> bool:
    return value is None or (isinstance(value, float) and value != value)


def times(column: pd.Series[Any], file: Path) -> pd.Series[Any]:
    """The column's times by RULE, in UTC. Raises BadSettings with the first row that does not follow it."""
    import pandas as pd

    if column.dtype.kind == "M":
        found = pd.to_datetime(column, utc=True)
        if found.isna().any():
            raise _unread(column, int(found.isna().to_numpy().argmax()), file)
        return found
    texts = ["" if _absent(value) else str(value).strip() for value in column]
    whole = [_WHOLE.fullmatch(text) for text in texts]
    iso = pd.to_datetime(
        pd.Series([text if _ISO.fullmatch(text) else None for text in texts], dtype=object),
        utc=True,
        format="ISO8601",
        errors="coerce",
    )
    stamps: list[int] = []
    for row, (number, at) in enumerate(zip(whole, iso, strict=True)):
        if number is not None and len(number[1]) in _NS:
            unit = _NS[len(number[1])]
            stamps.append(int(number[1]) * unit + int((number[2] or "").ljust(9, "0")) * unit // 10**9)
        elif pd.notna(at):
            stamps.append(pd.Timestamp(at).as_unit("ns").value)
        else:
            raise _unread(column, row, file)
    return pd.Series(pd.to_datetime(stamps, unit="ns", utc=True), index=column.index, name=column.name)


def _unread(column: pd.Series[Any], row: int, file: Path) -> BadSettings:
    return BadSettings(f"{file}: {column.name} of label {row + 1} is {str(column.iloc[row])!r}; times are {RULE}")
