"""The card of `moderation-text`: what it was trained on, what it can and cannot do, and its measured figures."""

from __future__ import annotations

from collections.abc import Mapping, Sequence

from training_triggers.trainers.evaluation import FOLDS, TARGET_PRECISION, CategoryScores, CrossValidation
from training_triggers.trainers.moderating.moderation_text import (
    BALANCED_ENCODED,
    ENCODED_SHARE,
    ORDINARY_OFFSET,
    ORDINARY_WEIGHT,
    STRENGTH,
    STRENGTH_ENCODED,
    TWEET_WEIGHT,
)
from training_triggers.trainers.moderating.moderation_text_data import ASSUMED, CATEGORIES, MAPPING, SOURCES
from training_triggers.trainers.moderating.moderation_text_measures import MAIN_SOURCE, MAX_FALSE_SHARE, Measured

WEAK_RECALL = 0.1


def moderation_card(measured: Measured, version: str, difference: float) -> str:
    """difference: the largest one between a logit of the ONNX file and of torch."""
    parts = [_summary(measured.light, version), _data(), _compared(measured), _scores("moderation-text", measured.light)]
    if measured.joined is not None:
        parts.append(_scores("moderation-minilm", measured.joined))
    return "\n".join([*parts, _disguised(measured), _ordinary(measured), _made_again(version, difference)])


def _table(head: tuple[str, ...], rows: Sequence[tuple[str, ...]]) -> str:
    lines = [head, ("---",) * len(head), *rows]
    return "\n".join("| " + " | ".join(line) + " |" for line in lines)


def _summary(light: CrossValidation, version: str) -> str:
    not_covered = [f"- {category}: {why}." for category, why in light.not_covered_because.items()]
    not_covered.append("- misinformation: no data whose licence lets weights be shipped.")
    weak = [
        f"{category} (recall {main.recall:.2f}; {main.positives} positives are all there are to learn from, and few of them share words)"
        for category in light.coverage
        if (main := light.measured[category][MAIN_SOURCE[category]]).recall is not None and main.recall < WEAK_RECALL
    ]
    rarely = f"Covered, but hardly ever flagged by `moderation-text`: {', '.join(weak)}." if weak else ""
    return f"""# moderation-text, version {version}

A linear classifier over hashed words (1-2) and characters (3-5), TF-IDF inside the network, one sigmoid a category. Texts in disguise
are judged as plain words, by the words in `words.txt`. For English texts of the kinds below. `minilm_head.safetensors` is the part of
`moderation-minilm` that was trained here: `./millrace models fetch moderation-minilm` makes that model of it and MiniLM.

**Covers** {", ".join(light.coverage)}. **Does not cover**, and says so in every verdict:

{chr(10).join(not_covered)}

{rarely}
"""


def _data() -> str:
    rows = [(source, SOURCES[source], MAPPING[source]) for source in SOURCES]
    return f"""## Data and licence

{_table(("source", "what", "labels"), rows)}

Assumed where a source does not say: {ASSUMED}. The weights are under the project's licence (Apache-2.0).
"""


def _compared(measured: Measured) -> str:
    rows = [
        (model, *(f"{by_category[category]:.3f}" if category in by_category else "–" for category in CATEGORIES[:-1]))
        for model, by_category in measured.compared.items()
    ]
    return f"""## Compared, {FOLDS} folds, each text scored by a model that did not see it

AUPRC on `labelled`, on the same folds. TF-IDF + LR is logistic regression with a full vocabulary (word 1-2, char 3-5), MiniLM + LR one
on MiniLM's embedding. Each was fitted three times, to `labelled` alone with C = 1 and 10 and to all texts with C = 10, and the best of the
three stands here for each category, which flatters them.

{_table(("model", *CATEGORIES[:-1]), rows)}

What uses MiniLM saw a part of the texts: all of `labelled`, every fifth tweet, every fourth of the others.
"""


def _share(value: float | None) -> str:
    return "–" if value is None else f"{value:.3f}"


