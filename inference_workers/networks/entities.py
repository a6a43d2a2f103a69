"""Entities from tags of tokens. Pure.

Tags are B-, I-, E-, S-, L-, U- and a label (IOB2: Ramshaw and Marcus 1995, Sang and Veenstra 1999; IOBES), or a label alone.
O stands for no entity.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

# Thai and Lao, Myanmar, Khmer, Han and Kana, compatibility ideographs, further planes of Han.
WITHOUT_SPACES = (
    ("\u0e00", "\u0eff"),
    ("\u1000", "\u109f"),
    ("\u1780", "\u17ff"),
    ("\u2e80", "\u9fff"),
    ("\uf900", "\ufaff"),
    ("\U00020000", "\U0003ffff"),
)
BEGIN, END = ("B", "S", "U"), ("E", "S", "L", "U")


@dataclass(frozen=True, slots=True)
class Entity:
    """A part of a text that names something. start, end: code points, the end exclusive. probability: the smallest of its tokens."""

    label: str
    start: int
    end: int
    probability: float


def entities_of(text: str, tokens: Sequence[tuple[int, int, str, float]]) -> list[Entity]:
    """tokens: start, end, tag and probability of each token, in the order of the text. A token that continues a word has the label of
    the word's first token."""
    entities: list[Entity] = []
    open_label, previous_end = "", -1
    for start, end, tag, probability in tokens:
        prefix, label = _parts(tag)
        in_word = start == previous_end and start > 0 and _in_a_word(text[start - 1]) and _in_a_word(text[start])
        previous_end = end
        if in_word:
            if open_label:
                entities[-1] = _longer(entities[-1], end, probability)
            continue
        continues = open_label == label and prefix not in BEGIN and label != ""
        if continues:
            entities[-1] = _longer(entities[-1], end, probability)
        elif label:
            entities.append(Entity(label, start, end, probability))
        open_label = "" if prefix in END else label
    return entities


def _in_a_word(character: str) -> bool:
    """Whether neighbours of this kind belong to one word. In scripts that do not separate words they may be words of their own."""
    return character.isalnum() and not any(first <= character <= last for first, last in WITHOUT_SPACES)


def _longer(entity: Entity, end: int, probability: float) -> Entity:
    return Entity(entity.label, entity.start, end, min(entity.probability, probability))


def _parts(tag: str) -> tuple[str, str]:
    """Prefix and label of a tag: B-PER is B and PER, PER is I and PER, O is no label."""
    if tag in ("O", ""):
        return "", ""
    prefix, separator, label = tag.partition("-")
    return (prefix, label) if separator and len(prefix) == 1 else ("I", tag)
