"""Training runs: what starts them and how often, what they learn from, and what a text model makes of it."""

from __future__ import annotations

import json
import uuid
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from inference_workers.models.folder import SHIPPED, open_folder
from schemas import avro
from schemas.codec import Encoder, read_any
from schemas.errors import BadSettings, BrokerUnavailable
from schemas.generated import TrainingEvent, TrainingRequest
from schemas.topics import TRAINING_EVENTS, TRAINING_REQUESTS
from streams.broker import Commit
from streams.clock import ManualClock
from streams.ids import uuid7
from streams.loop.outcome import Emit, Reject
from streams.rows import Polled
from streams.schema_registry import MemoryRegistry
from tests.support.rows import rows_at
from training_triggers.recorded import held_back, training_window
from training_triggers.recorded.label_wait import LabelledRequests
from training_triggers.recorded.training_window import Examples, WindowRefused
from training_triggers.recorded.truth import RequestLabels, with_label
from training_triggers.runs import report_page, training_run
from training_triggers.runs.launch import MOST_STARTS, Launch
from training_triggers.runs.training_run import Run
from training_triggers.settings import TriggerSettings
from training_triggers.trainers.retrain import RETRAIN, Job, TrainingFailed
from training_triggers.versions.promotion import shipped


class Process:
    def __init__(self) -> None:
        self.code: int | None = None
        self.stopped = False

    def poll(self) -> int | None:
        return self.code

    def stop(self) -> None:
        self.stopped = True


class Events:
    """`Broadcast` over the events that are committed."""

    def __init__(self, values: Sequence[bytes]) -> None:
        self._values, self._at = values, 0

    def poll(self) -> Polled:
        new: list[bytes | None] = list(self._values[self._at :])
        self._at += len(new)
        n = len(new)
        return Polled([(TRAINING_EVENTS.name, 0)] * n, list(range(n)), [None] * n, new, [None] * n, [0] * n)

    def read_to_end(self, limit_s: float) -> Polled:
        return self.poll()

    def close(self) -> None: ...


class Launcher:
    def __init__(self) -> None:
        self.ids, self.clock = MemoryRegistry(), ManualClock()
        for topic in (TRAINING_REQUESTS, TRAINING_EVENTS):
            self.ids.register(topic.subject, avro.schema(topic.record.RECORD))  # type: ignore[union-attr]
        self.values: list[bytes] = []
        self.started: list[tuple[str, Process]] = []
        self.failed: list[tuple[str, str]] = []
        self.step = self.new()

    def new(self) -> Launch:
        def start(run_key: str) -> Process:
            self.started.append((run_key, Process()))
            return self.started[-1][1]

        def fail(run_key: str, model: str, words: str) -> None:
            self.failed.append((run_key, words))
            self.event(run_key, "failed")

        made = Launch(self.ids, "launch-0", lambda: Events(self.values), start, fail, self.clock)
        made.restore({(TRAINING_REQUESTS.name, 0): Commit(0)})
        return made

    def event(self, run_key: str, kind: str) -> None:
        event = TrainingEvent(run_key=run_key, model="m", kind=kind, words="", at_ms=0)
        self.values.append(Encoder.of(TRAINING_EVENTS, self.ids).encode_one(event))

    def ask(self, *run_keys: str, commit: bool = True, model: str = "m") -> list[dict[str, Any]]:
        encoder, n = Encoder.of(TRAINING_REQUESTS, self.ids), len(run_keys)
        asked = [
            encoder.encode_one(TrainingRequest(run_key=key, model=model, version="1", reason="why", actor="a", decided_ms=0))
            for key in run_keys
        ]
        rows = rows_at((TRAINING_REQUESTS.name, 0), list(asked), keys=[b"m"] * n, request_ids=list(run_keys))
        *refused, outcome = self.step.process(rows)
        assert isinstance(outcome, Emit)
        self.refused = [outcome for outcome in refused if isinstance(outcome, Reject)]
        values = [value for records in outcome.records for value in records.values]
        if commit:
            self.values += [value for value in values if value is not None]
        return [read_any(value, self.ids) for value in values]

    def look(self) -> None:
        self.clock.sleep(1.0)
        self.step.tick()


