"""`./millrace bench chat_gpu`: the chat engine on a GPU beside transformers' `generate` and its continuous batching.

A Llama of 1.07 B random weights in bfloat16, greedy, jobs of mixed lengths that are given: every program makes the same number of
tokens. All programs are in one process and run in alternating order, after a warm round of each. Needs no servers.
"""

from __future__ import annotations

import argparse
import json
import os
import shutil
import statistics
import tempfile
import time
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any

import numpy as np
import torch

from streams.process.arguments import whole
from tests.benchmarks.chat import mixed_jobs
from tests.benchmarks.chat_programs import Job, static_batches
from tests.benchmarks.worker import figure, report, say

Run = dict[str, Any]  # seconds, tokens, first_ms and between_ms
CONFIG = {
    "vocab_size": 49_152,
    "hidden_size": 2_048,
    "intermediate_size": 8_192,
    "num_hidden_layers": 16,
    "num_attention_heads": 32,
    "num_key_value_heads": 8,
    "head_dim": 64,
    "max_position_embeddings": 8_192,
    "tie_word_embeddings": True,
}


def checkpoint(tokenizer: Path, folder: Path) -> None:
    """Random weights beside the files of a tokenizer."""
    from transformers import LlamaConfig, LlamaForCausalLM

    for file in tokenizer.iterdir():
        if file.suffix != ".safetensors":
            shutil.copy(file, folder)
    torch.manual_seed(0)
    torch.set_default_dtype(torch.bfloat16)
    with torch.device("cuda"):
        network: Any = LlamaForCausalLM(LlamaConfig(**CONFIG))
    torch.set_default_dtype(torch.float32)
    network.save_pretrained(folder, max_shard_size="20GB")


def engine(folder: Path, concurrent: int, kernel: bool = False) -> Callable[[list[Job]], Run]:
    from inference_workers.chat.engine import Finished, Generation, Sampling, Token
    from inference_workers.chat.load import load
    from inference_workers.chat.settings import EngineSettings
    from streams.clock import SystemClock

    settings = EngineSettings(
        max_running=concurrent,
        kv_tokens=concurrent * 1_600,
        step_tokens=2_048,
        max_waiting=100_000,
        prefix_cache=False,
        attention_kernel=kernel,
    )
    made: Any = load(folder, settings, SystemClock()).engine
    made._ends = frozenset()  # answers go on past the model's end: all programs make the same number of tokens

    def run(asked: list[Job]) -> Run:
        times: dict[str, list[float]] = {}
        ends: list[Finished] = []
        begun_s = time.perf_counter()
        for number, job in enumerate(asked):
            made.add(Generation(str(number), tuple(job["prompt"]), sampling=Sampling(max_tokens=job["tokens"])))
        while made.busy:
            for event in made.step():
                if isinstance(event, Token):
                    times.setdefault(event.request_id, []).append(time.perf_counter())
                else:
                    ends.append(event)
        seconds = time.perf_counter() - begun_s
        return {"seconds": seconds, "tokens": sum(end.completion_tokens for end in ends), **waits(times.values(), begun_s)}

    return run


def static(network: Any, concurrent: int) -> Callable[[list[Job]], Run]:
    def run(asked: list[Job]) -> Run:
        begun_s = time.perf_counter()
        static_batches(network, asked, concurrent)
        torch.cuda.synchronize()
        return {"seconds": time.perf_counter() - begun_s, "tokens": sum(job["tokens"] for job in asked)}

    return run


def paged(network: Any, concurrent: int, stopping: list[Callable[[], None]]) -> Callable[[list[Job]], Run]:
    """transformers' continuous batching, one manager for all rounds."""
    from transformers import GenerationConfig
    from transformers.generation import ContinuousBatchingConfig

    ends = GenerationConfig(do_sample=False, max_new_tokens=512, eos_token_id=-1, pad_token_id=0)
    size = ContinuousBatchingConfig(max_requests_per_batch=concurrent, max_memory_percent=0.5)
    manager = network.init_continuous_batching(generation_config=ends, continuous_batching_config=size)
    manager.start()
    stopping.append(lambda: manager.stop(block=True, timeout=30))

    def run(asked: list[Job]) -> Run:
        begun_s = time.perf_counter()
        for number, job in enumerate(asked):
            name = f"{begun_s}-{number}"
            manager.add_request(job["prompt"], request_id=name, max_new_tokens=job["tokens"], record_timestamps=True)
        made = 0
        times: list[list[float]] = []
        while len(times) < len(asked):
            result = manager.get_result(timeout=60)
            if result is None or result.error:
                raise RuntimeError(f"no answer: {result and result.error}")
            made += len(result.generated_tokens)
            times.append(list(result.timestamps or []))
        return {"seconds": time.perf_counter() - begun_s, "tokens": made, **waits(times, begun_s)}

    return run


def waits(times: Any, begun_s: float) -> Run:
    """Of the tokens of each answer: the first since the start, and the gaps between the others, ms."""
    stamps = [one for one in times if one]
    return {
        "first_ms": [(one[0] - begun_s) * 1000 for one in stamps],
        "between_ms": (np.concatenate([np.diff(one) for one in stamps] or [[]]) * 1000).tolist(),
    }


