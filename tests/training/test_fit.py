"""The training loop of the picture networks: one process or two, killed and gone on with, and what it refuses."""

from __future__ import annotations

import gzip
import io
import json
import os
import signal
import subprocess
import sys
import time
from pathlib import Path

import numpy as np
import pytest
import torch
from PIL import Image
from safetensors.torch import load_file, save_file

from inference_workers.models.folder import SHIPPED, open_folder
from inference_workers.networks.convnet import ConvNet
from infra.demo.drift_traffic import Digits
from infra.settings import ROOT, StackSettings
from streams.process.settings import load
from training_triggers.recorded.training_window import Examples
from training_triggers.trainers import fit_pictures, vision_digits, vision_digits_retrain
from training_triggers.trainers.retrain import Job, TrainingFailed

WIDTHS = (4, 8)
DATA = Path(load(StackSettings, os.environ).data)


def job(folder: Path, *, epochs: int = 3, rate: float = 1e-3, n: int = 192) -> Path:
    folder.mkdir()
    numbers = np.random.default_rng(3)
    np.savez(
        folder / "data.npz", pixels=numbers.integers(0, 256, (n, 28, 28)).astype(np.uint8), labels=numbers.integers(0, 10, n)
    )
    torch.manual_seed(1)
    save_file(
        {name: value.contiguous() for name, value in ConvNet(1, 10, WIDTHS).state_dict().items()}, folder / "start.safetensors"
    )
    (folder / "job.json").write_text(
        json.dumps({"epochs": epochs, "batch": 64, "rate": rate, "threads": 1, "seed": 7, "widths": WIDTHS, "classes": 10})
    )
    return folder


def here(folder: Path, device: str = "cpu") -> int:
    """In this process: torch takes seconds to import."""
    return fit_pictures.train(folder, json.loads((folder / "job.json").read_text()), 0, 1, torch.device(device))


def losses(folder: Path) -> list[float]:
    return list(json.loads((folder / "losses.json").read_text()))


@pytest.mark.skipif(not torch.cuda.is_available(), reason="no GPU here")
def test_a_gpu_has_the_losses_of_the_cpu_and_goes_on_from_its_checkpoint(tmp_path: Path) -> None:
    cpu, gpu, cut = job(tmp_path / "cpu"), job(tmp_path / "gpu"), job(tmp_path / "cut", epochs=2)
    here(cpu)
    vision_digits_retrain.run(gpu, 1, lambda words: None)  # as a run does it: one process, which finds the GPU
    assert losses(gpu) == pytest.approx(losses(cpu), abs=2e-3)
    here(cut, "cuda")
    assert (cut / "checkpoint-0002.safetensors").exists()
    again = json.loads((cut / "job.json").read_text()) | {"epochs": 3}
    (cut / "job.json").write_text(json.dumps(again))
    here(cut, "cuda")
    assert len(losses(cut)) == 3


