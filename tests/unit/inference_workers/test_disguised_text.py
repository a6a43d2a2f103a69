"""Words in disguise become plain words, and ordinary texts stay as they are."""

from __future__ import annotations

import json
import shutil
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from inference_workers.backends.choose import text_classifier
from inference_workers.models.folder import SHIPPED, open_folder, write_manifest
from inference_workers.networks.disguised_text import MAX_CHARS, KnownWords, frequent_words, latin
from schemas.errors import ModelRefused

_BY_FREQUENCY = "i you a the to is hate kill yourself all women shit self men sex me at them hating"
WORDS = _BY_FREQUENCY.split()
KNOWN = KnownWords(WORDS)
ORDINARY = (
    "see you at 4pm on the 5th, it is £3.50 or $4",
    "A. B. C. is an abc, e.g. for J.R.R. Tolkien",
    "8am 10k 150p 1st 2nd 7up b4 gr8 m8",
    "1 2 3 4 5",
    "*really* good! 100 % :)",
    "ends with 4 5 a b",
    "mail me at shop@example.com or https://example.com/a1/b2",
    "",
)


@pytest.mark.parametrize(
    "written",
    [
        *["h\u200bate", "h\xadate", "hаtе", "ΗΑΤΕ", "hαte", "ｈａｔｅ", "𝓱𝓪𝓽𝓮", "𝕙𝕒𝕥𝕖", "ʜᴀᴛᴇ", "🅷🅰🆃🅴", "🇭🇦🇹🇪", "ⓗⓐⓣⓔ", "hàté"],
        *["h̷a̷t̷e̷", "h4te", "H4T3", "h@te", "ha+e", "h*te", "h4te!!", "h a t e", "h.a.t.e", "h-a-t-e", "h_a_t_e"],
        *["h . a . t . e", "h 4 t 3", "h\u200b а т е"],
    ],
)
def test_a_disguised_word_is_read(written: str) -> None:
    assert KNOWN.undisguised(f"we {written} them").lower().split() == ["we", "hate", "them"]


def test_a_one_is_the_letter_of_which_a_known_word_results() -> None:
    assert KNOWN.undisguised("k1ll y0urse1f sh!t") == "kill yourself shit"


@pytest.mark.parametrize("written", ["I h a t e y o u a l l", "i.h.a.t.e.y.o.u.a.l.l", "I  h a t e  y o u  a l l"])
def test_letters_apart_are_cut_into_known_words(written: str) -> None:
    assert KNOWN.undisguised(written).lower().split() == ["i", "hate", "you", "all"]


@pytest.mark.parametrize("text", ORDINARY)
def test_an_ordinary_text_stays_as_it_is(text: str) -> None:
    assert KNOWN.undisguised(text) == text


def test_words_of_other_scripts_stay_unless_every_letter_looks_latin() -> None:
    assert latin("привет, 東京, hаtе") == "привет, 東京, hate"


def test_letters_that_look_like_two_of_ours_and_those_that_decompose_are_read() -> None:
    assert latin("\u04cfa\u03f2e") == "lace", "palochka and lunate sigma"


def test_blanks_push_nothing_past_the_limit() -> None:
    assert KNOWN.undisguised("\u3000 " * MAX_CHARS + "h4te").strip() == "hate"
    assert len(KNOWN.undisguised("word " * MAX_CHARS)) == MAX_CHARS


@given(st.text(max_size=40), st.text(alphabet="a1!@$*. -hte4", max_size=60))
def test_any_text_is_read_and_plain_words_stay(any_text: str, marks: str) -> None:
    assert isinstance(KNOWN.undisguised(any_text + marks), str)
    assert KNOWN.undisguised("we hate them and") == "we hate them and"


@pytest.mark.parametrize(
    "text",
    [
        "a b " * 10_000,
        "1a!" * 10_000,
        "*" * 40_000,
        "а" * 40_000,
        "h4 " * 20_000,
        "1!|" * 7 + "a",
        "a" * 19_990 + " é",
        "㏂" * 20_000,
    ],
)
def test_a_text_made_to_be_slow_is_read_in_bounds(text: str) -> None:
    assert len(KNOWN.undisguised(text)) <= 2 * MAX_CHARS


def test_frequent_words_come_in_their_order_and_each_text_counts_once() -> None:
    assert frequent_words(["hate hate HATE x9 q", "the hate", "the", "naïve the"], 2) == ["the", "hate"]


# --- in a model folder --------------------------------------------------------------------------------------------


@pytest.fixture
def folder(tmp_path: Path) -> Any:
    """Writes the shipped text model with these known words; None writes none."""

    def write(words: str | None, config: dict[str, str]) -> Path:
        made = tmp_path / f"model-{len(list(tmp_path.iterdir()))}"
        shutil.copytree(SHIPPED / "moderation-text", made)
        (made / "words.txt").unlink(missing_ok=True)
        fields = json.loads((made / "config.json").read_text())
        fields.pop("known_words", None)
        (made / "config.json").write_text(json.dumps(fields | config))
        if words is not None:
            (made / "words.txt").write_text(words)
        write_manifest(made, "moderation-text", "9")
        return made

    return write


def test_a_model_judges_undisguised_texts_only_if_its_config_names_its_words(folder: Any) -> None:
    with_words = text_classifier(open_folder(folder("\n".join(WORDS), {"known_words": "words.txt"})))
    without = text_classifier(open_folder(folder(None, {})))
    texts = ["I h4te w0men", "k i l l yourself"]
    plain = ["I hate women", "kill yourself"]
    known = KnownWords(WORDS)
    assert [known.undisguised(text) for text in texts][1] == plain[1]
    assert np.array_equal(with_words.classify(texts[1:]).logits, without.classify(plain[1:]).logits)
    assert not np.allclose(without.classify(texts[1:]).logits, without.classify(plain[1:]).logits)


def test_a_folder_that_names_words_and_has_none_is_refused(folder: Any) -> None:
    with pytest.raises(ModelRefused, match="known words cannot be read"):
        text_classifier(open_folder(folder(None, {"known_words": "words.txt"})))