def test_a_run_whose_key_is_a_path_or_an_event_that_is_junk_starts_nothing_and_ends_nothing() -> None:
    one = Launcher()
    assert [event["run_key"] for event in one.ask("../../x", "a", "/etc")] == ["a"]
    assert [error.error.code for error in one.refused] == ["invalid"] and len(one.refused[0].rows) == 2
    one.values += [b"junk", b""]
    one.event("../../x", "launched")
    one.step = one.new()
    one.look()
    assert [key for key, _ in one.started] == ["a"]


def test_a_run_starts_when_its_launch_is_committed_and_the_next_when_it_has_ended() -> None:
    one = Launcher()
    (said,) = one.ask("a", commit=False)
    assert (said["kind"], said["run_key"]) == ("launched", "a")
    one.look()
    assert one.started == []
    one.step = one.new()
    assert [event["run_key"] for event in one.ask("a", "b")] == ["a", "b"]
    assert one.ask("a") == [], "a repeat is the same request"
    one.look()
    one.look()
    assert [key for key, _ in one.started] == ["a"]
    one.event("a", "judged")
    one.started[0][1].code = 0
    one.look()
    assert [key for key, _ in one.started] == ["a", "b"]


def test_a_killed_launcher_goes_on_with_what_has_no_end() -> None:
    one = Launcher()
    one.ask("a", "b", "c")
    one.event("a", "refused")
    one.step.close()
    one.step = one.new()
    assert one.ask("b") == []
    one.look()
    assert [key for key, _ in one.started] == ["b"]
    one.step.close()
    assert one.started[0][1].stopped


def test_a_child_that_dies_is_started_again_a_few_times_and_then_it_is_said() -> None:
    one = Launcher()
    one.ask("a", "b")
    for _ in range(MOST_STARTS):
        one.look()
        one.started[-1][1].code = -9
    one.look()
    assert [key for key, _ in one.started] == ["a"] * MOST_STARTS + ["b"]
    ((key, words),) = one.failed
    assert (key, "-9" in words) == ("a", True)


def test_a_run_that_waits_for_labels_holds_no_other_model_up() -> None:
    one = Launcher()
    one.ask("a", "b")
    one.ask("c", model="other")
    one.look()
    assert [key for key, _ in one.started] == ["a", "c"], "of one model one after the other"
    one.started[1][1].code = 0
    one.event("c", "refused")
    one.look()
    one.started[0][1].code = 0
    one.event("a", "judged")
    one.look()
    assert [key for key, _ in one.started] == ["a", "c", "b"]
    one.step.close()
    assert one.started[2][1].stopped


class Written:
    """`RunJournal` in memory."""

    def __init__(self) -> None:
        self.words: dict[str, str] = {}

    def kinds(self) -> set[str]:
        return set(self.words)

    def write(self, kind: str, words: str, facts: Any = None) -> None:
        self.words[kind] = words


def child(
    monkeypatch: pytest.MonkeyPatch, folder: Path, error: Exception | None, model: str = "moderation-text"
) -> tuple[Run, Written]:
    """A run whose window is there and whose trainer fails like this."""
    written, ids = Written(), [uuid7(i) for i in range(900)]
    texts = [f"text {i}".encode() for i in range(len(ids))]
    (folder / "window").mkdir(parents=True)
    recorded(
        folder / "window" / "0.npz", ids, ["spam"], [0.5], texts=np.frombuffer(b"".join(texts), np.uint8),
        text_bytes=np.array([len(one) for one in texts]), contents=np.arange(len(ids)), at_ms=np.arange(len(ids)),
    )  # fmt: skip
    span = {
        "salt": "s",
        "topic": "content-v1",
        "from_offsets": {"0": 0},
        "to_offsets": {"0": 900},
        "from_ms": 0,
        "since_ms": 0,
        "label_ends": {},
    }
    (folder / "window.json").write_text(json.dumps(span))

    def retrain(*given: Any) -> Any:
        if error is not None:
            raise error

    monkeypatch.setattr(training_run, "live", lambda *given: shipped("moderation-text"))
    monkeypatch.setattr(
        training_run.Run, "_truth", lambda self, window: {one: RequestLabels({"spam": i % 2 == 0}) for i, one in enumerate(ids)}
    )
    monkeypatch.setitem(RETRAIN, "moderation-text", retrain)
    request = TrainingRequest(run_key="r-1", model=model, version="1", reason="why", actor="me", decided_ms=0)
    return Run(TriggerSettings(), request, folder, written, None, None, ManualClock()), written  # type: ignore[arg-type]


