"""`./millrace bench monitor`: how long the monitor's pages take for a person, and what they cost the machine: in a real
Chromium, on a real stack. Each round measures everything once, so that each figure and its reference come from the same round."""

from __future__ import annotations

import argparse
import json
import os
import shutil
import socket
import statistics
import sys
import tempfile
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from multiprocessing import get_context
from pathlib import Path
from threading import Event, Thread
from typing import Any

import psutil
from playwright.sync_api import Browser, sync_playwright

from infra.local import run_state
from schemas.codec import Encoder, read_any
from schemas.topics import CONTENT, MODERATION_VERDICTS
from streams import headers as h
from streams.clock import SystemClock
from streams.ids import uuid7
from streams.kafka.admin import KafkaAdmin
from streams.kafka.broadcast import KafkaBroadcast
from streams.kafka.config import KafkaAddress
from streams.kafka.sink import KafkaSink
from streams.process.arguments import whole
from streams.rows import OutRecords
from streams.schema_registry import Registry
from tests.benchmarks.worker import figure, report, say
from tests.support.monitors import CHROMIUM_HELP, chromium
from tests.support.stack import Stack

RATE_PER_S = 5_000
CPU_S = 20.0
LARGE_N, LARGE_BYTES = 500, 10_240
CONNECTIONS = 500
SERVED_PER_S = 100
TAILS = 15
WARM_S = 3.0
MARK = "bench-mark-"
LONG_TASKS = """() => { window.long = []; new PerformanceObserver((list) => { for (const one of list.getEntries()) window.long.push(one.duration); })
  .observe({ type: 'longtask', buffered: true }); }"""


class Texts:
    """A producer of texts, for the records of this benchmark."""

    def __init__(self, bootstrap: str, registry: str) -> None:
        ids = Registry(registry)
        self._encoder, self._sink = Encoder.of(CONTENT, ids), KafkaSink(KafkaAddress(bootstrap=bootstrap), None)

    def send(self, texts: list[str], key: str = "bench") -> None:
        n, now_ms = len(texts), SystemClock().now_ms()
        values = self._encoder.encode({"content_id": [key] * n, "text": texts}, n)
        headers = h.cloud_event([uuid7(now_ms) for _ in range(n)], "content", "bench")
        self._sink.produce(OutRecords(CONTENT.name, [key.encode()] * n, values, headers, [i % 4 for i in range(n)]))

    def flush(self) -> None:
        self._sink.flush(30.0)


def flow(bootstrap: str, registry: str, rate_per_s: float, seconds: float) -> None:
    """Sends rate_per_s texts per second, in twenty parts per second; runs in a process of its own."""
    texts, begun, sent = Texts(bootstrap, registry), time.perf_counter(), 0
    while (now := time.perf_counter() - begun) < seconds:
        due = int(now * rate_per_s) - sent
        if due:
            texts.send(["a short text of the benchmark"] * due)
            sent += due
        time.sleep(0.05)
    texts.flush()


@contextmanager
def flowing(stack: Stack, rate_per_s: float, seconds: float) -> Iterator[None]:
    process = get_context("spawn").Process(target=flow, args=(stack.address.bootstrap, stack.registry.url, rate_per_s, seconds))
    process.start()
    time.sleep(3.0)  # for its imports
    try:
        yield
    finally:
        process.join(seconds + 60)


def cpu_share(process: psutil.Process, seconds: float) -> float:
    """As a share of one core."""
    before, begun = process.cpu_times(), time.perf_counter()
    time.sleep(seconds)
    after = process.cpu_times()
    return float(after.user + after.system - before.user - before.system) / (time.perf_counter() - begun)


def reads_all(bootstrap: str, registry: str, seconds: float) -> None:
    """The reference: a program that reads the records themselves, like a console that counts them."""
    reader, ids = KafkaBroadcast(KafkaAddress(bootstrap=bootstrap), CONTENT.name, SystemClock(), "end"), Registry(registry)
    until_s = time.perf_counter() + seconds
    while time.perf_counter() < until_s:
        for value in reader.wait(0.1).values:
            read_any(value, ids)
    reader.close()


