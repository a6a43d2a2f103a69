"""Text moderation, for `./millrace bench models --only moderation`: the average precision of `moderation-text` and `moderation-minilm`
beside two references on the same five folds, and how fast the two answer."""

from __future__ import annotations

import time
from pathlib import Path
from typing import Any

import numpy as np

from inference_workers.backends.choose import text_classifier
from inference_workers.models.addresses import open_source
from tests.benchmarks.worker import figure, say
from training_triggers.trainers.moderating import moderation_text_measures as measures
from training_triggers.trainers.moderating import moderation_text_version

ADDRESSES = {measures.LIGHT: "shipped:moderation-text", measures.JOINED: "package:moderation-minilm"}
ALONE, AT_ONCE, BATCHES = 400, 32, 20


def figures(data: Path) -> list[dict[str, Any]]:
    of = moderation_text_version.validated(data, say)
    compared = measures.compared(of.data, of.folds)
    references = {name: compared[name] for name in of.folds.references}
    found = []
    for model in ADDRESSES:
        for category, auprc in compared[model].items():
            best = max(by_category[category] for by_category in references.values())
            beside = {name: round(by_category[category], 3) for name, by_category in references.items()}
            found.append(figure(f"{model}, {category}", auprc, "AUPRC", "at least the better reference", auprc >= best, **beside))
    texts = [text for text in of.data.texts if len(text) < 300]
    return [*found, *(line for model, address in ADDRESSES.items() for line in speed(model, address, texts))]


def speed(model: str, address: str, texts: list[str]) -> list[dict[str, Any]]:
    """The model alone, without topics, on one thread."""
    classifier = text_classifier(open_source(address))
    chosen = [texts[i] for i in np.random.default_rng(1).integers(0, len(texts), ALONE + AT_ONCE * BATCHES)]
    took_ms = []
    for text in chosen[:ALONE]:
        begun = time.perf_counter()
        classifier.classify([text])
        took_ms.append((time.perf_counter() - begun) * 1000)
    begun = time.perf_counter()
    for at in range(ALONE, len(chosen), AT_ONCE):
        classifier.classify(chosen[at : at + AT_ONCE])
    texts_s = AT_ONCE * BATCHES / (time.perf_counter() - begun)
    classifier.close()
    return [
        figure(f"{model}, batches of {AT_ONCE}", texts_s, "texts/s", "printed", None),
        figure(f"{model}, a text alone, p99", float(np.percentile(took_ms, 99)), "ms", "printed", None),
    ]
