"""The words that a text model's trainer knew, by which texts in disguise are read, for judging and for training."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path

from inference_workers.models.folder import ModelFolder
from inference_workers.networks.disguised_text import KnownWords
from schemas.errors import ModelRefused

FILE = "words.txt"


def known_words(folder: ModelFolder) -> KnownWords | None:
    """None if the folder's config names no file of them: the model judges texts as they are. Raises ModelRefused."""
    name = folder.config.get("known_words")
    if name is None:
        return None
    try:
        return KnownWords((folder.path / Path(name).name).read_text(encoding="utf-8").split())
    except (OSError, TypeError, ValueError) as error:
        raise ModelRefused(f"{folder.path}: its known words cannot be read: {error}") from error


def plain(texts: Sequence[str], known: KnownWords | None) -> Sequence[str]:
    """Texts as a model judges them: undisguised if its trainer undisguised texts."""
    return texts if known is None else [known.undisguised(text) for text in texts]
