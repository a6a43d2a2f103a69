"""Prompts and answers that pass moderation, and those that are cut."""

from __future__ import annotations

from inference_workers.chat_service.chat_judge import Judged
from schemas.chat_topics import CHAT_TOKENS
from tests.support.chat_engine import ScriptedEngine
from tests.support.chat_world import ChatWorld, run_until


class Words:
    """Flags texts that hold one of these words. silent: gives no verdict on them."""

    def __init__(self, *words: str, silent: bool = False) -> None:
        self.words, self.silent = words, silent
        self.texts: list[str] = []
        self._judged: list[Judged] = []

    def judge(self, key: str, text: str) -> None:
        self.texts.append(text)
        bad = any(word in text for word in self.words)
        flagged = Judged(key, error="no-answer: nobody runs") if self.silent else Judged(key, ("harassment",))
        self._judged.append(flagged if bad else Judged(key))

    def judged(self) -> list[Judged]:
        found, self._judged = self._judged, []
        return found

    def close(self) -> None:
        return


def test_a_flagged_prompt_reaches_no_model() -> None:
    world, engine = ChatWorld(partitions=1), ScriptedEngine()
    loop = world.loop(engine, judge=Words("vile"))
    world.ask("bad", "something vile")
    world.ask("good", "something nice")
    run_until([loop], lambda: len(world.results()) == 2)
    bad, good = world.results()["bad"], world.results()["good"]
    assert (bad["status"], bad["finish_reason"], bad["error_code"], bad["text"]) == ("ok", "content_filter", "flagged", "")
    assert bad["error_message"] == "moderation flags it: harassment"
    assert good["finish_reason"] != "content_filter"
    assert [one.request_id.split("#")[0] for one in engine.added] == ["good"]


def test_an_answer_is_judged_as_it_is_made_and_cut_with_the_reason() -> None:
    world = ChatWorld(partitions=1)
    undisturbed = world.loop(ScriptedEngine())
    world.ask("r", max_tokens=30, seed=3)
    run_until([undisturbed], lambda: world.results())
    undisturbed.source.close()
    word = world.results()["r"]["text"].split()[2]
    judge = Words(word + " ")
    loop = world.loop(ScriptedEngine(steps_left=6), slot=1, judge=judge)
    world.ask("s", max_tokens=30, seed=3)
    run_until([loop], lambda: "s" in world.results())
    cut = world.results()["s"]
    assert (cut["finish_reason"], cut["error_message"]) == ("content_filter", "moderation flags it: harassment")
    assert 4 <= cut["completion_tokens"] <= 6
    assert judge.texts[0] == "hello" and all(text.startswith(cut["text"][:8]) for text in judge.texts[1:])
    last = [record for record in world.records(CHAT_TOKENS.name) if record["request_id"] == "s"][-1]
    assert (last["last"], last["finish_reason"], last["error_message"]) == (True, "content_filter", cut["error_message"])


def test_without_a_verdict_nothing_goes_on() -> None:
    world, engine = ChatWorld(partitions=1), ScriptedEngine()
    loop = world.loop(engine, judge=Words("hello", silent=True))
    world.ask("r")
    run_until([loop], lambda: world.results())
    assert world.results()["r"]["error_message"] == "no verdict: no-answer: nobody runs"
    assert engine.added == []