@pytest.mark.parametrize(
    ("error", "words"),
    [
        (OSError(28, "No space left on device"), "No space left"),
        (TrainingFailed("the loss became NaN"), "training-failed: the loss became NaN"),
        (MemoryError("no memory"), "MemoryError"),
    ],
)
def test_what_a_run_cannot_do_is_its_end_and_said(
    monkeypatch: pytest.MonkeyPatch, tmp_path: Path, error: Exception, words: str
) -> None:
    one, written = child(monkeypatch, tmp_path, error)
    one.go()
    assert words in written.words["failed"]
    assert set(written.words) <= {"failed", "progress"}
    one.go()
    assert not (tmp_path / "made.json").exists(), "an end is an end"


def test_a_run_of_a_model_that_nobody_trains_says_which_there_are(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    one, written = child(monkeypatch, tmp_path, None, "translation-en-fr")
    one.go()
    assert "translation-en-fr cannot be trained from recorded requests" in written.words["failed"]
    assert "vision-digits" in written.words["failed"]


def test_without_a_broker_nothing_is_the_runs_end(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    one, written = child(monkeypatch, tmp_path, BrokerUnavailable("gone"))
    with pytest.raises(BrokerUnavailable):
        one.go()
    assert "failed" not in written.words


# --- the window -----------------------------------------------------------------------------------------------------


def recorded(file: Path, ids: Sequence[str], names: Sequence[str], thresholds: list[float] | None, **seen: Any) -> Path:
    about = {"names": list(names), "thresholds": thresholds}
    np.savez(file, request_ids=np.array(ids), about=np.array(json.dumps(about)), **seen)
    return file


def test_texts_and_their_truth_are_read_back(tmp_path: Path) -> None:
    texts = ["Grüße", "", "日本"]
    raw = [text.encode() for text in texts]
    file = recorded(
        tmp_path / "0.npz", ["a", "b", "c"], ["spam", "violence"], [0.5, 0.5], texts=np.frombuffer(b"".join(raw), np.uint8),
        text_bytes=np.array([len(one) for one in raw]),
    )  # fmt: skip
    found = training_window.read(file, {"a": {"spam": True}, "c": {"spam": False, "violence": True}, "x": {"spam": True}})
    assert (list(found.request_ids), found.seen, found.truth.tolist()) == (["a", "c"], ["Grüße", "日本"], [[1, -1], [0, 1]])


def test_where_one_class_holds_the_others_do_not(tmp_path: Path) -> None:
    file = recorded(tmp_path / "0.npz", ["a", "b"], ["0", "1", "2"], None, pixels=np.zeros((2, 4, 4, 1), np.uint8))
    assert training_window.read(file, {"a": {"1": True}, "b": {"2": False}}).truth.tolist() == [[0, 1, 0], [-1, -1, 0]]


def test_what_cannot_be_learnt_from_is_refused(tmp_path: Path) -> None:
    empty = recorded(tmp_path / "0.npz", [], ["spam"], [0.5])
    with pytest.raises(WindowRefused, match="no request of the window"):
        training_window.read(empty, {})
    some = Examples(["a"] * 50, ["x"] * 50, np.ones((50, 1), np.int8), ("spam",))
    with pytest.raises(WindowRefused, match="50 labelled requests"):
        training_window.check(some, 51)
    with pytest.raises(WindowRefused, match="all alike"):
        training_window.check(some, 50)


def test_about_a_third_of_the_contents_is_held_back_and_with_one_salt_always_the_same() -> None:
    ids = [f"r{i}" for i in range(6_000)]
    of = held_back.groups(ids, [i // 2 for i in range(6_000)])
    held = held_back.held_back(of, ids, "salt")
    assert held == held_back.held_back(of, ids, "salt")
    assert 0.3 < len(held) / len(ids) < 0.37
    assert all((f"r{i}" in held) == (f"r{i + 1}" in held) for i in range(0, 6_000, 2)), "equal contents lie on one side"
    other = held_back.held_back(of, ids, "another run")
    assert 0.2 < len(held & other) / len(held) < 0.5, "nobody can choose what is never judged"


def test_a_campaign_of_one_text_is_not_learnt_and_judged() -> None:
    ids = [f"r{i}" for i in range(3_000)]
    contents = [7] * 2_500 + list(range(100, 600))
    for salt in map(str, range(20)):
        held = held_back.held_back(held_back.groups(ids, contents), ids, salt)
        assert not held & set(ids[:2_500]), "more than its share is learnt from"
        assert 100 < len(held) < 240


def test_pictures_of_one_item_and_what_shares_one_lie_on_one_side() -> None:
    ids, contents = ["a", "a", "b", "c", "c"], [1, 2, 2, 3, 4]
    of = held_back.groups(ids, contents)
    assert of["a"] == of["b"]
    assert of["a"] != of["c"]
    asked = training_window.ReplayedRequests(ids, [10, 10, 20, 30, 30], contents)
    assert training_window.independent(asked, {"a", "b", "c", "elsewhere"}) == 2
    assert asked.since(20) == {"b", "c"}, "by the time of the record, whatever the id is"


def test_near_copies_have_the_same_content() -> None:
    from inference_workers.replayed import content_of

    first = content_of("WIN a prize:  call 0900-123", "r1", "")
    assert first == content_of("win a prize: call 0900-123\n", "r2", "text")
    assert first != content_of("win a price: call 0900-123", "r1", "")
    pixels = np.zeros((2, 3), np.uint8)
    assert (
        content_of(pixels, "r1", "image 1") == content_of(pixels.copy(), "r2", "image 2") != content_of(pixels.T, "r1", "image 1")
    )
    assert content_of(None, "r1", "") != content_of(None, "r2", "")


def test_requests_whose_ids_tell_no_time_count_by_the_log() -> None:
    labelled = LabelledRequests("moderation", 1_000_000)
    for request_id in ("order-1", "order-2", str(uuid.uuid4()), uuid7(2_000_000), uuid7(1)):
        labelled.label({"request_id": request_id, "task": "moderation", "truth": {"spam": True}})
    labelled.label({"request_id": uuid7(3_000_000), "task": "vision", "truth": {"1": True}})
    labelled.label({"request_id": uuid7(3_000_000), "task": "moderation", "truth": {}})
    assert (len(labelled), labelled.needs_log) == (1, True)
    labelled.answers({"task": "moderation", "request_ids": ["order-2", "order-9"]})
    labelled.answers({"task": "vision", "request_ids": ["order-1"]})
    assert len(labelled) == 2


def test_a_spam_picture_says_nothing_of_the_text_beside_it(tmp_path: Path) -> None:
    raw = [b"Happy birthday", b"Lunch?"]
    file = recorded(
        tmp_path / "0.npz", ["a", "b"], ["spam", "violence"], [0.5, 0.5], texts=np.frombuffer(b"".join(raw), np.uint8),
        text_bytes=np.array([len(one) for one in raw]), parts=np.array(["text", ""]),
    )  # fmt: skip
    item = with_label(None, {"truth": {"spam": True, "violence": False}, "source": "buyer"})
    assert item is not None
    assert training_window.read(file, {"a": item}).truth.tolist() == [[-1, 0]]
    picture = with_label(None, {"truth": {}, "parts": {"image 1": {"spam": True}}, "source": "review"})
    assert picture is not None
    assert len(training_window.read(file, {"a": picture})) == 0
    mended = with_label(with_label(None, {"truth": {"spam": True, "violence": True}}), {"truth": {"spam": False}})
    assert mended is not None
    assert training_window.read(file, {"b": mended}).truth.tolist() == [[0, 1]], "the newest word counts, of what it is about"


# --- the text model ---------------------------------------------------------------------------------------------------


def examples(n: int = 120) -> Examples:
    new = [f"Kindly follow the parcel page number {i} to settle the small fee before it is sent back" for i in range(n // 2)]
    talk = [f"Shall we meet at {i} by the river, I bring bread and cheese" for i in range(n // 2)]
    names = open_folder(SHIPPED / "moderation-text").coverage
    truth = np.full((n, len(names)), -1, np.int8)
    truth[:, names.index("spam")] = [1] * (n // 2) + [0] * (n // 2)
    return Examples([str(i) for i in range(n)], new + talk, truth, names)


def test_a_text_model_learns_what_is_new_and_keeps_the_rest(tmp_path: Path) -> None:
    import onnxruntime
    from safetensors.numpy import load_file

    from inference_workers.networks.ngrams import words_and_chars

    champion, said = open_folder(SHIPPED / "moderation-text"), list[str]()
    job = Job(tmp_path / "v2", tmp_path / "scratch", "2", tmp_path, "a test")
    made = RETRAIN["moderation-text"](champion, examples(), job, said.append).made
    again = RETRAIN["moderation-text"](
        champion, examples(), Job(tmp_path / "v3", tmp_path, "2", tmp_path, "a test"), said.append
    ).made
    assert made.digest == again.digest, "the same window makes the same version"
    folder = open_folder(tmp_path / "v2", made.digest)
    assert (folder.version, folder.coverage, folder.config["made_from"]["version"]) == ("2", champion.coverage, champion.version)
    assert folder.config["thresholds"] == champion.config["thresholds"]

    def spam(path: Path, texts: list[str]) -> list[float]:
        words, chars = words_and_chars(texts)
        feeds = {
            "word_buckets": words.buckets, "word_counts": words.counts, "char_buckets": chars.buckets, "char_counts": chars.counts,
        }  # fmt: skip
        (logits,) = onnxruntime.InferenceSession(str(path / "model.onnx")).run(None, feeds)
        return list((1 / (1 + np.exp(-logits[:, champion.coverage.index("spam")]))).tolist())

    unseen = [
        "Kindly follow the parcel page, a small fee is open",
        "WIN a FREE prize now, call 0900 to claim",
        "Are you home tonight?",
    ]
    before, after = spam(champion.path, unseen), spam(folder.path, unseen)
    limit = champion.config["thresholds"]["spam"]
    assert [one >= limit for one in before] == [False, True, False]
    assert [one >= limit for one in after] == [True, True, False]
    old, new = (load_file(path / "model.safetensors") for path in (champion.path, folder.path))
    spam_column = champion.coverage.index("spam")
    others = [column for column in range(len(champion.coverage)) if column != spam_column]
    assert np.array_equal(old["char_weights"][:, others], new["char_weights"][:, others]), (
        "nothing was said of the other categories"
    )


def test_a_weight_that_is_no_number_and_an_option_that_is_none_are_refused(tmp_path: Path) -> None:
    import scipy.sparse as sparse

    from training_triggers.trainers.moderating import moderation_text_retrain

    features = sparse.csr_matrix(np.eye(4))
    with pytest.raises(TrainingFailed, match="is NaN"):
        moderation_text_retrain.adapted(features, np.ones(4), np.full(4, np.nan), 10.0)
    with pytest.raises(BadSettings, match="takes a number"):
        Job(tmp_path, tmp_path, "2", tmp_path, "", options={"strength": "much"}).number("strength", 1.0)


def test_a_report_is_a_page_and_what_it_quotes_stays_text() -> None:
    report = {
        "run_key": "r", "model": "m<script>", "champion": "1", "candidate": "2", "reason": "<b>", "passes": False, "reasons": ["<i>"],
        "offsets": "t (0: 1-2)", "entries": 2, "agreement": 0.5, "time_ratio": 1.0, "size_ratio": 1.0, "losses": [1.0, 0.5],
        "accuracy": {"labelled": 2, "champion": 0.5, "candidate": 1.0, "low": -0.1, "high": 0.9}, "parts": {}, "classes": {}, "notes": ["<u>"],
        "drift": {"spam": (0.1, 0.2)}, "changed": [("<x>", "text", "spam", 0.1, 0.9)],
    }  # fmt: skip
    made = report_page.of(report)
    for hostile in ("<script>", "<b>", "<i>", "<x>", "<u>"):
        assert hostile not in made
    assert "0.500" in made
    assert "polyline" in made
