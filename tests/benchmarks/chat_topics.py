"""`./millrace bench chat_topics`: what the topics cost a conversation: time to the first token, time from a token to its reader, and
tokens per second beside the engine alone with the same requests.

The model is the fetched default model. The engine alone runs in a process of its own, before or after the worker in turn.
"""

from __future__ import annotations

import argparse
import asyncio
import json
import os
import statistics
import subprocess
import sys
import tempfile
import time
from collections import defaultdict
from pathlib import Path
from typing import Any

import numpy as np

from infra.provision import provision
from infra.settings import ROOT, StackSettings
from schemas.chat_topics import CHAT_TOKENS
from schemas.codec import read_any
from streams.chat_client import ChatClient, ChatStreams
from streams.client import connect
from streams.clock import SystemClock
from streams.kafka.admin import KafkaAdmin
from streams.kafka.broadcast import KafkaBroadcast
from streams.kafka.config import KafkaAddress
from streams.process.arguments import whole
from streams.process.settings import load
from streams.rows import Polled
from streams.schema_registry import Registry
from tests.benchmarks.worker import figure, report, say, servers
from tests.chaos.stage import Worker

CALLERS, TOKENS, DEADLINE_MS = (1, 8, 32), 64, 300_000
START_LIMIT_S = 240.0
READABLE_MS, OVERHEAD_MS = 20.0, 1.0  # goals: p99 of a token's way to its reader; the topics' share of a token
Runs = dict[str, list[float]]


class TimedTail:
    """Notes when each part was read. Its records are decoded after the run."""

    def __init__(self, tail: KafkaBroadcast) -> None:
        self._tail = tail
        self.read: list[tuple[float, Polled]] = []

    def wait(self, wait_s: float) -> Polled:
        part = self._tail.wait(wait_s)
        if len(part):
            self.read.append((time.time() * 1000, part))
        return part

    def close(self) -> None:
        self._tail.close()

    def delays_ms(self, ids: Registry) -> list[float]:
        """From the making of each record of tokens to its reading; forgets what was read."""
        read, self.read = self.read, []
        records = [(at_ms, read_any(value, ids)) for at_ms, part in read for value in part.values]
        return [at_ms - record["made_ms"] for at_ms, record in records if record["tokens"]]


def question(number: int) -> str:
    return f"Tell me about the number {number}."


async def talk(bootstrap: str, registry: str, runs: Runs) -> None:
    clock, ids = SystemClock(), Registry(registry)
    tail = TimedTail(KafkaBroadcast(KafkaAddress(bootstrap=bootstrap), CHAT_TOKENS.name, clock, "end"))
    async with connect(bootstrap, registry, "bench") as client:
        chat = ChatClient(client, ChatStreams(tail, ids, clock), ids, clock, "bench")
        for number, n in enumerate((1, *CALLERS)):  # the first one warms up
            tail.delays_ms(ids)
            begun_s = time.perf_counter()
            fields = [{"messages": [{"role": "user", "content": question(i)}], "max_tokens": TOKENS} for i in range(n)]
            results = [await one.result for one in [chat.ask(one, deadline_ms=DEADLINE_MS) for one in fields]]
            took_s = time.perf_counter() - begun_s
            assert {result["status"] for result in results} == {"ok"}, results
            tokens = sum(result["completion_tokens"] for result in results)
            first_ms = [result["time_to_first_token_ms"] for result in results]
            await asyncio.sleep(0.3)  # the last records are read
            delays_ms = tail.delays_ms(ids)
            if number == 0:
                continue
            runs[f"{n} tokens"].append(tokens / took_s)
            for q in (50, 99):
                runs[f"{n} first p{q}"].append(float(np.percentile(first_ms, q)))
                runs[f"{n} delay p{q}"].append(float(np.percentile(delays_ms, q)))
        chat.streams.close()


