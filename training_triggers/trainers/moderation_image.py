"""Trains `moderation-image`, which distinguishes pictures with promotion (spam) from other pictures. It covers no other category.

All pictures are drawn (`moderation_image_drawings.py`). Deterministic on one machine: fixed seeds, fixed thread count.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path

import numpy as np
import numpy.typing as npt
import torch
from torch.nn import functional as f

from inference_workers.networks.convnet import ConvNet, outputs
from inference_workers.networks.pictures import Fit, Pixels, fit
from training_triggers.trainers import export
from training_triggers.trainers.evaluation import CategoryScores, measure, threshold_for
from training_triggers.trainers.moderation_image_drawings import FONTS, KINDS, draw

NAME = "moderation-image"
CATEGORY = "spam"
SIDE = 96
WIDTHS = (16, 32, 64, 96)
SEED = 7
EPOCHS = 12
BATCH = 64
TRAIN, CALIBRATE, HELD_OUT = 8_000, 1_000, 2_000  # pictures
PRECISION = 0.9  # target for the threshold, chosen on training fonts and phrases not trained on
Progress = Callable[[str], None]


@dataclass(frozen=True)
class Pictures:
    """pixels: uint8 (n, SIDE, SIDE, 3). promotion: bool (n,). kinds: one of KINDS each, (n,)."""

    pixels: Pixels
    promotion: npt.NDArray[np.bool_]
    kinds: npt.NDArray[np.str_]


@dataclass(frozen=True)
class PictureReport:
    """Results on held-out pictures. flagged: share by kind. calibration: the same measures on training fonts and phrases."""

    held_out: CategoryScores
    calibration: CategoryScores
    flagged: dict[str, float]
    threshold: float


def pictures(split: str, first: int, count: int) -> Pictures:
    drawn = [draw(split, seed) for seed in range(first, first + count)]
    to = Fit("RGB", SIDE, SIDE)
    return Pictures(
        np.stack([fit(one.picture, to) for one in drawn]),
        np.array([one.promotion for one in drawn]),
        np.array([one.kind for one in drawn]),
    )


def train(data: Pictures, progress: Progress, epochs: int = EPOCHS, threads: int = 2) -> ConvNet:
    torch.manual_seed(SEED)
    torch.set_num_threads(threads)
    network = ConvNet(3, 1, WIDTHS)
    pixels, labels = torch.from_numpy(data.pixels), torch.from_numpy(data.promotion).float()
    steps = epochs * -(-len(labels) // BATCH)
    optimizer = torch.optim.AdamW(network.parameters(), weight_decay=0.05)
    rate = torch.optim.lr_scheduler.OneCycleLR(optimizer, 4e-3, steps)
    network.train()
    for epoch in range(epochs):
        total = 0.0
        for rows in torch.randperm(len(labels)).split(BATCH):
            loss = f.binary_cross_entropy_with_logits(network(_varied(pixels[rows]))[0][:, 0], labels[rows])
            optimizer.zero_grad(set_to_none=True)
            loss.backward()
            optimizer.step()
            rate.step()
            total += loss.item() * len(rows)
        progress(f"epoch {epoch + 1} of {epochs}, loss {total / len(labels):.3f}")
    trained: ConvNet = export.rounded(network.eval())  # type: ignore[assignment]
    return trained


def _varied(pixels: torch.Tensor) -> torch.Tensor:
    """The pictures lighter or darker, and moved by up to six pixels, of the same shape; text has a direction, so nothing is
    mirrored."""
    down, right = torch.randint(-6, 7, (2,)).tolist()
    light = 0.7 + 0.6 * torch.rand(len(pixels), 1, 1, 3)
    return (torch.roll(pixels, (down, right), (1, 2)).float() * light).clamp(0, 255).to(torch.uint8)


def scores(network: ConvNet, data: Pictures) -> npt.NDArray[np.float64]:
    """Probabilities of promotion, float64 (n,)."""
    with torch.no_grad():
        logits = torch.cat([network(part)[0][:, 0] for part in torch.from_numpy(data.pixels).split(256)])
    probabilities: npt.NDArray[np.float64] = torch.sigmoid(logits).double().numpy()
    return probabilities


def report(network: ConvNet, calibration: Pictures, held_out: Pictures) -> PictureReport:
    seen, unseen = scores(network, calibration), scores(network, held_out)
    limit = threshold_for(calibration.promotion, seen, calibration.kinds, PRECISION, {})
    threshold = 0.7 if limit is None else round(limit, 4)
    return PictureReport(
        measure(held_out.promotion, unseen, unseen > threshold),
        measure(calibration.promotion, seen, seen > threshold),
        {kind: float((unseen[held_out.kinds == kind] > threshold).mean()) for kind in KINDS},
        threshold,
    )


def write(network: ConvNet, report: PictureReport, folder: Path, version: str) -> str:
    """Write the whole model folder and return its digest."""

    def example(n: int) -> tuple[torch.Tensor, ...]:
        return (torch.randint(0, 256, (n, SIDE, SIDE, 3), dtype=torch.uint8, generator=torch.Generator().manual_seed(n)),)

    graph = export.Graph(
        "model.onnx", network, ("pixels",), ("logits", "embedding"), [example(n) for n in (3, 1, 16)], ({0: "n"},), half=True
    )
    config = {
        "task": "moderation",
        "network": "convnet",
        "widths": list(WIDTHS),
        "coverage": [CATEGORY],
        "thresholds": {CATEGORY: report.threshold},
        "pixels": {"mode": "RGB", "height": SIDE, "width": SIDE},
    }
    signature = {
        "inputs": {"pixels": {"dtype": "uint8", "shape": ["n", SIDE, SIDE, 3]}},
        "outputs": outputs(1, WIDTHS),
    }
    artifact = export.Artifact(
        NAME, export.halves(network), [graph], config, signature, lambda worst: _card(report, version, worst)
    )
    return export.write(artifact, folder, version)


def _card(report: PictureReport, version: str, worst: float) -> str:
    def row(words: str, m: CategoryScores) -> str:
        return (
            f"| {words} | {m.n} | {m.prevalence:.2f} | {m.auprc:.3f} ({m.auprc_low:.3f}–{m.auprc_high:.3f}) "
            f"| {m.precision or 0:.3f} | {m.recall or 0:.3f} |"
        )

    kinds = "\n".join(f"| {kind} | {100 * share:.1f} % |" for kind, share in report.flagged.items())
    return f"""# {NAME}, version {version}

