"""Harmless sentences about people of many kinds, so that the words for them alone are no sign of hate: the balance of identity terms of
Dixon et al. 2018, "Measuring and mitigating unintended bias in text classification". Written for this project."""

from __future__ import annotations

from itertools import product

_KINDS = (
    *("white", "black", "brown", "African", "Asian", "Arab", "Chinese", "Indian", "Mexican", "American", "Jewish", "Muslim"),
    *("Christian", "gay", "lesbian", "transgender", "straight", "disabled", "deaf", "blind", "old", "young", "foreign", "poor"),
)
_PEOPLE = ("man", "woman", "boy", "girl", "couple", "family", "neighbour", "teacher", "group of people")
_DEEDS = (
    *("is waiting for the bus", "went home early", "is reading a newspaper in the park", "bought bread and milk"),
    *(
        "walks along the beach",
        "is painting a wall",
        "works in an office",
        "was born in this town",
        "plays football with friends",
    ),
    *("said hello to us", "is sitting at a table outside", "lives next door", "voted in the election", "cooks dinner every day"),
)
_THINGS = ("shirt", "dress", "car", "house", "dog", "hat", "jacket", "door")
_COLOURS = ("white", "black", "brown", "red", "yellow", "dark")


def sentences() -> list[str]:
    """About 750 of them, in an order that is always the same."""
    about_people = [
        f"The {kind} {people} {deed}." for i, (kind, people, deed) in enumerate(product(_KINDS, _PEOPLE, _DEEDS)) if i % 5 == 0
    ]
    about_things = [f"She has a {colour} {thing}." for colour, thing in product(_COLOURS, _THINGS)]
    about_all = [f"Many {kind} people live in this city and all of them pay taxes." for kind in _KINDS]
    about_us = [f"I am {kind} and I like {hobby}." for kind, hobby in product(_KINDS, ("music", "cooking", "my work"))]
    return [*about_people, *about_things, *about_all, *about_us]
