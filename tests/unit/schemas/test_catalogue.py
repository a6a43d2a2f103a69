"""The catalogue of topics, records and headers: complete, consistent, and said once."""

from __future__ import annotations

import ast
import re
import subprocess
import sys
from collections import Counter
from inspect import get_annotations
from pathlib import Path
from typing import Any

import pytest

from inference_workers.settings import WorkerSettings
from inference_workers.task import find_task, task_names
from infra.provision import explain, forgetful, specs
from infra.settings import ROOT
from schemas import avro, errors, generated
from schemas.codec import Encoder, read_any
from schemas.errors import BadSettings, MillraceError
from schemas.topic_kinds import dead_letter_name, retry_name
from schemas.topics import CATALOGUE, CONSUMPTIONS, CONTENT, LABEL_HORIZON_MS, LABELS_TIMELY, PREDICTION_LOG, TASKS
from streams import headers, metrics
from streams.process.settings import load, origins
from streams.schema_registry import MemoryRegistry
from tests.support import house

RECORDS = {kind.RECORD: kind for kind in vars(generated).values() if hasattr(kind, "RECORD")}


@pytest.mark.parametrize("topic", CATALOGUE, ids=lambda topic: topic.name)
def test_each_topic_is_well_named_and_has_a_writer_and_a_reader(topic: Any) -> None:
    assert re.fullmatch(r"[a-z][a-z0-9-]*-v\d+", topic.name)
    assert topic.writers
    assert topic.readers
    assert topic.partitions > 0


HEADERS = {value: name for name, value in vars(headers).items() if name.isupper() and isinstance(value, str)}
WORDS = Counter(word for module in house.modules() for word in re.findall(r"\w+", module.path.read_text()))  # of the product


@pytest.mark.parametrize("header", headers.CATALOGUE, ids=lambda header: header.name)
def test_each_header_has_a_meaning_a_writer_and_a_reader_and_is_used(header: headers.Header) -> None:
    assert header.writers
    assert header.readers
    assert header.meaning
    assert WORDS[HEADERS[header.name]] > 2, "nothing but its definition and its line of the catalogue names it"


def test_each_header_constant_is_in_the_catalogue() -> None:
    names = {v for k, v in vars(headers).items() if k.isupper() and isinstance(v, str) and k != "KIP_1034"}
    assert names == {header.name for header in headers.CATALOGUE}


def test_joined_topics_have_equal_partitions() -> None:
    by_name = {spec.name: spec.partitions for spec in specs()}
    for taken in CONSUMPTIONS:
        derived = (*taken.retry_topics(), taken.dead_letter_topic, *([taken.results.name] if taken.results else []))
        assert {by_name[name] for name in derived} == {taken.topic.partitions}


def test_what_a_label_waits_for_is_kept_as_long_as_it_may_wait() -> None:
    assert min(topic.retention_ms for topic in (PREDICTION_LOG, *(taken.topic for taken in TASKS))) > LABEL_HORIZON_MS
    assert LABELS_TIMELY.retention_ms > LABEL_HORIZON_MS


def test_a_dead_letter_topic_takes_the_largest_record_with_its_headers() -> None:
    by_name = {spec.name: int(spec.config["max.message.bytes"]) for spec in specs()}
    for taken in CONSUMPTIONS:
        assert by_name[taken.dead_letter_topic] > by_name[taken.topic.name] > taken.topic.max_record_bytes


def test_names_of_retry_and_dead_letter_topics() -> None:
    assert retry_name("content-v1", "moderation", 1500) == "content-v1-moderation-retry-1500ms"
    assert dead_letter_name("content-v1", "moderation") == "content-v1-moderation-dlq"
    with pytest.raises(BadSettings):
        dead_letter_name("t" * 250, "g")


@pytest.mark.parametrize("record", avro.record_names())
def test_each_example_round_trips_through_avro_and_its_dataclass(record: str) -> None:
    ids = MemoryRegistry()
    ids.register("s", avro.schema(record))
    assert avro.examples(record), f"{record} has no example"
    for example in avro.examples(record).values():
        made = RECORDS[record].from_dict(avro.from_json(example, avro.schema(record)))
        assert RECORDS[record].from_dict(read_any(Encoder(record, "s", ids).encode_one(made), ids)) == made


def test_each_result_record_begins_with_the_same_fields() -> None:
    (first, *others) = [avro.schema(t.results.record_name)["fields"] for t in map(find_task, task_names())]
    names = [field["name"] for field in first]
    common = names[: names.index("features") + 1]
    for other in others:
        assert [field["name"] for field in other][: len(common)] == common


def test_generated_dataclasses_are_what_the_schemas_say() -> None:
    assert subprocess.run([sys.executable, "-m", "schemas.generate", "--check"], cwd=ROOT, check=False).returncode == 0


def test_a_refused_schema_is_explained_field_by_field() -> None:
    old = avro.schema("content")
    new = {**old, "fields": [*old["fields"][1:], {"name": "language", "type": "string"}]}
    words = explain(CONTENT, old, new, "io.apicurio.x.UnprocessableSchemaException")
    assert "language is new and has no default" in words
    assert "content_id was removed" in words
    assert "io.apicurio" not in words


