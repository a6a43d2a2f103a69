"""Why an item is in an answer, in words that a person reads. Pure."""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np
import numpy.typing as npt

from inference_workers.recommending.item_table import ItemTable
from inference_workers.recommending.recommender import Basis, Reasons, UserHistory

NEAR = 0.35  # cosine from which an item counts as like another
MAX_TITLE_CHARS = 60
_PAST = {"view": "viewed", "cart": "put into the cart", "purchase": "bought", "rating": "rated"}
_BY_BASIS = {
    Basis.HISTORY: "ranked high after the user's recent items",
    Basis.PROFILE: "fits the user's profile",
    Basis.POPULAR: "popular with everybody",
}


def reason_texts(table: ItemTable, user: UserHistory, basis: Basis, rows: npt.NDArray[np.int32]) -> list[str]:
    """For each row, int32 (k,), of an answer: the item of the history that it is most like, or what the answer rests on."""
    known = [(table.rows[item], kind) for item, kind in zip(user.items, user.kinds, strict=True) if item in table.rows]
    if not known or not len(rows):
        return [_BY_BASIS[basis]] * len(rows)
    likeness = table.vectors(rows) @ table.vectors(np.array([row for row, _ in known])).T
    nearest = likeness.argmax(axis=1)
    texts = []
    for place, at in enumerate(nearest.tolist()):
        row, kind = known[at]
        near = likeness[place, at] >= NEAR
        texts.append(f"like {title_of(table, row)}, {_PAST.get(kind, 'viewed')} lately" if near else _BY_BASIS[basis])
    return texts


def explained(table: ItemTable, reasons: Reasons) -> str:
    """Empty if there is nothing to say."""
    liked = [f"{title_of(table, table.rows[item])} ({near:.2f})" for item, near in reasons.liked if item in table.rows]
    raised = [name for name, by in reasons.features if by > 0]
    return "; ".join([*_named("like ", liked), *_named("raised by ", raised)])


def title_of(table: ItemTable, row: int) -> str:
    return (table.titles[row] or table.ids[row])[:MAX_TITLE_CHARS]


def _named(word: str, names: Sequence[str]) -> list[str]:
    return [word + ", ".join(names)] if names else []
