"""The shipped models on data they never saw, and their trainers in small: what the cards say can be made again."""

from __future__ import annotations

import os
from pathlib import Path

import numpy as np
import pytest

from inference_workers.backends.choose import image_classifier, transcriber, translator
from inference_workers.models.folder import SHIPPED, open_folder
from infra.settings import StackSettings
from streams.process.settings import load
from training_triggers.trainers import (
    moderation_image,
    transcription_digits,
    transcription_digits_data,
    translation_en_fr,
    translation_en_fr_data,
    translation_en_fr_folder,
    vision_digits,
)
from training_triggers.trainers.moderation_image_drawings import draw

DATA = Path(load(StackSettings, os.environ).data)
needs_data = pytest.mark.skipif(
    not (DATA / "mnist").exists(), reason=f"model quality needs the public data sets in {DATA} (MILLRACE_DATA)"
)
QUIET = lambda words: None  # noqa: E731


@needs_data
@pytest.mark.data
def test_digits_that_were_held_out_are_read() -> None:
    _, held_out = vision_digits.load(DATA)
    scorer = image_classifier(open_folder(SHIPPED / vision_digits.NAME))
    for pixels in (held_out.pixels, 255 - held_out.pixels):
        said = scorer.classify(list(pixels[..., None])).logits.argmax(axis=1)
        assert (said == held_out.labels).mean() >= 0.98


@needs_data
@pytest.mark.data
def test_strings_of_a_voice_that_was_not_in_training_are_heard_as_the_card_says() -> None:
    clips = transcription_digits_data.load(DATA)
    backend = transcriber(open_folder(SHIPPED / transcription_digits.NAME))
    strings = transcription_digits_data.strings(clips, transcription_digits.SHIPPED_WITHOUT, 100)
    heard = backend.transcribe([samples for samples, _ in strings])
    errors = sum(
        sum(transcription_digits_data.edits(wanted, [word.text for word in words]))
        for (_, wanted), words in zip(strings, heard, strict=True)
    )
    assert errors / sum(len(wanted) for _, wanted in strings) <= 0.35
    for words in heard:
        assert all(word.start_s < word.end_s for word in words)
        assert [word.start_s for word in words] == sorted(word.start_s for word in words)


@needs_data
@pytest.mark.data
def test_held_out_sentences_are_translated_as_the_card_says() -> None:
    from sacrebleu.metrics import BLEU  # type: ignore[attr-defined]

    data = translation_en_fr_data.load(DATA)
    seen = {sentence for pair in data.train for sentence in pair}
    backend = translator(open_folder(SHIPPED / translation_en_fr.NAME))
    for direction, least in (("en-fr", 40.0), ("fr-en", 42.0)):
        held_out = dict(list(data.held_out[direction].items())[:400])
        assert not seen & held_out.keys()
        source, target = direction.split("-")
        ours = [one.text for one in backend.translate(translation_en_fr_data.sources(held_out), source, target)]
        assert BLEU().corpus_score(ours, translation_en_fr_data.references(held_out)).score >= least


def test_promotion_with_other_fonts_and_phrases_is_told_from_pictures() -> None:
    scorer = image_classifier(open_folder(SHIPPED / moderation_image.NAME))
    held_out = moderation_image.pictures("held out", 5000, 200)
    scores = scorer.classify(list(held_out.pixels)).logits[:, 0]
    good, bad = scores[held_out.promotion], scores[held_out.kinds == "picture"]
    assert (good[:, None] > bad[None, :]).mean() > 0.95
    assert draw("held out", 1).kind == draw("held out", 1).kind


def test_a_picture_model_trained_twice_is_the_same_folder(tmp_path: Path) -> None:
    data = moderation_image.pictures("train", 0, 64)
    found = []
    for number in range(2):
        network = moderation_image.train(data, QUIET, epochs=1)
        report = moderation_image.report(network, data, data)
        found.append(moderation_image.write(network, report, tmp_path / str(number), "9"))
    assert found[0] == found[1]


def test_a_digit_model_trained_twice_is_the_same_folder(tmp_path: Path) -> None:
    random = np.random.default_rng(1)
    data = vision_digits.Digits(random.integers(0, 256, (64, 28, 28), np.uint8), random.integers(0, 10, 64))
    found = []
    for number in range(2):
        network = vision_digits.train(data, QUIET, epochs=1)
        found.append(vision_digits.write(network, vision_digits.measure(network, data), 64, tmp_path / str(number), "9"))
    assert found[0] == found[1]


def test_a_listener_trained_twice_is_the_same_folder(tmp_path: Path) -> None:
    random = np.random.default_rng(1)
    clips = {
        speaker: {digit: [random.standard_normal(2000).astype(np.float32)] for digit in range(10)}
        for speaker in transcription_digits_data.SPEAKERS
    }
    found = []
    for number in range(2):
        network = transcription_digits.train(clips, transcription_digits.SHIPPED_WITHOUT, QUIET, steps=2)
        measured = [transcription_digits.WordErrors(transcription_digits.SHIPPED_WITHOUT, 10, 5, (3, 1, 1), 0.5)]
        found.append(transcription_digits.write(network, measured, tmp_path / str(number), "9"))
    assert found[0] == found[1]


def test_a_translator_trained_twice_is_the_same_folder_and_learns(tmp_path: Path) -> None:
    pairs = [(f"the {a} {b}", f"le {b} {a}") for a in ("red", "old", "big") for b in ("cat", "dog", "car", "sun")]
    data = translation_en_fr_data.Pairs(pairs, {})
    found = []
    for number in range(2):
        trained = translation_en_fr.train(data, QUIET, epochs=3)
        assert trained.losses[-1] < trained.losses[0]
        found.append(translation_en_fr_folder.write(trained, [], len(pairs), tmp_path / str(number), "9"))
    assert found[0] == found[1]


def test_word_errors_are_counted_as_levenshtein_does() -> None:
    assert transcription_digits_data.edits(["one", "two", "three"], ["one", "three", "four"]) in ((0, 1, 1), (2, 0, 0))
    assert transcription_digits_data.edits([], ["one"]) == (0, 0, 1)
    assert transcription_digits_data.edits(["one"], []) == (0, 1, 0)
    assert transcription_digits_data.edits(["one"], ["two"]) == (1, 0, 0)
