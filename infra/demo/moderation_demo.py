"""`./millrace demo`: sends texts to `content-v1`, prints the verdicts, and checks that each text has exactly one."""

from __future__ import annotations

import random
import time
from collections import Counter
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from infra import better_models, console
from infra.demo.drift_traffic import PLACES
from infra.demo.warm_up import warm_up
from infra.local import run_state, stack
from infra.settings import StackSettings
from schemas.catalogue import consumption
from schemas.codec import Encoder
from schemas.errors import BrokerUnavailable, Fenced, Stop, TransactionAborted
from schemas.topics import CONTENT, MODERATION_VERDICTS
from streams import headers as h
from streams.broker import Sink
from streams.clock import SystemClock
from streams.ids import uuid7
from streams.kafka.broadcast import KafkaBroadcast
from streams.kafka.config import KafkaAddress
from streams.kafka.sink import KafkaSink
from streams.readable import Followed, Readable
from streams.rows import OutRecords
from streams.schema_registry import Registry

TEXTS = Path(__file__).with_name("demo_texts.tsv")
RATE_PER_S = 100
VERDICT_LIMIT_S = 30.0


class DemoFailed(Stop):
    code = "demo-failed"


@dataclass
class Watched:
    """Counts for the summary. latencies_ms: from sending a text to reading its verdict."""

    statuses: Counter[str] = field(default_factory=Counter)
    flags: Counter[str] = field(default_factory=Counter)
    latencies_ms: list[float] = field(default_factory=list)
    batch_sizes: list[int] = field(default_factory=list)
    seen: Counter[str] = field(default_factory=Counter)


def texts(count: int, seed: int = 11) -> list[tuple[str, str]]:
    """(kind, text) of `demo_texts.tsv` with placeholders filled, shuffled; the same list for the same seed."""
    random_ = random.Random(seed)
    lines = [line.split("\t") for line in TEXTS.read_text(encoding="utf-8").splitlines()]
    picked: list[tuple[str, str]] = []
    while len(picked) < count:
        random_.shuffle(lines)
        for kind, text in lines:
            picked.append((kind, text.format(n=random_.randint(2, 99), place=random_.choice(PLACES))))
    return picked[:count]


def run(settings: StackSettings, count: int, keep: bool) -> None:
    """Start the stack, send, print verdicts and summary; stop it again unless `keep`. Raises DemoFailed if a verdict is
    missing or doubled."""
    was_up = run_state.read(settings.run_folder).up
    console.out.print("[bold]Millrace demo[/]: texts in on content-v1, verdicts out on moderation-verdicts-v1, exactly once\n")
    try:
        running = stack.up(settings)
        watched, elapsed_s = feed_and_watch(running, texts(count))
        _summary(watched, count, elapsed_s)
        _dead_letters(running)
        if any(n != 1 for n in watched.seen.values()) or len(watched.seen) != count:
            raise DemoFailed(
                f"{count} texts were sent, {len(watched.seen)} were answered, one of them up to {max(watched.seen.values(), default=0)} times: "
                "`./millrace logs` shows what the workers did"
            )
    finally:
        if not keep and not was_up:
            with console.step("stop"):
                stack.down(settings)
    _what_next(keep or was_up, better_models.fetch_line(settings))


def feed_and_watch(running: run_state.State, items: list[tuple[str, str]]) -> tuple[Watched, float]:
    """Send the texts at RATE_PER_S and read their verdicts. Waits at most VERDICT_LIMIT_S after the last text. Also returns
    the seconds."""
    address, ids, clock = KafkaAddress(bootstrap=running.bootstrap), Registry(running.registry), SystemClock()
    encoder = Encoder.of(CONTENT, ids)
    reader = KafkaBroadcast(address, MODERATION_VERDICTS.name, clock, "end")
    verdicts = Followed(reader, Readable(MODERATION_VERDICTS, ids, dict))
    sink = KafkaSink(address, None)
    _warm_up(address, sink)
    watched_at = running.find("monitor")
    if watched_at is not None and watched_at.alive():
        console.out.print(f"\n  in a browser, while it runs: [bold]{watched_at.address}[/]")
    console.out.print(f"\n  {len(items)} texts at {RATE_PER_S} per second; some verdicts, as they arrive:\n")
    run_id = uuid7(clock.now_ms())[:13]
    sent: dict[str, tuple[float, str]] = {}
    watched = Watched()
    begun = time.perf_counter()
    last = begun
    while len(watched.seen) < len(items) and time.perf_counter() - last < VERDICT_LIMIT_S:
        now = time.perf_counter()
        while len(sent) < len(items) and len(sent) < (now - begun) * RATE_PER_S + 1:
            kind, text = items[len(sent)]
            request_id, content_id = uuid7(clock.now_ms()), f"demo-{run_id}-{len(sent)}"
            value = encoder.encode({"content_id": [content_id], "text": [text], "kind": [kind]}, 1)
            sent[request_id] = (time.perf_counter(), text)
            headers = h.cloud_event([request_id], "content", "demo")
            sink.produce(OutRecords(CONTENT.name, [content_id.encode()], list(value), headers))
            last = time.perf_counter()
        for verdict in verdicts.take(reader.wait(0.005)):
            _watch(verdict, sent, watched)
    elapsed_s = time.perf_counter() - begun
    sink.close()
    verdicts.close()
    return watched, elapsed_s