def alone(address: str) -> None:
    """The engine without topics; prints tokens per second by the number of callers, as JSON."""
    from inference_workers.chat.conversation import Message
    from inference_workers.chat.engine import Generation, Sampling, Token
    from inference_workers.chat.load import load as load_model
    from inference_workers.chat.settings import EngineSettings
    from inference_workers.models.addresses import open_source

    model = load_model(open_source(address).path, load(EngineSettings, os.environ, "chat"), SystemClock())
    rates = {}
    for n in (1, *CALLERS):
        begun_s, tokens = time.perf_counter(), 0
        for i in range(n):
            prompt = model.template.prompt([Message("user", question(i))], 1_000).tokens
            model.engine.add(Generation(f"{n}-{i}-{begun_s}", prompt, sampling=Sampling(max_tokens=TOKENS)))
        while model.engine.busy:
            tokens += sum(isinstance(event, Token) for event in model.engine.step())
        rates[n] = tokens / (time.perf_counter() - begun_s)
    print(json.dumps(rates))


def measure_alone(address: str, runs: Runs) -> None:
    command = [sys.executable, "-m", "tests.benchmarks.chat_topics", "--alone", address]
    done = subprocess.run(command, cwd=ROOT, env={**os.environ, "PYTHONPATH": str(ROOT)}, capture_output=True, check=True)
    for n, rate in json.loads(done.stdout.splitlines()[-1]).items():
        runs[f"{n} alone"].append(rate)


def measure_topics(address: str, runs: Runs) -> None:
    with servers() as (bootstrap, registry), tempfile.TemporaryDirectory() as folder:
        provision(KafkaAdmin(KafkaAddress(bootstrap=bootstrap)), Registry(registry))
        worker = Worker(bootstrap, registry, Path(folder) / "chat.log", 0, ("chat",), MILLRACE_CHAT_MODEL=address)
        try:
            worker.wait_assigned(START_LIMIT_S)
            asyncio.run(talk(bootstrap, registry, runs))
        finally:
            worker.stop()


def figures_of(runs: Runs) -> list[dict[str, Any]]:
    def of(name: str, key: str, unit: str, goal: float | None = None) -> dict[str, Any]:
        values = runs[key]
        value, spread = statistics.median(values), [round(min(values), 2), round(max(values), 2)]
        words = "printed" if goal is None else f"at most {goal:g} {unit}"
        return figure(name, value, unit, words, None if goal is None else value <= goal, spread=spread)

    made = []
    for n in CALLERS:
        runs[f"{n} overhead"] = [
            1000 / topics - 1000 / engine for topics, engine in zip(runs[f"{n} tokens"], runs[f"{n} alone"], strict=True)
        ]
        made += [
            of(f"tokens over topics, {n} at once", f"{n} tokens", "tokens/s"),
            of(f"tokens of the engine alone, {n} at once", f"{n} alone", "tokens/s"),
            of(f"share of the topics, {n} at once", f"{n} overhead", "ms/token", OVERHEAD_MS),
            of(f"first token p50, {n} at once", f"{n} first p50", "ms"),
            of(f"first token p99, {n} at once", f"{n} first p99", "ms"),
            of(f"token to reader p50, {n} at once", f"{n} delay p50", "ms"),
            of(f"token to reader p99, {n} at once", f"{n} delay p99", "ms", READABLE_MS),
        ]
    return made


def main() -> None:
    parser = argparse.ArgumentParser(prog="./millrace bench chat_topics")
    parser.add_argument("--json", action="store_true")
    parser.add_argument("--rounds", type=whole(1), default=3)
    parser.add_argument("--model", default=load(StackSettings, os.environ).chat_model, help="address of the model")
    parser.add_argument("--alone", help=argparse.SUPPRESS)
    chosen = parser.parse_args()
    if chosen.alone:
        alone(chosen.alone)
        return
    load_before = os.getloadavg()[0]
    runs: Runs = defaultdict(list)
    for number in range(chosen.rounds):
        for measure in (measure_alone, measure_topics) if number % 2 == 0 else (measure_topics, measure_alone):
            measure(chosen.model, runs)
        say(f"round {number + 1} of {chosen.rounds}")
    report("chat_topics", figures_of(runs), load_before, chosen.json)


if __name__ == "__main__":
    main()
