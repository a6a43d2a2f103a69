"""`python -m feature_jobs COMMAND …`: the feature processes, and commands for people."""

from __future__ import annotations

import argparse
import json
import os
import sys
from collections.abc import Sequence
from dataclasses import asdict
from datetime import UTC, datetime
from pathlib import Path
from typing import TYPE_CHECKING, Any

from feature_jobs.settings import FeatureSettings
from schemas.durations import DAY_MS
from schemas.errors import BadSettings, MillraceError
from schemas.features import RECENT, USER, VIEWS, Kind, view_of
from streams.clock import SystemClock
from streams.process.arguments import real, whole
from streams.process.settings import load

if TYPE_CHECKING:
    from processors.features.online_store import OnlineStore
    from processors.features.recent_events import Event


def main(arguments: Sequence[str] | None = None) -> int:
    chosen = _parser().parse_args(arguments)
    try:
        return int(chosen.run(chosen, load(FeatureSettings, os.environ)) or 0)
    except MillraceError as error:
        print(f"{error.code}: {error}", file=sys.stderr)
        return 1


def _parser() -> argparse.ArgumentParser:
    parser = argparse.ArgumentParser(prog="feature_jobs")
    commands = parser.add_subparsers(required=True, metavar="COMMAND")

    def command(name: str, run: Any, help_: str) -> argparse.ArgumentParser:
        made = commands.add_parser(name, help=help_)
        made.set_defaults(run=run)
        return made

    serve = command("serve", _serve, "run sinks or the archive in one process")
    serve.add_argument("names", nargs="+", choices=["user-sink", "item-sink", "recent-sink", "archive"])
    serve.add_argument("--slot", type=whole(0), default=0)
    keep = command("supervise", _supervise, "keep Flink jobs running on a cluster")
    keep.add_argument("names", nargs="+")
    keep.add_argument("--cluster", required=True, help="address of the cluster's REST server")
    keep.add_argument("--tls", type=Path, help="folder with the cert.pem and key.pem that the server requires")
    keep.add_argument("--python", required=True, help="interpreter of Flink's environment")
    keep.add_argument("--checkpoints", required=True, type=Path)
    keep.add_argument("--interval-ms", type=whole(100), default=5_000)
    get = command("get", _get, "the features of one entity, with their ages")
    get.add_argument("entity")
    get.add_argument("ids", nargs="+")
    get.add_argument("--json", action="store_true")
    clear = command("clear", _clear, "remove a view from the online store; sinks that run write it anew")
    clear.add_argument("entity", choices=[view.entity for view in VIEWS])
    clear.add_argument("--json", action="store_true")
    back = command("backfill", _backfill, "write the offline history between two days")
    back.add_argument("--from", dest="from_", required=True, type=_when_ms)
    back.add_argument("--to", required=True, type=_when_ms)
    back.add_argument("--json", action="store_true")
    train = command("training-set", _training_set, "join labels with the features as they were at the labels' times")
    train.add_argument("--labels", required=True, type=Path, help="CSV or Parquet: user_id or item_id, event_timestamp, …")
    train.add_argument("--out", required=True, type=Path, help="Parquet or CSV")
    train.add_argument("--json", action="store_true")
    parity = command("parity", _parity, "compare the online store with the archive, feature by feature")
    parity.add_argument("--sample", type=whole(), default=200)
    parity.add_argument("--seed", type=whole(0), help="seed of the sample; default: a different one each time")
    parity.add_argument("--json", action="store_true")
    make = command("generate", _generate, "shop traffic on user-events-v1")
    make.add_argument("--users", type=whole(), default=2_000)
    make.add_argument("--items", type=whole(), default=500)
    make.add_argument("--rate", type=real(above=True), default=50.0, help="events per second, on average over a day")
    make.add_argument("--seconds", type=real(), default=60.0)
    make.add_argument("--days", type=real(0.0, 6.9), default=0.0, help="send this many past days first, at once; at most 6.9")
    make.add_argument("--seed", type=whole(0), default=7)
    make.add_argument("--user", default="", help="visits of this person alone, such as u-42")
    shop = command("shop", _shop, "shop traffic until it is stopped; its people ask for recommendations and react to them")
    shop.add_argument("--users", type=whole(), default=2_000)
    shop.add_argument("--items", type=whole(), default=500)
    shop.add_argument("--rate", type=real(above=True), default=5.0, help="events per second, on average over a day")
    shop.add_argument("--past-events", type=whole(0), default=40_000, help="events of the last two days, if there are none yet")
    shop.add_argument("--ask-share", type=real(0.0, 1.0), default=0.5, help="share of visits that ask for recommendations")
    shop.add_argument("--seed", type=whole(0), default=7)
    again = command("replay", _replay, "MovieLens 100k on user-events-v1, in event time")
    again.add_argument("--data", required=True, type=Path)
    again.add_argument("--speed", type=real(above=True), default=1_000_000.0)
    return parser


