"""The public texts that the moderation model is trained on, and how their labels map to ours.

A label is 1, 0, or -1 if the source does not give it. If a 0 is our assumption and not in the source, it is listed in `ASSUMED`.
LIAR (misinformation) is not used: its texts keep their authors' copyright.
"""

from __future__ import annotations

import csv
import gzip
import json
from dataclasses import dataclass
from pathlib import Path

import numpy as np
import numpy.typing as npt

from schemas.errors import BadSettings

CATEGORIES = ("hate_speech", "harassment", "violence", "sexual_content", "self_harm", "spam")
SOURCES = {
    "tweets": "hate_speech_offensive (Davidson et al. 2017), MIT licence",
    "sms": "UCI SMS Spam Collection, CC BY 4.0",
    "labelled": "moderation-api-release, 840 texts, MIT licence",
}
MAPPING = {
    "tweets": "class 0 → hate_speech, harassment unknown; class 1 (offensive) → harassment; class 2 → neither",
    "sms": "spam → spam; ham → none of the categories",
    "labelled": "H → hate_speech, HR → harassment, V → violence, S → sexual_content, SH → self_harm; absent → unknown",
}
ASSUMED = (
    "tweets and labelled texts are not spam; text messages are neither hate speech, harassment, violence nor "
    "self-harm, and those that are not spam are not sexual"
)
_KEYS = {"H": "hate_speech", "HR": "harassment", "V": "violence", "S": "sexual_content", "SH": "self_harm"}


@dataclass(frozen=True)
class Labelled:
    """texts: n. sources: their names, shape (n,). labels: int8 (n, len(CATEGORIES)), 1, 0 or -1 for unknown."""

    texts: list[str]
    sources: npt.NDArray[np.str_]
    labels: npt.NDArray[np.int8]


def load(folder: Path) -> Labelled:
    """Raises BadSettings that names the missing file."""
    rows: list[tuple[str, str, dict[str, int]]] = []
    for row in csv.DictReader(_text(folder / "hate_speech_offensive" / "labeled_data.csv").splitlines(keepends=True)):
        kind = int(row["class"])
        harassment = {} if kind == 0 else {"harassment": int(kind == 1)}
        rows.append(("tweets", row["tweet"], {"hate_speech": int(kind == 0), **harassment, "spam": 0}))
    for line in _text(folder / "sms_spam" / "SMSSpamCollection").splitlines():
        label, _, text = line.partition("\t")
        none = dict.fromkeys(("hate_speech", "harassment", "violence", "self_harm"), 0)
        rows.append(("sms", text, none | ({"spam": 1} if label == "spam" else {"spam": 0, "sexual_content": 0})))
    for line in _text(folder / "moderation_labelled" / "samples-840.jsonl.gz").splitlines():
        found = json.loads(line)
        rows.append(("labelled", found["prompt"], {"spam": 0} | {ours: found[k] for k, ours in _KEYS.items() if k in found}))
    labels = np.array([[known.get(category, -1) for category in CATEGORIES] for _, _, known in rows], np.int8)
    return Labelled([text for _, text, _ in rows], np.array([source for source, _, _ in rows]), labels)


def _text(file: Path) -> str:
    if not file.exists():
        raise BadSettings(f"{file} is missing: name the folder of the data sets with --data (docs/models.md lists them)")
    if file.suffix == ".gz":
        with gzip.open(file, "rt", encoding="utf-8") as stream:
            return stream.read()
    return file.read_text(encoding="utf-8")
