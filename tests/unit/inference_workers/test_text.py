"""What nobody sees of a text neither parts its words nor pushes others out of sight, and no end of it is passed over in silence."""

from __future__ import annotations

import re
import unicodedata
from typing import Any

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from inference_workers.kinds.text_to_text import pair_of
from inference_workers.media.reader import MediaReader
from inference_workers.models.addresses import open_source
from inference_workers.networks.ngrams import MAX_CHARS, normalise
from inference_workers.networks.visible_text import MOST_WINDOWS, WHOLE_CHARS, folded, typed, visible, windows
from inference_workers.task import Version, Versions, find_task
from inference_workers.tasks.moderation import TASK
from processors.moderation.policy import REVIEW, Rules, decide
from schemas.errors import InvalidRequest
from streams.claim_checks import ClaimChecks
from tests.contract.test_tasks import columns_of

SPAM = "WINNER!! You have been selected to receive a £900 prize reward! To claim call 09061701461 now. Valid 12 hours only."
PROSE = (
    "She walked along the river until the lamps were lit, thinking of the letter and of what her brother had said about the house. "
    "There had been rain in the night, and the path was soft; two boys were fishing from the bridge and did not look up. "
)
# of Default_Ignorable_Code_Point: soft hyphen, CGJ, ALM, Hangul fillers, Khmer inherents, Mongolian selectors, ZWSP to RLM, bidi
# controls, WJ to reserved, variation selectors, BOM, shorthand and musical controls, tags; then controls and noncharacters
INVISIBLE = (
    "\u00ad\u034f\u061c\u115f\u1160\u17b4\u17b5\u180b\u180e\u180f\u200b\u200c\u200d\u200e\u200f\u202a\u202e\u2060\u2065\u2066\u206f"
    "\u3164\ufe00\ufe0f\ufeff\uffa0\ufff0\ufff8\U0001bca0\U0001d173\U0001d17a\U000e0000\U000e0001\U000e0041\U000e0100\U000e01ef"
    "\U000e0fff\u0000\u0008\u007f\u0080\ufdd0\uffff"
)
BLANK = " \t\n\r\u0085\u00a0\u1680\u2003\u2028\u202f\u205f\u2800\u3000"


@pytest.mark.parametrize("character", INVISIBLE, ids=lambda c: f"U+{ord(c):04X}")
def test_what_is_never_shown_parts_no_word(character: str) -> None:
    assert normalise(character.join("Winner")) == "winner"
    assert folded(f"a {character} b") == "a b"
    assert folded(character * 3) == ""


def test_every_format_character_that_has_no_shape_of_its_own_is_dropped() -> None:
    shown = {"ARABIC", "SYRIAC", "KAITHI", "EGYPTIAN"}  # signs that span what follows them, and joiners of hieroglyphs
    for code in range(0x110000):
        if unicodedata.category(chr(code)) == "Cf":
            name = unicodedata.name(chr(code))
            assert (visible(chr(code)) == "") != (name.split()[0] in shown and name != "ARABIC LETTER MARK"), name


@pytest.mark.parametrize("blank", [*BLANK, "\u200b", "\u3164", "\u2800\u200b "], ids=lambda c: f"U+{ord(c[0]):04X}")
def test_blanks_are_folded_before_a_text_is_cut(blank: str) -> None:
    assert normalise(blank * 30_000 + "Winner") == "winner"
    assert normalise(f"you{blank} {blank}won") == "you won"


ORDINARY = st.characters(exclude_characters=INVISIBLE + "\u2800", exclude_categories=["Cs", "Cf", "Cc", "Cn", "Mn"])


@given(st.text(ORDINARY | st.sampled_from("\t\n \u00a0"), max_size=200))
def test_an_ordinary_text_is_what_it_was_to_the_shipped_model(text: str) -> None:
    if text == visible(text):
        assert normalise(text) == re.sub(r"\s+", " ", unicodedata.normalize("NFKC", text[:MAX_CHARS]).lower()).strip()


@given(st.integers(0, 130_000))
def test_windows_leave_nothing_out_but_what_they_tell(length: int) -> None:
    found, behind = windows("".join(chr(33 + i % 90) for i in range(length)))
    if length <= WHOLE_CHARS:
        assert (found, behind) == ([], 0)
        return
    end = 0
    for one in found:
        assert one.start <= end
        end = one.start + len(one.text)
    assert end + behind == length and len(found) <= MOST_WINDOWS
    assert behind == 0 or len(found) == MOST_WINDOWS


# --- judged ---------------------------------------------------------------------------------------------------------


@pytest.fixture(scope="module")
def versions() -> Versions:
    folders = {model: open_source(source) for model, source in TASK.models.items()}
    return {model: Version(folder, TASK.load(folder, model)) for model, folder in folders.items()}


def judged(versions: Versions, *texts: str) -> list[dict[str, Any]]:
    values: list[dict[str, Any]] = [
        {"content_id": "c", "text": text, "author_id": None, "kind": None, "images": [], "video": None} for text in texts
    ]
    prepared = TASK.prepare(columns_of(TASK, values), versions, MediaReader(ClaimChecks(())))
    assert prepared.refused == {}
    results = TASK.predict(prepared.inputs, versions).results
    return [{name: column[row] for name, column in results.items()} for row in range(len(texts))]  # type: ignore[index]


