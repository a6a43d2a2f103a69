"""The verdict on one content item, from the scores of all its parts by all models."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

from inference_workers.content_items import ContentItem, is_stretch
from inference_workers.judging.scores import Scored
from schemas.categories import CATEGORIES

Place = tuple[int, int]  # the model's index among all `Scored`, and the entry there
Ranked = tuple[float, dict[str, Any]]  # a margin, and the fields of the verdict that it stands for


def places(scored: Sequence[Scored], n: int) -> list[list[Place]]:
    """For each of n items, where its parts are."""
    found: list[list[Place]] = [[] for _ in range(n)]
    for number, model in enumerate(scored):
        for entry, row in enumerate(model.rows):
            found[row].append((number, entry))
    return found


def verdict(item: ContentItem, scored: Sequence[Scored], its_places: Sequence[Place]) -> dict[str, Any]:
    """The fields of one result. A part that several models judged is reported once."""
    worst: dict[str, Ranked] = {}  # by category
    judged: dict[str, Ranked] = {}  # by part
    for number, entry in its_places:
        model = scored[number]
        part = model.parts[entry]
        judged[part] = _joined(judged.get(part), _part(item, model, entry))
        for k, category in enumerate(model.labels):
            margin = model.margins[entry][k]
            if category not in worst or margin > worst[category][0]:
                worst[category] = margin, _category(model, entry, k)
    _, decided = max(worst.values(), key=lambda margin_and_fields: margin_and_fields[0])
    named = {fields["part"] for _, fields in worst.values()}
    parts = [fields for part, (_, fields) in judged.items() if part in named or not is_stretch(part)]
    parts += [{"part": part, "error_code": error.code, "error_message": str(error)} for part, error in item.unread]
    return {
        "flagged": any(fields["flagged"] for _, fields in worst.values()),
        "deciding": {name: decided[name] for name in ("part", "category", "probability")},
        "categories": [worst[category][1] for category in CATEGORIES if category in worst],
        "not_covered": [category for category in CATEGORIES if category not in worst],
        "parts": parts,
    }


def _part(item: ContentItem, model: Scored, entry: int) -> Ranked:
    margins, part = model.margins[entry], model.parts[entry]
    best = int(margins.argmax())
    return float(margins[best]), {
        "part": part,
        "category": model.labels[best],
        "probability": model.probabilities[entry][best],
        "not_covered": model.not_covered,
        "unseen": item.unseen.get(part),
    }


def _joined(earlier: Ranked | None, later: Ranked) -> Ranked:
    """The stronger of two models' fields for a part. What neither covers is not covered."""
    if earlier is None:
        return later
    margin, fields = max(earlier, later, key=lambda margin_and_fields: margin_and_fields[0])
    not_covered = [category for category in earlier[1]["not_covered"] if category in later[1]["not_covered"]]
    return margin, {**fields, "not_covered": not_covered}


def _category(model: Scored, entry: int, k: int) -> dict[str, Any]:
    return {
        "category": model.labels[k],
        "probability": model.probabilities[entry][k],
        "threshold": model.thresholds[k],
        "flagged": bool(model.margins[entry][k] > 0),
        "part": model.parts[entry],
    }
