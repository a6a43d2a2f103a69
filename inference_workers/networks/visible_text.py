"""Reduces a text to what a reader sees, by the same steps in training and in a worker.

Invisible characters are removed before a model reads a text, so that they can neither split words nor push others past a limit.
"""

from __future__ import annotations

import re
import unicodedata
from dataclasses import dataclass

# Default_Ignorable_Code_Point of Unicode 16 (DerivedCoreProperties), control characters that are not blanks, and noncharacters
# of the first plane: no font shows any of them
_INVISIBLE = re.compile(
    "[\u00ad\u034f\u061c\u115f\u1160\u17b4\u17b5\u180b-\u180f\u200b-\u200f\u202a-\u202e\u2060-\u206f\u3164\ufe00-\ufe0f\ufeff"
    "\uffa0\ufff0-\ufffb\U0001bca0-\U0001bca3\U0001d173-\U0001d17a\U000e0000-\U000e0fff"
    "\u0000-\u0008\u000e-\u001b\u007f-\u0084\u0086-\u009f\ufdd0-\ufdef\ufffe\uffff]+"
)
_BLANKS = re.compile("[\\s\u2800]+")  # Unicode does not count the braille blank as a space, but it is invisible

WHOLE_CHARS = 1_000
WINDOW_CHARS, OVERLAP_CHARS, MOST_WINDOWS = 500, 150, 256


def visible(text: str) -> str:
    """The text without invisible characters."""
    return _INVISIBLE.sub("", text)


def folded(text: str) -> str:
    """The text without invisible characters, and with each run of blanks replaced by one space."""
    return _BLANKS.sub(" ", visible(text)).strip()


def typed(text: str) -> str:
    """The text `folded`, in NFC, with one kind of apostrophe, because sources of translations mix apostrophes."""
    return folded(unicodedata.normalize("NFC", text).replace("’", "'"))


@dataclass(frozen=True, slots=True)
class Window:
    """A part of a text. start: index of its first character in the folded text, from 0."""

    start: int
    text: str


def windows(text: str) -> tuple[list[Window], int]:
    """Overlapping parts of a folded text that is too long to be judged only as a whole, and the number of characters after the
    last part. A text of at most WHOLE_CHARS has no parts."""
    if len(text) <= WHOLE_CHARS:
        return [], 0
    step = WINDOW_CHARS - OVERLAP_CHARS
    starts = range(0, len(text) - OVERLAP_CHARS, step)[:MOST_WINDOWS]
    return [Window(start, text[start : start + WINDOW_CHARS]) for start in starts], max(0, len(text) - starts[-1] - WINDOW_CHARS)
