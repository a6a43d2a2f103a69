"""Declared tasks: what a file may say, how it is refused, and the topics that follow."""

from __future__ import annotations

import json
import os
from pathlib import Path

import pytest
import tomlkit
from hypothesis import given
from hypothesis import strategies as st

from inference_workers.models.addresses import SPELLINGS, Scheme
from infra import subcommands
from schemas import avro, catalogue
from schemas.declared.declaration_file import ADDRESS_WORDS, parse
from schemas.declared.declaration_text import with_task, without_task
from schemas.declared.declarations import BadDeclaration, Declaration, text_of
from schemas.declared.task_kinds import KINDS, TaskKind
from schemas.errors import BadSettings
from schemas.topics import CATALOGUE, CONSUMPTIONS

FILE = Path("/somewhere/millrace.toml")
GOOD = """\
# mine
[tasks.sentiment]
kind = "text-classification"
model = "hf:some-org/some-model"
max_batch = 32
multi_label = true

[tasks.fraud]
kind = "tabular"
model = "file:fraud.onnx"
features = ["user:total_purchases", "item:price_cents"]
"""


def test_a_declaration_gives_topics_of_the_types_that_shipped_ones_have() -> None:
    sentiment, fraud = parse(GOOD, FILE)
    assert (sentiment.kind, sentiment.max_batch, sentiment.options) == (TaskKind.TEXT_CLASSIFICATION, 32, {"multi_label": True})
    assert fraud.model == "file:/somewhere/fraud.onnx"
    assert fraud.options["features"] == ("user:total_purchases", "item:price_cents")
    known = catalogue.with_declared((sentiment, fraud))
    assert [topic.name for topic in known.topics[len(CATALOGUE) :]] == [
        "sentiment-requests-v1",
        "sentiment-results-v1",
        "fraud-requests-v1",
        "fraud-results-v1",
    ]
    assert [task.dead_letter_topic for task in known.tasks[-2:]] == [
        "sentiment-requests-v1-sentiment-dlq",
        "fraud-requests-v1-fraud-dlq",
    ]
    assert parse(text_of([sentiment, fraud]), Path("/elsewhere/tasks.toml")) == (sentiment, fraud)


BAD = [
    ('kind = "text-clasification"', 3, "did you mean text-classification?"),
    ('kind = "text-classification"\ncode = "x.py"', 3, "kind and code"),
    ("", 2, "neither kind nor code"),
    ('kind = "ocr"', 2, "has no model"),
    ('kind = "ocr"\nmodel = "hf:x"\nmax_bach = 3', 5, "did you mean max_batch?"),
    ('kind = "ocr"\nmodel = "hf:x"\nmax_batch = 0', 5, "whole number from 1 to 10000"),
    ('kind = "ocr"\nmodel = "hf:x"\nmax_batch = true', 5, "whole number"),
    ('kind = "ocr"\nmodel = "hf:x"\nmax_wait_ms = nan', 5, "number from 0"),
    ('kind = "ocr"\nmodel = 3', 4, "must be a text"),
    ('kind = "tabular"\nmodel = "file:x"\nfeatures = ["user:shoe_size"]', 5, "has no feature shoe_size"),
    ('kind = "tabular"\nmodel = "file:x"\nfeatures = ["dog:age"]', 5, "no features of 'dog'"),
    ('kind = "tabular"\nmodel = "file:x"\nfeatures = "user:age"', 5, "list of texts"),
    ('kind = "embedding"\nmodel = "hf:x"\npooling = "men"', 5, "did you mean mean?"),
    ('code = "no/such/file.py"', 3, "no such file"),
    ("code = 7", 3, "path of a Python file"),
    ('kind = "ocr"\nmodel = "hff:org/x"', 4, "did you mean hf:?"),
    ('kind = "ocr"\nmodel = "org/x"', 4, "is not the address of a model"),
    ('kind = "tabular"\nmodel = "file:x"\nlabels = ["a", "b", "a"]', 5, "each of them once"),
    ('kind = "tabular"\nmodel = "file:x"\ncolumns = ["a", ""]', 5, "none of them empty"),
]


@pytest.mark.parametrize(("lines", "line", "words"), BAD, ids=[case[2] for case in BAD])
def test_a_wrong_declaration_is_refused_with_file_line_and_what_is_allowed(lines: str, line: int, words: str) -> None:
    with pytest.raises(BadDeclaration) as raised:
        parse(f"# first line\n[tasks.mine]\n{lines}\n", FILE)
    assert str(raised.value).startswith(f"{FILE}, line {line}: ")
    assert words in str(raised.value)


@pytest.mark.parametrize(
    "name",
    [
        "Mine",
        "a_b",
        "a--b",
        "-a",
        "a-",
        "ä",
        "a.b",
        "x" * 61,
        *(c.group for c in CONSUMPTIONS),
        "views",
        "kafka",
        "workers",
        "producers",
        "clients",
        "sinks",
        "flink-tiles",
        "moderation-text",
        "content",
    ],
)
def test_a_name_that_kafka_or_millrace_could_not_use_is_refused(name: str) -> None:
    text = tomlkit.dumps({"tasks": {name: {"kind": "ocr", "model": "hf:x"}}})
    if name == "content":  # content-v1 exists, content-requests-v1 does not
        assert parse(text, FILE)[0].name == name
        return
    with pytest.raises(BadDeclaration, match=r"cannot be the name of a task|is the name of a part of Millrace"):
        parse(text, FILE)