def test_metric_names_follow_prometheus() -> None:
    for metric in metrics.CATALOGUE.values():
        assert metric.exported.startswith("millrace_")
        assert (metric.kind is metrics.Kind.COUNTER) == metric.exported.endswith("_total")


def test_a_bad_setting_names_the_variable_and_what_it_takes() -> None:
    with pytest.raises(BadSettings, match=r"MILLRACE_MAX_BATCH_REQUESTS is 'many'; it must be a whole number from 1 to 10000"):
        load(WorkerSettings, {"MILLRACE_MAX_BATCH_REQUESTS": "many"})
    with pytest.raises(BadSettings, match="exactly-once"):
        load(WorkerSettings, {"MILLRACE_DELIVERY": "twice"})


def test_a_tasks_own_variable_wins_and_config_says_so() -> None:
    env = {"MILLRACE_MAX_BATCH_REQUESTS": "32", "MILLRACE_MODERATION__MAX_BATCH_REQUESTS": "16"}
    assert load(WorkerSettings, env, "moderation").max_batch_requests == 16
    assert load(WorkerSettings, env, "other").max_batch_requests == 32
    (found,) = [one for one in origins(WorkerSettings, env, "moderation") if one.name == "MILLRACE_MAX_BATCH_REQUESTS"]
    assert found.origin == "MILLRACE_MODERATION__MAX_BATCH_REQUESTS"


# Fields of its own: those of a parent are counted there. The numbers only shrink.
MANY_SETTINGS = {"TriggerSettings": 28}


def test_no_class_of_settings_has_more_than_fifteen() -> None:
    own = {kind.__name__: len(get_annotations(kind)) for kind in house.settings_classes()}
    assert {"WorkerSettings", "StackSettings", "TriggerSettings", "GroupSettings"} <= own.keys()
    assert {name: number for name, number in own.items() if number > 15} == MANY_SETTINGS


SOURCES = [
    file for package in (*house.PACKAGES, "tests") for file in (ROOT / package).rglob("*.py") if file.name != "generated.py"
]


def error_classes() -> dict[str, ast.ClassDef]:
    """By name, each class of the product under MillraceError, wherever it lies."""
    classes = {node.name: node for module in house.modules() for node in ast.walk(module.tree) if isinstance(node, ast.ClassDef)}
    tree = {"MillraceError": classes["MillraceError"]}
    while True:
        below = {
            name: node
            for name, node in classes.items()
            if name not in tree and any(isinstance(base, ast.Name) and base.id in tree for base in node.bases)
        }
        if not below:
            return tree
        tree |= below


def test_errors_form_one_tree_and_each_has_a_code_of_its_own() -> None:
    codes: dict[str, str] = {}
    for name, node in error_classes().items():
        assigned = {
            target.id: statement.value.value
            for statement in node.body
            if isinstance(statement, ast.Assign) and isinstance(statement.value, ast.Constant)
            for target in statement.targets
            if isinstance(target, ast.Name)
        }
        code = assigned.get("code")
        assert isinstance(code, str) and re.fullmatch(r"[a-z-]+", code), f"{name} has no code"
        assert codes.setdefault(code, name) == name, f"{name} and {codes[code]} have the code {code}"
    assert len(codes) > 30
    for kind in vars(errors).values():
        if isinstance(kind, type) and issubclass(kind, MillraceError):
            assert kind.__name__ in (errors.__doc__ or "")


def test_the_fate_of_an_error_is_its_classs() -> None:
    from schemas.errors import Fate

    roots = {
        errors.RecordError: Fate.DEAD_LETTER,
        errors.RetryLater: Fate.RETRY,
        errors.TransactionAborted: Fate.REWIND,
        errors.Stop: Fate.STOP,
    }
    for kind in vars(errors).values():
        if isinstance(kind, type) and issubclass(kind, MillraceError) and issubclass(kind, tuple(roots)):
            assert kind.fate is next(fate for root, fate in roots.items() if issubclass(kind, root))
    assert errors.Fenced.fate is Fate.REWIND
    assert errors.MemberFenced.fate is Fate.STOP


@pytest.mark.parametrize("file", SOURCES, ids=lambda file: str(file.relative_to(ROOT)))
def test_modules_are_short_and_named_for_what_they_are(file: Path) -> None:
    lines = file.read_text().splitlines()
    # The page of all topics grows by a block per topic.
    most = 16 * len(CATALOGUE) if file == ROOT / "schemas" / "topics.py" else 480
    assert len(lines) <= most, "tests too; those of the product are bounded in test_house.py"
    for word in ("manager", "handler", "helper", "utils", "common"):
        assert word not in file.stem
    for line in lines:
        if line.startswith("class "):
            assert not re.search(r"(Manager|Handler|Helper|Utils?|Common)\b", line.split("(")[0])


def test_committed_text_names_no_machine() -> None:
    texts = [*SOURCES, *ROOT.glob("*.md"), *(ROOT / "docs").rglob("*.md")]
    folder = "/" + "work/"  # in two parts, as this file is looked at too
    assert [file for file in texts if folder in file.read_text()] == []


def test_a_broker_that_forgets_a_groups_place_before_its_records_is_told_of() -> None:
    a_week, a_year = 7 * 24 * 60, 366 * 24 * 60
    (difference,) = forgetful(a_week, CATALOGUE)
    assert "offsets.retention.minutes" in difference
    assert forgetful(a_year, CATALOGUE) == []
