"""Settings of a training of recommendation, and the options of a command that give them."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import asdict, dataclass, field, fields, replace
from typing import Any

from schemas.errors import BadSettings
from training_triggers.trainers.recommending.ranker_training import RankerSettings
from training_triggers.trainers.recommending.tower_training import TowerSettings

STAGES = ("towers", "ranker")


@dataclass(frozen=True)
class RecommendationSettings:
    """last: share of each user's events that the ranker learns from. times: in it, from 0 to 1, at which lists are made. again: epochs
    of the towers with all events. neighbours: of each item."""

    towers: TowerSettings = field(default_factory=TowerSettings)
    ranker: RankerSettings = field(default_factory=RankerSettings)
    last: float = 0.2
    times: tuple[float, ...] = (0.0, 0.3, 0.6)
    again: int = 3
    again_rate: float = 1e-3
    neighbours: int = 128


def settings_of(config: Mapping[str, Any]) -> RecommendationSettings:
    """The settings that a version was trained with, from its config; the default ones if it does not say. Raises BadSettings."""
    said = {name: value for name, value in config.get("training", {}).items() if name != "seed"}
    try:
        towers, ranker = TowerSettings(**said.pop("towers", {})), RankerSettings(**said.pop("ranker", {}))
        more: dict[str, Any] = {name: tuple(value) if isinstance(value, list) else value for name, value in said.items()}
        return RecommendationSettings(towers, ranker, **more)
    except TypeError as error:
        raise BadSettings(f"the config's settings of training are none of this trainer: {error}") from error


def with_options(settings: RecommendationSettings, options: Mapping[str, str]) -> RecommendationSettings:
    """options: by name, such as `towers.epochs` or `again`; every setting that is one number has one. Raises BadSettings."""
    for name, text in options.items():
        stage, _, inner = name.rpartition(".")
        if stage in STAGES:
            settings = replace(settings, **{stage: _with(getattr(settings, stage), inner, name, text)})
        else:
            settings = _with(settings, name, name, text)
    return settings


def _with(settings: Any, field_name: str, option: str, text: str) -> Any:
    now = getattr(settings, field_name, None) if field_name in {one.name for one in fields(settings)} else None
    if not isinstance(now, int | float):
        raise BadSettings(f"there is no option {option}; there are {', '.join(_numbers(RecommendationSettings()))}")
    try:
        number = type(now)(text)
    except ValueError:
        raise BadSettings(
            f"option {option} is {text!r}; it takes {'a whole number' if isinstance(now, int) else 'a number'}"
        ) from None
    least = 1 if isinstance(now, int) and option != "again" else 0
    if not least <= number < float("inf"):
        raise BadSettings(f"option {option} is {text!r}; it must be {least} or more")
    if option == "last" and not 0 < number < 1:
        raise BadSettings(f"option last is {text!r}; it must be between 0 and 1")
    return replace(settings, **{field_name: number})


def options_of(settings: RecommendationSettings) -> dict[str, str]:
    """The options that make these settings of the default ones."""
    default = _numbers(RecommendationSettings())
    return {name: str(number) for name, number in _numbers(settings).items() if number != default[name]}


def _numbers(settings: RecommendationSettings) -> dict[str, int | float]:
    """Every setting that is one number, by the name of its option."""
    found = {}
    for name, value in asdict(settings).items():
        for option, inner in ((f"{name}.{key}", one) for key, one in value.items()) if name in STAGES else ((name, value),):
            if isinstance(inner, int | float):
                found[option] = inner
    return found