def test_each_process_has_a_gpu_of_its_own_or_none_has_one(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(torch.cuda, "device_count", lambda: 2)
    assert [str(fit_pictures.device_of(rank, 2)) for rank in range(2)] == ["cuda:0", "cuda:1"]
    assert {str(fit_pictures.device_of(rank, 3)) for rank in range(3)} == {"cpu"}
    monkeypatch.setattr(torch.cuda, "device_count", lambda: 0)
    assert str(fit_pictures.device_of(0, 1)) == "cpu"


def test_two_processes_have_the_losses_of_one(tmp_path: Path) -> None:
    one, two = job(tmp_path / "one"), job(tmp_path / "two")
    here(one)
    vision_digits_retrain.run(two, 2, lambda words: None)
    assert losses(two) == pytest.approx(losses(one), abs=1e-4)
    assert losses(one)[0] != losses(one)[-1]
    for name, value in load_file(one / "trained.safetensors").items():
        assert torch.allclose(value.float(), load_file(two / "trained.safetensors")[name].float(), atol=2e-3), name


def test_a_killed_training_goes_on_and_ends_in_the_same_weights(tmp_path: Path) -> None:
    whole, killed = job(tmp_path / "whole", epochs=6), job(tmp_path / "killed", epochs=6)
    vision_digits_retrain.run(whole, 1, lambda words: None)  # as the other: the last bits hang on the process
    child = subprocess.Popen(
        [sys.executable, "-m", "training_triggers.trainers.fit_pictures", str(killed)],
        env={**os.environ, "PYTHONPATH": str(ROOT), **vision_digits_retrain.DETERMINISTIC},
    )
    deadline_s = time.monotonic() + 360
    while not list(killed.glob("checkpoint-*")) and time.monotonic() < deadline_s:
        time.sleep(0.002)
    child.send_signal(signal.SIGKILL)
    child.wait(30)
    said: list[str] = []
    vision_digits_retrain.run(killed, 1, said.append)
    if child.returncode == -signal.SIGKILL:
        assert said[0].startswith("continues after epoch")
    assert losses(killed) == losses(whole)
    for name, value in load_file(whole / "trained.safetensors").items():
        assert torch.equal(value, load_file(killed / "trained.safetensors")[name]), name


def test_of_a_cut_checkpoint_the_one_before_is_taken(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    folder = job(tmp_path / "job", epochs=3)
    here(folder)
    before = losses(folder)
    newest = sorted(folder.glob("checkpoint-*"))[-1]
    newest.write_bytes(newest.read_bytes()[:100])
    capsys.readouterr()
    here(folder)
    said = capsys.readouterr().out.splitlines()
    assert "cannot be read" in said[0]
    assert said[1] == "continues after epoch 2"
    assert losses(folder) == before


def test_a_loss_that_is_no_number_ends_the_training(tmp_path: Path) -> None:
    folder = job(tmp_path / "job", rate=1e30)
    with pytest.raises(TrainingFailed, match="became NaN"):
        vision_digits_retrain.run(folder, 1, lambda words: None)
    assert not (folder / "trained.safetensors").exists()
    network = ConvNet(1, 10, WIDTHS)
    assert fit_pictures.resume(folder, network, torch.optim.AdamW(network.parameters())) == (0, []), "and leaves no checkpoint"


def test_where_there_are_no_other_pictures_the_accuracy_is_of_some_that_were_not_learnt() -> None:
    numbers = np.random.default_rng(3)
    pixels = numbers.integers(0, 255, (200, 28, 28)).astype(np.uint8)
    shown = vision_digits.Digits(np.concatenate([pixels, pixels[:50]]), np.arange(250) % 10)
    learnt, measured = vision_digits_retrain.apart(shown)
    assert len(learnt.labels) + len(measured.labels) == 250
    assert 30 <= len(measured.labels) <= 70
    of = {one.tobytes() for one in measured.pixels}
    assert not of & {one.tobytes() for one in learnt.pixels}, "a repeat lies on the side of its first"


@pytest.mark.data
@pytest.mark.skipif(not (DATA / "mnist").exists(), reason=f"the digits need the public data sets in {DATA} (MILLRACE_DATA)")
def test_turned_and_noisy_digits_are_learnt_and_the_others_are_not_forgotten(tmp_path: Path) -> None:
    traffic = Digits(DATA)
    traffic.changed = True
    asked = [traffic.next(number) for number in range(700)]
    pixels = np.stack([np.asarray(Image.open(io.BytesIO(fields["image"]["data"]))) for fields, _ in asked])
    labels = np.array([int(next(iter(truth))) for _, truth in asked])
    learnt, measured = vision_digits.Digits(pixels[:500], labels[:500]), vision_digits.Digits(pixels[500:], labels[500:])
    champion = open_folder(SHIPPED / "vision-digits")
    examples = Examples(
        [str(i) for i in range(500)], learnt.pixels[..., None], np.eye(10, dtype=np.int8)[learnt.labels], vision_digits.LABELS
    )
    few = tmp_path / "data"
    (few / "mnist").mkdir(parents=True)
    for name, ends_at in (("images-8000-idx3-ubyte.gz", 16 + 2000 * 784), ("labels-8000-idx1-ubyte.gz", 8 + 2000)):
        whole = gzip.decompress((DATA / "mnist" / name).read_bytes())
        (few / "mnist" / name).write_bytes(gzip.compress(whole[:ends_at], 1))
    job = Job(tmp_path / "made", tmp_path / "scratch", "2", few, "a test", options={"epochs": "1"})
    made = vision_digits_retrain.retrain(champion, examples, job, lambda words: None)
    assert open_folder(tmp_path / "made", made.made.digest).version == "2"

    def right(weights: Path) -> float:
        network = fit_pictures.network_of(weights, vision_digits.WIDTHS, len(vision_digits.LABELS))
        return vision_digits.measure(network, measured).accuracy

    assert right(champion.path / "model.safetensors") < 0.5
    assert right(tmp_path / "made" / "model.safetensors") > 0.85
    assert made.holdout is not None
    assert made.holdout[1].mean() > 0.97, "of digits as before"