def spread(values: Sequence[float]) -> list[float]:
    """Least, middle and most; nothing of nothing."""
    return [round(f(values), 2) for f in (min, statistics.median, max)] if values else []


def percentiles(values: Sequence[float]) -> dict[str, float]:
    return {f"p{share}": round(float(np.percentile(values, share)), 2) for share in (50, 99)} if len(values) else {}


def compared(folder: Path, networks: list[Any], concurrent: int, requests: int, rounds: int) -> list[dict[str, Any]]:
    stopping: list[Callable[[], None]] = []
    programs = {
        "engine": engine(folder, concurrent),
        "engine with its attention kernel": engine(folder, concurrent, kernel=True),
        "generate": static(networks[0], concurrent),
        "continuous batching of transformers": paged(networks[1], concurrent, stopping),
    }
    asked = mixed_jobs(requests, prompt=(32, 1_024), answer=(64, 512))
    tokens = sum(job["tokens"] for job in asked)
    runs: dict[str, list[Run]] = {name: [] for name in programs}
    failures: dict[str, str] = {}
    for number in range(rounds + 1):
        for name in list(programs)[:: -1 if number % 2 else 1]:
            if name in failures:
                continue
            try:
                made = programs[name](asked)
                if made["tokens"] != tokens:
                    raise RuntimeError(f"{made['tokens']} tokens instead of {tokens}")
                if number:  # the first is warm-up
                    runs[name].append(made)
                say(f"  {concurrent} {name}: {made['tokens'] / made['seconds']:.0f} tokens/s")
            except Exception as error:
                failures[name] = repr(error)[:300]
                say(f"  {concurrent} {name}: {error!r}"[:500])
    for stop in stopping:
        stop()
    if not runs["engine"]:
        raise SystemExit(f"the engine failed: {failures['engine']}")
    return [of(runs, failures, concurrent, other) for other in programs if other != "engine"]


def of(runs: dict[str, list[Run]], failures: dict[str, str], concurrent: int, other: str) -> dict[str, Any]:
    """The engine beside one other program."""
    ours, theirs = (spread([one["tokens"] / one["seconds"] for one in runs[name]]) for name in ("engine", other))
    between = percentiles([ms for one in runs["engine"] for ms in one["between_ms"]])
    beside: dict[str, Any] = {"reference": other, "failure": failures[other]} if other in failures else {"reference": other}
    if theirs:
        beside |= {"reference_value": theirs[1], "ratio": round(ours[1] / theirs[1], 3), "reference_spread": theirs}
        beside["reference_between_ms"] = percentiles([ms for one in runs[other] for ms in one.get("between_ms", [])])
    goal = "at least 100 tokens/s an answer alone, p50 30 ms and p99 80 ms between tokens"
    met = between["p50"] <= 30 and between["p99"] <= 80 and (concurrent > 1 or ours[1] >= 100)
    first = percentiles([ms for one in runs["engine"] for ms in one["first_ms"]])
    return figure(
        f"{concurrent} at once, {other}",
        ours[1],
        "tokens/s",
        goal,
        met,
        spread=ours,
        between_ms=between,
        first_ms=first,
        **beside,
    )


def main() -> None:
    parser = argparse.ArgumentParser(prog="./millrace bench chat_gpu", description=__doc__)
    parser.add_argument("--json", action="store_true")
    parser.add_argument(
        "--tokenizer", type=Path, help="a folder with the files of SmolLM2's tokenizer; default: the fetched model"
    )
    parser.add_argument("--rounds", type=whole(), default=3)
    parser.add_argument("--concurrent", type=whole(), nargs="+", default=[1, 16, 64])
    chosen = parser.parse_args()
    from transformers import AutoModelForCausalLM

    if not torch.cuda.is_available():
        raise SystemExit("no GPU here")
    load_before = os.getloadavg()[0]
    home = Path(os.environ.get("MILLRACE_HOME", ".millrace"))
    tokenizer = chosen.tokenizer or home / "models" / "packages" / "smollm2-135m-instruct"
    if not (tokenizer / "tokenizer.json").is_file():
        raise SystemExit(f"{tokenizer} has no tokenizer.json: ./millrace models fetch smollm2-135m-instruct brings one")
    with tempfile.TemporaryDirectory() as place:
        checkpoint(tokenizer, Path(place))
        networks: list[Any] = [  # continuous batching changes the network that it is given
            AutoModelForCausalLM.from_pretrained(place, dtype=torch.bfloat16, attn_implementation="sdpa").eval().cuda()
            for _ in range(2)
        ]
        torch.cuda.empty_cache()
        figures: list[dict[str, Any]] = []
        for count in chosen.concurrent:
            figures += compared(Path(place), networks, count, 2 * count if count > 1 else 1, chosen.rounds)
            say(json.dumps(figures[-2:]))  # a run on a machine that is taken back leaves what it measured
    report(f"chat_gpu, {torch.cuda.get_device_name(0)}, PyTorch {torch.__version__}", figures, load_before, chosen.json)


if __name__ == "__main__":
    main()
