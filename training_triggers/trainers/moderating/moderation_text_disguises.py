"""Rewrites texts as people do who hide from a filter, to measure what a model still finds. Its look-alikes are the usual ones of each
letter, and not read from the table that undoes them."""

from __future__ import annotations

import random
from collections.abc import Callable

Rewrite = Callable[[str, random.Random], str]

_LOOK_ALIKES = {
    word[0]: word[1:]
    for word in [
        "aаα",
        "cсϲ",
        "eеε",
        "iіι",
        "jј",
        "kκк",
        "mм",
        "nո",
        "oоο",
        "pрρ",
        "sѕ",
        "tτт",
        "uυս",
        "vν",
        "xхχ",
        "yуγ",
        "hһ",
        "dԁ",
        "gɡ",
        "lӏ",
        "qԛ",
        "wԝ",
    ]
}
_DIGITS = {"a": "4@", "e": "3", "i": "1!", "o": "0", "s": "5$", "t": "7", "b": "8", "l": "1"}
_BOLD, _WIDE = 0x1D5D4, 0xFF21  # mathematical sans-serif bold A, full-width A


def zero_width(text: str, draw: random.Random) -> str:
    """A character that is not shown after each letter."""
    return "".join(char + draw.choice("\u200b\u200c\u2060\u00ad") if char.isalpha() else char for char in text)


def look_alikes(text: str, draw: random.Random) -> str:
    """Letters of other scripts for half of the letters that have one."""
    return "".join(draw.choice(_LOOK_ALIKES[c]) if c in _LOOK_ALIKES and draw.random() < 0.5 else c for c in text.lower())


def other_styles(text: str, draw: random.Random) -> str:
    """Full-width or mathematical letters throughout."""
    capital, small = draw.choice(((_WIDE, _WIDE + 32), (_BOLD, _BOLD + 26)))
    return "".join(
        chr(small + ord(c) - 97) if "a" <= c <= "z" else chr(capital + ord(c) - 65) if "A" <= c <= "Z" else c for c in text
    )


def digits(text: str, draw: random.Random) -> str:
    """Digits and signs for one or two letters of every word of three letters or more."""
    return " ".join(_with_digits(word, draw) for word in text.split(" "))


def _with_digits(word: str, draw: random.Random) -> str:
    places = [at for at, char in enumerate(word) if char.lower() in _DIGITS]
    if len(word) < 3 or not places:
        return word
    chosen = set(draw.sample(places, min(len(places), draw.choice((1, 2)))))
    return "".join(draw.choice(_DIGITS[char.lower()]) if at in chosen else char for at, char in enumerate(word))


def letters_apart(text: str, draw: random.Random) -> str:
    """Every word of three letters or more as letters with one separator between."""
    sign = draw.choice(" .-_*")
    return ("  " if sign == " " else " ").join(sign.join(word) if len(word) > 2 else word for word in text.split())


REWRITES: dict[str, Rewrite] = {
    "zero-width characters": zero_width,
    "look-alike letters": look_alikes,
    "full-width or mathematical": other_styles,
    "digits for letters": digits,
    "letters apart": letters_apart,
}
