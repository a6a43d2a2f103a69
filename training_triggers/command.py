"""Command line of this package; `./millrace models train` runs it."""

from __future__ import annotations

import argparse
import sys
from pathlib import Path

from schemas.errors import MillraceError


def main() -> None:
    parser = argparse.ArgumentParser(prog="training_triggers", description="Train a model and write its folder.")
    commands = parser.add_subparsers(dest="command", required=True)
    train = commands.add_parser("train")
    train.add_argument("name", choices=["moderation-text"])
    train.add_argument("--data", type=Path, required=True, help="folder of the data sets")
    train.add_argument("--out", type=Path, required=True, help="model folder to write")
    train.add_argument("--version", default="1")
    chosen = parser.parse_args()
    try:
        _train_moderation_text(chosen.data, chosen.out, chosen.version)
    except MillraceError as error:
        sys.exit(f"{error.code}: {error}")


def _train_moderation_text(data_folder: Path, out: Path, version: str) -> None:
    from training_triggers.trainers import moderation_data, moderation_text  # heavy: only when something is trained

    def say(line: str) -> None:
        print(line, flush=True)

    data = moderation_data.load(data_folder)
    say(f"{len(data.texts)} texts")
    report = moderation_text.cross_validate(data, say)
    for category, by_source in report.measured.items():
        pooled = by_source["pooled"]
        reference = report.reference_auprc[category]["pooled"]
        covered = "covered" if category in report.coverage else "not covered"
        say(f"{category:15} AUPRC {pooled.auprc:.3f}, reference {reference:.3f}, {covered}")
    digest = moderation_text.write(moderation_text.train(data, say), report, out, version)
    say(f"wrote {out}, digest {digest}")
