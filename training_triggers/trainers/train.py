"""Each model by name: train, measure, write its folder."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path

Say = Callable[[str], None]


def _moderation_text(data_folder: Path, out: Path, version: str, say: Say) -> str:
    from training_triggers.trainers import moderation_data, moderation_text

    data = moderation_data.load(data_folder)
    say(f"{len(data.texts)} texts")
    report = moderation_text.cross_validate(data, say)
    for category, by_source in report.measured.items():
        pooled, reference = by_source["pooled"], report.reference_auprc[category]["pooled"]
        covered = "covered" if category in report.coverage else "not covered"
        say(f"{category:15} AUPRC {pooled.auprc:.3f}, reference {reference:.3f}, {covered}")
    return moderation_text.write(moderation_text.train(data, say), report, out, version)


def _moderation_image(data_folder: Path, out: Path, version: str, say: Say) -> str:
    from training_triggers.trainers import picture_spam as image

    say(f"drawing {image.TRAIN} pictures")
    network = image.train(image.pictures("train", 0, image.TRAIN), say)
    calibration = image.pictures("train", 10**6, image.CALIBRATE)
    report = image.report(network, calibration, image.pictures("held out", 0, image.HELD_OUT))
    say(f"held out: AUPRC {report.held_out.auprc:.3f}, precision {report.held_out.precision}, recall {report.held_out.recall}")
    return image.write(network, report, out, version)


def _vision_digits(data_folder: Path, out: Path, version: str, say: Say) -> str:
    from training_triggers.trainers import digits

    train, held_out = digits.load(data_folder)
    network = digits.train(train, say)
    measured = digits.measure(network, held_out)
    say(f"held out: accuracy {measured.accuracy:.4f}, inverted {measured.accuracy_inverted:.4f}")
    return digits.write(network, measured, len(train.labels), out, version)


def _translation(data_folder: Path, out: Path, version: str, say: Say) -> str:
    from training_triggers.trainers import translation, translation_data

    data = translation_data.load(data_folder)
    trained = translation.train(data, say)
    measured = translation.measure(trained, data, data_folder)
    for one in measured:
        say(f"{one.name}: BLEU {one.bleu:.1f}, chrF {one.chrf:.1f}")
    return translation.write(trained, measured, len(data.train), out, version)


def _transcription(data_folder: Path, out: Path, version: str, say: Say) -> str:
    from training_triggers.trainers import spoken_digits

    clips = spoken_digits.load(data_folder)
    measured, shipped = [], None
    for speaker in spoken_digits.SPEAKERS:
        network = spoken_digits.train(clips, speaker, say)
        measured.append(spoken_digits.measure(network, clips, speaker))
        say(f"{speaker}: word error rate {measured[-1].word_error_rate:.3f}")
        if speaker == spoken_digits.SHIPPED_WITHOUT:
            shipped = network
    assert shipped is not None
    return spoken_digits.write(shipped, measured, out, version)


TRAIN: dict[str, Callable[[Path, Path, str, Say], str]] = {
    "moderation-text": _moderation_text,
    "moderation-image": _moderation_image,
    "vision-digits": _vision_digits,
    "translation-en-fr": _translation,
    "transcription-digits": _transcription,
}
