"""Reads `millrace.toml`. Every error names the file, the line, and what is allowed there."""

from __future__ import annotations

import difflib
import re
import tomllib
from collections.abc import Iterable, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any, NoReturn

from schemas.declared.declarations import CODE_DIGEST, BadDeclaration, Declaration
from schemas.declared.task_kinds import KINDS, Option, OptionValue, TaskKind
from schemas.errors import BadSettings
from schemas.features import view_of
from schemas.topics import CATALOGUE, CONSUMPTIONS
from schemas.vocabulary import FlinkGroup

NAME = re.compile(r"[a-z][a-z0-9]*(-[a-z0-9]+)*")
MAX_NAME_CHARS = 60
PROCESSES = frozenset({"views", "reconcile", "kafka", "registry", "monitor", "mlflow", "redis", "connect", "flink", "flink-jobs"})
# Names under which model-updates-v1 and the prediction log have the shipped tasks' models. A task's model has the task's name.
SHIPPED_MODELS = frozenset(
    {
        "moderation-text",
        "moderation-image",
        "moderation-ocr",
        "moderation-nsfw",
        "vision-digits",
        "translation-en-fr",
        "transcription-digits",
    }
)
PATH_SCHEMES = ("file:", "folder:")
ADDRESS_WORDS = (
    "hf",
    "folder",
    "file",
    "package",
    "shipped",
    "models",
    "mlflow",
    "s3",
)  # `inference_workers/models/addresses.py`

COMMON: Mapping[str, Option] = {
    "kind": Option(type=str, choices=tuple(TaskKind), help="what the task does"),
    "code": Option(type=str, help="a Python file that defines TASK, instead of a kind"),
    "model": Option(type=str, help="address of the model that answers"),
    "max_batch": Option(type=int, minimum=1, maximum=10_000, help="maximum number of requests in a batch"),
    "max_wait_ms": Option(type=float, minimum=0, maximum=60_000, help="how long a batch may wait for more requests"),
    "workers": Option(type=int, minimum=1, maximum=64, help="number of worker processes"),
    "partitions": Option(type=int, minimum=1, maximum=512, help="number of partitions of its topics"),
    "retention_days": Option(type=int, minimum=7, maximum=3_650, help="how long its requests and results are kept"),
}
OF_CODE: Mapping[str, Option] = {
    "options": Option(type=tuple, help="a table of values for the code"),
}


def read(file: Path, *, code_is_there: bool = True) -> tuple[Declaration, ...]:
    """The tasks of a file. code_is_there: whether a missing file of code is an error. Raises BadDeclaration."""
    try:
        text = file.read_text()
    except (OSError, UnicodeDecodeError) as error:
        raise BadDeclaration(f"{file} cannot be read: {error}") from error
    return parse(text, file, code_is_there=code_is_there)


def parse(text: str, file: Path, *, code_is_there: bool = True) -> tuple[Declaration, ...]:
    """The tasks that a text declares. file: named in errors; its folder is where relative paths start. Raises BadDeclaration."""
    try:
        content = tomllib.loads(text)
    except (tomllib.TOMLDecodeError, RecursionError) as error:
        raise BadDeclaration(f"{file} is not TOML: {error}") from error
    page = _Page(text, file)
    for key in content.keys() - {"tasks"}:
        page.refuse(f"there is no section {key}; {_choice(key, ('tasks',))}", key)
    tasks = content.get("tasks", {})
    if not isinstance(tasks, dict):
        page.refuse("tasks must be tables: [tasks.NAME]", "tasks")
    declared = tuple(_declaration(page, name, table) for name, table in tasks.items())
    for task in declared:
        if code_is_there and task.code is not None and not task.code.is_file():
            page.refuse(f"code of task {task.name} is {task.code}; there is no such file", task.name, "code")
    return declared


@dataclass(frozen=True)
class _Page:
    text: str
    file: Path

    def refuse(self, problem: str, name: str, key: str = "") -> NoReturn:
        raise BadDeclaration(f"{self.file}, line {self._line(name, key)}: {problem}")

    def _line(self, name: str, key: str) -> int:
        """The line of a task's key, else of its header, else of the first line that has its name. tomllib does not say."""
        lines = self.text.splitlines()
        quoted = rf"[\"']?{re.escape(name)}[\"']?"
        header = next(
            (i for i, line in enumerate(lines) if re.match(rf"\s*\[\s*(tasks\s*\.\s*)?{quoted}\s*(\.[^]]*)?\]", line)), None
        )
        if header is None:
            return next((i + 1 for i, line in enumerate(lines) if re.search(quoted, line)), 1)
        if key:
            for i in range(header + 1, len(lines)):
                if re.match(r"\s*\[", lines[i]) and not re.match(rf"\s*\[\s*tasks\s*\.\s*{quoted}\s*\.", lines[i]):
                    break
                if re.match(rf"\s*[\"']?{re.escape(key)}[\"']?\s*[=.]", lines[i]):
                    return i + 1
        return header + 1