def _warm_up(address: KafkaAddress, sender: Sink) -> None:
    with console.step("warm up") as remark:
        try:
            remark(f"{warm_up(address, sender)} transactions on a topic that is deleted again")
        except (BrokerUnavailable, TransactionAborted, Fenced) as error:
            remark(f"ended early: {error}")


def _watch(verdict: dict[str, Any], sent: dict[str, tuple[float, str]], watched: Watched) -> None:
    if verdict["request_id"] not in sent:
        return
    at, text = sent[verdict["request_id"]]
    watched.seen[verdict["request_id"]] += 1
    watched.statuses[verdict["status"]] += 1
    watched.latencies_ms.append((time.perf_counter() - at) * 1000)
    watched.batch_sizes.append(verdict["batch_size"])
    flagged = [c["category"] for c in verdict["categories"] if c["flagged"]]
    watched.flags.update(flagged or ["nothing flagged"])
    if flagged or len(watched.seen) % 25 == 1:  # prints every flagged text and some of the others
        best = verdict["deciding"]
        colour, words = ("red", ", ".join(flagged)) if flagged else ("green", "ok")
        said = f"{best['category']} {best['probability']:.2f}" if best else ""
        short = text if len(text) <= 60 else text[:59] + "…"
        console.out.print(f"    [{colour}]{words:<26}[/] [dim]{said:<20}[/] {console.escape(short)}")


def _percentile(values: list[float], share: float) -> float:
    ordered = sorted(values)
    return ordered[min(len(ordered) - 1, int(share * len(ordered)))] if ordered else float("nan")


def _summary(watched: Watched, count: int, elapsed_s: float) -> None:
    console.out.print()
    sizes = watched.batch_sizes
    rows = [
        ("texts in", f"{count}"),
        ("verdicts out", f"{sum(watched.seen.values())}"),
        ("answered twice", f"{sum(n > 1 for n in watched.seen.values())}"),
        ("rate", f"{len(watched.seen) / elapsed_s:.0f} per second (sent at {RATE_PER_S})"),
        ("latency p50 / p99", f"{_percentile(watched.latencies_ms, 0.5):.1f} / {_percentile(watched.latencies_ms, 0.99):.1f} ms"),
        ("batch size mean / largest", f"{sum(sizes) / max(1, len(sizes)):.1f} / {max(sizes, default=0)}"),
    ]
    console.table("what happened", ("", "value"), rows, right=("value",))
    console.out.print()
    flags = [(name, str(n)) for name, n in watched.flags.most_common()]
    console.table("verdicts", ("category", "texts"), flags, right=("texts",))


def _dead_letters(running: run_state.State) -> None:
    from streams.kafka.admin import KafkaAdmin

    taken = consumption("moderation")
    admin = KafkaAdmin(KafkaAddress(bootstrap=running.bootstrap))
    places = [(taken.dead_letter_topic, number) for number in range(taken.topic.partitions)]
    console.out.print(f"\n  dead letters on {taken.dead_letter_topic}: {sum(admin.ends(places).values())}\n")


def _what_next(up: bool, last_line: str) -> None:
    first = "the stack is up" if up else "`./millrace up` starts the stack again; its data is kept"
    console.out.print(f"""
  {first}. Then:
    ./millrace send moderation --text "You have won a free prize, call now"
    ./millrace tail moderation-verdicts-v1        decoded records, live
    ./millrace monitor                            all of it in a browser
    ./millrace topics                             every topic, its records and lag
    ./millrace status | logs | down | --help""")
    if last_line:
        console.out.print(f"  [dim]{last_line}[/]")
