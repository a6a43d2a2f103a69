"""The line that `up` and `demo` print until the better models are fetched."""

from __future__ import annotations

from pathlib import Path

import pytest

from inference_workers.models.packages import packages
from infra.better_models import MODELS, fetch_line
from infra.settings import StackSettings


def test_the_line_names_what_is_missing_and_goes_when_nothing_is(tmp_path: Path) -> None:
    settings = StackSettings(home=str(tmp_path))
    assert all(f"`./millrace models fetch {name}`" in fetch_line(settings) for name in MODELS)
    assert "\n" not in fetch_line(settings)
    first, *others = MODELS
    (tmp_path / "models" / "packages" / first).mkdir(parents=True)
    assert f" {first}`" not in fetch_line(settings) and f" {others[0]}`" in fetch_line(settings)
    for name in others:
        (tmp_path / "models" / "packages" / name).mkdir()
    assert fetch_line(settings) == ""


@pytest.mark.parametrize(("processes", "moderates"), [("vision", False), ("my-moderation", False), ("vision+moderation", True)])
def test_a_stack_that_does_not_moderate_needs_no_line(tmp_path: Path, processes: str, moderates: bool) -> None:
    assert bool(fetch_line(StackSettings(home=str(tmp_path), processes=processes))) == moderates


def test_the_models_are_in_the_list_of_packages() -> None:
    assert set(MODELS) <= packages().keys()
