"""What commands print of others' words, which numbers they take, and how they end: no markup, no escape, no traceback."""

from __future__ import annotations

import argparse
import json
import os
import signal
import subprocess
import sys
import time
from collections.abc import Callable
from pathlib import Path

import pytest
from typer.testing import CliRunner

import feature_jobs.cli
import training_triggers.cli
from infra import console
from infra.cli import record_lines
from infra.cli.main import app, main
from infra.records import decoded
from infra.settings import ROOT
from schemas.topics import CONTENT
from streams.process.arguments import real, whole
from streams.rows import Polled
from streams.schema_registry import MemoryRegistry
from streams.terminal_text import as_json, moment, visible

HOSTILE = "[/red] [bold]x[/] \x1b]0;owned\x07\x1b[2J \x9b31m \x85 \u2028 \u202egpj\u202c \r\n end\\"


def test_nothing_that_a_terminal_obeys_is_left(capsys: pytest.CaptureFixture[str]) -> None:
    shown = visible(HOSTILE, keep="")
    assert not any(ord(c) < 32 or 127 <= ord(c) < 160 or c in "\u2028\u202e" for c in shown)
    assert "\\x1b]0;owned\\x07" in shown
    assert visible("a\tb\nc") == "a\tb\nc", "lines stay lines"
    console.table("t", ("a", "b"), [(HOSTILE, HOSTILE), (console.marked("[green]✓[/]"), "x")])
    console.out.print(f"[red]{console.escape(HOSTILE)}[/] after")
    out = capsys.readouterr().out
    assert "[/red] [bold]x[/]" in out and "after" in out and "✓" in out
    assert not set("\x1b\x07\x9b\x85\u2028\u202e") & set(out)


def test_json_is_the_same_value_for_programs() -> None:
    value = {"text": HOSTILE, HOSTILE: [1, None, True], "ü": "漢"}
    line = as_json(value)
    assert json.loads(line) == value
    assert "\x9b" not in line and "\u2028" not in line and "漢" in line
    assert json.loads(as_json({"a": float("nan"), "b": [float("inf"), 1.5]})) == {"a": None, "b": [None, 1.5]}


def test_times_say_their_zone_and_are_never_an_error() -> None:
    assert moment(1_790_000_000_123) == "2026-09-21T14:13:20.123Z"
    assert moment(-1) == "1969-12-31T23:59:59.999Z"
    assert moment(2**62) == f"{2**62} ms"


def test_records_with_null_headers_and_hostile_keys_are_shown(capsys: pytest.CaptureFixture[str]) -> None:
    polled = Polled()
    polled.extend(
        Polled(
            places=[(CONTENT.name, 0)] * 3,
            offsets=[0, 1, 2],
            timestamps_ms=[0, 2**62, -1],
            keys=[None, b"\xff\x1b[2J", b"k"],
            values=[None, b"junk", b""],
            headers=[
                [("trace", None)],  # type: ignore[list-item]  # as Kafka allows
                [("\x1b]0;x", b"\x9b[1m[/red]"), ("error-code", b"[/red]")],
                None,
            ],
        )
    )
    for record in decoded(polled, MemoryRegistry()):
        for as_json_ in (False, True):
            record_lines.show_record(record, as_json_)
            record_lines.show_fields(record, as_json_)
    out = capsys.readouterr().out
    assert not {c for c in out if ord(c) < 32 or 127 <= ord(c) < 160} - {"\n"}
    assert "[/red]" in out


def test_a_batch_that_another_schema_calls_so_is_shown(capsys: pytest.CaptureFixture[str]) -> None:
    record = {"topic": "t", "partition": 0, "offset": 0, "timestamp_ms": 0, "key": "", "headers": {}, "value": {"request_ids": 7}}
    record_lines.show_fields(record, False)


