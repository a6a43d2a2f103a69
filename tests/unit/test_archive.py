"""The archive: each offset in exactly one committed file, whatever dies between two steps, whoever else writes."""

from __future__ import annotations

from dataclasses import asdict
from pathlib import Path

import pyarrow.parquet as pq
import pytest

from feature_jobs.archive import Archive, event_files, manifest_ends
from schemas import avro
from schemas.codec import Encoder
from schemas.encoding import Constant
from schemas.errors import TransactionAborted
from schemas.features import DAY_MS
from schemas.generated import UserEvent
from schemas.topics import USER_EVENTS_VALID
from streams.broker import Commit
from streams.clock import SystemClock
from streams.outcome import Emit
from streams.registry import MemoryRegistry
from streams.rows import Rows

T0 = 1_795_000_000_000
PLACE = (USER_EVENTS_VALID.name, 1)
IDS = MemoryRegistry()
IDS.register("s", avro.schema("user-event"))
ENCODER = Encoder("user-event", "s", IDS)


def rows(first: int, n: int) -> Rows:
    made = Rows.empty()
    for offset in range(first, first + n):
        event = UserEvent(event_id=f"e-{offset}", user_id="u", kind="view", item_id="i", event_ms=T0 + offset * DAY_MS // 4)
        value = ENCODER.encode({k: Constant(v) for k, v in asdict(event).items()}, 1)[0]
        origin = (PLACE[0], PLACE[1], offset)
        made.extend(Rows([PLACE], [offset], [b"u"], [value], [{}], [T0], ["r"], [0], [4], [origin], [0], [0], 0))
    return made


def owner(folder: Path) -> Archive:
    made = Archive(folder, IDS, SystemClock(), age_s=3600, rows=8)
    made.restore({PLACE: Commit(0)})
    return made


def offsets(folder: Path) -> list[int]:
    found: list[int] = []
    for file in event_files(folder):
        found += pq.read_table(file)["offset"].to_pylist()
    return sorted(found)


def ended(archive: Archive) -> list[int]:
    return [offset for outcome in archive.completed(0) if isinstance(outcome, Emit) for offset in outcome.rows.offsets]


def test_rows_wait_for_company_and_end_when_their_file_is_committed(tmp_path: Path) -> None:
    archive = owner(tmp_path)
    archive.submit(rows(0, 7))
    assert ended(archive) == []
    assert offsets(tmp_path) == []
    archive.submit(rows(7, 3))
    assert ended(archive) == list(range(10))
    assert offsets(tmp_path) == list(range(10))
    assert {Path(file).parent.name for file in event_files(tmp_path)} == {"dt=2026-11-18", "dt=2026-11-19", "dt=2026-11-20"}
    assert manifest_ends(tmp_path) == {1: 10}


def test_a_successor_goes_on_behind_the_last_manifest_whatever_was_committed(tmp_path: Path) -> None:
    first = owner(tmp_path)
    first.submit(rows(0, 10))
    ended(first)  # it dies before the group's offsets are committed
    second = owner(tmp_path)
    second.submit(rows(4, 12))
    assert ended(second) == list(range(4, 10)), "known already"
    second.submit(rows(16, 2))
    assert ended(second) == list(range(10, 18))
    assert offsets(tmp_path) == list(range(18))


def test_files_without_a_manifest_do_not_exist(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    first = owner(tmp_path)
    first.submit(rows(0, 10))
    with monkeypatch.context() as patch:
        patch.setattr("os.link", lambda *names: (_ for _ in ()).throw(OSError("killed here")))
        with pytest.raises(OSError, match="killed here"):
            first.completed(0)
    assert offsets(tmp_path) == []
    second = owner(tmp_path)
    second.submit(rows(0, 10))
    ended(second)
    assert offsets(tmp_path) == list(range(10))


def test_of_two_writers_one_wins_and_the_other_goes_back(tmp_path: Path) -> None:
    zombie, successor = owner(tmp_path), owner(tmp_path)
    zombie.submit(rows(0, 9))
    successor.submit(rows(0, 10))
    assert ended(successor) == list(range(10))
    with pytest.raises(TransactionAborted, match="another writer"):
        zombie.completed(0)
    assert offsets(tmp_path) == list(range(10))
    zombie.restore({PLACE: Commit(0)})
    zombie.submit(rows(0, 10))
    assert ended(zombie) == list(range(10)), "known already: answered, not written"
    assert offsets(tmp_path) == list(range(10))