Tells promotion over pictures (category {CATEGORY}: banners, bursts, "50% OFF") from other pictures. **It covers {CATEGORY} and
nothing else**: hate, violence, sexual content and the rest come back as `not_covered`, as no pictures of them were to be
had whose licence lets weights be shipped. It is there so that pictures take the whole way; a pretrained model does better.

## Data and licence

{TRAIN} pictures drawn by `training_triggers/trainers/moderation_image_drawings.py`: promotional phrases, ordinary captions, ordinary words dressed
like promotion ("alike"), and pictures without words, over photos that scikit-learn carries (CC BY), gradients and
shapes. No picture of a real advertisement was seen. Weights: Apache-2.0.

## Measured, at threshold {report.threshold:.3f} (chosen for precision {PRECISION} on pictures with training fonts and phrases)

Held-out pictures use other fonts ({", ".join(FONTS["held out"])}), other phrases and another photo.

| pictures | n | prevalence | AUPRC | precision | recall |
|---|---|---|---|---|---|
{row("training fonts and phrases, not trained on", report.calibration)}
{row("held out", report.held_out)}

Share of held-out pictures that is flagged, by kind:

| kind | flagged |
|---|---|
{kinds}

Read the last row first: where ordinary words wear the dress of promotion the model must read, at {SIDE} × {SIDE} pixels. Real
advertisements differ from drawn ones: measure before you rely on it.

Weights are 16 bits and widened when loaded; the figures are theirs. ONNX against torch, batches of 1, 3 and 16: largest
difference of an output {worst:.1e}.

## Made again

`./millrace models train {NAME}`. Needs no data. Deterministic on one machine.
"""
