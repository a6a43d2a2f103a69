"""The first training of each model, by name: train, measure, write the folder, and report the measures."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path

from schemas.errors import BadSettings

Say = Callable[[str], None]


@dataclass(frozen=True)
class TrainedVersion:
    """A trained version. digest: of its folder. metrics: measured on held-out data. losses: of each epoch, if training has
    epochs."""

    digest: str
    metrics: Mapping[str, float]
    losses: Sequence[float] = field(default_factory=list)


Train = Callable[[Path, Path, str, Say, Mapping[str, str]], TrainedVersion]  # data, out, version, say, options


def _moderation_text(data_folder: Path, out: Path, version: str, say: Say) -> TrainedVersion:
    from training_triggers.trainers.moderating import moderation_text_version

    return TrainedVersion(*moderation_text_version.make(data_folder, out, version, say))


def _moderation_image(data_folder: Path, out: Path, version: str, say: Say) -> TrainedVersion:
    from training_triggers.trainers import moderation_image as image

    say(f"drawing {image.TRAIN} pictures")
    network = image.train(image.pictures("train", 0, image.TRAIN), say)
    calibration = image.pictures("train", 10**6, image.CALIBRATE)
    report = image.report(network, calibration, image.pictures("held out", 0, image.HELD_OUT))
    say(f"held out: AUPRC {report.held_out.auprc:.3f}, precision {report.held_out.precision}, recall {report.held_out.recall}")
    return TrainedVersion(image.write(network, report, out, version), {"auprc_spam": report.held_out.auprc})


def _vision_digits(data_folder: Path, out: Path, version: str, say: Say) -> TrainedVersion:
    from training_triggers.trainers import vision_digits

    train, held_out = vision_digits.load(data_folder)
    network = vision_digits.train(train, say)
    measured = vision_digits.measure(network, held_out)
    say(f"held out: accuracy {measured.accuracy:.4f}, inverted {measured.accuracy_inverted:.4f}")
    digest = vision_digits.write(network, measured, len(train.labels), out, version)
    return TrainedVersion(digest, {"accuracy": measured.accuracy, "accuracy_inverted": measured.accuracy_inverted})


def _translation(data_folder: Path, out: Path, version: str, say: Say) -> TrainedVersion:
    from training_triggers.trainers import translation_en_fr, translation_en_fr_data, translation_en_fr_folder

    data = translation_en_fr_data.load(data_folder)
    trained = translation_en_fr.train(data, say)
    measured = translation_en_fr.measure(trained, data, data_folder)
    for scores in measured:
        say(f"{scores.name}: BLEU {scores.bleu:.1f}, chrF {scores.chrf:.1f}")
    digest = translation_en_fr_folder.write(trained, measured, len(data.train), out, version)
    names = [scores.name.lower().replace(", ", "_").replace(" ", "_") for scores in measured]
    metrics = {f"bleu_{name}": scores.bleu for name, scores in zip(names, measured, strict=True)}
    metrics |= {f"chrf_{name}": scores.chrf for name, scores in zip(names, measured, strict=True)}
    return TrainedVersion(digest, metrics, trained.losses)


def _transcription(data_folder: Path, out: Path, version: str, say: Say) -> TrainedVersion:
    from training_triggers.trainers import transcription_digits, transcription_digits_data

    clips = transcription_digits_data.load(data_folder)
    measured, shipped = [], None
    for speaker in transcription_digits_data.SPEAKERS:
        network = transcription_digits.train(clips, speaker, say)
        measured.append(transcription_digits.measure(network, clips, speaker))
        say(f"{speaker}: word error rate {measured[-1].word_error_rate:.3f}")
        if speaker == transcription_digits.SHIPPED_WITHOUT:
            shipped = network
    assert shipped is not None
    digest = transcription_digits.write(shipped, measured, out, version)
    return TrainedVersion(digest, {f"word_error_rate_{errors.speaker}": errors.word_error_rate for errors in measured})


def _recommendation(data_folder: Path, out: Path, version: str, say: Say, options: Mapping[str, str]) -> TrainedVersion:
    from training_triggers.trainers.recommending import event_readers, measured_version, training_options

    settings = training_options.with_options(training_options.RecommendationSettings(), options)

    data = event_readers.read(data_folder)
    say(f"{data.name}: {len(data.user)} events of {len(data.profiles)} users with {len(data.items.ids)} items")
    made = measured_version.train_and_write(data, settings, out, version, say)
    say(f"held out: NDCG@20 {made.model.ndcg:.3f}; most popular first, {made.popular.ndcg:.3f}")
    return TrainedVersion(made.digest, made.model.named(), made.losses)


def _without_options(train: Callable[[Path, Path, str, Say], TrainedVersion]) -> Train:
    def trained(data_folder: Path, out: Path, version: str, say: Say, options: Mapping[str, str]) -> TrainedVersion:
        if options:
            raise BadSettings(f"the trainer of this model has no options: {', '.join(options)}")
        return train(data_folder, out, version, say)

    return trained


TRAIN: dict[str, Train] = {
    "moderation-text": _without_options(_moderation_text),
    "moderation-image": _without_options(_moderation_image),
    "vision-digits": _without_options(_vision_digits),
    "translation-en-fr": _without_options(_translation),
    "transcription-digits": _without_options(_transcription),
    "recommendation": _recommendation,
}
