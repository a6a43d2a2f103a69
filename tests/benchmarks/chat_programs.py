"""The compared programs of `bench chat`, each in a process of its own: our engine, and transformers' `generate`, one by one or in static batches.

`python -m tests.benchmarks.chat_programs WHICH < JOBS` reads one JSON object: {folder, weights, threads, concurrent, kv_tokens, jobs: [{prompt:
[token], tokens}]}. Every answer has as many tokens as its job says, whatever the model's ends. Prints one JSON object: {seconds, cpu_s,
tokens, first_ms, rss_mib}. Loading and one warm request come before the clock starts.
"""

from __future__ import annotations

import json
import os
import sys
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

import psutil

Job = dict[str, Any]
Run = tuple[int, list[float]]  # tokens, and time to first token of each job in ms


def engine(asked: dict[str, Any]) -> Callable[[list[Job]], Run]:
    from inference_workers.chat.engine import Finished, Generation, Sampling
    from inference_workers.chat.load import load
    from inference_workers.chat.settings import EngineSettings, Weights
    from streams.clock import SystemClock

    settings = EngineSettings(
        weights=Weights(asked["weights"]),
        torch_threads=asked["threads"],
        max_running=asked["concurrent"],
        kv_tokens=asked["kv_tokens"],
        max_waiting=100_000,
    )
    made: Any = load(Path(asked["folder"]), settings, SystemClock()).engine
    made._ends = frozenset()  # answers go on past the model's end: all programs make the same number of tokens

    def run(jobs: list[Job]) -> Run:
        for number, job in enumerate(jobs):
            made.add(Generation(str(number), tuple(job["prompt"]), sampling=Sampling(max_tokens=job["tokens"])))
        ends = []
        while made.busy:
            ends += [event for event in made.step() if isinstance(event, Finished)]
        return sum(end.completion_tokens for end in ends), [end.time_to_first_token_ms for end in ends]

    return run


def generate(asked: dict[str, Any]) -> Callable[[list[Job]], Run]:
    """Static batches: as many jobs as run at once, padded to the longest prompt, until the longest answer has ended."""
    import torch
    from transformers import AutoModelForCausalLM

    torch.set_num_threads(asked["threads"])
    network: Any = AutoModelForCausalLM.from_pretrained(asked["folder"], dtype=torch.float32).eval()

    def run(jobs: list[Job]) -> Run:
        static_batches(network, jobs, asked["concurrent"])
        return sum(job["tokens"] for job in jobs), []

    return run


def static_batches(network: Any, jobs: list[Job], concurrent: int) -> None:
    """network: a causal language model of transformers, which says its device."""
    import torch

    for start in range(0, len(jobs), concurrent):
        batch = jobs[start : start + concurrent]
        longest = max(len(job["prompt"]) for job in batch)
        ids = torch.tensor([[0] * (longest - len(job["prompt"])) + job["prompt"] for job in batch], device=network.device)
        mask = torch.tensor(
            [[0] * (longest - len(job["prompt"])) + [1] * len(job["prompt"]) for job in batch], device=network.device
        )
        tokens = max(job["tokens"] for job in batch)
        with torch.inference_mode():
            network.generate(
                ids, attention_mask=mask, do_sample=False, min_new_tokens=tokens, max_new_tokens=tokens, pad_token_id=0
            )


PROGRAMS = {"engine": engine, "generate": generate}


def main() -> None:
    asked = json.load(sys.stdin)
    os.environ["OMP_NUM_THREADS"] = str(asked["threads"])  # before torch is imported
    run = PROGRAMS[sys.argv[1]](asked)
    run([{**asked["jobs"][0], "tokens": 3}])
    process = psutil.Process()
    before, begun_s = process.cpu_times(), time.perf_counter()
    tokens, first_ms = run(asked["jobs"])
    seconds, after = time.perf_counter() - begun_s, process.cpu_times()
    cpu_s = after.user + after.system - before.user - before.system
    rss_mib = [process.memory_info().rss / 2**20]
    for _ in range(asked.get("repeats", 0)):
        run(asked["jobs"])
        rss_mib.append(process.memory_info().rss / 2**20)
    print(json.dumps({"seconds": seconds, "cpu_s": cpu_s, "tokens": tokens, "first_ms": first_ms, "rss_mib": rss_mib}))


if __name__ == "__main__":
    main()
