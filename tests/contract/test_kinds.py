"""What every kind of task keeps to: the checks of `inference_workers/check.py`, on small models that are made here."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import pytest

from inference_workers.check import CHECKS, CheckFailed, Subject, columns_of, examples, fitting, with_features
from inference_workers.kinds.tabular import Tabular
from inference_workers.media.reader import MediaReader
from inference_workers.models.addresses import open_for
from inference_workers.task import KIND_MODULES, Task, find_task, loaded
from schemas import catalogue
from schemas.declared.declarations import Declaration, text_of
from schemas.declared.task_kinds import TaskKind
from schemas.errors import ModelRefused
from streams.claim_checks import ClaimChecks
from tests.support.checkpoints import matrix, names, sentences, strict, table, texts, transcription, translation, vision

Make = Callable[[Path], str]  # writes a model into a folder and returns its address


@pytest.fixture(scope="module")
def media() -> Iterator[MediaReader]:
    reader = MediaReader(ClaimChecks(()))
    yield reader
    reader.close()


def in_layout(save: Callable[[Path], None]) -> Make:
    def make(folder: Path) -> str:
        save(folder)
        return f"hf:{folder}"

    return make


CASES: dict[TaskKind, tuple[Make, dict[str, Any]]] = {
    TaskKind.TEXT_CLASSIFICATION: (in_layout(texts), {}),
    TaskKind.TOKEN_CLASSIFICATION: (in_layout(names), {}),
    TaskKind.EMBEDDING: (in_layout(sentences), {"normalise": True}),
    TaskKind.IMAGE_CLASSIFICATION: (in_layout(vision), {}),
    TaskKind.TRANSCRIPTION: (in_layout(transcription), {}),
    TaskKind.TEXT_TO_TEXT: (in_layout(translation), {}),
    TaskKind.TABULAR: (table, {"features": ("user:total_purchases",), "labels": ("fine", "fraud")}),
}


def declared(monkeypatch: pytest.MonkeyPatch, folder: Path, kind: TaskKind, make: Make, options: dict[str, Any]) -> Task:
    (folder / "model").mkdir()
    declaration = Declaration(name="mine", kind=kind, model=make(folder / "model"), options=options)
    file = folder / "tasks.toml"
    file.write_text(text_of([declaration]))
    monkeypatch.setenv(catalogue.VARIABLE, str(file))
    return find_task("mine")


def subject(task: Task, media: MediaReader) -> Subject:
    versions = {model: loaded(task, model, source) for model, source in task.models.items()}
    return Subject(task, versions, media, fitting(task, versions, examples(task)))


@pytest.mark.parametrize("kind", CASES, ids=str)
def test_a_declared_task_keeps_to_what_every_task_keeps_to(
    kind: TaskKind, tmp_path: Path, media: MediaReader, monkeypatch: pytest.MonkeyPatch
) -> None:
    task = declared(monkeypatch, tmp_path, kind, *CASES[kind])
    tried = subject(task, media)
    for check in CHECKS:
        check(tried)
    (version,) = tried.versions.values()
    assert version.folder.name == "mine", "the log and updates name the model as the task does, whatever its maker called it"


def test_every_kind_has_its_code_and_is_tried_here() -> None:
    assert set(KIND_MODULES) == set(TaskKind)
    assert set(TaskKind) - set(CASES) <= {TaskKind.OCR}, "OCR is tried with the model that is fetched"
    folder = Path(__file__).parents[2] / "inference_workers" / "kinds"
    assert {file.stem for file in folder.glob("*.py")} == {*KIND_MODULES.values(), "__init__", "one_model"}


def test_a_check_fails_where_an_answer_depends_on_its_company(
    tmp_path: Path, media: MediaReader, monkeypatch: pytest.MonkeyPatch
) -> None:
    task = declared(monkeypatch, tmp_path, TaskKind.TABULAR, *CASES[TaskKind.TABULAR])
    tried = subject(task, media)
    right = Tabular.predict
    monkeypatch.setattr(Tabular, "predict", lambda self, inputs, versions: shifted(right(self, inputs, versions), len(inputs)))
    with pytest.raises(CheckFailed, match="depends on the others of its batch"):
        CHECKS[1](tried)


def shifted(prediction: Any, n: int) -> Any:
    prediction.uses[0].outputs[:] += n
    return prediction


def test_a_text_label_holds_from_the_threshold_of_its_model_unless_one_is_declared(
    tmp_path: Path, media: MediaReader, monkeypatch: pytest.MonkeyPatch
) -> None:
    (tmp_path / "declared").mkdir()
    (tmp_path / "own").mkdir()
    for folder, options in (("own", {}), ("declared", {"threshold": 0.9})):
        task = declared(
            monkeypatch, tmp_path / folder, TaskKind.TEXT_CLASSIFICATION, lambda _: "shipped:moderation-text", dict(options)
        )
        tried = subject(task, media)
        (version,) = tried.versions.values()
        saved = version.folder.config["thresholds"]
        assert len(set(saved.values())) > 1
        (use,) = task.predict(["Buy now, best price!"], tried.versions).uses
        assert use.thresholds is not None
        wanted = [options.get("threshold", saved[label]) for label in version.backend.labels]
        assert use.thresholds.tolist() == pytest.approx(wanted)
        (labels,) = task.predict(["Buy now, best price!"], tried.versions).results["labels"]  # type: ignore[misc]
        limits = dict(zip(version.backend.labels, wanted, strict=True))
        assert all(one["positive"] == (one["probability"] >= limits[one["label"]]) for one in labels)


# --- tables -----------------------------------------------------------------------------------------------------------


def test_a_row_that_the_model_cannot_read_is_refused_and_the_others_are_answered(
    tmp_path: Path, media: MediaReader, monkeypatch: pytest.MonkeyPatch
) -> None:
    task = declared(monkeypatch, tmp_path, TaskKind.TABULAR, *CASES[TaskKind.TABULAR])
    tried = subject(task, media)
    rows: list[dict[str, Any]] = [
        {"numbers": {"amount": 2.0, "extra": 1.0}, "categories": {}, "user_id": "u", "item_id": None},
        {"numbers": {}, "categories": {}, "user_id": "u", "item_id": None},
        {"numbers": {"amount": float("nan")}, "categories": {}, "user_id": None, "item_id": None},
        {"numbers": {}, "categories": {"amount": "much"}, "user_id": None, "item_id": None},
    ]
    prepared = task.prepare(with_features(task, columns_of(task, rows)), tried.versions, media)
    assert prepared.inputs == [{"amount": 2.0, "user:total_purchases": 0}]
    assert [str(error) for error in prepared.refused.values()] == [
        "the row lacks amount; the model reads amount, user:total_purchases",
        "amount is nan; it must be a finite number",
        "amount is a text; the model takes a number: put it under numbers",
    ]
    (best, _) = task.predict(prepared.inputs, tried.versions).results["labels"][0]  # type: ignore[index]
    assert best["positive"]
    assert best["label"] in ("fine", "fraud")


def test_a_matrix_needs_the_names_of_its_columns(tmp_path: Path, media: MediaReader, monkeypatch: pytest.MonkeyPatch) -> None:
    task = declared(monkeypatch, tmp_path, TaskKind.TABULAR, matrix, {"columns": ("a", "b", "c")})
    tried = subject(task, media)
    for check in CHECKS:
        check(tried)
    rows = [{"numbers": {"c": 1.0, "a": 1.0, "b": 0.0}, "categories": {}, "user_id": None, "item_id": None}]
    prepared = task.prepare(columns_of(task, rows), tried.versions, media)
    assert task.predict(prepared.inputs, tried.versions).results == {"value": [4.0]}
    folder = open_for("mine", f"file:{tmp_path / 'model' / 'model.onnx'}")
    for columns in ((), ("a", "b")):
        with pytest.raises(ModelRefused, match="one input of 3 columns"):
            Tabular(task.consumption, "mine", "", {"columns": columns}).load(folder, "mine")
    with pytest.raises(ModelRefused, match="predicts numbers"):
        Tabular(task.consumption, "mine", "", {"columns": ("a", "b", "c"), "labels": ("x", "y")}).load(folder, "mine")


def test_labels_must_be_as_many_as_the_model_has_classes(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    task = declared(monkeypatch, tmp_path, TaskKind.TABULAR, table, {"labels": ("a", "b", "c")})
    with pytest.raises(ModelRefused, match="has 2 classes, and labels names 3"):
        task.load(open_for("mine", task.models["mine"]), "mine")


def test_a_model_that_refuses_categories_that_we_make_up_needs_the_names_of_its_classes(
    tmp_path: Path, media: MediaReader, monkeypatch: pytest.MonkeyPatch
) -> None:
    task = declared(monkeypatch, tmp_path, TaskKind.TABULAR, strict, {"labels": ("fraud", "fine")})
    versions = {"mine": loaded(task, "mine", task.models["mine"])}
    rows: list[dict[str, Any]] = [
        {"numbers": {"amount": number}, "categories": {"country": "fr"}, "user_id": None, "item_id": None}
        for number in (0.0, 1.9, 1e30, -3.0)
    ]
    prepared = task.prepare(columns_of(task, rows), versions, media)
    assert [str(error) for error in prepared.refused.values()] == [
        "amount is 1.9; it must be a whole number of 64 bits",
        "amount is 1e+30; it must be a whole number of 64 bits",
    ]
    answers: Any = task.predict(prepared.inputs, versions).results["labels"]
    assert [answer[0]["label"] for answer in answers] == ["fraud", "fraud"]  # its own names, although its map is sorted
    with pytest.raises(ModelRefused, match=r"labels = "):
        Tabular(task.consumption, "mine", "", {}).load(versions["mine"].folder, "mine")


def test_a_number_that_the_models_type_cannot_hold_is_refused(
    tmp_path: Path, media: MediaReader, monkeypatch: pytest.MonkeyPatch
) -> None:
    task = declared(monkeypatch, tmp_path, TaskKind.TABULAR, matrix, {"columns": ("a", "b", "c")})
    versions = {"mine": loaded(task, "mine", task.models["mine"])}
    rows: list[dict[str, Any]] = [
        {"numbers": {"a": 1e39, "b": 0.0, "c": 0.0}, "categories": {}, "user_id": None, "item_id": None}
    ]
    refused = task.prepare(columns_of(task, rows), versions, media).refused
    assert str(refused[0]) == "a is 1e+39; it must be at most 3.4e+38 in size, since the model reads float32"


def test_a_model_of_another_kind_is_refused(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    vision(tmp_path)
    for kind in TaskKind:
        if kind is TaskKind.IMAGE_CLASSIFICATION:
            continue
        module = KIND_MODULES[kind]
        made = Declaration(name="mine", kind=kind, model="hf:x")
        task: Any = __import__(f"inference_workers.kinds.{module}", fromlist=["KIND"]).KIND(
            made.consumption(), "mine", "hf:x", {}
        )
        with pytest.raises(ModelRefused):
            loaded(task, "mine", f"hf:{tmp_path}")