@pytest.mark.parametrize(
    "words",
    [
        "demo --count 0",
        "demo --count -3",
        "logs --lines 0",
        "logs --lines -1",
        "send vision --top 0",
        "send moderation --deadline-ms 0",
        "send moderation --deadline-ms 99999999999999999999",
        "tail content-v1 -n -1",
        "models challenge m v --share 0",
        "models challenge m v --share 1.5",
        "models challenge m v --share nan",
        "models accuracy m --hours 0",
        "models accuracy m --hours nan",
        "models accuracy m --hours -1",
        "models accuracy m --hours inf",
    ],
)
def test_a_number_out_of_range_is_refused(words: str, monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    monkeypatch.setenv("MILLRACE_HOME", str(tmp_path))
    done = CliRunner().invoke(app, words.split())
    assert done.exit_code == 2, done.output


@pytest.mark.parametrize(
    ("command", "words"),
    [
        *(
            (feature_jobs.cli.main, words)
            for words in (
                "generate --rate 0",
                "generate --rate -1",
                "generate --rate nan",
                "generate --users 0",
                "generate --days 7",
                "generate --seconds inf",
                "parity --sample 0",
                "parity --sample -5",
                "replay --data x --speed 0",
            )
        ),
        *(
            (training_triggers.cli.main, words)
            for words in (
                "accuracy m --hours nan",
                "challenge m v --share 0",
                "replay-compare m --candidate 2 --limit 0",
                "serve drift --slot -1",
            )
        ),
    ],
)
def test_other_packages_refuse_them_too(
    command: Callable[[], object], words: str, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.setattr(sys, "argv", ["x", *words.split()])
    with pytest.raises(SystemExit) as ended:
        command()
    assert ended.value.code == 2
    assert " is not " in capsys.readouterr().err


@pytest.mark.parametrize(
    ("taken", "text"),
    [(whole(0, 5), t) for t in ("-1", "6", "1.0", "x", "", "1e3")]
    + [(real(0.0, 1.0, above=True), t) for t in ("0", "nan", "inf", "-inf", "1.1", "x")],
)
def test_what_an_argument_takes(taken: Callable[[str], float], text: str) -> None:
    with pytest.raises(argparse.ArgumentTypeError, match=text or "''"):
        taken(text)
    assert (whole(0, 5)("5"), real(0.0, 1.0, above=True)("1")) == (5, 1.0)


@pytest.mark.parametrize("to_child", [True, False])
def test_an_interrupt_ends_a_command_of_another_package_without_a_traceback(to_child: bool, tmp_path: Path) -> None:
    """Sent to the terminal's whole group, as Ctrl-C is, or to the command alone; and where the command is still importing."""
    (tmp_path / "slow_command.py").write_text("import time\nprint('begun', flush=True)\ntime.sleep(60)\n")
    code = "from infra.subcommands import python; import sys; sys.exit(python('slow_command'))"
    env = {**os.environ, "PYTHONPATH": f"{ROOT}{os.pathsep}{tmp_path}"}
    command = [sys.executable, "-c", code]
    with subprocess.Popen(
        command, env=env, text=True, stdout=subprocess.PIPE, stderr=subprocess.PIPE, start_new_session=True
    ) as done:
        assert done.stdout is not None and done.stderr is not None
        assert done.stdout.readline() == "begun\n"
        time.sleep(0.2)
        os.killpg(done.pid, signal.SIGINT) if to_child else done.send_signal(signal.SIGINT)
        assert done.wait(60) == 130
        assert done.stderr.read() == ""


def test_a_command_of_another_package_prints_no_escapes_and_keeps_its_exit_code(tmp_path: Path) -> None:
    (tmp_path / "rude.py").write_text("import sys\nprint('a\\x1b[2Jb\\tc')\nprint('\\x9b', file=sys.stderr)\nsys.exit(7)\n")
    env = {**os.environ, "PYTHONPATH": f"{ROOT}{os.pathsep}{tmp_path}"}
    done = subprocess.run(
        [sys.executable, "-m", "infra.run_module", "rude"], env=env, capture_output=True, text=True, check=False
    )
    assert (done.returncode, done.stdout, done.stderr) == (7, "a\\x1b[2Jb\tc\n", "\\x9b\n")


@pytest.mark.parametrize("number", [signal.SIGINT, signal.SIGTERM])
def test_a_command_of_another_package_cleans_up_when_it_is_ended(tmp_path: Path, number: int) -> None:
    code = (
        "import time\ntry:\n    print('begun', flush=True)\n    time.sleep(60)\nfinally:\n    print('cleaned up', flush=True)\n"
    )
    (tmp_path / "slow.py").write_text(code)
    env = {**os.environ, "PYTHONPATH": f"{ROOT}{os.pathsep}{tmp_path}"}
    with subprocess.Popen([sys.executable, "-m", "infra.run_module", "slow"], env=env, text=True, stdout=subprocess.PIPE) as done:
        assert done.stdout is not None
        assert done.stdout.readline() == "begun\n"
        done.send_signal(number)
        assert done.wait(60) == 130
        assert done.stdout.read() == "cleaned up\n"


@pytest.mark.parametrize("words", ["status", "down", "up", "topics", "doctor", "models history m", "monitor"])
@pytest.mark.parametrize("broken", ["a file for a folder", "state"])
def test_a_fault_of_the_disk_is_told_in_a_line(
    words: str, broken: str, monkeypatch: pytest.MonkeyPatch, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    if (words, broken) == ("down", "a file for a folder"):
        pytest.skip("nothing is there that could run")
    home = tmp_path / "home"
    if broken == "a file for a folder":
        home.write_text("")
    else:
        (home / "run").mkdir(parents=True)
        (home / "run" / "state.json").write_text("{broken")
    monkeypatch.setenv("MILLRACE_HOME", str(home))
    monkeypatch.setattr("infra.local.stack.fetch", lambda *words, **options: None)
    monkeypatch.setattr(sys, "argv", ["./millrace", *words.split()])
    with pytest.raises(SystemExit) as ended:
        main()
    assert ended.value.code == 1
    assert str(home) in capsys.readouterr().err