def _when_ms(text: str) -> int:
    """A day or a time in ISO 8601, in UTC unless it names a zone."""
    at = datetime.fromisoformat(text)
    return int((at if at.tzinfo else at.replace(tzinfo=UTC)).timestamp() * 1000)


# --- processes --------------------------------------------------------------------------------------------------------


def _serve(chosen: argparse.Namespace, settings: FeatureSettings) -> int:
    from feature_jobs.feature_loops import serve

    return serve(chosen.names, chosen.slot)


def _supervise(chosen: argparse.Namespace, settings: FeatureSettings) -> int:
    from feature_jobs.flink.supervise import supervise

    return supervise(chosen.names, chosen.cluster, chosen.python, chosen.checkpoints, chosen.interval_ms, chosen.tls, settings)


# --- the online store -------------------------------------------------------------------------------------------------


def _get(chosen: argparse.Namespace, settings: FeatureSettings) -> int:
    from processors.features.feature_blob import GRACE_MS, Freshness, unpack
    from processors.features.online_store import RedisStore

    view, now_ms = view_of(chosen.entity), SystemClock().now_ms()
    store = RedisStore(settings.redis, 5.0)
    names = [feature.name for feature in view.features]
    served = unpack(view, store.read(view, chosen.ids), names, now_ms, GRACE_MS)
    recents = _recent(store, chosen.ids) if view is USER else [[] for _ in chosen.ids]
    for row, entity in enumerate(chosen.ids):
        state = Freshness(int(served.state[row])).name.lower()
        values = {name: _plain(served.values[name][row]) for name in names}
        age_s = None if not served.event_ms[row] else (now_ms - int(served.event_ms[row])) / 1000
        if chosen.json:
            said = {"entity": entity, "view": view.name, "state": state, "event_age_s": age_s, "values": values}
            said["recent"] = [{"item": item, "kind": kind, "at_ms": at_ms} for at_ms, item, kind in recents[row]]
            print(
                json.dumps(said | {"changed_ms": int(served.changed_ms[row]), "valid_until_ms": int(served.valid_until_ms[row])})
            )
            continue
        if recents[row]:
            newest = ", ".join(f"{kind} {item} {(now_ms - at_ms) / 1000:.0f} s ago" for at_ms, item, kind in recents[row][:5])
            print(f"{view.entity} {entity}  {len(recents[row])} recent events: {newest}")
        if state == "missing":
            print(f"{view.entity} {entity}: {'no other feature' if recents[row] else 'nothing'} is known")
            continue
        until_s = (int(served.valid_until_ms[row]) - now_ms) / 1000
        ends = f"a tile leaves a window in {until_s:.0f} s" if until_s < 30 * 86_400 else "no tile in any window"
        last = "no event yet" if age_s is None else f"last event {age_s:.1f} s ago"
        written_s = (now_ms - int(served.changed_ms[row])) / 1000
        print(f"{view.entity} {entity}  {state}  {last}, written {written_s:.1f} s ago, {ends}")
        _print_values(view.features, values)
    return 0 if all(state != Freshness.MISSING for state in served.state.tolist()) else 1


def _recent(store: OnlineStore, users: Sequence[str]) -> list[list[Event]]:
    """The last events of each user, newest first."""
    from processors.features.feature_blob import unpack
    from processors.features.recent_events import from_text

    (name,) = (feature.name for feature in RECENT.features)
    texts = unpack(RECENT, store.read(RECENT, users), [name], 0, 0).values[name]
    return [from_text(str(text))[::-1] for text in texts]


