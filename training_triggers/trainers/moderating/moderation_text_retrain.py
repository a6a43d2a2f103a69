"""Adapts a text model to labelled requests: moves each category's weights towards the labels, and keeps them near the champion's.

Maximum a posteriori adaptation (Chelba and Acero 2004, "Adaptation of maximum entropy capitalizer: little data can help a lot"):
logistic loss of the labelled texts, and a Gaussian prior whose mean is the champion's weights. Weights of n-grams that the texts
do not contain stay as they were, so the data that the champion was trained on is not needed. Convex and deterministic; numpy and
scipy only.
"""

from __future__ import annotations

import json
import shutil
import tempfile
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path

import numpy as np
import numpy.typing as npt
import onnx
import onnxruntime
import scipy.sparse as sparse
from safetensors.numpy import load_file, save_file
from scipy.optimize import minimize

from inference_workers.models.folder import ModelFolder, write_manifest
from inference_workers.models.known_words import known_words, plain
from inference_workers.networks.ngrams import WORD_BITS, ngram_inputs
from inference_workers.networks.tokens import SentenceTokenizer
from schemas.errors import ModelRefused
from training_triggers.recorded.training_window import Examples
from training_triggers.trainers import settings_search
from training_triggers.trainers.moderating import moderation_text_bags
from training_triggers.trainers.retrain import Job, Retrained, TrainingFailed
from training_triggers.trainers.train import Say, TrainedVersion

STRENGTH = 10.0  # variance of the prior: the C with which the shipped model was fitted
STEPS = 300
STEPS_PER_REPORT = 3  # of a trial
TEXTS_AT_ONCE = 32
ATOL = 5e-3  # of a logit: tables are 16 bits, sums 32
Floats = npt.NDArray[np.float64]
Tables = dict[str, npt.NDArray[np.generic]]


def retrain(champion: ModelFolder, examples: Examples, job: Job, say: Say) -> Retrained:
    """Raises TrainingFailed if a loss is NaN, ModelRefused if the written graph does not give the scores of the new weights."""
    tables: Tables = load_file(champion.path / "model.safetensors")
    prefix = "hashed." if "hashed.bias" in tables else ""  # beside an encoder, whose part stays
    scale = np.asarray(tables.get("head_scale", np.ones(len(examples.names))), np.float64)
    texts = plain(examples.seen, known_words(champion))
    features = _features(tables, prefix, texts).tocsc()
    used = np.flatnonzero(np.diff(features.indptr))
    features, started = features[:, used].tocsr(), _logits(champion.path, texts)
    strength, losses = job.number("strength", STRENGTH), dict[str, float]()
    if "search_samples" in job.options:
        start = SearchStart(features, examples.truth, started)
        strength = settings_search.best(job, {"strength": settings_search.Range(0.1, 1_000.0, log=True)}, start.trial, say)[
            "strength"
        ]
    weights = np.concatenate([tables[f"{prefix}word_weights"], tables[f"{prefix}char_weights"]]).astype(np.float64)
    bias = tables[f"{prefix}bias"].astype(np.float64)
    for column, name in enumerate(examples.names):
        is_labelled = examples.truth[:, column] >= 0
        if not is_labelled.any():
            continue
        truth = examples.truth[is_labelled, column].astype(np.float64)
        move, bias_move, loss_before, loss_after = adapted(features[is_labelled], truth, started[is_labelled, column], strength)
        weights[used, column] += move / scale[column]
        bias[column] += bias_move / scale[column]
        losses |= {f"loss_before_{name}": loss_before, f"loss_{name}": loss_after}
        say(f"{name}: mean loss of {int(is_labelled.sum())} labelled texts {loss_before:.4f} -> {loss_after:.4f}")
    split = 2**WORD_BITS
    new: Tables = {
        f"{prefix}word_weights": weights[:split].astype(np.float16),
        f"{prefix}char_weights": weights[split:].astype(np.float16),
        f"{prefix}bias": bias.astype(np.float32),
    }
    digest = write(champion, tables, new, job, texts)
    return Retrained(TrainedVersion(digest, losses))


