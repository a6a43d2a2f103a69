"""The archive: each offset in exactly one committed file, whatever dies between two steps, whoever else writes."""

from __future__ import annotations

import os
import re
import time
from dataclasses import asdict, replace
from pathlib import Path

import pyarrow as pa
import pyarrow.parquet as pq
import pytest

from feature_jobs.offline import archive as events
from feature_jobs.offline.archive import SCHEMA
from schemas import avro
from schemas.codec import Encoder
from schemas.durations import DAY_MS
from schemas.encoding import Constant
from schemas.errors import TransactionAborted
from schemas.generated import UserEvent
from schemas.topics import USER_EVENTS_VALID
from streams.archived import manifests as m
from streams.archived import parquet_step
from streams.archived.archive_limits import IN_ORDER
from streams.archived.manifests import MERGE_AFTER_S, committed_files, manifest_ends, manifests, merge
from streams.archived.parquet_step import ParquetStep
from streams.broker import Commit
from streams.clock import SystemClock
from streams.loop.batching import Batcher, CostLine
from streams.loop.outcome import Emit
from streams.rows import Rows
from streams.schema_registry import MemoryRegistry
from tests.support.rows import rows_at

T0 = 1_795_000_000_000
PLACE = (USER_EVENTS_VALID.name, 1)
IDS = MemoryRegistry()
IDS.register(USER_EVENTS_VALID.subject, avro.schema("user-event"))
ENCODER = Encoder.of(USER_EVENTS_VALID, IDS)


