"""Model cards: what a model was trained on, what it can and cannot do, and its measured figures."""

from __future__ import annotations

from training_triggers.trainers.evaluation import FOLDS, TARGET_PRECISION, CategoryScores, CrossValidation
from training_triggers.trainers.moderating.moderation_text_data import ASSUMED, MAPPING, SOURCES


def _share(value: float | None) -> str:
    return "–" if value is None else f"{value:.3f}"


def _row(category: str, source: str, scores: CategoryScores, reference: float | None, threshold: float) -> str:
    auprc = f"{scores.auprc:.3f} ({scores.auprc_low:.3f}–{scores.auprc_high:.3f})" if scores.positives else "–"
    cells = (
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
    return "| " + " | ".join(cells) + " |"


def moderation_card(report: CrossValidation, version: str, difference: float) -> str:
    """difference: the largest one between a logit of the ONNX file and of torch."""
    return "".join((_summary(report, version), _data(), _measures(report, difference)))


def _summary(report: CrossValidation, version: str) -> str:
    not_covered = [f"- {category}: {why}." for category, why in report.not_covered_because.items()]
    not_covered.append("- misinformation: no data whose licence lets weights be shipped.")
    return f"""# moderation-text, version {version}

A linear classifier over hashed words (1-2) and characters (3-5), TF-IDF inside the network, one sigmoid a category.
For English texts of the kinds below. It is small and honest, not strong: a pretrained encoder will do better.

**Covers** {", ".join(report.coverage)}. **Does not cover**, and says so in every verdict:

{chr(10).join(not_covered)}

"""


def _data() -> str:
    return f"""## Data and licence

| source | what | labels |
|---|---|---|
{chr(10).join(f"| {source} | {SOURCES[source]} | {MAPPING[source]} |" for source in SOURCES)}

Assumed where a source does not say: {ASSUMED}. The weights are under the project's licence (Apache-2.0).

"""


def _measures(report: CrossValidation, difference: float) -> str:
    rows = [
        _row(category, source, scores, report.reference_auprc[category].get(source), report.thresholds[category])
        for category, by_source in report.measured.items()
        for source, scores in by_source.items()
    ]
    targets = ", ".join(f"{category} {precision}" for category, precision in TARGET_PRECISION.items())
    return f"""## Measured, {FOLDS} folds, each text scored by a model that did not see it

`reference` is the AUPRC of TF-IDF + logistic regression with a full vocabulary (word 1-2, char 3-5) on the same folds,
the better of C = 1 and C = 10 for each row. `pooled` joins only the sources that have positives; other sources show
false positives alone. Precision, recall and the share of negatives that is flagged are at a threshold chosen on the
other folds for a stated precision ({targets}), raised until at most 1.5 % of every other source's negatives pass it
(6 % for harassment on text messages); 0.7 where no threshold reaches the precision. Intervals: 95 %, bootstrap.

| category | source | n | positives | prevalence | AUPRC | reference | precision | recall | negatives flagged | threshold |
|---|---|---|---|---|---|---|---|---|---|---|
{chr(10).join(rows)}

Pooling flatters: read the rows of single sources. A category whose interval includes twice its prevalence is not covered,
nor is one that reaches its stated precision at no threshold. The regression's strength was chosen on these same folds
(C 1, 10 or 30, with rare positives weighed more or not), which flatters ours a little.

ONNX against torch, batches of 1, 3 and 64 and several widths: largest difference of a logit {difference:.1e}.

## Made again

`./millrace models train moderation-text --data DIR`, with the data sets named above in DIR. Deterministic.
"""