def _features(tables: Tables, prefix: str, texts: Sequence[str]) -> moderation_text_bags.Matrix:
    """Sparse (n, buckets of words and characters)."""
    return sparse.hstack(
        [
            moderation_text_bags.weighted(counts, tables[f"{prefix}{bag}_idf"].astype(np.float32))
            for counts, bag in zip(moderation_text_bags.counts_of(texts), ("word", "char"), strict=True)
        ]
    )


def _logits(folder: Path, texts: Sequence[str]) -> Floats:
    """What the network of a folder gives for plain texts, (n, categories)."""
    session = onnxruntime.InferenceSession(str(folder / "model.onnx"), providers=["CPUExecutionProvider"])
    tokens = folder / "tokenizer.json"
    tokenizer = SentenceTokenizer(tokens) if tokens.exists() else None
    parts = []
    for at in range(0, len(texts), TEXTS_AT_ONCE):
        some = texts[at : at + TEXTS_AT_ONCE]
        encoded = dict(zip(("tokens", "mask"), tokenizer.encode(some), strict=True)) if tokenizer else {}
        parts.append(session.run(["logits"], {**ngram_inputs(some), **encoded})[0])
    return np.concatenate(parts).astype(np.float64)


@dataclass(frozen=True)
class SearchStart:
    """The data and the logits that each trial of a search starts from. One text in five is for validation. features: sparse (n, m);
    truth: int8 (n, categories); started: the champion's logits, (n, categories)."""

    features: moderation_text_bags.Matrix
    truth: npt.NDArray[np.int8]
    started: Floats

    def trial(self, settings: Mapping[str, float]) -> Iterator[float]:
        """The validation loss after each STEPS_PER_REPORT steps."""
        is_validation = np.arange(len(self.truth)) % 5 == 0
        columns = [column for column in range(self.truth.shape[1]) if (self.truth[~is_validation, column] >= 0).any()]
        moves = {column: np.zeros(self.features.shape[1] + 1) for column in columns}
        while True:
            losses = []
            for column in columns:
                is_labelled = self.truth[:, column] >= 0
                training, validation = is_labelled & ~is_validation, is_labelled & is_validation
                truth, started = self.truth[:, column].astype(np.float64), self.started[:, column]
                move, bias_move, _, _ = adapted(
                    self.features[training],
                    truth[training],
                    started[training],
                    settings["strength"],
                    moves[column],
                    STEPS_PER_REPORT,
                )
                moves[column] = np.append(move, bias_move)
                margins = started[validation] + self.features[validation] @ move + bias_move
                losses.append(np.logaddexp(0.0, -(2.0 * truth[validation] - 1.0) * margins))
            yield float(np.concatenate(losses).mean())


def adapted(
    features: moderation_text_bags.Matrix,
    truth: Floats,
    started: Floats,
    strength: float,
    begin: Floats | None = None,
    steps: int = STEPS,
) -> tuple[Floats, float, float, float]:
    """How far weights and bias move, and the mean loss before and after. features: sparse (n, m); truth: (n,) of 0 and 1; started:
    the champion's logits, (n,). begin: a move to continue from, (m + 1,). Raises TrainingFailed."""
    signs = 2.0 * truth - 1.0

    def loss(move: Floats) -> tuple[float, Floats]:
        margins = signs * (started + features @ move[:-1] + move[-1])
        slopes = -signs / (1.0 + np.exp(np.clip(margins, -500, 500)))
        value = np.logaddexp(0.0, -margins).sum() + 0.5 * (move @ move) / strength
        return float(value), np.append(features.T @ slopes, slopes.sum()) + move / strength

    nowhere = np.zeros(features.shape[1] + 1)
    if not np.isfinite(started).all():
        raise TrainingFailed("the loss is NaN before the first step: a starting weight is NaN")
    first, _ = loss(nowhere)
    begin = nowhere if begin is None else begin
    minimum = minimize(loss, begin, jac=True, method="L-BFGS-B", options={"maxiter": steps})
    move: Floats = minimum.x
    after = np.logaddexp(0.0, -signs * (started + features @ move[:-1] + move[-1])).mean()
    if not np.isfinite(after):
        raise TrainingFailed("the loss became NaN")
    return move[:-1], float(move[-1]), first / len(truth), float(after)