def _declaration(page: _Page, name: str, table: Any) -> Declaration:
    if problem := name_problem(name):
        page.refuse(problem, name)
    if not isinstance(table, dict):
        page.refuse(f"a task is a table: [tasks.{name}]", name)
    kind = _kind_of(page, name, table)
    allowed = {**COMMON, **(KINDS[kind].options if kind is not None else OF_CODE)}
    for key, value in table.items():
        if key == CODE_DIGEST and kind is None:
            continue
        if key not in allowed:
            page.refuse(f"task {name} has no {key!r}; {_choice(key, allowed)}", name, key)
        if key != "options" and (problem := _misfit(value, allowed[key])):
            page.refuse(f"{key} of task {name} is {value!r}; {problem}", name, key)
    common = {key: table[key] for key in COMMON.keys() & table.keys() - {"kind", "code", "model"}}
    if kind is None:
        options = table.get("options", {})
        if not isinstance(options, dict):
            page.refuse(f"options of task {name} must be a table", name, "options")
    else:
        options = {key: _plain(table[key]) for key in KINDS[kind].options.keys() & table.keys()}
        _check_features(page, name, options)
    code = (page.file.parent / table["code"]).resolve() if kind is None else None
    digest = str(table.get(CODE_DIGEST, "")) if kind is None else ""
    return Declaration(
        name=name, kind=kind, code=code, code_digest=digest, model=_model(page, name, table, kind), options=options, **common
    )


def _kind_of(page: _Page, name: str, table: Mapping[str, Any]) -> TaskKind | None:
    if ("kind" in table) == ("code" in table):
        both = "kind and code; it must have one of them" if "kind" in table else "neither kind nor code"
        page.refuse(f"task {name} has {both}. Kinds are {', '.join(TaskKind)}", name, "kind")
    if "code" in table:
        if not isinstance(table["code"], str):
            page.refuse(f"code of task {name} must be the path of a Python file", name, "code")
        return None
    if table["kind"] not in list(TaskKind):
        page.refuse(f"there is no kind {table['kind']!r}; {_choice(str(table['kind']), tuple(TaskKind))}", name, "kind")
    return TaskKind(table["kind"])


def _model(page: _Page, name: str, table: Mapping[str, Any], kind: TaskKind | None) -> str:
    model = table.get("model", "")
    if kind is not None and not model:
        page.refuse(f'task {name} has no model: model = "hf:ORGANISATION/NAME", for instance', name, "model")
    if model and (problem := _address_problem(str(model))):
        page.refuse(f"model of task {name} is {model!r}; {problem}", name, "model")
    for scheme in PATH_SCHEMES:
        if isinstance(model, str) and model.startswith(scheme):
            return f"{scheme}{(page.file.parent / model.removeprefix(scheme)).resolve()}"
    return str(model)


def _address_problem(model: str) -> str:
    """What keeps a text from being the address of a model, as far as its first word says; empty if nothing does."""
    word, colon, rest = model.partition(":")
    if colon and rest and word in ADDRESS_WORDS:
        return ""
    return f"that is not the address of a model. {_choice(f'{word}:', [f'{known}:' for known in ADDRESS_WORDS])}"


def name_problem(name: str) -> str:
    """Why a task cannot have this name; empty if it can."""
    if not NAME.fullmatch(name) or len(name) > MAX_NAME_CHARS:
        return (
            f"{name!r} cannot be the name of a task: it names topics, so it has lower-case letters and digits, words joined by single "
            f"hyphens, and at most {MAX_NAME_CHARS} characters"
        )
    groups = {consumption.group for consumption in CONSUMPTIONS} | {str(group) for group in FlinkGroup}
    readers_and_writers = {word for topic in CATALOGUE for word in (*topic.writers, *topic.readers)}
    topics = {topic.name for topic in CATALOGUE}
    if (
        name in groups | readers_and_writers | PROCESSES | SHIPPED_MODELS
        or {f"{name}-requests-v1", f"{name}-results-v1"} & topics
    ):
        return f"{name!r} is the name of a part of Millrace; choose another name for the task"
    return ""


def _check_features(page: _Page, name: str, options: Mapping[str, OptionValue]) -> None:
    names = options.get("features", ())
    assert isinstance(names, tuple)
    for full_name in names:
        entity, _, feature = full_name.partition(":")
        try:
            view_of(entity).feature(feature)
        except BadSettings as error:
            page.refuse(
                f"features of task {name} has {full_name!r}: {error}. Write user:total_purchases, for instance", name, "features"
            )


def _misfit(value: Any, option: Option) -> str:
    """What the value must be; empty if it fits."""
    if option.type is tuple:
        if not (isinstance(value, list) and value and all(isinstance(item, str) for item in value)):
            return "it must be a list of texts"
        return "" if all(value) and len(set(value)) == len(value) else "write each of them once, and none of them empty"
    if option.type in (int, float):
        number = isinstance(value, int) or (option.type is float and isinstance(value, float))
        if number and not isinstance(value, bool) and option.minimum <= value <= option.maximum:
            return ""
        return f"it must be a {'whole ' if option.type is int else ''}number from {option.minimum:g} to {option.maximum:g}"
    if not isinstance(value, option.type):
        return "it must be true or false" if option.type is bool else "it must be a text"
    if option.choices and value not in option.choices:
        return _choice(str(value), option.choices)
    return ""


def _plain(value: Any) -> OptionValue:
    return tuple(value) if isinstance(value, list) else value


def _choice(word: str, allowed: Iterable[str]) -> str:
    """What is allowed, with the nearest word first."""
    words = list(allowed)
    near = difflib.get_close_matches(word, words, 1, 0.5)
    return (f"did you mean {near[0]}? " if near else "") + f"Allowed: {', '.join(words)}"
