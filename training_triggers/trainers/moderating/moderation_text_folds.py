"""Five folds of `moderation-text` and `moderation-minilm` beside their references, each text scored by models that did not see it.

References: TF-IDF + logistic regression with a full vocabulary (word 1-2, char 3-5), and logistic regression on MiniLM's embedding. Each
is fitted to `labelled` alone with two strengths, and to all texts; the best counts in every comparison.
"""

from __future__ import annotations

import random
from collections import Counter
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
import numpy.typing as npt
import scipy.sparse as sparse
from sklearn.feature_extraction.text import CountVectorizer
from sklearn.model_selection import StratifiedKFold

from inference_workers.networks.disguised_text import KnownWords
from training_triggers.trainers.evaluation import FOLDS
from training_triggers.trainers.moderating.logistic import fit
from training_triggers.trainers.moderating.moderation_text import (
    ENCODED_SHARE,
    STRENGTH,
    Bags,
    Progress,
    fit_encoded,
    fit_rows,
    idf_rows,
)
from training_triggers.trainers.moderating.moderation_text_bags import Matrix, idf_of, weighted
from training_triggers.trainers.moderating.moderation_text_data import CATEGORIES, Labelled
from training_triggers.trainers.moderating.moderation_text_disguises import REWRITES

SEED = 7
TFIDF, ENCODED = "TF-IDF + LR", "MiniLM + LR"
LABELLED_STRENGTHS, STRENGTH_OF_ALL = (1.0, 10.0), 10.0
Floats = npt.NDArray[np.float64]
Rows = npt.NDArray[np.int64]


@dataclass(frozen=True)
class Encoded:
    """rows: the texts that MiniLM encoded, (m,). embedding: float32 (m, width)."""

    rows: Rows
    embedding: npt.NDArray[np.float32]


@dataclass(frozen=True)
class Disguised:
    """Held-out logits of rewritten texts, float (m, categories), as they are and undisguised. rows: the text of each, (m,)."""

    rows: Rows
    as_they_are: Floats
    undisguised: Floats


@dataclass(frozen=True)
class Folds:
    """Held-out logits, float (n, categories), NaN where a text was not encoded. fold_of: (n,). light, encoded: of the two parts of
    `moderation-minilm`. references: by name, those of each way to fit it. disguised: by the way of writing."""

    fold_of: Rows
    light: Floats
    encoded: Floats
    references: dict[str, list[Floats]]
    disguised: dict[str, Disguised]

    @property
    def joined(self) -> Floats:
        """Of `moderation-minilm`."""
        return joined(self.light, self.encoded)


def joined(light: npt.NDArray[Any], encoded: npt.NDArray[Any]) -> Floats:
    """Logits of `moderation-minilm`, float64 (n, categories), from those of its two parts."""
    return np.asarray((1 - ENCODED_SHARE) * light + ENCODED_SHARE * encoded, np.float64)


def folds_of(data: Labelled) -> list[tuple[Rows, Rows]]:
    """Folds with equal shares of each source and combination of labels; rare combinations are pooled. Rows of training and test: int64
    (m,)."""
    kinds = [f"{source}{row.tolist()}" for source, row in zip(data.sources, data.labels, strict=True)]
    often = Counter(kinds)
    strata = [kind if often[kind] >= FOLDS else "rare" for kind in kinds]
    return list(StratifiedKFold(FOLDS, shuffle=True, random_state=SEED).split(data.texts, strata))


