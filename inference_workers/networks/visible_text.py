"""What a reader sees of a text: the same steps in training and in a worker.

What nobody sees is dropped before anything is told from a text, so that it can neither part words nor push others out of sight.
"""

from __future__ import annotations

import re
import unicodedata
from dataclasses import dataclass

# Default_Ignorable_Code_Point of Unicode 16 (DerivedCoreProperties), control characters that are no blank, and noncharacters of
# the first plane: no font shows any of them
_INVISIBLE = re.compile(
    "[\u00ad\u034f\u061c\u115f\u1160\u17b4\u17b5\u180b-\u180f\u200b-\u200f\u202a-\u202e\u2060-\u206f\u3164\ufe00-\ufe0f\ufeff"
    "\uffa0\ufff0-\ufffb\U0001bca0-\U0001bca3\U0001d173-\U0001d17a\U000e0000-\U000e0fff"
    "\u0000-\u0008\u000e-\u001b\u007f-\u0084\u0086-\u009f\ufdd0-\ufdef\ufffe\uffff]+"
)
_BLANKS = re.compile("[\\s\u2800]+")  # the braille blank is no space to Unicode, but nothing is to be seen there

WHOLE_CHARS = 1_000
WINDOW_CHARS, OVERLAP_CHARS, MOST_WINDOWS = 500, 150, 256


def visible(text: str) -> str:
    """Without what is never shown."""
    return _INVISIBLE.sub("", text)


def folded(text: str) -> str:
    """Without what is never shown; blanks, whichever and how many, are one space."""
    return _BLANKS.sub(" ", visible(text)).strip()


def typed(text: str) -> str:
    """`folded`, in NFC, with one kind of apostrophe: typography that translators' sources mix."""
    return folded(unicodedata.normalize("NFC", text).replace("’", "'"))


@dataclass(frozen=True, slots=True)
class Window:
    """A stretch of a text. start: its first character's number in the folded text, from 0."""

    start: int
    text: str


def windows(text: str) -> tuple[list[Window], int]:
    """Stretches of a folded text that is too long to be judged by its whole alone, each overlapping the one before, and how many
    characters lie behind the last. None where it is short."""
    if len(text) <= WHOLE_CHARS:
        return [], 0
    step = WINDOW_CHARS - OVERLAP_CHARS
    starts = range(0, len(text) - OVERLAP_CHARS, step)[:MOST_WINDOWS]
    return [Window(start, text[start : start + WINDOW_CHARS]) for start in starts], max(0, len(text) - starts[-1] - WINDOW_CHARS)
