"""English-French sentence pairs, split so that no sentence of the held-out set, on either side, was seen in training."""

from __future__ import annotations

import gzip
import hashlib
from collections import defaultdict
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

from inference_workers.networks.visible_text import typed
from schemas.errors import BadSettings

LANGUAGES = ("en", "fr")
HELD_OUT_SHARE = 0.03


@dataclass(frozen=True)
class Pairs:
    """train: (English, French). held_out: each distinct English sentence with all its French ones, and the reverse."""

    train: list[tuple[str, str]]
    held_out: dict[str, dict[str, list[str]]]


def load(folder: Path) -> Pairs:
    """Raises BadSettings that names the missing file."""
    file = folder / "tatoeba_en_fr" / "en-fr.tsv.gz"
    if not file.exists():
        raise BadSettings(f"{file} is missing: name the folder of the data sets with --data")
    with gzip.open(file, "rt", encoding="utf-8") as stream:
        rows = [line.rstrip("\n").split("\t")[:2] for line in stream]
    pairs = list(dict.fromkeys((typed(english), typed(french)) for english, french in rows))
    out_english = {english for english, _ in pairs if _held_out(english)}
    out_french = {french for english, french in pairs if english in out_english}
    train = [(e, f) for e, f in pairs if e not in out_english and f not in out_french]
    held: dict[str, dict[str, list[str]]] = {"en-fr": defaultdict(list), "fr-en": defaultdict(list)}
    for english, french in pairs:
        if english in out_english:
            held["en-fr"][english].append(french)
            held["fr-en"][french].append(english)
    return Pairs(train, {direction: dict(found) for direction, found in held.items()})


def captions(folder: Path, language: str) -> list[str]:
    """Sentences of multi30k's test set: used for measuring only, never trained on, and not shipped."""
    file = folder / "multi30k" / f"test_2016_flickr.{language}.gz"
    if not file.exists():
        raise BadSettings(f"{file} is missing: name the folder of the data sets with --data")
    with gzip.open(file, "rt", encoding="utf-8") as stream:
        return [typed(line) for line in stream]


def _held_out(english: str) -> bool:
    """Whether a pair is held out, by the sentence's own digest: the split does not depend on the order of the file."""
    number = int.from_bytes(hashlib.sha256(english.encode()).digest()[:8], "big")
    return number / 2**64 < HELD_OUT_SHARE


def references(found: dict[str, list[str]]) -> list[list[str]]:
    """References in sacrebleu's format: one list per rank, of equal length; a sentence with fewer references repeats its
    first."""
    most = max(map(len, found.values()))
    return [[refs[rank] if rank < len(refs) else refs[0] for refs in found.values()] for rank in range(most)]


def sources(found: dict[str, list[str]]) -> Sequence[str]:
    return list(found)
