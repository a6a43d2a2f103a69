"""Prompts and answers that pass moderation, and those that are cut."""

from __future__ import annotations

from inference_workers.chat_service.chat_judge import OVERLAP_CHARACTERS, PIECE_CHARACTERS, Judged, pieces
from schemas.chat_topics import CHAT_TOKENS
from schemas.generated import ChatMessage
from tests.support.chat_engine import ScriptedEngine
from tests.support.chat_world import ChatWorld, run_until


class Words:
    """Flags texts that hold one of these words. silent: gives no verdict on them. slow: gives verdicts when it is false again."""

    def __init__(self, *words: str, silent: bool = False) -> None:
        self.words, self.silent, self.slow = words, silent, False
        self.texts: list[str] = []
        self._judged: list[Judged] = []

    def judge(self, key: str, text: str) -> None:
        self.texts.append(text)
        bad = any(word in text for word in self.words)
        flagged = Judged(key, error="no-answer: nobody runs") if self.silent else Judged(key, ("harassment",))
        self._judged.append(flagged if bad else Judged(key))

    def judged(self) -> list[Judged]:
        if self.slow:
            return []
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


def test_the_whole_conversation_is_judged_and_all_of_a_long_text() -> None:
    world, engine = ChatWorld(partitions=1), ScriptedEngine()
    loop = world.loop(engine, judge=Words("vile"))
    turns = (("user", "something vile"), ("assistant", "no"), ("user", "and now?"))
    world.ask("r", messages=tuple(ChatMessage(role=role, content=text) for role, text in turns))
    run_until([loop], lambda: world.results())
    assert (world.results()["r"]["error_code"], engine.added) == ("flagged", [])
    for length in (0, 1, PIECE_CHARACTERS, PIECE_CHARACTERS + 1, 100_000):
        text = "".join(chr(0x4E00 + i % 20_000) for i in range(length))
        parts = pieces(text)
        assert parts[0] + "".join(part[OVERLAP_CHARACTERS:] for part in parts[1:]) == text
        assert max(map(len, parts)) <= PIECE_CHARACTERS


def test_no_more_than_the_window_is_readable_without_a_verdict_and_the_end_waits_for_the_last() -> None:
    world = ChatWorld(partitions=1)
    judge, engine = Words("never"), ScriptedEngine()
    loop = world.loop(engine, judge=judge)
    world.ask("r", max_tokens=30, seed=3)
    run_until([loop], lambda: engine.added)
    judge.slow = True
    run_until([loop], lambda: not engine.busy and len(judge.texts) >= 2)
    for _ in range(5):
        loop.run_once()
    assert len(world.streamed("r")) == 4, "judge_every_tokens of the world"
    assert world.results() == {}
    judge.slow = False
    run_until([loop], lambda: world.results())
    result = world.results()["r"]
    assert judge.texts[-1] == result["text"] == "".join(token.text for token in world.streamed("r"))
    assert len(world.streamed("r")) == result["completion_tokens"] > 4


def test_the_last_words_are_judged_too() -> None:
    world = ChatWorld(partitions=1)
    undisturbed = world.loop(ScriptedEngine())
    world.ask("r", max_tokens=6, seed=3)
    run_until([undisturbed], lambda: world.results())
    undisturbed.source.close()
    text = world.results()["r"]["text"]
    loop = world.loop(ScriptedEngine(), slot=1, judge=Words(text))  # flagged only as a whole
    world.ask("s", max_tokens=6, seed=3)
    run_until([loop], lambda: "s" in world.results())
    cut = world.results()["s"]
    assert (cut["finish_reason"], cut["error_code"]) == ("content_filter", "flagged")
    assert text.startswith(cut["text"]) and cut["text"] != text
    assert cut["completion_tokens"] == len(world.streamed("s")) <= 4


def test_an_answer_that_is_taken_over_is_judged_from_its_beginning() -> None:
    """The first owner had no moderation, or died before its verdict."""
    world = ChatWorld(partitions=1)
    loop = world.loop(ScriptedEngine(steps_left=6))
    world.ask("r", max_tokens=30, seed=3)
    run_until([loop], lambda: len(world.streamed("r")) == 6)
    loop.source.close()
    loop.step.close()
    judge = Words("vile")
    run_until([world.loop(ScriptedEngine(), slot=1, judge=judge)], lambda: world.results())
    assert judge.texts[0] == "hello"
    assert judge.texts[-1] == world.results()["r"]["text"]
