"""The public texts that the moderation model is trained on, and how their labels map to ours.

A label is 1, 0, or -1 if the source does not give it. If a 0 is our assumption and not in the source, it is listed in `ASSUMED`.
LIAR (misinformation) is not trained on: its texts keep their authors' copyright. It and the captions of Multi30k measure false flags.
"""

from __future__ import annotations

import csv
import gzip
import json
import re
import zlib
from dataclasses import dataclass
from pathlib import Path

import numpy as np
import numpy.typing as npt

from schemas.errors import BadSettings
from training_triggers.trainers.moderating import neutral_sentences

CATEGORIES = ("hate_speech", "harassment", "violence", "sexual_content", "self_harm", "spam")
SOURCES = {
    "tweets": "hate_speech_offensive (Davidson et al. 2017), MIT licence",
    "sms": "UCI SMS Spam Collection, CC BY 4.0",
    "labelled": "moderation-api-release, 840 texts, MIT licence",
    "ordinary": "English sentences of Tatoeba, CC BY 2.0 FR; sentences about people of many kinds, written for this project",
}
MAPPING = {
    "tweets": "class 0 → hate_speech, harassment unknown; class 1 (offensive) → harassment; class 2 → neither",
    "sms": "spam → spam; ham → none of the categories",
    "labelled": "H → hate_speech, HR → harassment, V → violence, S → sexual_content, SH → self_harm; absent → unknown",
    "ordinary": "none of the categories; sentences with a word such as kill, sex or stupid are left out",
}
ASSUMED = (
    "tweets and labelled texts are not spam; text messages are neither hate speech, harassment, violence nor "
    "self-harm, and those that are not spam are not sexual"
)
ORDINARY = 12_000  # sentences that are trained on
UNSEEN = 6_000  # sentences and captions of each kind that measure false flags
_ALARMING = re.compile(
    r"\b(kill|murder|suicid|stab|shoot|shot|hang(ed)?\b|rape|sex|naked|nude|whore|bitch|slut|stupid|idiot|hate|torture|terroris|nazi)",
    re.IGNORECASE,
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
    none = dict.fromkeys(CATEGORIES, 0)
    rows += [("ordinary", text, none) for text in _sentences(folder)[UNSEEN:] if not _ALARMING.search(text)][:ORDINARY]
    rows += [("ordinary", text, none) for text in neutral_sentences.sentences()]
    labels = np.array([[known.get(category, -1) for category in CATEGORIES] for _, _, known in rows], np.int8)
    return Labelled([text for _, text, _ in rows], np.array([source for source, _, _ in rows]), labels)


def unseen(folder: Path) -> dict[str, list[str]]:
    """Ordinary texts that no model is trained on, by their kind. Raises BadSettings."""
    captions = _text(folder / "multi30k" / "train.en.gz").splitlines()[:UNSEEN]
    statements = [line.split("\t")[2] for line in _text(folder / "liar" / "train.tsv").splitlines()[:UNSEEN]]
    return {
        "other sentences of Tatoeba": _sentences(folder)[:UNSEEN],
        "captions of Multi30k": captions,
        "political statements of LIAR": statements,
    }


def _sentences(folder: Path) -> list[str]:
    """The English sentences of Tatoeba, each once, in an order that is the same everywhere and that their topics do not decide."""
    lines = _text(folder / "tatoeba_en_fr" / "en-fr.tsv.gz").splitlines()
    return sorted({line.split("\t")[0] for line in lines}, key=lambda text: zlib.crc32(text.encode()))


def _text(file: Path) -> str:
    if not file.exists():
        raise BadSettings(f"{file} is missing: name the folder of the data sets with --data (docs/models.md lists them)")
    if file.suffix == ".gz":
        with gzip.open(file, "rt", encoding="utf-8") as stream:
            return stream.read()
    return file.read_text(encoding="utf-8")