def _clear(chosen: argparse.Namespace, settings: FeatureSettings) -> int:
    from processors.features.online_store import RedisStore

    view = view_of(chosen.entity)
    removed = RedisStore(settings.redis, 60.0).clear(view)
    print(
        json.dumps({"view": view.name, "removed": removed})
        if chosen.json
        else f"{removed} entities removed from {view.name}; a sink that runs writes all of them anew, within seconds"
    )
    return 0


def _print_values(features: Any, values: dict[str, Any]) -> None:
    """Print windowed features as a table, one column per window; the others one per line."""
    suffixes = ("5m", "1h", "24h", "7d")
    stems = list(dict.fromkeys(name.rpartition("_")[0] for name in values if name.rpartition("_")[2] in suffixes))
    for feature in features:
        if feature.name.rpartition("_")[2] not in suffixes:
            print(f"  {feature.name:<22}{_short(values[feature.name]):>14}   {feature.meaning}")
    print(f"  {'':<22}" + "".join(f"{suffix:>12}" for suffix in suffixes))
    for stem in stems:
        print(f"  {stem:<22}" + "".join(f"{_short(values[f'{stem}_{suffix}']):>12}" for suffix in suffixes))


def _plain(value: Any) -> Any:
    return value.item() if hasattr(value, "item") else value


def _short(value: Any) -> str:
    return f"{value:.2f}" if isinstance(value, float) else str(value)


# --- the offline store ------------------------------------------------------------------------------------------------


