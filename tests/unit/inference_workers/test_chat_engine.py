"""The chat engine: equal answers however they are made, and bounds that hold."""

from __future__ import annotations

import dataclasses
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st
from transformers import AutoModelForCausalLM

from inference_workers.chat.engine import Finished, Full, Generation, Sampling, Token
from inference_workers.chat.settings import Weights
from schemas.errors import InvalidRequest
from streams.clock import ManualClock
from tests.support.generating import PROMPTS, alone, chat_model, generation, ids, resumed, run
from tests.support.tiny_llama import tiny_llama

EXACT = [Weights.FLOAT16, Weights.INT8]


@pytest.fixture(scope="module")
def folder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return tiny_llama(tmp_path_factory.mktemp("llama"))


def mixed(**sampling: Any) -> list[Generation]:
    return [generation(number, prompt, **sampling) for number, prompt in enumerate(PROMPTS)]


def test_float32_answers_as_transformers_generate_does(folder: Path) -> None:
    network: Any = AutoModelForCausalLM.from_pretrained(folder, dtype=torch.float32).eval()
    expected = {}
    for number, prompt in enumerate(PROMPTS):
        with torch.inference_mode():
            whole = network.generate(torch.tensor([prompt]), max_new_tokens=24, do_sample=False, pad_token_id=0)
        expected[f"r{number}"] = whole[0, len(prompt) :].tolist()
    assert ids(run(chat_model(folder, weights=Weights.FLOAT32).engine, *mixed())) == expected


