"""Events that recommendation can be trained on: MovieLens 100k, the archive of the features, or the generator's shop."""

from __future__ import annotations

import json
import re
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import asdict, replace
from pathlib import Path
from typing import Any

from feature_jobs.traffic.generator import World
from inference_workers.networks.recommendation.item_tokens import Attributes
from schemas.durations import DAY_MS
from schemas.errors import BadSettings
from training_triggers.trainers.recommending import point_in_time
from training_triggers.trainers.recommending.interactions import Interactions, Items, Profile, in_order

GENERATED = "generated"  # instead of a folder
SHOP_DAYS, SHOP_PER_S, SHOP_ENDS_MS = 30, 0.1, 1_790_000_000_000
_YEAR = re.compile(r"\((\d{4})\)")


def read(folder: Path) -> Interactions:
    """folder: `generated`; or one with MovieLens 100k, itself or in `movielens_100k`; or the archive of the features. Raises
    BadSettings if it is none of them."""
    if str(folder) == GENERATED:
        return shop(World())
    for place in (folder, folder / "movielens_100k"):
        if (place / "u.data").exists():
            return movielens(place)
    if (folder / "events").is_dir():
        return archive(folder)
    raise BadSettings(
        f"{folder} has neither MovieLens 100k (u.data) nor archived events (events/): name a folder with one of them, or `{GENERATED}`"
    )


def shop(world: World, days: float = SHOP_DAYS, per_s: float = SHOP_PER_S) -> Interactions:
    """Visits of the generated shop, the same for the same world."""
    events = (
        (event.user_id, event.item_id or "", event.kind, event.event_ms / 1000)
        for event in world.events(SHOP_ENDS_MS - int(days * DAY_MS), SHOP_ENDS_MS, per_s)
    )
    catalogue = world.catalogue(SHOP_ENDS_MS)
    items = Items(
        [item.item_id for item in catalogue], [item.title for item in catalogue], [_of_shop(asdict(item)) for item in catalogue]
    )
    profiles: dict[str, Profile] = {
        person.user_id: {"age": float(person.age or 0), "country": person.country or ""}
        for person in world.profiles(SHOP_ENDS_MS)
    }
    return replace(in_order("the generated shop", items, profiles, events), option=GENERATED)


def _of_shop(item: Mapping[str, Any]) -> Attributes:
    """As the task reads them from `items-v1`."""
    made: dict[str, str | float | Sequence[str]] = {"category": str(item.get("category") or "")}
    if item.get("price_cents") is not None:
        made["price_cents"] = float(item["price_cents"])
    return made


def archive(folder: Path) -> Interactions:
    """The validated events under `events/`. `items.jsonl` beside them, records of `items-v1`, gives titles and attributes; without it,
    items have ids only. `profiles.jsonl`, records of `user-profiles-v1`, likewise. If the folder has the history of users' features,
    each event has those of its time. Raises BadSettings."""
    import pyarrow.parquet as pq

    from streams.archived.manifests import committed_files

    rows: list[tuple[str, str, str, float]] = []
    for file in committed_files(folder / "events"):
        columns = pq.read_table(file, columns=["user_id", "item_id", "kind", "event_ms"]).to_pydict()
        rows += [
            (user, item, kind, at_ms / 1000)
            for user, item, kind, at_ms in zip(
                *(columns[name] for name in ("user_id", "item_id", "kind", "event_ms")), strict=True
            )
            if item is not None
        ]
    if not rows:
        raise BadSettings(f"no events are archived under {folder}")
    items = {item: {"title": "", "category": ""} for item in sorted({item for _, item, _, _ in rows})}
    items |= {record["item_id"]: record for record in _records(folder / "items.jsonl", ("item_id", "title"))}
    profiles = {record["user_id"]: record for record in _records(folder / "profiles.jsonl", ("user_id",))}
    found = of_shop(f"events archived under {folder.name}", items, profiles, rows)
    return point_in_time.with_user_features(found, folder) if point_in_time.has_history(folder) else found


def of_shop(
    name: str,
    items: Mapping[str, Mapping[str, Any]],
    profiles: Mapping[str, Mapping[str, Any]],
    events: Sequence[tuple[str, str, str, float]],
) -> Interactions:
    """items, profiles: records of `items-v1` and `user-profiles-v1` by id. events: user, item, kind, epoch seconds; those of other
    items are passed over. Raises BadSettings if none is left."""
    known: dict[str, Profile] = {user: {} for user in sorted({user for user, _, _, _ in events})}
    for user, record in profiles.items():
        if user in known:
            known[user] = {field: record[field] for field in ("age", "country") if record.get(field) is not None}
    named = Items(list(items), [str(item["title"]) for item in items.values()], [_of_shop(item) for item in items.values()])
    return in_order(name, named, known, events)


def _records(file: Path, texts: Sequence[str]) -> Iterator[dict[str, Any]]:
    """texts: the fields that each record must have, as texts. Raises BadSettings with the line that is not a record."""
    if not file.exists():
        return
    for number, line in enumerate(file.read_text().splitlines(), 1):
        if not line.strip():
            continue
        try:
            record = json.loads(line)
            if missing := [name for name in texts if not isinstance(record[name], str)]:
                raise TypeError(f"{', '.join(missing)} must be a text")
        except (ValueError, TypeError, KeyError, IndexError) as error:
            raise BadSettings(f"{file}, line {number}: {error!r}") from error
        yield record


def movielens(folder: Path) -> Interactions:
    """MovieLens 100k: every rating is an event, whatever its stars. Raises BadSettings if it is missing."""
    if not (folder / "u.data").exists():
        raise BadSettings(f"no MovieLens 100k in {folder}: u.data, u.item, u.user and u.genre are needed")
    genres = [line.partition("|")[0] for line in (folder / "u.genre").read_text().splitlines() if line]
    films = [line.split("|") for line in (folder / "u.item").read_text("latin-1").splitlines()]
    people = [line.split("|") for line in (folder / "u.user").read_text().splitlines()]
    ratings = [line.split("\t") for line in (folder / "u.data").read_text().splitlines()]
    items = Items([film[0] for film in films], [film[1] for film in films], [_film(film, genres) for film in films])
    profiles: dict[str, Profile] = {
        user: {"age": float(age), "gender": gender, "occupation": occupation} for user, age, gender, occupation, _ in people
    }
    return in_order("MovieLens 100k", items, profiles, ((u, i, "rating", float(at)) for u, i, _, at in ratings))


def _film(film: Sequence[str], genres: Sequence[str]) -> Attributes:
    year = _YEAR.search(film[1])
    made: dict[str, str | float | Sequence[str]] = {"genre": [g for g, flag in zip(genres, film[5:], strict=True) if flag == "1"]}
    if year is not None:
        number = int(year[1])
        made["years"] = str(number if number >= 1990 else number // 5 * 5)
    return made
