"""Verdicts on pictures with the optional models: text that is read in them, and their sexual content. The models are stand-ins."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from inference_workers.backends.backend import Scores
from inference_workers.judging import reading, sexual_content
from inference_workers.media.formats import Caps
from inference_workers.models.folder import ModelFolder
from inference_workers.tasks.moderation import TASK
from schemas.categories import CATEGORIES
from schemas.errors import BatchTooLarge, ModelRefused, RetryLater
from tests.support import media
from tests.support.judges import NSFW, OCR, Reader, Scenes, grey, item, part_of, prepared, verdicts, version, versions
from tests.unit.inference_workers.test_looks import animation

SPAM = [("you have won", 0.99), ("a prize", 0.95)]
GOLDEN = Path(__file__).with_name("verdicts_without_optional_models.json")


# --- without them -------------------------------------------------------------------------------------------------


def without_optional_models() -> dict[str, Any]:
    moving = media.inline(animation("GIF", list(range(0, 200, 20)), [20] * 10))
    broken = media.inline(media.noise()[:4000])
    items = [
        item(0, "hello"),
        item(1, "a prize"),
        item(2, "the market is open on Saturdays. " * 60 + "vermin and a prize"),
        item(3, None, [grey(200)]),
        item(4, "look", [grey(200), broken, grey(20)]),
        item(5, None, [moving], media.inline(media.video())),
        item(6),
        item(7, None, [broken]),
        item(8, "x" * 200_000),
        item(9, None, [grey(200)] * 65),
    ]
    by = versions()
    made = prepared(items, by)
    prediction = TASK.predict(made.inputs, by)
    uses = [
        {
            "model": use.version.folder.name,
            "rows": use.rows and list(use.rows),
            "parts": list(use.parts),
            "outputs": np.round(use.outputs, 5).tolist(),
            "names": list(use.names),
            "thresholds": use.thresholds.tolist() if use.thresholds is not None else None,
            "signals": {name: np.round(values, -1).tolist() for name, values in use.signals.items()},
        }
        for use in prediction.uses
    ]
    refused = {str(row): str(error) for row, error in made.refused.items()}
    found: dict[str, Any] = json.loads(json.dumps({"refused": refused, "results": dict(prediction.results), "uses": uses}))
    return found


def test_without_the_optional_models_verdicts_and_log_are_what_they_were_before_there_were_any() -> None:
    assert without_optional_models() == json.loads(GOLDEN.read_text())


# --- text in pictures ---------------------------------------------------------------------------------------------


def test_text_in_a_picture_is_judged_and_the_verdict_names_it() -> None:
    by = versions(ocr=Reader({150: SPAM}))
    (verdict,) = verdicts([item(0, "hello", [grey(250), grey(150)])], by)
    assert verdict["flagged"]
    assert (verdict["deciding"]["part"], verdict["deciding"]["category"]) == ("text in image 2", "spam")
    assert [part["part"] for part in verdict["parts"]] == ["text", "text in image 2", "image 1", "image 2"]
    assert "hate_speech" in [judged["category"] for judged in verdict["categories"]]


def test_a_picture_without_text_has_the_verdict_that_it_has_without_the_reader() -> None:
    items = [item(0, None, [grey(250)]), item(1, "hello", [grey(20)])]
    assert verdicts(items, versions(ocr=Reader())) == verdicts(items, versions())


def test_lines_that_are_not_sure_are_left_out() -> None:
    unsure = [("you have won", 0.99), ("a prize", reading.LEAST_PROBABILITY - 0.01)]
    (verdict,) = verdicts([item(0, None, [grey(150)])], versions(ocr=Reader({150: unsure})))
    assert not verdict["flagged"]
    assert part_of(verdict, "text in image 1")["probability"] < 0.1, "what is sure of it is judged"


def test_frames_of_a_video_are_read() -> None:
    (verdict,) = verdicts([item(0, None, (), media.inline(media.video()))], versions(ocr=Reader({220: SPAM})))
    assert verdict["deciding"]["part"] == "text in video at 2.5 s"
    assert [part["part"] for part in verdict["parts"] if part["part"].startswith("text in")] == [
        "text in video at 2.5 s",
        "text in video at 3.5 s",
    ]


def test_pictures_are_read_at_a_size_at_which_text_is_legible() -> None:
    reader = Reader()
    verdicts([item(0, None, [grey(150, (3_000, 1_500)), grey(150, (640, 480))])], versions(ocr=reader))
    assert reader.read_shapes == [(reading.READ_SIDE // 2, reading.READ_SIDE, 3), (480, 640, 3)]


def test_a_picture_that_cannot_be_read_loses_nothing_else() -> None:
    by = versions(ocr=Reader({150: SPAM}, broken_at=100))
    (verdict,) = verdicts([item(0, None, [grey(100), grey(150)])], by)
    assert verdict["deciding"]["part"] == "text in image 2"
    failed = part_of(verdict, "text in image 1")
    assert (failed["error_code"], failed["error_message"]) == ("media", "it cannot be read: RuntimeError: no memory")
    assert part_of(verdict, "image 1")["category"] == "spam"


def test_a_reader_on_trial_that_fails_is_not_taken_for_a_picture_that_cannot_be_read() -> None:
    """The worker drops a challenger that raises, and the live version answers."""
    on_trial = {**versions(), OCR: version(OCR, Reader(broken_at=100), arm="canary")}
    with pytest.raises(RuntimeError, match="no memory"):
        prepared([item(0, None, [grey(100), grey(150)])], on_trial)


def test_a_server_that_does_not_answer_is_no_fault_of_a_picture(monkeypatch: pytest.MonkeyPatch) -> None:
    reader = Reader()
    monkeypatch.setattr(reader, "read", lambda _pictures: (_ for _ in ()).throw(RetryLater("away")))
    with pytest.raises(RetryLater):
        prepared([item(0, None, [grey(150)])], versions(ocr=reader))


def test_of_many_pictures_the_first_are_read_and_the_verdict_says_so() -> None:
    reader = Reader({150: SPAM})
    (verdict,) = verdicts([item(0, None, [grey(250)] * 8 + [grey(150)] * 56)], versions(ocr=reader))
    assert len(reader.read_shapes) == 8
    assert not verdict["flagged"]
    assert [part["part"] for part in verdict["parts"] if part["unseen"]] == ["image 9"]
    assert part_of(verdict, "image 9")["unseen"] == (
        "the text in it and in those after it, 56 images in all, was not read: at most 8 pictures and frames of an item are read"
    )


def test_images_come_before_frames_and_frames_that_are_not_read_are_told() -> None:
    reader = Reader()
    video = media.inline(media.video())
    mixed, full = verdicts([item(0, None, [grey(250)] * 6, video), item(1, None, [grey(250)] * 8, video)], versions(ocr=reader))
    assert len(reader.read_shapes) == 16
    assert part_of(mixed, "video at 0.5 s")["unseen"].startswith("the text in 2 of its frames was not read")
    assert part_of(full, "video at 0.5 s")["unseen"].startswith("the text in it was not read")


def test_the_number_that_is_read_is_a_setting() -> None:
    reader = Reader()
    verdicts([item(0, None, [grey(250)] * 20)], versions(ocr=reader), Caps(read=20))
    assert len(reader.read_shapes) == 20


def test_ink_that_shows_on_black_only_is_read_too() -> None:
    from PIL import Image

    clear = media.inline(media.encoded(Image.new("RGBA", (40, 30), (0, 0, 0, 0))))
    (verdict,) = verdicts([item(0, None, [clear])], versions(ocr=Reader({0: SPAM})))
    assert verdict["deciding"]["part"] == "text in image 1 on black"


def test_a_long_text_in_a_picture_is_judged_in_stretches_too() -> None:
    lines = [("word " * 20, 0.99)] * 15 + [("a prize", 0.99)] + [("word " * 20, 0.99)] * 15
    (verdict,) = verdicts([item(0, None, [grey(150)])], versions(ocr=Reader({150: lines})))
    named = [part["part"] for part in verdict["parts"]]
    assert verdict["flagged"] and "text in image 1" in named
    assert len(named) < 5, "stretches of which there is nothing to tell are not listed"


def test_a_batch_with_too_many_pictures_to_read_is_refused_before_any_is_read() -> None:
    reader = Reader()
    with pytest.raises(BatchTooLarge, match="80 pictures and frames"):
        prepared([item(i, None, [grey(250)] * 9) for i in range(10)], versions(ocr=reader))
    prepared([item(i, None, [grey(250)] * 9) for i in range(10)], versions())
    assert reader.read_shapes == []
    prepared([item(0, None, [grey(250)] * 64)], versions(ocr=reader), Caps(read=64))
    assert len(reader.read_shapes) == 64


def test_what_is_to_be_read_is_counted_in_decoded_pictures() -> None:
    """A picture that moves is several, and one that cannot be decoded none."""
    reader, moving = Reader(), media.inline(animation("GIF", list(range(0, 200, 20)), [20] * 10))
    with pytest.raises(BatchTooLarge, match="72 pictures and frames"):
        prepared([item(i, None, [moving]) for i in range(9)], versions(ocr=reader))
    broken = media.inline(media.noise()[:4000])
    prepared([item(i, "hello", [broken] * 9) for i in range(9)], versions(ocr=reader))
    assert reader.read_shapes == []


def test_the_log_has_an_entry_for_each_picture_that_was_read() -> None:
    by = versions(ocr=Reader({150: SPAM}))
    items = [item(0, None, [grey(250), grey(150)]), item(1, None, [grey(250)]), item(2, "hello")]
    uses = {use.version.folder.name: use for use in TASK.predict(prepared(items, by).inputs, by).uses}
    use = uses[OCR]
    assert (use.rows, list(use.parts), use.names) == ([0, 0, 1], ["image 1", "image 2", ""], ())
    assert use.outputs.tolist() == [[1.0], [pytest.approx(0.97)], [1.0]]
    assert use.signals["lines"].tolist() == [0.0, 2.0, 0.0]
    assert use.signals["text_chars"].tolist() == [0.0, len("you have won a prize"), 0.0]
    assert use.signals["pixel_mean"].tolist() == [250.0, 150.0, 250.0]
    assert list(uses["moderation-text"].parts) == ["", "text in image 2"]


def test_a_shadow_cannot_read() -> None:
    shadow = {**versions(), OCR: version(OCR, Reader(), arm="shadow")}
    with pytest.raises(ValueError, match="as a canary"):
        TASK.predict(prepared([item(0, "hello")], versions()).inputs, shadow)


# --- sexual content -----------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("shade", "flagged"), [(200, True), (100, True), (150, False), (250, False)], ids=["porn", "hentai", "sexy", "neutral"]
)
def test_pictures_of_porn_and_hentai_are_sexual_content_and_others_are_not(shade: int, flagged: bool) -> None:
    (verdict,) = verdicts([item(0, None, [grey(shade)])], versions(nsfw=Scenes()))
    assert verdict["flagged"] == flagged
    (judged,) = [one for one in verdict["categories"] if one["category"] == "sexual_content"]
    assert (judged["flagged"], judged["part"], judged["threshold"]) == (flagged, "image 1", 0.7)


def test_the_category_is_the_sum_of_the_classes_that_count() -> None:
    logits = np.array([[0.3, 1.2, -0.5, 2.0, 0.1], [0.0, -2.0, 5.0, -3.0, 1.0]])
    shares = np.exp(logits) / np.exp(logits).sum(axis=1, keepdims=True)
    merged = sexual_content.merged(Scenes.labels, Scores(logits)).logits
    np.testing.assert_allclose(1 / (1 + np.exp(-merged[:, 0])), shares[:, 1] + shares[:, 3])


def test_a_picture_that_two_models_judged_is_one_part_with_what_neither_covers() -> None:
    (verdict,) = verdicts([item(0, None, [grey(200)])], versions(nsfw=Scenes()))
    (part,) = verdict["parts"]
    assert part["category"] == "sexual_content"
    assert part["not_covered"] == [name for name in CATEGORIES if name not in ("spam", "sexual_content")]
    assert "sexual_content" not in verdict["not_covered"]


def test_frames_are_looked_at_too() -> None:
    (verdict,) = verdicts([item(0, None, (), media.inline(media.video()))], versions(nsfw=Scenes()))
    assert len(verdict["parts"]) == 4
    assert all("sexual_content" not in part["not_covered"] for part in verdict["parts"])


def test_the_log_has_the_category_by_name_and_the_classes_as_signals() -> None:
    by = versions(nsfw=Scenes())
    uses = {use.version.folder.name: use for use in TASK.predict(prepared([item(0, None, [grey(200)])], by).inputs, by).uses}
    use = uses[NSFW]
    assert (use.names, use.rows, list(use.parts)) == (("sexual_content",), None, [])
    assert use.thresholds is not None and use.thresholds.tolist() == [0.7]
    shares = {name: float(use.signals[name][0]) for name in Scenes.labels}
    assert sum(shares.values()) == pytest.approx(1.0)
    assert float(use.outputs[0, 0]) == pytest.approx(shares["porn"] + shares["hentai"])
    assert len(use.seen) == 1


def test_an_unreadable_image_is_reported_once() -> None:
    broken = media.inline(media.noise()[:4000])
    (verdict,) = verdicts([item(0, None, [broken, grey(250)])], versions(nsfw=Scenes(), ocr=Reader()))
    assert [part["part"] for part in verdict["parts"]] == ["image 2", "image 1"]


def test_a_model_without_the_classes_is_refused() -> None:
    folder = ModelFolder(Path("m"), NSFW, "1", "0" * 64, {"coverage": ["safe", "unsafe"]}, {})
    with pytest.raises(ModelRefused, match="porn and hentai must be among them"):
        TASK.load(folder, NSFW)