def write(champion: ModelFolder, old: Tables, new: Tables, job: Job, texts: Sequence[str]) -> str:
    """Write the champion's folder with new tables (by name, each of the shape of that in `old`) and return the digest. texts: as the
    model judges them. The folder is written next to the target and then moved, so that no reader sees half of it. Raises ModelRefused if the graph does not
    contain the tables."""
    job.out.parent.mkdir(parents=True, exist_ok=True)
    staging = Path(tempfile.mkdtemp(prefix="version-", dir=job.out.parent))
    save_file({**old, **new}, staging / "model.safetensors")
    graph = onnx.load(str(champion.path / "model.onnx"))
    replaced = set()
    for tensor in graph.graph.initializer:
        values = onnx.numpy_helper.to_array(tensor)
        for name in new:
            if old[name].shape == values.shape and np.array_equal(old[name], values):
                tensor.CopyFrom(onnx.numpy_helper.from_array(new[name], tensor.name))
                replaced.add(name)
    if replaced != set(new):
        raise ModelRefused(f"{champion.path}: its graph does not contain these weights: {sorted(set(new) - replaced)}")
    onnx.save(graph, str(staging / "model.onnx"))
    config = {**champion.config, "made_from": {"version": champion.version, "digest": champion.digest, "window": job.about}}
    (staging / "config.json").write_text(json.dumps(config, indent=2) + "\n")
    for kept in ("signature.json", "tokenizer.json", *filter(None, [champion.config.get("known_words")])):
        if (champion.path / kept).exists():
            shutil.copy(champion.path / kept, staging)
    worst = _difference(champion, staging, old, new, texts[:32])
    if worst > ATOL:
        raise ModelRefused(f"{staging}: outputs of graph and weights differ by {worst:.2e}; at most {ATOL} is allowed")
    (staging / "MODEL_CARD.md").write_text(_card(champion, job, len(texts), worst))
    digest = write_manifest(staging, champion.name, job.version)
    shutil.rmtree(job.out, ignore_errors=True)
    staging.chmod(0o755)
    staging.rename(job.out)
    return digest


def _difference(champion: ModelFolder, folder: Path, old: Tables, new: Tables, texts: Sequence[str]) -> float:
    """The largest difference of a logit between the written graph, and the champion's moved as its tables were."""
    prefix = "hashed." if "hashed.bias" in old else ""
    moved = {name: new[name].astype(np.float64) - old[name].astype(np.float64) for name in new}
    table = np.concatenate([moved[f"{prefix}word_weights"], moved[f"{prefix}char_weights"]])
    moves = _features(old, prefix, texts) @ table + moved[f"{prefix}bias"]
    expected = _logits(champion.path, texts) + moves * np.asarray(old.get("head_scale", 1.0), np.float64)
    return float(np.abs(_logits(folder, texts) - expected).max())


def _card(champion: ModelFolder, job: Job, n: int, worst: float) -> str:
    return f"""# {champion.name}, version {job.version}

Version {champion.version} (digest {champion.digest[:12]}), moved to {n} labelled requests: {job.about}.
Maximum a posteriori adaptation of its linear layers; features, thresholds and what it does not cover are that version's, and so is
its licence. Requests and labels are the operator's own data: weights may tell of them.

How it compares with that version is in the run's report. ONNX against the weights, 32 texts: largest difference of a logit {worst:.1e}.
"""