@pytest.mark.parametrize(
    "text",
    [
        " " * 20_000 + SPAM,
        "\n" * 50_000 + SPAM,
        "\u200b" * 20_000 + SPAM,
        "\u2800" * 20_000 + SPAM,
        "\u200b".join(SPAM),
        "\u00ad".join(SPAM),
        "".join(letter + chr(0xE0020 + ord(letter) % 64) for letter in SPAM),
        SPAM.replace(" ", " \u2060"),
        PROSE * 20 + SPAM,
        PROSE * 100 + SPAM,
        PROSE * 150 + SPAM + PROSE * 150,
    ],
    ids=[
        "blanks",
        "newlines",
        "zero width before",
        "braille blanks",
        "zero width between",
        "soft hyphens",
        "tags",
        "word joiners",
        "behind prose",
        "behind long prose",
        "inside long prose",
    ],
)
def test_spam_that_people_see_is_flagged_wherever_it_stands(versions: Versions, text: str) -> None:
    plain, hidden = judged(versions, SPAM, text)
    assert plain["flagged"] and hidden["flagged"]
    assert hidden["deciding"]["category"] == "spam"
    assert hidden["deciding"]["part"] in {one["part"] for one in hidden["parts"]}
    assert all(one["unseen"] is None for one in hidden["parts"])


def test_a_text_that_is_longer_than_is_judged_is_told_and_looked_at_by_a_person(versions: Versions) -> None:
    (verdict,) = judged(versions, PROSE * 1000 + SPAM)
    assert not verdict["flagged"]
    (whole,) = [one for one in verdict["parts"] if one["part"] == "text"]
    assert whole["unseen"].startswith("the last ")
    assert len(verdict["parts"]) < 10  # stretches of which there is nothing to tell are not listed
    full = {"status": "ok", **verdict, "parts": [{"error_code": None, **one} for one in verdict["parts"]]}
    assert decide(full, Rules.parse("default=0.95", True))[0] == REVIEW


def test_a_text_of_which_nothing_is_to_be_seen_is_none(versions: Versions) -> None:
    values: list[dict[str, Any]] = [
        {"content_id": "c", "text": "\u200b \u3164", "author_id": None, "kind": None, "images": [], "video": None}
    ]
    prepared = TASK.prepare(columns_of(TASK, values), versions, MediaReader(ClaimChecks(())))
    assert isinstance(prepared.refused[0], InvalidRequest)


def test_stretches_of_a_long_text_are_entries_of_their_own(versions: Versions) -> None:
    values: list[dict[str, Any]] = [
        {"content_id": "c", "text": text, "author_id": None, "kind": None, "images": [], "video": None}
        for text in ("short", PROSE * 12, "short too")
    ]
    prepared = TASK.prepare(columns_of(TASK, values), versions, MediaReader(ClaimChecks(())))
    (use,) = TASK.predict(prepared.inputs, versions).uses
    assert use.rows is not None and list(use.rows[:3]) == [0, 1, 2] and set(use.rows[3:]) == {1}
    assert [part for part, row in zip(use.parts, use.rows, strict=True) if row == 1][1:3] == ["text from 1", "text from 351"]
    short, _, _ = judged(versions, "short", PROSE * 12, "short too")
    (alone,) = judged(versions, "short")
    np.testing.assert_allclose(short["deciding"]["probability"], alone["deciding"]["probability"], atol=1e-6)


# --- translated -----------------------------------------------------------------------------------------------------

PAIRS = frozenset({("en", "fr"), ("fr", "en"), ("pt-BR", "en")})


@pytest.mark.parametrize(
    ("source", "target", "pair"),
    [
        ("en", "fr", ("en", "fr")),
        ("EN", "Fr", ("en", "fr")),
        ("en-US", "fr_CA", ("en", "fr")),
        (" en ", "fr", ("en", "fr")),
        ("PT-br", "en", ("pt-BR", "en")),
        ("pt", "en", None),
        ("de", "en", None),
        ("", "fr", None),
        ("english", "fr", None),
        ("en", "en", None),
    ],
)
def test_languages_are_known_by_their_tag_whatever_its_case_or_region(
    source: str, target: str, pair: tuple[str, str] | None
) -> None:
    assert pair_of(source, target, PAIRS) == pair
    assert pair_of("deu_Latn", "fra_Latn", frozenset()) == ("deu_Latn", "fra_Latn")


def test_a_translator_sees_plain_spaces_and_composed_letters() -> None:
    assert typed("I\u00a0am\ttired.\u200b") == "I am tired."
    assert typed("Je  suis\nfatigue\u0301.") == "Je suis fatigué."
    task = find_task("translation")
    (source,) = task.models.values()
    folder = open_source(source)
    versions = {folder.name: Version(folder, task.load(folder, folder.name))}
    texts = ["I am tired.", "I\u00a0am\u00a0tired.", "I\tam tired.\u200b"]
    values: list[dict[str, Any]] = [{"text": text, "source": "EN", "target": "fr-FR"} for text in texts]
    prepared = task.prepare(columns_of(task, values), versions, MediaReader(ClaimChecks(())))
    assert prepared.refused == {}
    assert len(set(task.predict(prepared.inputs, versions).results["text"])) == 1  # type: ignore[arg-type]