def _backfill(chosen: argparse.Namespace, settings: FeatureSettings) -> int:
    from feature_jobs.offline.lake import backfill
    from feature_jobs.online.attributes import attributes_now

    if chosen.to <= chosen.from_:
        raise BadSettings("--to must come after --from")
    for view in VIEWS:
        begun = SystemClock().monotonic_s()
        now_ms = SystemClock().now_ms()
        rows = backfill(Path(settings.lake), view, chosen.from_, chosen.to, attributes_now(view, settings), now_ms)
        took_s = SystemClock().monotonic_s() - begun
        if chosen.json:
            print(json.dumps({"view": view.name, "rows": rows, "seconds": round(took_s, 3)}))
        else:
            days = max(0, min(chosen.to - 1, now_ms) // DAY_MS - chosen.from_ // DAY_MS + 1)
            print(f"{view.name}: {rows} rows over {days} days in {took_s:.1f} s")
    return 0


def _training_set(chosen: argparse.Namespace, settings: FeatureSettings) -> int:
    from feature_jobs.offline.training_set import training_set

    begun = SystemClock().monotonic_s()
    joined = training_set(chosen.labels, chosen.out, Path(settings.lake), settings.redis)
    took_s = round(SystemClock().monotonic_s() - begun, 2)
    if chosen.json:
        print(json.dumps({**joined._asdict(), "seconds": took_s, "out": str(chosen.out)}))
        return 0
    print(f"{joined.rows} labels, {joined.with_features} with features of their time, in {took_s} s: {chosen.out}")
    if joined.outside:
        print(f"  {joined.outside} lie outside the days that were backfilled, or later than the backfill: they have no features")
    return 0


def _parity(chosen: argparse.Namespace, settings: FeatureSettings) -> int:
    from feature_jobs.offline.parity import parity

    agree = True
    for view in VIEWS:
        found = parity(view, Path(settings.lake), settings, chosen.sample, chosen.seed)
        agree &= found.agrees()
        if chosen.json:
            print(
                json.dumps(
                    {
                        "view": view.name,
                        "features": len(view.features),
                        **asdict(found),
                        "agrees": found.agrees(),
                        "problems": found.problems(),
                    }
                )
            )
            continue
        print(
            f"{view.name}: {found.entities} of {found.sampled} entities compared (seed {found.seed}), {len(view.features)} features each; "
            f"{found.not_compared} changed meanwhile"
        )
        for problem in found.problems():
            print(f"  no proof: {problem}")
        if found.agrees():
            print("  no difference")
        for name, n in sorted(found.different.items(), key=lambda item: -item[1]):
            kind = "exact" if view.feature(name).kind is not Kind.FLOAT else "within 1e-9"
            print(f"  {name:<24}{n:>6} differ ({kind})   {found.examples[name]}")
    return 0 if agree else 1


# --- traffic ----------------------------------------------------------------------------------------------------------


def _sender(settings: FeatureSettings, name: str) -> Any:
    from feature_jobs.traffic.event_sources import Sender
    from streams.kafka.config import KafkaAddress
    from streams.kafka.sink import KafkaSink
    from streams.schema_registry import Registry

    clock = SystemClock()
    return Sender(KafkaSink(KafkaAddress(bootstrap=settings.bootstrap), None), Registry(settings.registry), clock, name)


def _progress() -> Any:
    shown_s = SystemClock().monotonic_s()

    def said(sent: int) -> None:
        nonlocal shown_s
        if SystemClock().monotonic_s() - shown_s >= 2.0:
            shown_s = SystemClock().monotonic_s()
            print(f"  {sent} events", file=sys.stderr, flush=True)

    return said


def _generate(chosen: argparse.Namespace, settings: FeatureSettings) -> int:
    from feature_jobs.traffic import event_sources
    from feature_jobs.traffic.generator import World

    world, clock = World(chosen.users, chosen.items, chosen.seed), SystemClock()
    only = world.number_of(chosen.user) if chosen.user else None
    if chosen.user and only is None:
        raise BadSettings(f"--user takes one of u-0 to u-{chosen.users - 1}, not {chosen.user!r}")
    sender, said = _sender(settings, "generator"), _progress()
    sent, now_ms = 0, clock.now_ms()
    if chosen.days:
        if not 0 < chosen.days <= 6.9:
            raise BadSettings("--days is at most 6.9: older events are late")
        sender.people_and_things(world.profiles(now_ms), world.catalogue(now_ms))
        sent += event_sources.fast(sender, world.events(now_ms - int(chosen.days * DAY_MS), now_ms, chosen.rate), clock, said)
    if chosen.seconds:
        sent += event_sources.live(
            sender, World(chosen.users, chosen.items, chosen.seed, 1, only), chosen.rate, chosen.seconds, clock, said
        )
    print(f"{sent} events of {chosen.user or f'{chosen.users} people'} and {chosen.items} items")
    return 0


def _shop(chosen: argparse.Namespace, settings: FeatureSettings) -> int:
    from feature_jobs.traffic.generator import World
    from feature_jobs.traffic.shop import Shop
    from schemas.topics import RECOMMENDATION_RESULTS, USER_EVENTS
    from streams.kafka.admin import KafkaAdmin
    from streams.kafka.broadcast import KafkaBroadcast
    from streams.schema_registry import Registry

    clock, address = SystemClock(), settings.address()
    results = KafkaBroadcast(address, RECOMMENDATION_RESULTS.name, clock, "end")
    world, visits = World(chosen.users, chosen.items, chosen.seed), clock.now_ms() // 1000
    shop = Shop(world, _sender(settings, "shop"), results, Registry(settings.registry), clock, chosen.ask_share, visits)
    ends = KafkaAdmin(address).ends([(USER_EVENTS.name, number) for number in range(USER_EVENTS.partitions)])
    shop.open(0 if any(ends.values()) else chosen.past_events)
    shop.run(World(chosen.users, chosen.items, chosen.seed, visits), chosen.rate)
    return 0


def _replay(chosen: argparse.Namespace, settings: FeatureSettings) -> int:
    from feature_jobs.traffic import event_sources

    profiles, items, events = event_sources.movielens(chosen.data)
    sender, said = _sender(settings, "replay command"), _progress()
    sender.people_and_things(profiles, items)
    begun = SystemClock().monotonic_s()
    sent = event_sources.replay(sender, events, chosen.speed, SystemClock(), said)
    span_days = (events[-1].event_ms - events[0].event_ms) / DAY_MS
    print(f"{sent} ratings of {len(profiles)} people over {span_days:.0f} days in {SystemClock().monotonic_s() - begun:.1f} s")
    return 0