def rows(first: int, n: int, headers: dict[str, bytes] | None = None) -> Rows:
    made = Rows.empty()
    for offset in range(first, first + n):
        event = UserEvent(event_id=f"e-{offset}", user_id="u", kind="view", item_id="i", event_ms=T0 + offset * DAY_MS // 4)
        value = ENCODER.encode({k: Constant(v) for k, v in asdict(event).items()}, 1)[0]
        made.extend(rows_at(PLACE, [value], offset, keys=[b"u"], headers=[headers or {}], timestamps_ms=[T0]))
    return made


def owner(folder: Path) -> ParquetStep:
    made = events.archive(folder, IDS, SystemClock(), age_s=3600, rows=8)
    made.restore({PLACE: Commit(0)})
    return made


def offsets(folder: Path) -> list[int]:
    found: list[int] = []
    for file in committed_files(folder):
        found += pq.read_table(file)["offset"].to_pylist()
    return sorted(found)


def ended(archive: ParquetStep) -> list[int]:
    return [offset for outcome in archive.completed(0) if isinstance(outcome, Emit) for offset in outcome.rows.offsets]


def test_rows_wait_for_company_and_end_when_their_file_is_committed(tmp_path: Path) -> None:
    archive = owner(tmp_path)
    archive.submit(rows(0, 7))
    assert ended(archive) == []
    assert offsets(tmp_path) == []
    archive.submit(rows(7, 3))
    assert ended(archive) == list(range(10))
    assert offsets(tmp_path) == list(range(10))
    assert {Path(file).parent.name for file in committed_files(tmp_path)} == {"dt=2026-11-18", "dt=2026-11-19", "dt=2026-11-20"}
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


def test_a_replayed_event_keeps_how_far_its_clock_was_behind(tmp_path: Path) -> None:
    archive = owner(tmp_path)
    for offset, said in enumerate([b"7", b"-1", b"junk", None]):
        archive.submit(rows(offset, 1, {} if said is None else {"replay-offset-ms": said}))
    archive.flush()
    found = pa.concat_tables(pq.read_table(file) for file in committed_files(tmp_path)).sort_by("offset")
    assert found["replay_offset_ms"].to_pylist() == [7, 0, 0, 0]


def test_a_priority_that_a_header_claims_does_not_make_older_records_count_as_archived(tmp_path: Path) -> None:
    archive, batcher = owner(tmp_path), Batcher(replace(IN_ORDER, max_rows=4), CostLine())
    batcher.add(replace(rows(0, 9), priorities=[4] * 8 + [9]), 0.0)
    while (batch := batcher.close(0.0, 0)) is not None:
        archive.submit(batch)
        archive.flush()
    assert offsets(tmp_path) == list(range(9))


def test_a_flush_comes_early_where_it_would_write_many_files(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(parquet_step, "MOST_FILES", 3)
    archive = owner(tmp_path)
    archive.submit(rows(0, 1))  # four events a day
    assert ended(archive) == []
    archive.submit(rows(4, 1))
    assert ended(archive) == []
    archive.submit(rows(8, 1))
    assert ended(archive) == [0, 4, 8]


FEW = 5  # in place of MERGE_FROM: each flush waits for the disk


@pytest.fixture
def few(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(m, "MERGE_FROM", FEW)


def aged(folder: Path, seconds: float) -> None:
    """As if all of it had been written so long ago."""
    for file in (f for f in folder.rglob("*") if f.is_file()):
        then_s = file.stat().st_mtime - seconds
        os.utime(file, (then_s, then_s))


def grown(folder: Path, flushes: int, first: int = 0) -> ParquetStep:
    archive = owner(folder)
    for number in range(first, first + flushes):
        archive.submit(rows(2 * number, 2))
        archive.flush()
    return archive


@pytest.mark.usefixtures("few")
def test_small_manifests_and_files_become_one_and_go_an_hour_later(tmp_path: Path) -> None:
    grown(tmp_path, FEW)
    everything = list(range(2 * FEW))
    assert merge(tmp_path, SCHEMA, 1, time.time()) == 0, "too young"
    aged(tmp_path, MERGE_AFTER_S)
    files = committed_files(tmp_path)
    assert merge(tmp_path, SCHEMA, 1, time.time()) == FEW
    assert offsets(tmp_path) == everything
    assert len(manifests(tmp_path)) == 1
    assert len(committed_files(tmp_path)) == len({Path(file).parent for file in files}), "a file a day"
    assert all(Path(file).exists() for file in files), "whoever lists them may still read them"
    aged(tmp_path, MERGE_AFTER_S)
    merge(tmp_path, SCHEMA, 1, time.time())
    assert (offsets(tmp_path), manifest_ends(tmp_path)) == (everything, {1: 2 * FEW})
    assert not any(Path(file).exists() for file in files)
    assert len(list((tmp_path / m.MANIFESTS).iterdir())) == 1
    successor = owner(tmp_path)
    successor.submit(rows(0, 2 * FEW + 3))
    successor.flush()
    assert offsets(tmp_path) == list(range(2 * FEW + 3))


@pytest.mark.usefixtures("few")
def test_the_number_of_manifests_stays_bounded_and_a_large_one_is_left_as_it_is(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(m, "WHOLE_ROWS", 20)
    for number in range(30):
        grown(tmp_path, 1, number)
        aged(tmp_path, MERGE_AFTER_S)
        merge(tmp_path, SCHEMA, 1, time.time())
    assert offsets(tmp_path) == list(range(60))
    assert len(manifests(tmp_path)) <= 60 / 20 + 2 * FEW
    assert len(list((tmp_path / m.MANIFESTS).iterdir())) <= 60 / 20 + 3 * FEW


@pytest.mark.usefixtures("few")
def test_a_merge_holds_a_bounded_number_of_bytes(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    grown(tmp_path, FEW)
    aged(tmp_path, MERGE_AFTER_S)
    monkeypatch.setattr(m, "WHOLE_BYTES", sum(manifest["bytes"] for manifest in manifests(tmp_path)[:3]))
    assert merge(tmp_path, SCHEMA, 1, time.time()) == 3
    assert manifests(tmp_path)[0]["bytes"] == m.bytes_of(tmp_path, manifests(tmp_path)[0]["files"]) > 0
    assert offsets(tmp_path) == list(range(2 * FEW))


@pytest.mark.usefixtures("few")
def test_a_merge_that_dies_at_any_write_changes_nothing(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    grown(tmp_path, FEW)
    aged(tmp_path, MERGE_AFTER_S)
    for name in ("write_parquet", "link"):
        with monkeypatch.context() as patch:
            patch.setattr(m, name, lambda *given: (_ for _ in ()).throw(OSError("killed here")))
            with pytest.raises(OSError, match="killed here"):
                merge(tmp_path, SCHEMA, 1, time.time())
        assert offsets(tmp_path) == list(range(2 * FEW))
    aged(tmp_path, MERGE_AFTER_S)
    named = set(committed_files(tmp_path))
    merge(tmp_path, SCHEMA, 1, time.time())
    assert offsets(tmp_path) == list(range(2 * FEW))
    left = {str(file) for file in tmp_path.glob("dt=*/*")} - set(committed_files(tmp_path)) - named
    assert left == set(), "what the dead merge left is swept"


@pytest.mark.usefixtures("few")
def test_a_writer_that_slept_through_a_merge_goes_back(tmp_path: Path) -> None:
    zombie = owner(tmp_path)
    zombie.submit(rows(4, 2))
    grown(tmp_path, FEW)
    for _ in range(2):
        aged(tmp_path, MERGE_AFTER_S)
        merge(tmp_path, SCHEMA, 1, time.time())
    with pytest.raises(TransactionAborted, match="another writer"):
        zombie.flush()
    assert offsets(tmp_path) == list(range(2 * FEW))


def test_files_and_manifests_are_on_disk_before_they_are_named(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    done: list[str] = []
    fsync, link = os.fsync, os.link

    def synced(handle: int) -> None:
        done.append(f"sync {Path(os.readlink(f'/proc/self/fd/{handle}')).name}")
        fsync(handle)

    def linked(draft: Path, target: Path) -> None:
        done.append(f"link {Path(target).name}")
        link(draft, target)

    monkeypatch.setattr(os, "fsync", synced)
    monkeypatch.setattr(os, "link", linked)
    archive = owner(tmp_path)
    archive.submit(rows(0, 1))
    archive.flush()
    folder, *rest = [re.sub(r"[-.\d].*", "", word) for word in done]
    assert folder == re.sub(r"[-.\d].*", "", f"sync {tmp_path.name}"), "the day's folder is new"
    assert rest == ["sync p", "sync dt=", "sync p", "link p", "sync _manifests"]
