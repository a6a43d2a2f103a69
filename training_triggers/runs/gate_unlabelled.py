"""The part of the gate that judges answers without labels: they must not change more often than similar labelled answers. Pure.

Most labels are of answers that were flagged or complained about (selective labels: Lakkaraju, Kleinberg, Leskovec, Ludwig and
Mullainathan 2017, "The selective labels problem"), so accuracy on them says little about the other answers.
"""

from __future__ import annotations

import math
from collections.abc import Iterator
from statistics import NormalDist

from training_triggers.recorded.comparison import Comparison, DecisionChanges, Unlabelled
from training_triggers.recorded.paired import interval, wilson

Z_ONE_SIDED = 1.644854
NEGLIGIBLE_SHARE = 0.25  # of unlabelled to labelled answers: too few to matter much, whatever they are
MIN_SHOWN = 30  # labelled answers of one kind, before they count as evidence for the unlabelled ones
LEAST_TO_SPREAD = 100  # with fewer answers a stability index is mostly chance: about 18 / n with ten bins, if nothing moved


def strata_of(comparison: Comparison) -> list[Unlabelled]:
    """Unlabelled answers by subset: each is compared with labelled answers of the same subset, since those after a drift
    differ."""
    return list(comparison.strata.values()) or [_all(comparison)]


def _all(comparison: Comparison) -> Unlabelled:
    return comparison.unlabelled or Unlabelled(comparison.entries, comparison.agreement, comparison.drift)


def changed_reasons(
    comparison: Comparison, name: str, least_agreement: float, judged: bool, class_margin: float
) -> Iterator[str]:
    """Reasons against a class whose unlabelled decisions change more often than its labelled ones. If these are few, and the class
    would keep its margin even if all their changes were errors, they are no reason. judged: whether labels judge the class, too."""
    z = _z_of_all(comparison)
    for place, side in enumerate((f"that {name} holds", f"that {name} does not hold")):
        if judged and _matters_little(comparison, name, place, class_margin):
            continue
        for stratum in strata_of(comparison):
            changes = stratum.turned.get(name, (DecisionChanges(), DecisionChanges()))[place]
            few_unlabelled = changes.untold <= changes.told * NEGLIGIBLE_SHARE
            comparable = judged and changes.told >= MIN_SHOWN and (changes.alike or few_unlabelled)
            allowed = 1 - least_agreement + (_upper(changes.shown / changes.told, changes.told) if comparable else 0.0)
            if wilson(changes.changed, changes.untold, z if comparable else Z_ONE_SIDED)[0] > allowed:
                labelled = f"{changes.shown} of {changes.told} labelled ones did"
                if changes.told and not comparable:
                    labelled += ", but these are too few or not like the others"
                yield (
                    f"of {changes.untold} unlabelled answers {side}, {changes.changed} become the opposite; at most {allowed:.1%} may: "
                    f"{labelled}. Labels of a random sample of such requests would show whether that is right"
                )


def _matters_little(comparison: Comparison, name: str, place: int, class_margin: float) -> bool:
    """Whether few answers of a class are unlabelled, and it loses no more than the margin in the worst case: the champion was right
    in each of them that changes (C. F. Manski 1989, "Anatomy of the selection problem"). place: 0 where the class holds, 1 where
    it does not."""
    accuracy = comparison.classes[name]
    labelled = accuracy.absent if place else accuracy.holds
    changes = [stratum.turned[name][place] for stratum in strata_of(comparison) if name in stratum.turned]
    untold, told = sum(one.untold for one in changes), sum(one.told for one in changes)
    if labelled is None or untold > told * NEGLIGIBLE_SHARE:
        return False
    lost = labelled.lost + sum(one.changed for one in changes)
    return interval(labelled.gained, lost, labelled.labelled + untold)[0] > -class_margin


def _z_of_all(comparison: Comparison) -> float:
    """Bound, in standard deviations, with which chance refuses an equal candidate in at most 5 % of gates: each class is compared
    on both sides and in each subset, and one of forty such comparisons is significant at 5 % by chance more often than not
    (C. E. Bonferroni 1936; O. J. Dunn 1961)."""
    compared = sum(
        bool(changes.untold) for stratum in strata_of(comparison) for both in stratum.turned.values() for changes in both
    )
    return NormalDist().inv_cdf(1 - 0.05 / max(1, compared))


def _upper(share: float, n: int) -> float:
    """The upper 95 % bound of a share of n labelled answers; 0 if n is 0."""
    return share + Z_ONE_SIDED * math.sqrt(share * (1 - share) / n) if n else 0.0


def agreement_reasons(
    stratum: Unlabelled, labelled: int, least_labelled: int, by_labels: bool, least_agreement: float, most_drift: float
) -> Iterator[str]:
    """Reasons against unlabelled answers that agree too little or whose outputs moved. labelled: number of independent labelled
    requests; by_labels: whether these are enough."""
    if not stratum.entries:
        return
    least = least_agreement - (_upper(1 - stratum.agreement_labelled, stratum.labelled) if by_labels else 0.0)
    changed = round((1 - stratum.agreement) * stratum.entries)
    if not by_labels and stratum.agreement < least:
        yield (
            f"{labelled} requests are labelled, too few to decide by ({least_labelled} are needed), and only {stratum.agreement:.1%} of the "
            f"answers agree; at least {least_agreement:.0%} must"
        )
    elif by_labels and stratum.agreement < least and wilson(changed, stratum.entries)[0] > 1 - least:
        yield (
            f"only {stratum.agreement:.1%} of the {stratum.entries} unlabelled answers agree; at least {least:.1%} must, since "
            f"{stratum.agreement_labelled:.1%} of the {stratum.labelled} labelled ones do"
        )
    if by_labels and stratum.entries < LEAST_TO_SPREAD:
        return
    for name, (_, index) in stratum.drift.items():
        labelled_index = stratum.drift_labelled.get(name, (0.0, 0.0))[1] if by_labels else 0.0
        if index >= most_drift and labelled_index < index / 2:
            yield (
                f"outputs of {name} moved by {index:.2f} (stability index) on {stratum.entries} unlabelled answers, by {labelled_index:.2f} on "
                f"labelled ones; less than {most_drift} is allowed"
            )


def note_on_selection(comparison: Comparison, by_labels: bool) -> str:
    """The share of the answers that is labelled, the sources of the labels, and whether the labelled answers are like the
    others. by_labels: whether labels are enough to judge by."""
    answers = _all(comparison)
    entries = answers.entries + answers.labelled
    note = f"{answers.labelled} of {entries} answers ({answers.labelled / max(1, entries):.1%}) are labelled"
    if answers.sources:
        note += f", by {', '.join(f'{source or chr(63)} ({n})' for source, n in sorted(answers.sources.items()))}"
    if answers.flagged is not None and answers.labelled and answers.entries:
        note += f"; the champion flags {answers.flagged[0]:.1%} of them and {answers.flagged[1]:.1%} of the rest"
    small = [stratum.entries for stratum in strata_of(comparison) if 0 < stratum.entries < LEAST_TO_SPREAD]
    if by_labels and small:
        note += f"; the distribution of outputs is not judged on {sum(small)} unlabelled answers: a subset needs at least {LEAST_TO_SPREAD}"
    return note
