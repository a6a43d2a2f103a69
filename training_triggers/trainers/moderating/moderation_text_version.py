"""What `./millrace models train moderation-text` does: load, encode, measure on five folds, train on all texts, write."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

import numpy as np
import numpy.typing as npt

from inference_workers.models.known_words import plain
from inference_workers.models.packages import fetched_folder
from inference_workers.networks.disguised_text import KnownWords
from training_triggers.trainers.evaluation import CrossValidation
from training_triggers.trainers.moderating import moderation_text, moderation_text_data
from training_triggers.trainers.moderating import moderation_text_measures as measures
from training_triggers.trainers.moderating.card import moderation_card
from training_triggers.trainers.moderating.moderation_text import Progress
from training_triggers.trainers.moderating.moderation_text_folds import Encoded, Folds, cross_validate
from training_triggers.trainers.moderating.moderation_text_folds import joined as joined_logits

ENCODER = "minilm-l6-v2"
AT_ONCE = 32
MOST_UNSEEN_ENCODED = 1_500


@dataclass(frozen=True)
class Validated:
    """words: those that are known. texts: those of the data, undisguised. encoded: what MiniLM encoded. folds: held-out logits."""

    data: moderation_text_data.Labelled
    words: list[str]
    texts: Sequence[str]
    encoded: Encoded
    folds: Folds


def validated(data_folder: Path, say: Progress) -> Validated:
    """Five folds of both models and of their references. Raises BadSettings for data that is missing, ModelRefused if MiniLM was not
    fetched."""
    encoder, data = fetched_folder(ENCODER), moderation_text_data.load(data_folder)
    words = moderation_text.words_of(data)
    known = KnownWords(words)
    texts, rows = plain(data.texts, known), moderation_text.encoded_rows(data)
    say(f"{len(texts)} texts; MiniLM encodes {len(rows)} of them")
    encoded = Encoded(rows, encode([texts[row] for row in rows], encoder))
    return Validated(data, words, texts, encoded, cross_validate(data, texts, known, encoded, say))


def make(data_folder: Path, out: Path, version: str, say: Progress) -> tuple[str, dict[str, float]]:
    """The digest of the folder, and AUPRC by category. Raises BadSettings for data that is missing, ModelRefused if MiniLM was not fetched."""
    unseen, of = moderation_text_data.unseen(data_folder), validated(data_folder, say)
    data, words, folds = of.data, of.words, of.folds
    light, joined = measures.report(data, folds, folds.light), measures.report(data, folds, folds.joined)
    compared = measures.compared(data, folds)
    for category in moderation_text_data.CATEGORIES:
        figures = ", ".join(f"{model} {auprc[category]:.3f}" for model, auprc in compared.items() if category in auprc)
        say(f"{category:15} {'covered' if category in light.coverage else 'not covered'}; AUPRC on labelled: {figures}")
    weights = moderation_text.train(data, of.texts, words, say)
    head = moderation_text.Head(moderation_text.fit_encoded(of.encoded.embedding, data, of.encoded.rows), joined)
    known = KnownWords(words)
    false_flags = _false_flags(weights, head, light, {kind: plain(texts, known) for kind, texts in unseen.items()})
    disguised = measures.recall_in_disguise(data, folds, light)
    measured = measures.Measured(light, joined, compared, disguised, false_flags)
    digest = moderation_text.write(
        weights, head, light, lambda difference: moderation_card(measured, version, difference), out, version
    )
    return digest, {f"auprc_{category}": value for category, value in compared[measures.LIGHT].items()}


def _false_flags(
    weights: moderation_text.Weights, head: moderation_text.Head, light: CrossValidation, unseen: dict[str, Sequence[str]]
) -> dict[str, dict[str, tuple[float, int]]]:
    """By model and kind of text, the share that is flagged and the number of texts."""
    found: dict[str, dict[str, tuple[float, int]]] = {measures.LIGHT: {}, measures.JOINED: {}}
    for kind, texts in unseen.items():
        logits = weights.logits(texts)
        found[measures.LIGHT][kind] = measures.false_flags(logits, light), len(texts)
        some = texts[:MOST_UNSEEN_ENCODED]
        by_embedding = head.linear.logits(encode(some, fetched_folder(ENCODER)))
        found[measures.JOINED][kind] = (
            measures.false_flags(joined_logits(logits[: len(some)], by_embedding), head.report),
            len(some),
        )
    return found


def encode(texts: Sequence[str], folder: Path) -> npt.NDArray[np.float32]:
    """Embeddings by MiniLM, float32 (n, width). Texts of similar length go together. folder: a checkpoint of it."""
    import torch  # takes seconds to import

    from inference_workers.networks.sentence_encoder import of_checkpoint
    from inference_workers.networks.tokens import SentenceTokenizer

    torch.set_num_threads(1)
    encoder, tokenizer = of_checkpoint(folder), SentenceTokenizer(folder / "tokenizer.json")
    order = sorted(range(len(texts)), key=lambda i: len(texts[i]))
    parts = []
    for at in range(0, len(order), AT_ONCE):
        tokens, mask = tokenizer.encode([texts[i] for i in order[at : at + AT_ONCE]])
        with torch.inference_mode():
            parts.append(encoder(torch.from_numpy(tokens), torch.from_numpy(mask)).numpy())
    embedding = np.empty((len(texts), parts[0].shape[1]), np.float32)
    embedding[order] = np.concatenate(parts)
    return embedding
