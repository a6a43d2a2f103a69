"""Trains a picture network on given pixels, in one process or several: `python -m training_triggers.trainers.fit_pictures
FOLDER`, or the same under `torchrun`.

FOLDER contains `data.npz` (pixels, labels), `start.safetensors` and `job.json`; `trained.safetensors` and `losses.json` are
written there. Every process sees the same batches and takes its share of each, dropout is off and batch statistics are fixed, so
that the losses equal those of one process up to the order of sums. Each epoch ends with a checkpoint, and a training that was
killed continues from the last.
"""

from __future__ import annotations

import json
import math
import os
import sys
from pathlib import Path
from typing import Any

import numpy as np
import torch
import torch.distributed as distributed
from safetensors import SafetensorError, safe_open
from safetensors.torch import load_file, save_file
from torch import Tensor, nn
from torch.nn import functional as f
from torch.nn.parallel import DistributedDataParallel

from inference_workers.networks.convnet import ConvNet
from training_triggers.trainers.vision_digits import bent

NOT_A_NUMBER = 4  # exit code when the loss is NaN or infinite
CHECKPOINTS_KEPT = 2


def main() -> int:
    folder = Path(sys.argv[1])
    job = json.loads((folder / "job.json").read_text())
    rank, world = int(os.environ.get("RANK", "0")), int(os.environ.get("WORLD_SIZE", "1"))
    torch.set_num_threads(int(job["threads"]))
    device = device_of(int(os.environ.get("LOCAL_RANK", "0")), int(os.environ.get("LOCAL_WORLD_SIZE", "1")))
    if device.type == "cuda":  # a killed training ends in the same weights
        torch.use_deterministic_algorithms(True)
        torch.backends.cudnn.benchmark = False
    if world > 1:
        distributed.init_process_group("nccl" if device.type == "cuda" else "gloo")
    try:
        return train(folder, job, rank, world, device)
    finally:
        if world > 1:
            distributed.destroy_process_group()


def device_of(local_rank: int, local_world: int) -> torch.device:
    """A separate GPU for each process of this machine, else the CPU for all: NCCL refuses two processes on one GPU."""
    return torch.device("cuda", local_rank) if torch.cuda.device_count() >= local_world else torch.device("cpu")


def network_of(weights: Path, widths: tuple[int, ...], classes: int) -> ConvNet:
    """A network in `eval` mode, in which it is also trained: without dropout and with fixed batch statistics, shares of a batch
    give the same gradients as the whole batch."""
    network = ConvNet(1, classes, widths)
    network.load_state_dict(
        {name: value.float() if value.is_floating_point() else value for name, value in load_file(weights).items()}
    )
    return network.eval()


def train(folder: Path, job: dict[str, Any], rank: int, world: int, device: torch.device) -> int:
    """The exit code. Random numbers are drawn on the CPU, so that a training is the same on every device except for rounding."""
    with np.load(folder / "data.npz", allow_pickle=False) as data:
        pixels, labels = torch.from_numpy(data["pixels"])[:, None].float(), torch.from_numpy(data["labels"])
    network = network_of(folder / "start.safetensors", tuple(job["widths"]), job["classes"]).to(device)
    optimizer = torch.optim.AdamW(network.parameters(), lr=job["rate"], weight_decay=0.02)
    epochs, batch = int(job["epochs"]), int(job["batch"])
    steps = max(1, len(labels) // batch)
    done, losses = resume(folder, network, optimizer)
    if done and rank == 0:
        print(f"continues after epoch {done}", flush=True)
    wrapped = DistributedDataParallel(network) if world > 1 else network
    for epoch in range(done, epochs):
        torch.manual_seed(job["seed"] + epoch)
        total = torch.zeros(1, device=device)
        order = torch.randperm(len(labels))[: steps * batch] if len(labels) >= batch else torch.arange(len(labels))
        for step, rows in enumerate(order.split(batch)):
            for group in optimizer.param_groups:
                group["lr"] = job["rate"] * (1 + math.cos(math.pi * (epoch * steps + step) / (epochs * steps))) / 2
            whole = bent(pixels[rows])  # the whole batch in each process, so that random numbers are the same in all
            share = slice(rank * len(rows) // world, (rank + 1) * len(rows) // world)
            logits = wrapped(whole[share].to(device))[0]
            loss = f.cross_entropy(logits, labels[rows[share]].to(device), label_smoothing=0.05)
            optimizer.zero_grad(set_to_none=True)
            loss.backward()
            optimizer.step()
            total += loss.detach()
        if world > 1:
            distributed.all_reduce(total)
        losses.append(float(total) / world / steps)
        if not math.isfinite(losses[-1]):
            return NOT_A_NUMBER
        if rank == 0:
            checkpoint(folder, epoch + 1, losses, network, optimizer)
            print(f"epoch {epoch + 1} of {epochs}, loss {losses[-1]:.4f}", flush=True)
    if rank == 0:
        save_file({name: value.contiguous() for name, value in network.state_dict().items()}, folder / "trained.part")
        (folder / "losses.json").write_text(json.dumps(losses))
        (folder / "trained.part").rename(folder / "trained.safetensors")
    return 0


def checkpoint(folder: Path, epoch: int, losses: list[float], network: nn.Module, optimizer: torch.optim.Optimizer) -> None:
    tensors: dict[str, Tensor] = {f"network.{name}": value.contiguous() for name, value in network.state_dict().items()}
    for i, state in optimizer.state_dict()["state"].items():
        tensors |= {f"optimizer.{i}.{name}": torch.as_tensor(value).contiguous() for name, value in state.items()}
    part = folder / "checkpoint.part"
    save_file(tensors, part, {"epoch": str(epoch), "losses": json.dumps(losses)})
    part.rename(folder / f"checkpoint-{epoch:04}.safetensors")
    for old in sorted(folder.glob("checkpoint-*.safetensors"))[:-CHECKPOINTS_KEPT]:
        old.unlink()


def resume(folder: Path, network: nn.Module, optimizer: torch.optim.Optimizer) -> tuple[int, list[float]]:
    """Load the newest readable checkpoint; returns the number of completed epochs, and their losses."""
    for file in sorted(folder.glob("checkpoint-*.safetensors"), reverse=True):
        try:
            with safe_open(file, "pt") as content:
                about, tensors = content.metadata(), {name: content.get_tensor(name) for name in content.keys()}  # noqa: SIM118
        except (SafetensorError, OSError) as error:
            print(f"{file.name} cannot be read ({error}): the checkpoint before it is used", flush=True)
            continue
        network.load_state_dict({name[8:]: value for name, value in tensors.items() if name.startswith("network.")})
        state: dict[int, dict[str, Tensor]] = {}
        for name, value in tensors.items():
            if name.startswith("optimizer."):
                _, number, key = name.split(".", 2)
                state.setdefault(int(number), {})[key] = value.clone()  # aligned in memory: the last bits of sums depend on it
        optimizer.load_state_dict({"state": state, "param_groups": optimizer.state_dict()["param_groups"]})
        return int(about["epoch"]), list(json.loads(about["losses"]))
    return 0, []


if __name__ == "__main__":
    sys.exit(main())