def cpu(stack: Stack, monitor: psutil.Process, browser: Browser, base: str) -> tuple[float, float, float]:
    """The monitor's share of a core at RATE_PER_S, with no open page and with one; and the reference's."""
    with flowing(stack, RATE_PER_S, 3 * CPU_S + 12):
        admin, places = KafkaAdmin(stack.address), [(CONTENT.name, number) for number in range(4)]
        begun, first = time.perf_counter(), sum(admin.ends(places).values())
        alone = cpu_share(monitor, CPU_S)
        page = browser.new_page()
        page.goto(base)
        page.get_by_test_id("graph").wait_for()
        looked_at = cpu_share(monitor, CPU_S)
        page.close()
        flown_per_s = (sum(admin.ends(places).values()) - first) / (time.perf_counter() - begun)
        assert flown_per_s > 0.95 * RATE_PER_S, f"only {flown_per_s:.0f} records a second flowed"
        other = get_context("spawn").Process(target=reads_all, args=(stack.address.bootstrap, stack.registry.url, CPU_S + 6))
        other.start()
        time.sleep(4.0)
        reference = cpu_share(psutil.Process(other.pid), CPU_S - 4)
        other.join(60)
    return alone, looked_at, reference


def paint(browser: Browser, base: str) -> tuple[float, float]:
    """First contentful paint and the first view of the whole graph, ms, without a cache."""
    context = browser.new_context(viewport={"width": 1280, "height": 900})
    page = context.new_page()
    page.goto(f"{base}/?show=all", wait_until="commit")
    page.locator(".react-flow__node").first.wait_for()
    found: list[float] = page.evaluate("[performance.getEntriesByName('first-contentful-paint')[0].startTime, performance.now()]")
    context.close()
    return found[0], found[1]


def scroll(browser: Browser, base: str) -> tuple[float, float, float]:
    """The longest task while LARGE_N records of LARGE_BYTES are scrolled, the median time between two frames, and the longest
    task while they are loaded, ms."""
    page = browser.new_page(viewport={"width": 1280, "height": 900})
    page.add_init_script(f"({LONG_TASKS})()")
    page.goto(f"{base}/topics/content-v1?limit=500&match=large-record")
    box = page.get_by_test_id("messages")
    box.wait_for()
    page.wait_for_timeout(500)
    loading: list[float] = page.evaluate("window.long")
    found: dict[str, Any] = box.evaluate("""async (box) => {
      window.long = []; const gaps = []; let last = performance.now();
      for (let y = 0; y < box.scrollHeight; y += 120) { box.scrollTop = y; await new Promise(requestAnimationFrame);
        const now = performance.now(); gaps.push(now - last); last = now; }
      await new Promise((done) => setTimeout(done, 300));
      return { gaps, long: window.long, rows: Math.round(box.scrollHeight / 34) }; }""")
    page.close()
    assert found["rows"] == LARGE_N, found["rows"]
    return max(found["long"], default=0.0), statistics.median(found["gaps"]), max(loading, default=0.0)


def tail(stack: Stack, browser: Browser, base: str) -> tuple[list[float], list[float]]:
    """From producing a record to its text in the page, and to a plain consumer of the client library, ms."""
    page = browser.new_page()
    page.goto(f"{base}/topics/content-v1?from=live&match={MARK}")
    page.get_by_text("live: the newest first").wait_for()
    page.evaluate("""(mark) => { window.seen = {}; new MutationObserver(() => { for (const row of document.querySelectorAll('.row .value')) {
      const found = row.textContent.match(new RegExp(mark + '\\\\d+')); if (found && !window.seen[found[0]]) window.seen[found[0]] = Date.now(); } })
      .observe(document.body, { subtree: true, childList: true, characterData: true }); }""", MARK)  # fmt: skip
    reader, ids, plain, stopping = (
        KafkaBroadcast(stack.address, CONTENT.name, SystemClock(), "end"),
        stack.registry,
        dict[str, float](),
        Event(),
    )

    def read() -> None:
        while not stopping.is_set():
            for value in reader.wait(0.05).values:
                text = str(read_any(value, ids)["text"])
                if text.startswith(MARK):
                    plain[text] = time.time() * 1000

    thread = Thread(target=read, daemon=True)
    thread.start()
    texts, sent = Texts(stack.address.bootstrap, stack.registry.url), dict[str, float]()
    time.sleep(2.0)
    for i in range(TAILS):
        text = f"{MARK}{int(time.time() * 1000) % 10_000_000}{i:03d}"
        sent[text] = time.time() * 1000
        texts.send([text])
        texts.flush()
        page.wait_for_timeout(250 + 37 * (i % 5))
    page.wait_for_timeout(1_000)
    seen: dict[str, float] = page.evaluate("window.seen")
    stopping.set()
    thread.join(5)
    reader.close()
    page.close()
    assert len(seen) == len(plain) == TAILS, (len(seen), len(plain))
    return [seen[text] - at for text, at in sent.items()], [plain[text] - at for text, at in sent.items()]


