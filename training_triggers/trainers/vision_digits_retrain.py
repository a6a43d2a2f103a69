"""Continues the training of the live `vision-digits` version on labelled pictures of the window, mixed with the pictures of its
first training if the data folder has them, so that it does not forget those."""

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
from training_triggers.trainers.train import Say, TrainedVersion

EPOCHS, BATCH, RATE, SEED = 3, 64, 1e-3, 7
WINDOW_SHARE = 0.5  # of the pictures of an epoch: the window's pictures are repeated up to it
MEASURED_EVERY = 5  # one picture in this many of the window is held out if the data folder has no pictures
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
            f"there are no training pictures in {job.data}: the model may forget digits that the window does not show; accuracy is measured "
            f"on {len(held_out.labels)} held-out pictures of the window"
        )
    times = max(1, round(WINDOW_SHARE / (1 - WINDOW_SHARE) * len(base.labels) / len(shown.labels))) if len(base.labels) else 1
    job.scratch.mkdir(parents=True, exist_ok=True)
    np.savez(
        job.scratch / "data.npz",
        pixels=np.concatenate([base.pixels, *[shown.pixels] * times]),
        labels=np.concatenate([base.labels, *[shown.labels] * times]),
    )
    (job.scratch / "start.safetensors").write_bytes((champion.path / "model.safetensors").read_bytes())
    (job.scratch / "job.json").write_text(
        json.dumps(
            {
                "epochs": int(job.number("epochs", EPOCHS)),
                "batch": BATCH,
                "rate": job.number("rate", RATE),
                "threads": job.threads,
                "seed": int(job.number("seed", SEED)),
                "widths": vision_digits.WIDTHS,
                "classes": len(vision_digits.LABELS),
            }
        )
    )
    run(job.scratch, int(job.number("processes", 1)), say)
    network = fit_pictures.network_of(job.scratch / "trained.safetensors", vision_digits.WIDTHS, len(vision_digits.LABELS))
    export.rounded(network)
    losses = json.loads((job.scratch / "losses.json").read_text())
    measured = vision_digits.measure(network, held_out)
    say(f"held out: accuracy {measured.accuracy:.4f}, inverted {measured.accuracy_inverted:.4f}")
    digest = vision_digits.write(network, measured, len(base.labels) + len(shown.labels), job.out, job.version, job.about)
    before = fit_pictures.network_of(job.scratch / "start.safetensors", vision_digits.WIDTHS, len(vision_digits.LABELS))
    holdout = (_is_right(before, held_out), _is_right(network, held_out)) if len(base.labels) else None
    return Retrained(
        TrainedVersion(digest, {"accuracy": measured.accuracy, "accuracy_inverted": measured.accuracy_inverted}, losses), holdout
    )


def apart(shown: vision_digits.Digits) -> tuple[vision_digits.Digits, vision_digits.Digits]:
    """The pictures to train on, and the held-out ones: every MEASURED_EVERY-th distinct picture with all its repeats."""
    groups = np.unique(shown.pixels.reshape(len(shown.labels), -1), axis=0, return_inverse=True)[1]
    is_held_out: Bools = groups % MEASURED_EVERY == 0
    return shown.take(~is_held_out), shown.take(is_held_out)


# One thread adds in one order; cuBLAS needs a separate workspace to be deterministic (NVIDIA's cuBLAS documentation,
# "Results reproducibility").
DETERMINISTIC = {"OMP_NUM_THREADS": "1", "CUBLAS_WORKSPACE_CONFIG": ":4096:8"}


def run(folder: Path, processes: int, say: Say) -> None:
    """Train in child processes. Raises TrainingFailed."""
    command = [sys.executable, "-m"]
    if processes > 1:
        command += ["torch.distributed.run", "--standalone", "--nproc-per-node", str(processes), "-m"]
    command += ["training_triggers.trainers.fit_pictures", str(folder)]
    log = folder / "fit.log"
    with (
        log.open("a") as errors,
        subprocess.Popen(
            command,
            stdin=subprocess.DEVNULL,
            stdout=subprocess.PIPE,
            stderr=errors,
            text=True,
            env={**os.environ, **DETERMINISTIC},
        ) as child,
    ):
        assert child.stdout is not None
        for line in child.stdout:
            say(line.strip())
        code = child.wait(LIMIT_S)
    if code == fit_pictures.NOT_A_NUMBER or (code and f"exitcode: {fit_pictures.NOT_A_NUMBER}" in log.read_text()):
        raise TrainingFailed("the loss became NaN: the rate is too high, or a picture or label is invalid")
    if code:
        raise TrainingFailed(f"training ended with exit code {code}: {' '.join(log.read_text().splitlines()[-3:])}")


def _is_right(network: ConvNet, data: vision_digits.Digits) -> Bools:
    with torch.no_grad():
        predicted = network(torch.from_numpy(data.pixels.copy())[..., None])[0].argmax(dim=1).numpy()
    is_right: Bools = predicted == data.labels
    return is_right
