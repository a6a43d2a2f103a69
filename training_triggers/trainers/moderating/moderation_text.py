"""Trains `moderation-text`: hashed words and characters, TF-IDF, one logistic regression per category; and, for `moderation-minilm`,
the same on MiniLM's embedding, whose logit is added to a part of it.

Texts are undisguised first, by the words that the trainer knows. Deterministic: the same data gives the same folder on one machine.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from collections.abc import Set as AbstractSet
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import numpy.typing as npt
import scipy.sparse as sparse

from inference_workers.models.known_words import FILE as WORDS
from inference_workers.networks.disguised_text import frequent_words
from inference_workers.networks.ngrams import CHAR_BITS, WORD_BITS
from training_triggers.trainers.evaluation import CrossValidation
from training_triggers.trainers.moderating.logistic import Floats, Linear, fit
from training_triggers.trainers.moderating.moderation_text_bags import Matrix, counts_of, idf_of, weighted
from training_triggers.trainers.moderating.moderation_text_data import CATEGORIES, Labelled

NAME = "moderation-text"
HEAD_FILE = "minilm_head.safetensors"
LEAST_TEXTS = 4  # that have a word which is known
# What a text of another source weighs beside one of `labelled`, which alone is labelled by people for these categories. With more,
# what is usual in `labelled` counts as a sign of every category.
TWEET_WEIGHT = {"hate_speech": 0.02, "harassment": 0.05, "spam": 1.0}
ORDINARY_WEIGHT = 0.1  # of ordinary sentences and of text messages; of these for spam 1
# Their logits are lowered while fitting, so that only those count which look like something else than ordinary texts.
ORDINARY_OFFSET = -3.0
STRENGTH = 30.0
STRENGTH_ENCODED = 1.0
# Where positives and negatives of `labelled` weigh the same together: everywhere for n-grams, and in the rarest categories for MiniLM.
BALANCED, BALANCED_ENCODED = frozenset(CATEGORIES) - {"spam"}, frozenset({"violence", "self_harm"})
ENCODED_SHARE = 0.6  # of MiniLM in the logit of `moderation-minilm`
EVERY = {"labelled": 1, "tweets": 5, "sms": 4, "ordinary": 4}  # which texts of a source are encoded: encoding takes long
Progress = Callable[[str], None]


@dataclass(frozen=True)
class Bags:
    """Hashed n-grams of n texts, and the weighted features of them by the idf of some: sparse (n, buckets)."""

    words: Matrix
    chars: Matrix

    @classmethod
    def of(cls, texts: Sequence[str]) -> Bags:
        return cls(*counts_of(texts))

    def idf(self, rows: Any) -> tuple[npt.NDArray[np.float32], npt.NDArray[np.float32]]:
        """Of words and of characters, float32 (buckets,) each, as 16 bits hold them."""
        words, chars = (idf_of(bag[rows]).astype(np.float16).astype(np.float32) for bag in (self.words, self.chars))
        return words, chars

    def features(self, idf: tuple[npt.NDArray[np.float32], npt.NDArray[np.float32]]) -> Matrix:
        """Sparse float32 (n, buckets of words and characters)."""
        both = [weighted(bag, of) for bag, of in zip((self.words, self.chars), idf, strict=True)]
        return sparse.hstack(both).tocsr().astype(np.float32)


@dataclass(frozen=True)
class Weights:
    """word, char: float32 (buckets, categories). idf of each bag: float32 (buckets,). bias: float32 (categories,). words: those that
    are known."""

    word: npt.NDArray[np.float32]
    char: npt.NDArray[np.float32]
    word_idf: npt.NDArray[np.float32]
    char_idf: npt.NDArray[np.float32]
    bias: npt.NDArray[np.float32]
    words: list[str]

    def logits(self, texts: Sequence[str]) -> Floats:
        """Of plain texts, float32 (n, categories)."""
        features = Bags.of(texts).features((self.word_idf, self.char_idf))
        return Linear(np.concatenate([self.word, self.char]), self.bias).logits(features)


def words_of(data: Labelled) -> list[str]:
    return frequent_words(data.texts, LEAST_TEXTS)


def label_weights(data: Labelled, rows: Any, balanced: AbstractSet[str]) -> Floats:
    """Float32 (rows, categories), 0 for labels that are unknown. balanced: categories."""
    labels, sources = data.labels[rows], data.sources[rows]
    weights = np.zeros(labels.shape, np.float32)
    for i, category in enumerate(CATEGORIES):
        others = 1.0 if category == "spam" else ORDINARY_WEIGHT
        weights[:, i] = np.where(sources == "tweets", TWEET_WEIGHT.get(category, 0.0), others)
        for value in (0, 1):
            inside = (sources == "labelled") & (labels[:, i] == value)
            known = (sources == "labelled") & (labels[:, i] >= 0)
            weights[inside, i] = known.sum() / (2 * inside.sum()) if category in balanced and inside.any() else 1.0
    return np.asarray(weights * (labels >= 0), np.float32)


def label_offsets(data: Labelled, rows: Any) -> Floats:
    """Float32 (rows, categories)."""
    is_ordinary = np.isin(data.sources[rows], ("ordinary", "sms"))
    offsets = np.where(is_ordinary, ORDINARY_OFFSET, 0.0)[:, None] * (np.array(CATEGORIES) != "spam")
    return np.asarray(offsets, np.float32)


def idf_rows(data: Labelled, rows: Any) -> Any:
    """Those of the rows by which n-grams are weighed: of `labelled`; all if there are none."""
    labelled = rows[data.sources[rows] == "labelled"]
    return labelled if len(labelled) else rows


def fit_rows(features: Matrix, data: Labelled, rows: Any, strength: float) -> Linear:
    """Fit all categories. features: of all texts, (n, m). Features that fewer than two of the rows have get the weight 0."""
    chosen = features[rows]
    used = np.flatnonzero(np.bincount(chosen.indices, minlength=features.shape[1]) > 1)
    strengths = np.full(len(CATEGORIES), strength, np.float32)
    offsets = label_offsets(data, rows)
    found = fit(chosen[:, used], data.labels[rows], label_weights(data, rows, BALANCED), strengths, offsets=offsets)
    weights = np.zeros((features.shape[1], len(CATEGORIES)), np.float32)
    weights[used] = found.weights
    return Linear(weights, found.bias)


def fit_encoded(embedding: Floats, data: Labelled, rows: Any) -> Linear:
    """embedding: float32 (rows, width)."""
    strengths = np.full(len(CATEGORIES), STRENGTH_ENCODED, np.float32)
    offsets = label_offsets(data, rows)
    return fit(embedding, data.labels[rows], label_weights(data, rows, BALANCED_ENCODED), strengths, steps=200, offsets=offsets)


def encoded_rows(data: Labelled) -> npt.NDArray[np.int64]:
    """Which texts are encoded, int64 (m,): all of `labelled`, and every so-manieth of the other sources."""
    chosen = [np.flatnonzero(data.sources == source)[::step] for source, step in EVERY.items()]
    return np.sort(np.concatenate(chosen))


def train(data: Labelled, texts: Sequence[str], words: list[str], progress: Progress) -> Weights:
    """texts: those of the data, undisguised by the words."""
    progress("train on all texts")
    bags = Bags.of(texts)
    everything = np.arange(len(data.texts))
    word_idf, char_idf = bags.idf(idf_rows(data, everything))
    found = fit_rows(bags.features((word_idf, char_idf)), data, everything, STRENGTH)
    split = 2**WORD_BITS
    return Weights(found.weights[:split], found.weights[split:], word_idf, char_idf, found.bias, words)


@dataclass(frozen=True)
class Head:
    """Of `moderation-minilm`, and its measures; it is kept in the folder of `moderation-text`."""

    linear: Linear
    report: CrossValidation


def write(
    weights: Weights, head: Head | None, report: CrossValidation, card: Callable[[float], str], folder: Path, version: str
) -> str:
    """Write the whole model folder and return its digest. card: is called with the largest difference between ONNX and torch. See
    `training_triggers.trainers.export`."""
    from safetensors.numpy import save

    from inference_workers.networks.hashed_linear import INPUTS
    from training_triggers.trainers import export

    network = network_of(weights, report.coverage)
    sizes = ((3, 7, 40), (1, 1, 1), (1, 30, 250), (64, 50, 900), (64, 1, 300))
    shapes = ({0: "n", 1: "words"}, {0: "n", 1: "words"}, {0: "n", 1: "chars"}, {0: "n", 1: "chars"})
    graph = export.Graph("model.onnx", network, INPUTS, ("logits",), [_example(*size) for size in sizes], shapes)
    config = {
        "task": "moderation",
        "network": "hashed_linear",
        "word_bits": WORD_BITS,
        "char_bits": CHAR_BITS,
        "known_words": WORDS,
        "coverage": list(report.coverage),
        "not_covered_because": report.not_covered_because,
        "thresholds": {category: report.thresholds[category] for category in report.coverage},
    }
    files = {WORDS: ("\n".join(weights.words) + "\n").encode()}
    if head is not None:
        columns = [CATEGORIES.index(category) for category in report.coverage]
        parts: dict[str, npt.NDArray[Any]] = {
            "head_weights": (ENCODED_SHARE * head.linear.weights[:, columns]).astype(np.float16),
            "head_bias": (ENCODED_SHARE * head.linear.bias[columns]).astype(np.float32),
            "head_scale": np.full(len(columns), 1 - ENCODED_SHARE, np.float32),
        }
        files[HEAD_FILE] = save(parts)
        config["minilm_thresholds"] = {category: head.report.thresholds[category] for category in report.coverage}
    signature = {
        "inputs": {name: {"dtype": "int64" if "buckets" in name else "float32", "shape": ["n", "width"]} for name in INPUTS},
        "outputs": {"logits": {"dtype": "float32", "shape": ["n", len(report.coverage)]}},
    }
    return export.write(export.Artifact(NAME, network.state_dict(), [graph], config, signature, card, files), folder, version)


def network_of(weights: Weights, coverage: Sequence[str]) -> Any:
    """The `HashedLinear` network with the columns of the categories that are covered."""
    import torch  # takes seconds to import

    from inference_workers.networks.hashed_linear import HashedLinear

    columns = [CATEGORIES.index(category) for category in coverage]
    network = HashedLinear(2**WORD_BITS, 2**CHAR_BITS, len(coverage))
    network.load_state_dict(
        {
            "word_weights": torch.tensor(weights.word[:, columns]).half(),
            "word_idf": torch.tensor(weights.word_idf).half(),
            "char_weights": torch.tensor(weights.char[:, columns]).half(),
            "char_idf": torch.tensor(weights.char_idf).half(),
            "bias": torch.tensor(weights.bias[columns]),
        }
    )
    return network.eval()


def _example(n: int, word_width: int, char_width: int) -> tuple[Any, ...]:
    """Random inputs of the network: buckets and counts of words, then of characters."""
    import torch

    random, tensors = torch.Generator().manual_seed(n + char_width), []
    for width, bits in ((word_width, WORD_BITS), (char_width, CHAR_BITS)):
        tensors.append(torch.randint(0, 2**bits, (n, width), generator=random))
        tensors.append(torch.randint(0, 4, (n, width), generator=random).float())
    return tuple(tensors)