def p99_of(stack: Stack, seconds: float) -> float:
    """p99 at SERVED_PER_S texts per second, from sending a text to reading its verdict, ms; the texts of the first WARM_S are
    not counted."""
    reader = KafkaBroadcast(stack.address, MODERATION_VERDICTS.name, SystemClock(), "end")
    texts, sent, times = Texts(stack.address.bootstrap, stack.registry.url), dict[str, float](), list[float]()
    begun, n = time.perf_counter(), int(seconds * SERVED_PER_S)
    while len(times) < n and time.perf_counter() - begun < seconds + 20:
        while len(sent) < min(n, (time.perf_counter() - begun) * SERVED_PER_S):
            key = f"served-{len(sent)}-{int(begun)}"
            sent[key] = time.perf_counter()
            texts.send(["is this served as before?"], key)
        for value in reader.wait(0.002).values:
            content_id = read_any(value, stack.registry)["content_id"]
            if content_id in sent:
                times.append(1000 * (time.perf_counter() - sent[content_id]))
    reader.close()
    assert len(times) == n, (len(times), n)
    counted = sorted(times[int(WARM_S * SERVED_PER_S) :])
    return counted[int(0.99 * len(counted))]


def crowd(stack: Stack, monitor: psutil.Process, base: str) -> tuple[float, float, int, float]:
    """p99 of serving alone, and with CONNECTIONS live readers, half of which read nothing; the number of events of the slowest
    reader that reads; the monitor's share of a core meanwhile."""
    steady = p99_of(stack, 11.0)
    host, port = base.removeprefix("http://").split(":")
    sockets: list[socket.socket] = []
    for _ in range(CONNECTIONS):
        one = socket.create_connection((host, int(port)), timeout=10)
        one.sendall(f"GET /api/live HTTP/1.1\r\nHost: {host}:{port}\r\n\r\n".encode())
        sockets.append(one)
    counts, stopping = [0] * (CONNECTIONS // 2), Event()

    def drain() -> None:
        for one in sockets[: CONNECTIONS // 2]:
            one.setblocking(False)
        while not stopping.is_set():
            for i, one in enumerate(sockets[: CONNECTIONS // 2]):
                try:
                    counts[i] += one.recv(1 << 20).count(b"data: ")
                except BlockingIOError:
                    continue
            time.sleep(0.1)

    thread = Thread(target=drain, daemon=True)
    thread.start()
    shares: list[float] = []
    watcher = Thread(target=lambda: shares.append(cpu_share(monitor, 10.0)))
    watcher.start()
    beside = p99_of(stack, 11.0)
    watcher.join()
    time.sleep(1.0)
    stopping.set()
    thread.join(5)
    for one in sockets:
        one.close()
    return steady, beside, min(counts), shares[0]


def main() -> None:
    parser = argparse.ArgumentParser()
    parser.add_argument("--json", action="store_true")
    parser.add_argument("--rounds", type=whole(), default=3)
    chosen = parser.parse_args()
    found_chromium = chromium()
    if found_chromium is None:
        sys.exit(f"no Chromium is here: {CHROMIUM_HELP}")
    load_before, folder = os.getloadavg()[0], Path(tempfile.mkdtemp(prefix="millrace-monitor-"))
    stack = Stack(folder, "moderation policy+decisions", MILLRACE_MONITOR="true")
    try:
        done = stack.run("up")
        assert done.returncode == 0, done.stdout + done.stderr
        stack.connect()
        with sync_playwright() as playwright:
            browser = playwright.chromium.launch(
                executable_path=found_chromium, args=["--no-sandbox"] if os.geteuid() == 0 else []
            )
            figures = measure(stack, browser, chosen.rounds)
            browser.close()
    finally:
        stack.run("down")
        shutil.rmtree(folder, ignore_errors=True)
    report("monitor", figures, load_before, chosen.json)


def measure(stack: Stack, browser: Browser, n: int) -> list[dict[str, Any]]:
    kept = run_state.read(stack.home / "run").find("monitor")
    assert kept is not None
    (monitor,), base = psutil.Process(kept.pid).children(), kept.address
    texts = Texts(stack.address.bootstrap, stack.registry.url)
    for _ in range(LARGE_N // 50):
        texts.send([("large-record " + "word " * (LARGE_BYTES // 5))[:LARGE_BYTES]] * 50)
        texts.flush()
    time.sleep(5.0)

    def rounds(words: str, one: Callable[[], Any]) -> list[Any]:
        say(words)
        found = []
        for number in range(n):
            found.append(one())
            say(f"  round {number + 1}: {json.dumps(found[-1], default=str)[:300]}")
        return found

    paints = rounds("first paint of the pipeline, whole catalogue, nothing cached", lambda: paint(browser, base))
    scrolls = rounds(f"{LARGE_N} records of {LARGE_BYTES} bytes, scrolled through", lambda: scroll(browser, base))
    tails = rounds("a record in the live tail, beside a plain consumer", lambda: tail(stack, browser, base))
    crowds = rounds(f"{CONNECTIONS} live connections, half of them never read", lambda: crowd(stack, monitor, base))
    cpus = rounds(f"{RATE_PER_S} records a second flow", lambda: cpu(stack, monitor, browser, base))
    return told(paints, scrolls, tails, crowds, cpus)


def told(paints: list[Any], scrolls: list[Any], tails: list[Any], crowds: list[Any], cpus: list[Any]) -> list[dict[str, Any]]:
    def middle(found: list[Any], i: int) -> float:
        return float(statistics.median(one[i] for one in found))

    seen = [ms for ours, _ in tails for ms in ours]
    plain = [ms for _, theirs in tails for ms in theirs]
    alone, looked_at, reference = (middle(cpus, i) for i in range(3))
    steady, beside = middle(crowds, 0), middle(crowds, 1)
    return [
        figure("first contentful paint", middle(paints, 0), "ms", "at most 1000 ms", max(p[0] for p in paints) <= 1_000, all=[round(p[0]) for p in paints]),
        figure("the whole graph drawn", middle(paints, 1), "ms", "printed", None, all=[round(p[1]) for p in paints]),
        figure(f"longest task, {LARGE_N} x {LARGE_BYTES} bytes scrolled", max(s[0] for s in scrolls), "ms", "at most 100 ms", max(s[0] for s in scrolls) <= 100,
               all=[round(s[0], 1) for s in scrolls]),
        figure("longest task while they are loaded", max(s[2] for s in scrolls), "ms", "printed", None),
        figure("between two frames while scrolling", middle(scrolls, 1), "ms", "printed", None),
        figure("record to live tail, longest", max(seen), "ms", "at most 500 ms", max(seen) <= 500, reference="a plain consumer, the same records",
               reference_value=round(max(plain), 1), ratio=round(statistics.median(seen) / statistics.median(plain), 2), median=statistics.median(seen), n=len(seen)),
        figure(f"CPU at {RATE_PER_S} records/s, one page open", 100 * looked_at, "% of a core", "at most 5 %", max(c[1] for c in cpus) <= 0.05,
               reference="a reader that decodes each record", reference_value=round(100 * reference, 2), ratio=round(looked_at / reference, 3),
               all=[round(100 * c[1], 2) for c in cpus]),
        figure(f"CPU at {RATE_PER_S} records/s, no page open", 100 * alone, "% of a core", "printed", None, all=[round(100 * c[0], 2) for c in cpus]),
        figure(f"serving p99 beside {CONNECTIONS} live connections", beside, "ms", "printed", None, reference="p99 without them, the same stack and rate",
               reference_value=round(steady, 2), ratio=round(beside / steady, 3), all=[[round(c[0], 1), round(c[1], 1)] for c in crowds]),
        figure("snapshots that the slowest of those who read got", min(c[2] for c in crowds), "in 11 s", "at least 4", min(c[2] for c in crowds) >= 4),
        figure(f"CPU with {CONNECTIONS} live connections", 100 * middle(crowds, 3), "% of a core", "printed", None),
    ]  # fmt: skip


if __name__ == "__main__":
    main()