@pytest.mark.parametrize(
    ("text", "words"),
    [
        ("[tasks.a\n", "is not TOML"),
        ("tasks = 3\n", "tasks must be tables"),
        ("[task.a]\nkind = 'ocr'\n", "did you mean tasks?"),
        ("[tasks]\na = 3\n", "a task is a table"),
        (f"a = {'[' * 5_000}", "is not TOML"),
        ("[tasks.a]\nkind='ocr'\nmodel='x'\n[tasks.a]\nkind='ocr'\nmodel='x'\n", "is not TOML"),
    ],
)
def test_a_file_of_another_form_is_refused(text: str, words: str) -> None:
    with pytest.raises(BadDeclaration, match=words.replace("?", r"\?")):
        parse(text, FILE)


COMMENTED = """\
# about the file
[tasks.first]
kind = "ocr"  # reads
# within first
model = "hf:x"

# about the second
[tasks.second]
code = "two.py"
options = { a = 1 }

[tasks.second.more]
b = 2

# about the third
[tasks.third]
kind = "ocr"
model = "hf:y"
# at the end
"""


@pytest.mark.parametrize(
    ("name", "gone", "stays"),
    [
        ("first", ["[tasks.first]", "# reads", "# within first"], ["# about the file", "# about the second", "# at the end"]),
        ("third", ["[tasks.third]", "hf:y"], ["# about the third", "# at the end", "# within first"]),
    ],
)
def test_a_task_is_taken_out_of_the_file_and_what_people_wrote_about_others_stays(
    name: str, gone: list[str], stays: list[str]
) -> None:
    text = COMMENTED.replace("\n[tasks.second.more]\nb = 2\n", "")
    left = without_task(text, FILE, name)
    assert not [words for words in gone if words in left]
    assert not [words for words in stays if words not in left]
    assert tomlkit.parse(left)["tasks"].keys() == tomlkit.parse(text)["tasks"].keys() - {name}


def test_all_tables_of_a_task_are_taken_out() -> None:
    left = without_task(COMMENTED, FILE, "second")
    assert list(tomlkit.parse(left)["tasks"]) == ["first", "third"]
    assert "# about the third" in left


def test_a_task_in_a_form_that_cannot_be_taken_out_is_refused_and_so_is_one_that_cannot_be_added() -> None:
    inline = 'tasks = { mine = { kind = "ocr", model = "hf:x" } }\n'
    with pytest.raises(BadDeclaration, match="delete it by hand"):
        without_task(inline, FILE, "mine")
    with pytest.raises(BadDeclaration, match=r"Write each as a table, \[tasks.NAME\]"):
        with_task(inline, FILE, "other", {"kind": "ocr", "model": "hf:x"})
    with pytest.raises(BadDeclaration, match="is not TOML"):
        with_task("[tasks.mine\n", FILE, "other", {"kind": "ocr", "model": "hf:x"})


def test_a_task_is_added_below_what_people_wrote() -> None:
    text = with_task(GOOD, FILE, "mine", {"kind": "ocr", "model": 'hf:a"b', "workers": 2})
    assert text.startswith(GOOD.rstrip())
    assert without_task(text, FILE, "mine") == GOOD
    assert parse(text, FILE)[-1] == Declaration(name="mine", kind=TaskKind.OCR, model='hf:a"b', workers=2)


JSON = st.recursive(
    st.none() | st.booleans() | st.integers(-(2**63), 2**63 - 1) | st.floats(allow_nan=True) | st.text(max_size=8),
    lambda inner: st.lists(inner, max_size=3) | st.dictionaries(st.text(max_size=6), inner, max_size=3),
    max_leaves=8,
)
KEYS = st.sampled_from(["kind", "code", "model", "max_batch", "workers", "features", "labels", "options", "threshold", "other"])
VALUES = JSON | st.sampled_from([*map(str, TaskKind), "hf:x", "file:y", "../mine.py", 3, ["user:age"]])


@given(st.dictionaries(st.text(max_size=5) | st.just("mine"), st.dictionaries(KEYS, VALUES, max_size=5) | JSON, max_size=2))
def test_whatever_a_file_holds_is_a_declaration_or_refused(tasks: dict[str, object]) -> None:
    try:
        text = tomlkit.dumps({"tasks": _without_null(tasks)})
    except (ValueError, TypeError, UnicodeError):
        return
    try:
        declared = parse(text, FILE)
    except BadDeclaration:
        return
    assert parse(text_of(declared), FILE) == declared
    catalogue.with_declared(declared)


