"""What every kind of task keeps to: the checks of `inference_workers/check.py`, on small models that are made here."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import numpy as np
import onnx
import pytest
import torch
import transformers
from onnx import TensorProto, helper

from inference_workers.check import CHECKS, CheckFailed, Subject, columns_of, examples, fitting, with_features
from inference_workers.kinds.tabular import Tabular
from inference_workers.media.reader import MediaReader
from inference_workers.models.addresses import open_for
from inference_workers.task import KIND_MODULES, Task, Version, find_task, loaded
from schemas import catalogue
from schemas.declared.declarations import Declaration, text_of
from schemas.declared.task_kinds import TaskKind
from schemas.errors import ModelRefused
from streams.claim_checks import ClaimChecks
from tests.contract.test_huggingface import texts, tokenizer, translation, vision
from tests.contract.test_huggingface import transcription as speech

Make = Callable[[Path], str]  # writes a model into a folder and returns its address


@pytest.fixture(scope="module")
def media() -> Iterator[MediaReader]:
    reader = MediaReader(ClaimChecks(()))
    yield reader
    reader.close()


def bert(folder: Path, kind: Any, **more: Any) -> None:
    torch.manual_seed(1)
    words = tokenizer(folder)
    config = transformers.BertConfig(
        vocab_size=len(words),
        hidden_size=16,
        num_hidden_layers=1,
        num_attention_heads=2,
        intermediate_size=16,
        max_position_embeddings=64,
        pad_token_id=0,
        **more,
    )
    kind(config).save_pretrained(folder)


def names(folder: Path) -> None:
    bert(folder, transformers.BertForTokenClassification, id2label={0: "O", 1: "B-PER", 2: "I-PER"})


def sentences(folder: Path) -> None:
    bert(folder, transformers.BertModel)


def in_layout(save: Callable[[Path], None]) -> Make:
    def make(folder: Path) -> str:
        save(folder)
        return f"hf:{folder}"

    return make


def table(folder: Path, columns: tuple[str, ...] = ("amount", "user:total_purchases"), classes: int = 2) -> str:
    """A linear model with one input per column, as scikit-learn's exporter writes them."""
    inputs = [helper.make_tensor_value_info(name, TensorProto.FLOAT, [None, 1]) for name in columns]
    weights = np.linspace(-1, 1, len(columns) * classes, dtype=np.float32).reshape(len(columns), classes)
    nodes = [
        helper.make_node("Concat", list(columns), ["row"], axis=1),
        helper.make_node("MatMul", ["row", "weights"], ["logits"]),
        helper.make_node("Softmax", ["logits"], ["probabilities"], axis=1),
        helper.make_node("ArgMax", ["logits"], ["label"], axis=1, keepdims=0),
    ]
    outputs = [
        helper.make_tensor_value_info("label", TensorProto.INT64, [None]),
        helper.make_tensor_value_info("probabilities", TensorProto.FLOAT, [None, classes]),
    ]
    constant = helper.make_tensor("weights", TensorProto.FLOAT, weights.shape, weights.ravel())
    return saved(folder, helper.make_graph(nodes, "table", inputs, outputs, [constant]))


def matrix(folder: Path) -> str:
    """A regression with one input for all columns."""
    inputs = [helper.make_tensor_value_info("float_input", TensorProto.FLOAT, [None, 3])]
    nodes = [helper.make_node("MatMul", ["float_input", "weights"], ["variable"])]
    constant = helper.make_tensor("weights", TensorProto.FLOAT, [3, 1], [1.0, 2.0, 3.0])
    outputs = [helper.make_tensor_value_info("variable", TensorProto.FLOAT, [None, 1])]
    return saved(folder, helper.make_graph(nodes, "matrix", inputs, outputs, [constant]))


def saved(folder: Path, graph: Any) -> str:
    file = folder / "model.onnx"
    onnx.save(helper.make_model(graph, opset_imports=[helper.make_opsetid("", 17)], ir_version=9), file)
    return f"file:{file}"


CASES: dict[TaskKind, tuple[Make, dict[str, Any]]] = {
    TaskKind.TEXT_CLASSIFICATION: (in_layout(texts), {}),
    TaskKind.TOKEN_CLASSIFICATION: (in_layout(names), {}),
    TaskKind.EMBEDDING: (in_layout(sentences), {"normalise": True}),
    TaskKind.IMAGE_CLASSIFICATION: (in_layout(vision), {}),
    TaskKind.TRANSCRIPTION: (in_layout(speech), {}),
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
    folders = {model: open_for(model, source) for model, source in task.models.items()}
    versions = {model: Version(folder, task.load(folder, model)) for model, folder in folders.items()}
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
            loaded(task, open_for("mine", f"hf:{tmp_path}"), "mine")