def _row(category: str, source: str, scores: CategoryScores, reference: float | None, threshold: float) -> tuple[str, ...]:
    auprc = f"{scores.auprc:.3f} ({scores.auprc_low:.3f}–{scores.auprc_high:.3f})" if scores.positives else "–"
    return (
        category,
        source,
        str(scores.n),
        str(scores.positives),
        f"{scores.prevalence:.4f}",
        auprc,
        _share(reference),
        _share(scores.precision if scores.positives else None),
        _share(scores.recall),
        f"{100 * scores.flagged_share_of_negatives:.2f} %",
        f"{threshold:.3f}",
    )


def _scores(name: str, report: CrossValidation) -> str:
    rows = [
        _row(category, source, scores, report.reference_auprc[category].get(source), report.thresholds[category])
        for category, by_source in report.measured.items()
        for source, scores in by_source.items()
    ]
    head = ("category", "source", "n", "positives", "prevalence", "AUPRC", "reference", "precision", "recall")
    return f"""## Measured: {name}

`reference` is the better of the references above. Intervals: 95 %, bootstrap.

{_table((*head, "negatives flagged", "threshold"), rows)}
"""


def _disguised(measured: Measured) -> str:
    names = next(iter(measured.disguised.values()), {})
    rows = [
        (way, *(f"{before:.2f} → {after:.2f}" for before, after in by_category.values()))
        for way, by_category in measured.disguised.items()
    ]
    return f"""## Words in disguise

Held-out recall of `moderation-text` on the positives of `labelled`, at the thresholds, rewritten throughout: if texts are judged as they
are → as plain words (as this version does). Zero-width, full-width and mathematical characters were folded by version 1 too.

{_table(("way of writing", *names), rows)}
"""


def _ordinary(measured: Measured) -> str:
    rows = [
        (kind, str(n), model, f"{100 * share:.2f} %")
        for model, by_kind in measured.false_flags.items()
        for kind, (share, n) in by_kind.items()
    ]
    return f"""## Ordinary texts

Share of texts that any category flags. No model was trained on them. LIAR's statements are about politics, crime and war.

{_table(("kind", "texts", "model", "flagged"), rows)}
"""


def _shares(of: Mapping[str, float], digits: int) -> str:
    return ", ".join(f"{name} {100 * value:.{digits}f} %" for name, value in of.items())


def _made_again(version: str, difference: float) -> str:
    targets = ", ".join(f"{category} {precision}" for category, precision in TARGET_PRECISION.items())
    return f"""## How thresholds were chosen

Each is the lowest with a stated precision on held-out texts ({targets}) of the source that is labelled for it: tweets for harassment,
text messages for spam, `labelled` for the others. It is raised until at most a share of every other source's negatives passes it
({_shares(MAX_FALSE_SHARE, 2)}). The tables show what comes of a threshold that is chosen on the other folds. A category is not covered if no threshold reaches
its precision, or if the interval of its AUPRC includes twice its prevalence. Every text's fold was seen when features and C were chosen,
which flatters a little.

ONNX against torch, batches of 1, 3 and 64 and several widths: largest difference of a logit {difference:.1e}.

## Made again

`./millrace models train moderation-text --data DIR --version {version}`, with the data sets named above in DIR, and `./millrace models fetch minilm-l6-v2`
before. C = {STRENGTH:g} for n-grams and {STRENGTH_ENCODED:g} for the embedding. Positives and negatives of `labelled` weigh the same in each
category; for the embedding only in {" and ".join(sorted(BALANCED_ENCODED))}. The logit of `moderation-minilm` is {1 - ENCODED_SHARE:g} of the n-grams'
and {ENCODED_SHARE:g} of the embedding's. Beside a text of `labelled` a tweet weighs {", ".join(f"{weight:g} ({category})" for category, weight in TWEET_WEIGHT.items())}, an ordinary sentence and a text message
{ORDINARY_WEIGHT:g} (1 for spam), with a logit that is lowered by {-ORDINARY_OFFSET:g} while fitting. Deterministic on one machine.
"""
