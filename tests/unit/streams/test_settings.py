"""Every number that is set has a range, and what lies outside stops the start with a message that names variable, value and range."""

from __future__ import annotations

import dataclasses
import typing
from typing import Any

import pytest

from infra.cli import settings_table
from schemas.errors import BadSettings
from streams.process.settings import NUMBERS, load, origins
from tests.support import house
from training_triggers.settings import TriggerSettings

CLASSES = house.settings_classes()
FIELDS = [
    pytest.param(kind, field, id=f"{kind.__name__}.{field.name}")
    for kind in CLASSES
    for field in dataclasses.fields(kind)
    if typing.get_type_hints(kind)[field.name] in NUMBERS
]


def test_all_packages_with_settings_are_walked() -> None:
    assert {kind.__name__ for kind in CLASSES} >= {
        "WorkerSettings",
        "MediaSettings",
        "ProcessorSettings",
        "FeatureSettings",
        "TriggerSettings",
        "StackSettings",
    }
    assert len(FIELDS) > 40


@pytest.mark.parametrize(("kind", "field"), FIELDS)
def test_a_number_has_a_range_and_nothing_outside_starts(kind: type[Any], field: Any) -> None:
    least, most = field.metadata["minimum"], field.metadata["maximum"]
    assert least is not None
    assert most is not None
    assert least <= field.default <= most
    name = f"MILLRACE_{field.name.upper()}"
    for bad in ("nan", "inf", "-inf", "", "many", "1e400", str(least - 1), str(most + 1), "-1"):
        with pytest.raises(BadSettings) as raised:
            load(kind, {name: bad})
        assert str(raised.value).startswith(f"{name} is {bad!r}; it must be a ")
        assert str(raised.value).endswith(f"from {least} to {most}")
    for good in (least, most):
        assert getattr(load(kind, {name: str(good)}), field.name) == good


def test_no_settings_of_this_machine_are_needed_for_the_defaults() -> None:
    for kind in CLASSES:
        assert load(kind, {}) == kind()
        assert all(origin.help for origin in origins(kind, {}))


def test_config_show_has_every_class() -> None:
    """But the one whose fields each member of a group inherits."""
    shown = {"StackSettings", *(name for _, _, name in settings_table.OTHER_SETTINGS)}
    assert shown == {kind.__name__ for kind in CLASSES} - {"GroupSettings"}


def test_no_runs_a_day_is_a_legal_setting() -> None:
    assert load(TriggerSettings, {"MILLRACE_DRIFT_RUNS_PER_DAY": "0"}).drift_runs_per_day == 0


OLD_NAMES = [
    (kind, field.name, field.metadata["was"])
    for kind in CLASSES
    for field in dataclasses.fields(kind)
    if field.metadata.get("was")
]


@pytest.mark.parametrize(("kind", "name", "was"), OLD_NAMES, ids=str)
@pytest.mark.parametrize("scope", ["", "moderation"])
def test_an_old_name_is_refused_with_the_new_one(kind: type[Any], name: str, was: str, scope: str) -> None:
    prefix = f"MILLRACE_{scope.upper()}__" if scope else "MILLRACE_"
    with pytest.raises(BadSettings, match=f"{prefix}{was.upper()} is now called {prefix}{name.upper()}"):
        load(kind, {prefix + was.upper(): "1"}, scope)
