"""Java programs start with the classes that an earlier run of them has read."""

from __future__ import annotations

import subprocess
from pathlib import Path

from infra.local.java import java, share_own_classes, shared_classes


def classes_of(archive: Path) -> set[str]:
    """Where a small program of the runtime finds its classes."""
    log = archive.with_suffix(".log")
    command = [java(), *shared_classes(archive), f"-Xlog:class+load:file={log}", "-m", "jdk.httpserver", "-h"]
    done = subprocess.run(command, capture_output=True, text=True, timeout=180, check=False)
    assert done.returncode == 0 and not done.stderr, done.stderr
    return {line.partition("source: ")[2] for line in log.read_text().splitlines() if "source: " in line}


def test_where_no_archive_can_lie_programs_start_without(tmp_path: Path) -> None:
    share_own_classes()
    (tmp_path / "file").write_text("")
    assert shared_classes(tmp_path / "file" / "program.jsa") == ()


def test_a_second_run_maps_what_the_first_read_and_a_damaged_archive_is_written_anew(tmp_path: Path) -> None:
    share_own_classes()
    archive = tmp_path / "kept" / "program.jsa"
    assert "shared objects file (top)" not in classes_of(archive)
    assert "shared objects file (top)" in classes_of(archive)
    archive.write_bytes(archive.read_bytes()[:100_000])
    assert "shared objects file (top)" not in classes_of(archive), "it starts as without an archive"
    assert "shared objects file (top)" in classes_of(archive)
