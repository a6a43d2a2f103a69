"""Selects the requests of a window that are held back from training: by their content, never by their ids. Pure.

Requests with the same content, and parts of one request, are on the same side: a campaign of one text is either trained on or
held back, not both (group split). The salt is drawn for each run, so that nobody can choose which requests are never judged. A
group with more than a third of the labelled requests is trained on: holding it back would leave too little training data.
"""

from __future__ import annotations

import hashlib
from collections import Counter
from collections.abc import Collection, Mapping, Sequence

HELD_BACK_ONE_IN = 3


def groups(request_ids: Sequence[str], contents: Sequence[int]) -> dict[str, int]:
    """By request, the smallest content of all requests that are linked to it through equal contents and common requests."""
    above: dict[int, int] = {}

    def top(one: int) -> int:
        while above.setdefault(one, one) != one:
            above[one] = one = above[above[one]]
        return one

    first: dict[str, int] = {}
    for request_id, content in zip(request_ids, contents, strict=True):
        a, b = top(first.setdefault(request_id, content)), top(content)
        above[max(a, b)] = min(a, b)
    return {request_id: top(content) for request_id, content in first.items()}


def held_back(of: Mapping[str, int], labelled: Collection[str], salt: str) -> set[str]:
    """Requests that are held back: about a third of the groups. of: the group of each request."""
    sizes = Counter(of[one] for one in labelled if one in of)
    most = sum(sizes.values()) / HELD_BACK_ONE_IN
    chosen = {group for group in set(of.values()) if sizes[group] <= most and _is_drawn(group, salt)}
    return {request_id for request_id, group in of.items() if group in chosen}


def _is_drawn(group: int, salt: str) -> bool:
    drawn = hashlib.blake2b(f"{salt}/{group}".encode(), digest_size=4).digest()
    return int.from_bytes(drawn) < 2**32 // HELD_BACK_ONE_IN