def test_operations_of_other_devices_answer_the_same(folder: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    from inference_workers.chat import load
    from inference_workers.chat.gpu.torch_operations import TorchOperations

    on_cpu = ids(run(chat_model(folder, weights=Weights.FLOAT32).engine, *mixed()))

    def elsewhere(config: Any, blocks: int, size: int, _threads: int) -> TorchOperations:
        return TorchOperations(config, blocks, size, torch.float32, torch.device("cpu"))

    monkeypatch.setattr(load, "CpuOperations", elsewhere)
    assert ids(run(chat_model(folder, weights=Weights.FLOAT32).engine, *mixed())) == on_cpu
    assert ids(run(chat_model(folder, weights=Weights.FLOAT32, step_tokens=9).engine, *mixed())) == on_cpu


@pytest.mark.parametrize("weights", EXACT)
def test_an_answer_is_the_same_alone_and_among_others(folder: Path, weights: Weights) -> None:
    expected = alone(folder, mixed(), weights=weights)
    assert ids(run(chat_model(folder, weights=weights).engine, *mixed())) == expected
    assert ids(run(chat_model(folder, weights=weights, step_tokens=9, torch_threads=2).engine, *mixed())) == expected


@pytest.mark.parametrize("weights", EXACT)
def test_a_shared_prefix_is_computed_once_and_changes_no_answer(folder: Path, weights: Weights) -> None:
    system = PROMPTS[6]
    asked = [generation(number, system + prompt[:9]) for number, prompt in enumerate(PROMPTS)]
    expected = alone(folder, asked, weights=weights)
    engine = chat_model(folder, weights=weights).engine
    first = run(engine, asked[0])
    rest = run(engine, *asked[1:])
    assert ids(first) | ids(rest) == expected
    assert all(end.cached_tokens >= len(system) // 8 * 8 - 8 for _, end in rest.values())
    assert engine.figures().prefix_hit_tokens >= 7 * 80


@pytest.mark.parametrize("weights", EXACT)
def test_preempted_sequences_go_on_as_if_nothing_had_happened(folder: Path, weights: Weights) -> None:
    asked = [
        generation(number, prompt, max_tokens=60, temperature=number % 2, seed=number) for number, prompt in enumerate(PROMPTS)
    ]
    for keep in (True, False):
        engine = chat_model(folder, weights=weights, kv_tokens=240, prefix_cache=keep).engine
        assert ids(run(engine, *asked)) == alone(folder, asked, weights=weights)
        assert engine.figures().preemptions > 0


@pytest.mark.parametrize("weights", EXACT)
def test_another_worker_continues_after_any_token(folder: Path, weights: Weights) -> None:
    asked = [generation(number, prompt, temperature=1.2, top_p=0.9, seed=11) for number, prompt in enumerate(PROMPTS[:3])]
    whole = run(chat_model(folder, weights=weights).engine, *asked)
    other = chat_model(folder, weights=weights).engine
    for one in asked:
        tokens, end = whole[one.request_id]
        for cut in range(len(tokens) + 1):
            rest, again = run(other, resumed(one, [token.token for token in tokens[:cut]]))[one.request_id]
            assert rest == tokens[cut:]
            assert (again.text, again.reason, again.completion_tokens) == (end.text, end.reason, end.completion_tokens)


def test_equal_seeds_give_equal_answers_and_others_do_not(folder: Path) -> None:
    engine = chat_model(folder).engine
    answers = [ids(run(engine, generation(0, PROMPTS[3], temperature=1.0, seed=seed)))["r0"] for seed in (1, 1, 2, -1)]
    assert answers[0] == answers[1]
    assert len({tuple(answer) for answer in answers}) == 3


@pytest.mark.filterwarnings("error")
@pytest.mark.parametrize("temperature", [5e-324, 1e-300, 1e-5])
def test_a_temperature_that_would_overflow_takes_the_most_probable_token(folder: Path, temperature: float) -> None:
    greedy = ids(run(chat_model(folder).engine, generation(0, PROMPTS[3])))
    assert ids(run(chat_model(folder).engine, generation(0, PROMPTS[3], temperature=temperature, seed=9, top_p=0.9))) == greedy


def test_tokens_are_numbered_and_their_texts_are_the_answer(folder: Path) -> None:
    for tokens, end in run(chat_model(folder).engine, *mixed(temperature=1.5, max_tokens=40)).values():
        assert [token.sequence for token in tokens] == list(range(len(tokens)))
        assert "".join(token.text for token in tokens) == end.text
        assert end.completion_tokens == len(tokens)


def test_logprobs_name_the_chosen_token_and_alternatives(folder: Path) -> None:
    tokens, _ = run(chat_model(folder).engine, generation(0, PROMPTS[4], logprobs=3))["r0"]
    for token in tokens:
        assert token.alternatives[0] == (token.token, token.logprob)
        assert len(token.alternatives) == 3
        assert sorted((logprob for _, logprob in token.alternatives), reverse=True) == [one for _, one in token.alternatives]


def test_an_answer_ends_before_a_stop_text_that_lies_across_tokens(folder: Path) -> None:
    engine = chat_model(folder).engine
    _, whole = run(engine, generation(0, PROMPTS[5], max_tokens=30))["r0"]
    middle = len(whole.text) // 2
    stop = whole.text[middle : middle + 3]
    tokens, end = run(engine, generation(1, PROMPTS[5], max_tokens=30, stop=("never", stop)))["r1"]
    assert end.reason == "stop"
    assert end.text == whole.text[: whole.text.index(stop)]
    assert "".join(token.text for token in tokens) == end.text


def test_a_cancelled_answer_ends_with_what_it_has(folder: Path) -> None:
    engine = chat_model(folder, max_running=1).engine
    engine.add(generation(0, PROMPTS[1]))
    engine.add(generation(1, PROMPTS[2]))
    events = [*engine.step(), *engine.step()]
    engine.cancel("r0")
    engine.cancel("r0")
    engine.cancel("nobody")
    ends = {event.request_id: event for event in engine.step() if isinstance(event, Finished)}
    assert ends["r0"].reason == "cancelled"
    assert ends["r0"].completion_tokens == sum(isinstance(event, Token) for event in events) > 0
    engine.cancel("r1")
    (end,) = [event for event in engine.step() if isinstance(event, Finished)]
    assert end.reason == "cancelled"
    assert not engine.busy
    assert engine.figures().kv_tokens == 0


def test_a_passed_deadline_ends_waiting_and_running_answers(folder: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    clock = ManualClock(now_ms=1_000)
    monkeypatch.setattr("tests.support.generating.ManualClock", lambda: clock)
    engine = chat_model(folder, max_running=1).engine
    for number in range(2):
        engine.add(dataclasses.replace(generation(number, PROMPTS[1]), deadline_ms=2_000))
    engine.step()
    clock.sleep(1.0)
    ends = [event for event in engine.step() if isinstance(event, Finished)]
    assert [end.reason for end in ends] == ["expired", "expired"]
    assert "deadline" in ends[0].message
    assert not engine.busy


def test_a_full_queue_is_refused_with_a_time_to_retry(folder: Path) -> None:
    engine = chat_model(folder, max_running=1, max_waiting=2).engine
    for number in range(2):
        engine.add(generation(number, PROMPTS[1]))
    with pytest.raises(Full) as refused:
        engine.add(generation(9, PROMPTS[1]))
    assert refused.value.retry_after_ms >= 100
    engine.step()
    engine.add(generation(9, PROMPTS[1]))
    assert len(run(engine)) == 3


def test_higher_priority_is_admitted_first(folder: Path) -> None:
    engine = chat_model(folder, max_running=1).engine
    asked = [dataclasses.replace(generation(number, PROMPTS[1]), priority=number) for number in range(3)]
    assert list(run(engine, *asked)) == ["r2", "r1", "r0"]


def test_a_long_prompt_does_not_stall_others(folder: Path) -> None:
    """While its chunks are read, others get a token in every step."""
    engine = chat_model(folder, step_tokens=16).engine
    engine.add(generation(0, PROMPTS[0], max_tokens=30))
    engine.step()
    engine.add(generation(1, PROMPTS[7]))
    events = [[event.request_id for event in engine.step()] for _ in range(9)]
    assert events[:8] == [["r0"]] * 8
    assert events[8] == ["r0", "r1"]


@pytest.mark.parametrize(
    ("one", "word"),
    [
        (Generation("r", ()), "no tokens"),
        (Generation("r", (3,), sampling=Sampling(max_tokens=512)), "at most 512 fit"),
        (Generation("r", (3,) * 500, sampling=Sampling(max_tokens=13)), "at most 512 fit"),
        (Generation("r", (3,), sampling=Sampling(schema="no JSON")), "schema"),
        (Generation("r", (3,), sampling=Sampling(schema='{"type": "nonsense"}')), "schema"),
        (Generation("r", (3,), sampling=Sampling(schema='{"type": "integer", "minimum": 3, "maximum": 1}')), "schema"),
        (Generation("r", (3,), (4,), Sampling(schema='{"type": "integer"}')), "schema"),
    ],
)
def test_what_never_fits_is_refused_and_leaves_nothing(folder: Path, one: Generation, word: str) -> None:
    engine = chat_model(folder).engine
    with pytest.raises(InvalidRequest, match=word):
        engine.add(one)
    assert not engine.busy


@pytest.mark.parametrize(
    ("wrong", "word"),
    [
        ({"temperature": -1}, "temperature"),
        ({"temperature": float("nan")}, "temperature"),
        ({"temperature": float("inf")}, "temperature"),
        ({"top_p": 2}, "top_p"),
        ({"top_p": 0}, "top_p"),
        ({"max_tokens": 0}, "max_tokens"),
        ({"stop": ("x",) * 10_000}, "stop has 10000 texts"),
        ({"stop": ("",)}, "stop text"),
        ({"logprobs": 10_000}, "logprobs"),
        ({"seed": 2**64}, "seed"),
        ({"schema": "x" * 100_000}, "schema"),
    ],
)
def test_sampling_out_of_range_is_refused_with_its_field(wrong: dict[str, Any], word: str) -> None:
    with pytest.raises(InvalidRequest, match=word):
        Sampling(**wrong)


def test_numbers_that_are_not_finite_end_one_answer_alone(folder: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    engine: Any = chat_model(folder).engine
    logits = engine._network.logits

    def broken(step: Any) -> Any:
        made = logits(step)
        made.rows[:1] = np.nan
        return made

    expected = alone(folder, [generation(1, PROMPTS[1])])
    engine.add(generation(0, PROMPTS[1]))
    engine.add(generation(1, PROMPTS[1]))
    with monkeypatch.context() as patched:
        patched.setattr(engine._network, "logits", broken)
        events = engine.step()
    ends = [event for event in events if isinstance(event, Finished)]
    assert [(end.request_id, end.reason) for end in ends] == [("r0", "failed")]
    first = [event.token for event in events if isinstance(event, Token)]
    assert [*first, *ids(run(engine))["r1"]] == expected["r1"]


Plan = list[
    tuple[int, int, int, int, bool]
]  # of each request: prompt, max_tokens, priority, steps after it, and whether it is cancelled
PLANS = st.lists(
    st.tuples(st.integers(0, 5), st.integers(1, 40), st.integers(0, 2), st.integers(0, 4), st.booleans()), max_size=12
)


@settings(max_examples=25, deadline=None, suppress_health_check=[HealthCheck.function_scoped_fixture])
@given(plan=PLANS)
def test_the_token_budget_holds_and_every_answer_ends(folder: Path, plan: Plan) -> None:
    engine: Any = _budget_engine(folder)
    for number, (prompt, most, priority, steps, cancelled) in enumerate(plan):
        engine.add(dataclasses.replace(generation(number, PROMPTS[prompt], max_tokens=most), priority=priority))
        for _ in range(steps):
            engine.step()
            figures = engine.figures()
            assert figures.kv_tokens + figures.kv_cached_tokens <= figures.kv_limit == 128
        if cancelled:
            engine.cancel(f"r{number // 2}")
    run(engine)
    assert engine.figures().kv_tokens == 0
    assert sorted([*engine._blocks._empty, *engine._blocks._released]) == list(range(16))


_ENGINES: dict[Path, Any] = {}


def _budget_engine(folder: Path) -> Any:
    if folder not in _ENGINES:
        _ENGINES[folder] = chat_model(folder, kv_tokens=128).engine
    return _ENGINES[folder]


def test_equal_blocks_after_different_beginnings_are_not_shared(folder: Path) -> None:
    shared = PROMPTS[5]
    asked = [generation(number, (*PROMPTS[6][number * 8 : number * 8 + 8], *shared)) for number in range(3)]
    engine = chat_model(folder).engine
    assert [ids(run(engine, one)) for one in asked] == [alone(folder, [one]) for one in asked]
    assert engine.figures().prefix_hit_tokens == 0


def test_an_urgent_long_prompt_takes_what_the_others_leave(folder: Path) -> None:
    """Its priority counts for its admission; once admitted, it does not keep others from their tokens."""
    engine = chat_model(folder, step_tokens=16).engine
    engine.add(generation(0, PROMPTS[0], max_tokens=30))
    engine.step()
    engine.add(dataclasses.replace(generation(1, PROMPTS[7]), priority=5))
    assert [[event.request_id for event in engine.step()] for _ in range(8)] == [["r0"]] * 8


def test_the_mean_logprob_is_that_of_every_eighth_token(folder: Path) -> None:
    one = generation(0, PROMPTS[3], max_tokens=20, temperature=1.0, seed=2, logprobs=1)
    (tokens, end) = run(chat_model(folder).engine, one)["r0"]
    expected = [token.logprob for token in tokens[::8] if token.logprob is not None]
    assert end.mean_logprob == pytest.approx(sum(expected) / len(expected), rel=1e-4)
