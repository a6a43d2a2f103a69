"""The digits' network trained on from the version that answers: labelled pictures of the window, and those it was trained on where the
data folder has them, so that what it knew is not forgotten."""

from __future__ import annotations

import json
import os
import subprocess
import sys
from pathlib import Path

import numpy as np
import torch

from inference_workers.models.folder import ModelFolder
from inference_workers.networks.convnet import ConvNet
from schemas.errors import BadSettings
from training_triggers.recorded.training_window import Examples
from training_triggers.trainers import export, fit_pictures, vision_digits
from training_triggers.trainers.retrain import Bools, Job, Retrained, TrainingFailed
from training_triggers.trainers.train import Made, Say

EPOCHS, BATCH, RATE, SEED = 3, 64, 1e-3, 7
WINDOW_SHARE = 0.5  # of what is learnt in an epoch: the window's pictures are repeated up to it
MEASURED_EVERY = 5  # pictures of the window, where there are no others
LIMIT_S = 3_600.0


def retrain(champion: ModelFolder, examples: Examples, job: Job, say: Say) -> Retrained:
    """Options: epochs, rate, processes, seed. Raises TrainingFailed, ModelRefused."""
    shown = vision_digits.Digits(examples.seen[..., 0], examples.truth.argmax(axis=1).astype(np.int64))
    try:
        base, held_out = vision_digits.load(job.data)
    except BadSettings:
        base = shown.take(np.zeros(len(shown.labels), np.bool_))
        shown, held_out = apart(shown)
        say(
            f"{job.data} has no pictures to train on beside the window's: what they do not show may be forgotten; "
            f"{len(held_out.labels)} of the window's are not trained on, and the accuracy that is told is theirs"
        )
    times = max(1, round(WINDOW_SHARE / (1 - WINDOW_SHARE) * len(base.labels) / len(shown.labels))) if len(base.labels) else 1
    job.scratch.mkdir(parents=True, exist_ok=True)
    np.savez(
        job.scratch / "data.npz", pixels=np.concatenate([base.pixels, *[shown.pixels] * times]),
        labels=np.concatenate([base.labels, *[shown.labels] * times]),
    )  # fmt: skip
    (job.scratch / "start.safetensors").write_bytes((champion.path / "model.safetensors").read_bytes())
    (job.scratch / "job.json").write_text(json.dumps({
        "epochs": int(job.number("epochs", EPOCHS)), "batch": BATCH, "rate": job.number("rate", RATE), "threads": job.threads,
        "seed": int(job.number("seed", SEED)), "widths": vision_digits.WIDTHS, "classes": len(vision_digits.LABELS),
    }))  # fmt: skip
    run(job.scratch, int(job.number("processes", 1)), say)
    network = fit_pictures.network_of(job.scratch / "trained.safetensors", vision_digits.WIDTHS, len(vision_digits.LABELS))
    export.rounded(network)
    losses = json.loads((job.scratch / "losses.json").read_text())
    measured = vision_digits.measure(network, held_out)
    say(f"held out: accuracy {measured.accuracy:.4f}, inverted {measured.accuracy_inverted:.4f}")
    digest = vision_digits.write(network, measured, len(base.labels) + len(shown.labels), job.out, job.version, job.about)
    first = fit_pictures.network_of(job.scratch / "start.safetensors", vision_digits.WIDTHS, len(vision_digits.LABELS))
    holdout = (_right(first, held_out), _right(network, held_out)) if len(base.labels) else None
    return Retrained(
        Made(digest, {"accuracy": measured.accuracy, "accuracy_inverted": measured.accuracy_inverted}, losses), holdout
    )


def apart(shown: vision_digits.Digits) -> tuple[vision_digits.Digits, vision_digits.Digits]:
    """What is trained on, and each MEASURED_EVERY-th distinct picture, which is not: a repeat of one lies on its side."""
    groups = np.unique(shown.pixels.reshape(len(shown.labels), -1), axis=0, return_inverse=True)[1]
    measured: Bools = groups % MEASURED_EVERY == 0
    return shown.take(~measured), shown.take(measured)


# one thread adds in one order; cuBLAS needs a workspace of its own to be deterministic (NVIDIA's cuBLAS documentation, "Results reproducibility")
DETERMINISTIC = {"OMP_NUM_THREADS": "1", "CUBLAS_WORKSPACE_CONFIG": ":4096:8"}


def run(folder: Path, processes: int, say: Say) -> None:
    """The training itself, on so many processes. Raises TrainingFailed."""
    command = [sys.executable, "-m"]
    if processes > 1:
        command += ["torch.distributed.run", "--standalone", "--nproc-per-node", str(processes), "-m"]
    command += ["training_triggers.trainers.fit_pictures", str(folder)]
    log = folder / "fit.log"
    with log.open("a") as errors, subprocess.Popen(
        command, stdin=subprocess.DEVNULL, stdout=subprocess.PIPE, stderr=errors, text=True, env={**os.environ, **DETERMINISTIC}
    ) as child:  # fmt: skip
        assert child.stdout is not None
        for line in child.stdout:
            say(line.strip())
        code = child.wait(LIMIT_S)
    if code == fit_pictures.NOT_A_NUMBER or (code and f"exitcode: {fit_pictures.NOT_A_NUMBER}" in log.read_text()):
        raise TrainingFailed("the loss became no number: the rate is too high, or a picture or label is none")
    if code:
        raise TrainingFailed(f"the training ended with {code}: {' '.join(log.read_text().splitlines()[-3:])}")


def _right(network: ConvNet, data: vision_digits.Digits) -> Bools:
    with torch.no_grad():
        said = network(torch.from_numpy(data.pixels.copy())[..., None])[0].argmax(dim=1).numpy()
    found: Bools = said == data.labels
    return found
