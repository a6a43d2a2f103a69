"""Trains `vision-digits`: handwritten digits, a small residual network, on MNIST pictures distorted and turned at random.

Half of the pictures are inverted, so that the model reads dark ink on white paper as well as MNIST's white on black.
Deterministic on one machine: fixed seeds, fixed thread count.
"""

from __future__ import annotations

import gzip
import math
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path

import numpy as np
import numpy.typing as npt
import torch
from torch import Tensor
from torch.nn import functional as f

from inference_workers.networks.convnet import ConvNet, outputs
from schemas.errors import BadSettings
from training_triggers.trainers import export

NAME = "vision-digits"
LABELS = tuple("0123456789")
SIDE = 28
WIDTHS = (32, 64, 96)
SEED = 7
EPOCHS = 14
BATCH = 128
HELD_OUT_EVERY = 4  # every fourth picture is never trained on
Progress = Callable[[str], None]
Pixels = npt.NDArray[np.uint8]


@dataclass(frozen=True)
class Digits:
    """pixels: uint8 (n, SIDE, SIDE). labels: int64 (n,)."""

    pixels: Pixels
    labels: npt.NDArray[np.int64]

    def take(self, rows: npt.NDArray[np.bool_]) -> Digits:
        return Digits(self.pixels[rows], self.labels[rows])


@dataclass(frozen=True)
class DigitScores:
    """Accuracies on held-out pictures: as in MNIST, and inverted. confusions: (true, predicted, times), most frequent first."""

    n: int
    accuracy: float
    accuracy_inverted: float
    confusions: list[tuple[str, str, int]]


def load(folder: Path) -> tuple[Digits, Digits]:
    """Training and held-out pictures. Raises BadSettings that names the missing file."""
    arrays = []
    for name, head in (("images-8000-idx3-ubyte.gz", 16), ("labels-8000-idx1-ubyte.gz", 8)):
        file = folder / "mnist" / name
        if not file.exists():
            raise BadSettings(f"{file} is missing: name the folder of the data sets with --data")
        arrays.append(np.frombuffer(gzip.decompress(file.read_bytes())[head:], np.uint8))
    whole = Digits(arrays[0].reshape(-1, SIDE, SIDE), arrays[1].astype(np.int64))
    held_out = np.arange(len(whole.labels)) % HELD_OUT_EVERY == 0
    return whole.take(~held_out), whole.take(held_out)


def train(data: Digits, progress: Progress, epochs: int = EPOCHS, threads: int = 2) -> ConvNet:
    torch.manual_seed(SEED)
    torch.set_num_threads(threads)
    network = ConvNet(1, len(LABELS), WIDTHS)
    pixels, labels = torch.from_numpy(data.pixels.copy())[:, None].float(), torch.from_numpy(data.labels)
    steps = epochs * math.ceil(len(labels) / BATCH)
    optimizer = torch.optim.AdamW(network.parameters(), weight_decay=0.02)
    rate = torch.optim.lr_scheduler.OneCycleLR(optimizer, 4e-3, steps)
    network.train()
    for epoch in range(epochs):
        total = 0.0
        for rows in torch.randperm(len(labels)).split(BATCH):
            loss = f.cross_entropy(network(bent(pixels[rows]))[0], labels[rows], label_smoothing=0.05)
            optimizer.zero_grad(set_to_none=True)
            loss.backward()
            optimizer.step()
            rate.step()
            total += loss.item() * len(rows)
        progress(f"epoch {epoch + 1} of {epochs}, loss {total / len(labels):.3f}")
    trained: ConvNet = export.rounded(network.eval())  # type: ignore[assignment]
    return trained


