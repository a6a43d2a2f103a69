"""Converts texts to the token numbers of the translation model, and back; its trainer uses the same code.

A source text starts with a token for the target language, such as `<2fr>`; both languages share one vocabulary.
"""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path

import numpy as np
import numpy.typing as npt
from tokenizers import Tokenizer

LONGEST_SENTENCE = 256  # as all-MiniLM-L6-v2 was trained
PAD, START, END, UNKNOWN = 0, 1, 2, 3
SPECIAL = ("<pad>", "<s>", "</s>", "<unk>")


class TranslationTokenizer:
    """Raises ValueError if the tokenizer has no token for a language."""

    def __init__(self, file: Path, languages: Sequence[str]) -> None:
        self._tokenizer = Tokenizer.from_file(str(file))
        self._wanted = {}
        for language in languages:
            number = self._tokenizer.token_to_id(f"<2{language}>")
            if number is None:
                raise ValueError(f"{file} has no token <2{language}>")
            self._wanted[language] = number

    @property
    def vocabulary(self) -> int:
        return int(self._tokenizer.get_vocab_size())

    def encode(self, texts: Sequence[str], target: Sequence[str], limit: int) -> tuple[list[list[int]], list[bool]]:
        """At most `limit` token numbers of each text, and whether the text was cut."""
        found = [encoding.ids for encoding in self._tokenizer.encode_batch(list(texts), add_special_tokens=False)]
        rows = [[self._wanted[language], *ids[: limit - 2], END] for ids, language in zip(found, target, strict=True)]
        return rows, [len(ids) > limit - 2 for ids in found]

    def decode(self, rows: Sequence[Sequence[int]]) -> list[str]:
        return [text.strip() for text in self._tokenizer.decode_batch([list(row) for row in rows], skip_special_tokens=True)]


class SentenceTokenizer:
    """Tokens of MiniLM. A text of more tokens than LONGEST_SENTENCE is cut."""

    def __init__(self, file: Path) -> None:
        self._tokenizer = Tokenizer.from_file(str(file))
        self._tokenizer.enable_truncation(LONGEST_SENTENCE)
        self._tokenizer.no_padding()

    def encode(self, texts: Sequence[str]) -> tuple[npt.NDArray[np.int64], npt.NDArray[np.int64]]:
        """Tokens and mask, int64 (n, longest) each; both are 0 for padding."""
        rows = [encoding.ids for encoding in self._tokenizer.encode_batch(list(texts))]
        return pad(rows), pad([[1] * len(row) for row in rows])


def pad(rows: Sequence[Sequence[int]]) -> npt.NDArray[np.int64]:
    """int64 of shape (n, longest), filled with PAD."""
    out = np.full((len(rows), max(map(len, rows), default=1)), PAD, np.int64)
    for at, row in enumerate(rows):
        out[at, : len(row)] = row
    return out
