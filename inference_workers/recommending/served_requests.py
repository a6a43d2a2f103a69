"""What a model was shown of one request, as text: so that a trainer can ask two versions the same, with the values that were served.
Pure."""

from __future__ import annotations

import json
from collections.abc import Sequence
from dataclasses import dataclass
from typing import overload

from inference_workers.recommending.asked import Asked
from inference_workers.recommending.recommender import UserHistory
from schemas.errors import BadSettings


@dataclass(frozen=True)
class ServedRequest:
    """seen: ids of items that the user had seen. at_ms: when the features were read."""

    user_id: str
    at_ms: int
    history: UserHistory
    seen: frozenset[str]


def served_text(asked: Asked) -> str:
    history = asked.history
    parts = (
        asked.user_id,
        asked.read_ms,
        history.items,
        history.kinds,
        history.ages_s,
        dict(history.features),
        sorted(asked.seen),
    )
    return json.dumps(parts, ensure_ascii=False, separators=(",", ":"))


class ServedTexts(Sequence[str]):
    """The texts of a batch, each made when it is read: a replay reads them, the request path does not."""

    def __init__(self, inputs: Sequence[Asked]) -> None:
        self._inputs = inputs

    def __len__(self) -> int:
        return len(self._inputs)

    @overload
    def __getitem__(self, at: int) -> str: ...
    @overload
    def __getitem__(self, at: slice) -> Sequence[str]: ...
    def __getitem__(self, at: int | slice) -> str | Sequence[str]:
        return ServedTexts(self._inputs[at]) if isinstance(at, slice) else served_text(self._inputs[at])


def served_request(text: str) -> ServedRequest:
    """Raises BadSettings if the text is none of `served_text`."""
    try:
        user_id, at_ms, items, kinds, ages_s, features, seen = json.loads(text)
        return ServedRequest(str(user_id), int(at_ms), UserHistory(items, kinds, ages_s, features), frozenset(seen))
    except (ValueError, TypeError) as error:
        raise BadSettings(f"a recorded request is not what recommendation was shown: {error}") from error
