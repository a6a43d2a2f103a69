"""Words that are written so that a filter does not see them, as plain words: look-alike letters, digits for letters, letters apart.

A text is changed only for judging. Look-alikes are a choice from Unicode's confusables (UTS 39) and are replaced in words that become
all Latin. Digits for letters, masked vowels and letters apart are undone only if a known word results: `4pm` and `A. B. C.` stay.
"""

from __future__ import annotations

import math
import re
import unicodedata
from collections.abc import Iterable, Sequence
from functools import lru_cache
from itertools import product

from inference_workers.networks.visible_text import visible

LONGEST_WORD = 20
MOST_READINGS = 64  # of a token with digits for letters
MAX_CHARS = 20_000  # as `ngrams.MAX_CHARS`, before letters are joined


def _pairs(table: str) -> dict[str, str]:
    """A table of keys and values, all parted by blanks."""
    words = table.split()
    return dict(zip(words[::2], words[1::2], strict=True))


_LOOK_ALIKES = _pairs("""
a аАαΑɑɐᴀꓮᎪ  b вВβΒьЬʙꓐᏴƄ  c сСςᴄꓚᏟ  d ԁԀᴅꓓᎠđĐ  e еЕεΕєЄᴇꓰᎬǝəэ  f ꜰꓝϝƒ  g ɡɢԌԍꓖᏀցǥ  h һҺнНΗʜꓧᎻհħ
i іІιΙıɪꓲᎥӀ  j јЈϳᴊꓙᎫյ  k кКκΚᴋꓗᏦ  l ʟꓡᏞłŁլӏ  m мМΜᴍꓟᎷ  n ηΝɴꓠոпП  o оОοΟσᴏꓳօøØ  p рРρΡᴘꓑᏢ  q ԛԚզ  r гГʀꓣᏒɹ
s ѕЅꜱꓢᏚ  t тТτΤᴛꓔᎢ  u υᴜꓴսцЦ  v νѵѴᴠꓦᏙ  w ԝԜωᴡꓪᎳшШ  x хХχΧꓫ  y уУγΥүҮʏꓬᎽ  z ᴢꓜᏃΖ
""")
_DRAWN = ("🅐", "🅰", "🇦")  # three alphabets of 26 letters in boxes, by their first
LATIN = {ord(other): letter for letter, others in _LOOK_ALIKES.items() for other in others} | {
    ord(first) + i: chr(ord("a") + i) for first in _DRAWN for i in range(26)
}
_READINGS = _pairs("""
0 o  1 il  3 e  4 a  5 s  6 g  7 t  8 b  9 g  @ a  $ s  ! il  | il  + t  € e  £ l  ¡ i  ¢ c  * aeiou
""")
_MARK = re.escape("".join(_READINGS))
_WORD = re.compile(r"\w+|[🅐-🆉🇦-🇿]+")
_TOKEN = re.compile(rf"(?<![\w{_MARK}])[a-zA-Z{_MARK}]{{3,{LONGEST_WORD}}}(?![\w{_MARK}])")
_QUANTITY = re.compile(
    r"[$€£+]?\d+(am|pm|th|st|nd|rd|h|hr|hrs|min|mins|s|d|k|m|p|g|kg|mg|cm|mm|km|gb|mb|tb|ft|in|lb|lbs|oz|ml|x)"
)
_SEPARATOR = r"[ .,\-_*·•~/|:]"
_BLANKS = re.compile("[\\s\u2800]+")
_APART = re.compile(rf"(?<![^\W_])(?:[a-z0-9@$!]{_SEPARATOR}{{1,3}}){{2,}}[a-z0-9@$!](?![^\W_])", re.IGNORECASE)


class KnownWords:
    """words: in the order of their frequency, the most frequent first. A word's cost is its negative log-probability by Zipf's law."""

    def __init__(self, words: Sequence[str]) -> None:
        spread = math.log(len(words) + 2)
        self._cost = {word: math.log((rank + 2) * spread) for rank, word in enumerate(words)}

    def undisguised(self, text: str) -> str:
        """The first MAX_CHARS visible characters of a text in plain words. A run of blanks becomes one or two: two part words whose
        letters are apart."""
        plain = latin(_BLANKS.sub(lambda match: " " * min(2, len(match.group())), visible(text))[:MAX_CHARS])[:MAX_CHARS]
        plain = _TOKEN.sub(lambda match: self._read(match.group()), plain)
        return _APART.sub(lambda match: self._joined(match.group()), plain)

    def _read(self, token: str) -> str:
        """A token without its disguise if that is a known word, else unchanged."""
        core = token.strip("*").rstrip("!").lower()
        letters = sum(map(str.isalpha, core))
        if letters == len(core) or letters < 1 or len(core) < 3 or _QUANTITY.fullmatch(core):
            return token
        known = [word for word in _readings(core) if word in self._cost]
        return min(known, key=self._cost.__getitem__) if known else token

    def _joined(self, run: str) -> str:
        """Letters apart as words if most of them belong to known words of three letters or more, else unchanged."""
        letters = [char.lower() for char in run if char.isalnum() or char in "@$!"]
        if 2 * sum(map(str.isalpha, letters)) < len(letters):
            return run
        pieces = self._pieces("".join(_READINGS.get(char, char)[0] for char in letters if char in _READINGS or char.isalpha()))
        in_words = sum(len(piece) for piece in pieces if len(piece) > 2 and piece in self._cost)
        return " ".join(pieces) if 2 * in_words >= len(letters) else run

    def _pieces(self, letters: str) -> list[str]:
        """The cheapest way to cut letters into words (Viterbi). A piece that is no known word costs more than any that is."""
        best, cut = [0.0], [0]
        for end in range(1, len(letters) + 1):
            starts = range(max(0, end - LONGEST_WORD), end)
            costs = [best[start] + self._cost.get(letters[start:end], 15.0 + 3.0 * (end - start)) for start in starts]
            cheapest = min(range(len(costs)), key=costs.__getitem__)
            best.append(costs[cheapest])
            cut.append(starts[cheapest])
        pieces, end = [], len(letters)
        while end:
            pieces.append(letters[cut[end] : end])
            end = cut[end]
        return pieces[::-1]


def latin(text: str) -> str:
    """Letters in other styles and with accents as plain letters, and look-alikes in words that become all Latin."""
    if text.isascii():
        return text
    decomposed = unicodedata.normalize("NFKD", text)
    bare = "".join(char for char in decomposed if not unicodedata.combining(char))
    return _WORD.sub(lambda match: _in_latin(match.group()), bare)


def _in_latin(word: str) -> str:
    replaced = word.translate(LATIN)
    return replaced if replaced.isascii() else word


@lru_cache(maxsize=4_096)
def _readings(token: str) -> tuple[str, ...]:
    choices = [_READINGS.get(char, char) for char in token]
    if math.prod(map(len, choices)) > MOST_READINGS:
        choices = [choice[:1] for choice in choices]
    return tuple("".join(chars) for chars in product(*choices))


def frequent_words(texts: Iterable[str], least: int) -> list[str]:
    """The words of ASCII letters that occur in at least `least` texts, the most frequent first: the words that a model folder keeps for `KnownWords`."""
    counts: dict[str, int] = {}
    for text in texts:
        for word in set(re.findall(r"(?<!\w)[a-z]+(?!\w)", text.lower())):
            if 1 < len(word) <= LONGEST_WORD or word in ("a", "i"):
                counts[word] = counts.get(word, 0) + 1
    return sorted((word for word, count in counts.items() if count >= least), key=lambda word: (-counts[word], word))
