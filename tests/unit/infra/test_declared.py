"""The file of declared tasks as commands change it, and what tells one state of code from another."""

from __future__ import annotations

from pathlib import Path

import pytest

from inference_workers import check
from infra import declared
from infra.local import loop_processes
from infra.settings import StackSettings
from infra.tasks import remove
from schemas.declared.declarations import BadDeclaration, Declaration

TWO = '[tasks.first]\nkind = "ocr"\nmodel = "hf:x"\n\n[tasks.second]\nkind = "ocr"\nmodel = "hf:y"\n'


def settings(folder: Path) -> StackSettings:
    return StackSettings(home=str(folder / "home"), declarations=str(folder / "millrace.toml"))


def test_what_somebody_writes_while_a_task_is_removed_stays(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    file = tmp_path / "millrace.toml"
    file.write_text(TWO)

    def meanwhile(*_: object) -> None:
        file.write_text(f'{file.read_text()}\n[tasks.third]\nkind = "ocr"\nmodel = "hf:z"\n')

    monkeypatch.setattr(loop_processes, "stop_workers", meanwhile)
    remove.remove(settings(tmp_path), "first", delete_data=False, force=False)
    assert [task.name for task in declared.declared(settings(tmp_path))] == ["second", "third"]


def test_code_is_told_apart_by_its_own_files_only(tmp_path: Path) -> None:
    task = Declaration(name="mine", code=tmp_path / "task.py")
    (tmp_path / "task.py").write_text("TASK = None\n")
    for place in (".millrace/env", "venv", "node_modules", "parts"):
        (tmp_path / place).mkdir(parents=True)
    (tmp_path / "venv" / "pyvenv.cfg").touch()
    before = declared.with_digest(task)
    for place in (".millrace/env", "venv", "node_modules"):
        (tmp_path / place / "library.py").write_text("x = 1\n")
    assert declared.with_digest(task) == before
    (tmp_path / "parts" / "part.py").write_text("x = 1\n")
    assert declared.with_digest(task) != before


def test_code_that_cannot_be_read_is_said(tmp_path: Path) -> None:
    (tmp_path / "task.py").symlink_to("nowhere.py")
    with pytest.raises(BadDeclaration, match="cannot be read"):
        declared.with_digest(Declaration(name="mine", code=tmp_path / "task.py"))


def test_code_that_ends_the_process_does_not_pass_its_checks(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    from schemas import catalogue
    from schemas.declared.declarations import text_of
    from tests.support import own_task

    own_task.write(tmp_path)
    code = tmp_path / "mine" / "task.py"
    code.write_text(f"{code.read_text()}\nimport sys\nsys.exit(0)\n")
    (tmp_path / "tasks.toml").write_text(text_of([Declaration(name="mine", code=code, model="folder:mine/model")]))
    monkeypatch.setenv(catalogue.VARIABLE, str(tmp_path / "tasks.toml"))
    assert check.main(["mine"]) == 1