def bent(pixels: Tensor) -> Tensor:
    """Pictures turned up to 12°, scaled by 0.8-1.15, sheared, shifted up to 3 pixels; half of them inverted. uint8, channels
    last."""
    n = len(pixels)
    angle, shear = (torch.rand(n) - 0.5) * 0.42, (torch.rand(n) - 0.5) * 0.4
    scale, shift = 1 / (0.8 + 0.35 * torch.rand(n)), (torch.rand(n, 2) - 0.5) * 0.42
    matrix = torch.zeros(n, 2, 3)
    matrix[:, 0, 0], matrix[:, 0, 1] = scale * torch.cos(angle), scale * (shear - torch.sin(angle))
    matrix[:, 1, 0], matrix[:, 1, 1] = scale * torch.sin(angle), scale * torch.cos(angle)
    matrix[:, :, 2] = shift
    moved = f.grid_sample(pixels, f.affine_grid(matrix, list(pixels.shape), align_corners=False), align_corners=False)
    inverted = torch.rand(n) < 0.5
    moved[inverted] = 255 - moved[inverted]
    return moved.round().to(torch.uint8).permute(0, 2, 3, 1)


def measure(network: ConvNet, data: Digits) -> DigitScores:
    with torch.no_grad():
        predicted = network(torch.from_numpy(data.pixels.copy())[..., None])[0].argmax(dim=1).numpy()
        inverted = network(torch.from_numpy(255 - data.pixels)[..., None])[0].argmax(dim=1).numpy()
    wrong = predicted != data.labels
    pairs, times = np.unique(np.stack([data.labels[wrong], predicted[wrong]]), axis=1, return_counts=True)
    confusions = [(LABELS[t], LABELS[p], int(n)) for (t, p), n in zip(pairs.T, times, strict=True)]
    return DigitScores(
        len(predicted),
        float((~wrong).mean()),
        float((inverted == data.labels).mean()),
        sorted(confusions, key=lambda row: -row[2]),
    )


def write(network: ConvNet, measured: DigitScores, trained_on: int, folder: Path, version: str, about: str = "") -> str:
    """Write the whole model folder and return its digest. about: the data besides the public pictures that the model was trained
    on."""

    def example(n: int) -> tuple[Tensor, ...]:
        return (torch.randint(0, 256, (n, SIDE, SIDE, 1), dtype=torch.uint8, generator=torch.Generator().manual_seed(n)),)

    graph = export.Graph(
        "model.onnx", network, ("pixels",), ("logits", "embedding"), [example(n) for n in (3, 1, 64)], ({0: "n"},), half=True
    )
    config = {
        "task": "vision",
        "network": "convnet",
        "widths": list(WIDTHS),
        "coverage": list(LABELS),
        "pixels": {"mode": "L", "height": SIDE, "width": SIDE},
        **({"made_from": {"window": about}} if about else {}),
    }
    signature = {
        "inputs": {"pixels": {"dtype": "uint8", "shape": ["n", SIDE, SIDE, 1]}},
        "outputs": outputs(len(LABELS), WIDTHS),
    }
    artifact = export.Artifact(
        NAME, export.halves(network), [graph], config, signature, lambda worst: _card(measured, trained_on, version, worst, about)
    )
    return export.write(artifact, folder, version)


def _card(measured: DigitScores, trained_on: int, version: str, worst: float, about: str) -> str:
    mixed = "\n".join(f"| {true} | {said} | {times} |" for true, said, times in measured.confusions[:8])
    further = f" Trained on from another version with {about}." if about else ""
    return f"""# {NAME}, version {version}

Handwritten digits: one digit a picture, white on black or black on white, roughly centred. A residual convolutional
network of {len(WIDTHS)} blocks on {SIDE} × {SIDE} grey pixels. Anything that is not one digit gets a digit all the same:
it was never shown anything else, so a low probability is no safe sign of "not a digit".

## Data and licence

MNIST (LeCun, Cortes, Burges), CC BY-SA 3.0, 8,000 pictures: {trained_on} to train, {measured.n} held out (each
{HELD_OUT_EVERY}th). Turned, scaled, sheared, shifted and inverted at random in training. These weights: CC BY-SA 3.0.{further}

## Measured on the {measured.n} held-out pictures

| | accuracy |
|---|---|
| as they are | {100 * measured.accuracy:.2f} % |
| inverted | {100 * measured.accuracy_inverted:.2f} % |

Most frequent mistakes:

| true | said | times |
|---|---|---|
{mixed}

Weights are 16 bits and widened when loaded; the figures are theirs. ONNX against torch, batches of 1, 3 and 64: largest
difference of an output {worst:.1e}.

## Made again

`./millrace models train {NAME} --data DIR`. Deterministic on one machine.
"""