def _without_null(value: object) -> object:
    if isinstance(value, dict):
        return {key: _without_null(item) for key, item in value.items() if item is not None}
    return [_without_null(item) for item in value if item is not None] if isinstance(value, list) else value


# --- the catalogue of a process ---------------------------------------------------------------------------------------


def test_a_process_knows_a_task_as_soon_as_the_file_names_it(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    file = tmp_path / "tasks.toml"
    monkeypatch.setenv(catalogue.VARIABLE, str(file))
    with pytest.raises(BadSettings, match="no task 'mine'"):
        catalogue.consumption("mine")
    file.write_text(text_of([Declaration(name="mine", kind=TaskKind.OCR, model="hf:x")]))
    assert catalogue.consumption("mine").topic.name == "mine-requests-v1"
    assert catalogue.topics_read_by("mine")[0] == "mine-requests-v1"
    assert catalogue.catalogue() is catalogue.catalogue()
    staging = tmp_path / "part"
    staging.write_text(text_of([Declaration(name="next", kind=TaskKind.OCR, model="hf:x")]))
    os.replace(staging, file)
    assert [declared.name for declared in catalogue.catalogue().declared] == ["next"]
    file.unlink()
    assert catalogue.catalogue().topics == CATALOGUE


def test_every_kind_has_records_that_a_failure_and_a_request_can_be_written_with() -> None:
    common = [field["name"] for field in avro.schema("vision-result")["fields"]]
    common = common[: common.index("features") + 1]
    for kind in KINDS.values():
        assert avro.examples(kind.request.RECORD)
        fields = avro.schema(kind.result.RECORD)["fields"]
        assert [field["name"] for field in fields][: len(common)] == common
        assert all("default" in field for field in fields[len(common) :])


# --- records of code of one's own -------------------------------------------------------------------------------------

REQUEST = {"type": "record", "name": "Request", "fields": [{"name": "n", "type": "long"}]}
RESULT = {"type": "record", "name": "Result", "fields": [{"name": "twice", "type": "long", "default": 0}]}


def own(folder: Path, request: object = REQUEST, result: object = RESULT, name: str = "own") -> Declaration:
    (folder / "task.py").write_text("TASK = None\n")
    (folder / "request.avsc").write_text(json.dumps(request))
    (folder / "result.avsc").write_text(json.dumps(result))
    (declared,) = parse(f'[tasks.{name}]\ncode = "task.py"\n', folder / "millrace.toml")
    return declared


def test_a_result_of_code_of_ones_own_begins_with_the_fields_of_every_result(tmp_path: Path) -> None:
    taken = own(tmp_path).consumption()
    assert taken.results is not None
    names = [field["name"] for field in avro.schema(taken.results.record_name)["fields"]]
    assert names[0] == "request_id"
    assert names[-2:] == ["features", "twice"]
    assert [field["name"] for field in avro.schema(taken.topic.record_name)["fields"]] == ["n"]


@pytest.mark.parametrize("name", ["text", "embedding", "vision-x"])
def test_records_of_ones_own_take_the_place_of_no_others(tmp_path: Path, name: str) -> None:
    """A task called text had text-request as its record, and so had every text task of the process from then on."""
    shipped = avro.schema("text-request"), avro.schema("embedding-result")
    own(tmp_path, name=name).consumption()
    assert (avro.schema("text-request"), avro.schema("embedding-result")) == shipped


def test_a_list_of_the_addresses_schemes_is_whole() -> None:
    assert {*map(str, Scheme), *SPELLINGS, "mlflow"} == set(ADDRESS_WORDS)


@pytest.mark.parametrize(
    ("result", "words"),
    [
        ({**RESULT, "fields": [{"name": "twice", "type": "long"}]}, "needs a default"),
        ({**RESULT, "fields": [{"name": "status", "type": "string", "default": ""}]}, "every result has the field status"),
        ({**RESULT, "fields": [{"name": "x", "type": "nothing", "default": 0}]}, "is not one of Avro"),
        ({"type": "array", "items": "long"}, "schema of a record"),
        ([], "schema of a record"),
    ],
)
def test_records_that_cannot_be_used_are_refused_with_their_file(tmp_path: Path, result: object, words: str) -> None:
    with pytest.raises(BadDeclaration, match=words) as raised:
        own(tmp_path, result=result).consumption()
    assert "result.avsc" in str(raised.value)


def test_a_command_follows_the_file_of_its_home_and_passes_it_on_to_no_stack_of_another(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """A variable would be inherited: a test's stack once read the declared tasks of the home in which the tests ran."""
    monkeypatch.setattr(catalogue, "_followed", "")
    monkeypatch.setenv("MILLRACE_HOME", str(tmp_path))
    monkeypatch.delenv(catalogue.VARIABLE, raising=False)
    subcommands.know_declared_tasks()
    assert catalogue.followed() == str(tmp_path / "run" / "tasks.toml")
    assert catalogue.VARIABLE not in os.environ
    monkeypatch.setenv(catalogue.VARIABLE, "/elsewhere.toml")
    assert catalogue.followed() == "/elsewhere.toml"