def cross_validate(data: Labelled, texts: Sequence[str], known: KnownWords, encoded: Encoded | None, progress: Progress) -> Folds:
    """texts: those of the data, undisguised by the known words."""
    shape = data.labels.shape
    bags, full = Bags.of(texts), _full_vocabulary(texts)
    rewritten = _rewritten(data, known)
    fold_of = np.zeros(len(texts), np.int64)
    light, by_embedding = np.full(shape, np.nan), np.full(shape, np.nan)
    references = {name: [np.full(shape, np.nan) for _ in range(3)] for name in (TFIDF, ENCODED)}
    logits = {way: [np.full((len(rows), shape[1]), np.nan) for _ in both] for way, (rows, both) in rewritten.items()}
    for number, (train_rows, test_rows) in enumerate(folds_of(data)):
        progress(f"fold {number + 1} of {FOLDS}")
        fold_of[test_rows] = number
        idf = bags.idf(idf_rows(data, train_rows))
        features = bags.features(idf)
        model = fit_rows(features, data, train_rows, STRENGTH)
        light[test_rows] = model.logits(features[test_rows])
        for way, (rows, both) in rewritten.items():
            inside = np.isin(rows, test_rows)
            for out, of in zip(logits[way], both, strict=True):
                out[inside] = model.logits(Bags(of.words[inside], of.chars[inside]).features(idf))
        weighed = sparse.hstack([weighted(bag, idf_of(bag[train_rows])) for bag in full]).tocsr().astype(np.float32)
        _refer(references[TFIDF], weighed, data, train_rows, test_rows)
        if encoded is not None:
            inside = np.isin(encoded.rows, train_rows)
            head = fit_encoded(encoded.embedding[inside], data, encoded.rows[inside])
            by_embedding[encoded.rows[~inside]] = head.logits(encoded.embedding[~inside])
            everywhere = np.zeros((len(texts), encoded.embedding.shape[1]), np.float32)
            everywhere[encoded.rows] = encoded.embedding
            _refer(references[ENCODED], everywhere, data, encoded.rows[inside], encoded.rows[~inside])
    disguised = {
        way: Disguised(rewritten[way][0], as_they_are, undisguised) for way, (as_they_are, undisguised) in logits.items()
    }
    return Folds(fold_of, light, by_embedding, references, disguised)


def _full_vocabulary(texts: Sequence[str]) -> list[Matrix]:
    """Counts of words and of characters: sparse (n, n-grams)."""
    by_word = CountVectorizer(ngram_range=(1, 2), dtype=np.float32)
    by_char = CountVectorizer(analyzer="char", ngram_range=(3, 5), dtype=np.float32)
    return [by_word.fit_transform(texts), by_char.fit_transform(texts)]


def _refer(out: list[Floats], features: Any, data: Labelled, train_rows: Rows, test_rows: Rows) -> None:
    """Write the logits of the test rows by each fit of a reference. features: of all texts, sparse or float32 (n, m). Labels weigh the
    same."""
    labelled = train_rows[data.sources[train_rows] == "labelled"]
    fits = [*((labelled, strength) for strength in LABELLED_STRENGTHS), (train_rows, STRENGTH_OF_ALL)]
    for logits, (rows, strength) in zip(out, fits, strict=True):
        chosen, used = features[rows], np.arange(features.shape[1])
        if sparse.issparse(features):
            used = np.flatnonzero(np.bincount(chosen.indices, minlength=features.shape[1]))
        is_known = (data.labels[rows] >= 0).astype(np.float32)
        strengths = np.full(len(CATEGORIES), strength, np.float32)
        found = fit(chosen[:, used], data.labels[rows], is_known, strengths)
        logits[test_rows] = found.logits(features[test_rows][:, used])


def _rewritten(data: Labelled, known: KnownWords) -> dict[str, tuple[Rows, tuple[Bags, Bags]]]:
    """By the way of writing: the rows that are rewritten, all of `labelled` with a positive label, and their n-grams as they are and
    undisguised."""
    rows = np.flatnonzero((data.sources == "labelled") & (data.labels == 1).any(axis=1))
    found = dict[str, tuple[Rows, tuple[Bags, Bags]]]()
    for way, rewrite in REWRITES.items():
        draw = random.Random(SEED)
        texts = [rewrite(data.texts[row], draw) for row in rows]
        found[way] = rows, (Bags.of(texts), Bags.of([known.undisguised(text) for text in texts]))
    return found
