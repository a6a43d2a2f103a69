"""Whether a candidate may take over, by what its comparison with the version that answers shows. Pure.

Nothing passes because nothing was looked at. Labels decide what they tell of, where there are enough of them for it: of all requests, of each
named part, and of each class (the spam of one message in two hundred does not show in a share right of all). What they do not tell of must stay as it
is: labels are mostly of what was flagged or complained about (selective labels: Lakkaraju, Kleinberg, Leskovec, Ludwig and Mullainathan
2017, "The selective labels problem"), so answers without one may change no oftener than labelled ones that are like them.
"""

from __future__ import annotations

import math
from collections.abc import Iterator, Sequence
from dataclasses import dataclass, field

from schemas.errors import BadSettings
from training_triggers.recorded.compare import Accuracy, Answers, Comparison, Turned, Unlabelled, accuracy_of, compare, read
from training_triggers.recorded.paired import needed, wilson
from training_triggers.settings import TriggerSettings

__all__ = ["Accuracy", "Answers", "Comparison", "Policy", "Verdict", "accuracy_of", "compare", "judge", "read"]

Z_ONE_SIDED = 1.644854
LITTLE_LEFT = 0.25  # unlabelled beside labelled answers: whichever they are, not much is hidden in them
LEAST_SHOWN = 30  # labelled answers of one kind, before what they show counts for the unlabelled ones


LEAST_TO_SPREAD = 100  # of fewer answers a stability index is mostly chance: about 18 / n with ten bins, where nothing moved


@dataclass(frozen=True, slots=True)
class Policy:
    """margin: by how much a candidate may be worse, with 95 % confidence; class_margin: the same of one class, where it holds and where it does
    not. least_labelled: examples below which labels do not decide; least_of_class: the same of one class, on each side. few: what becomes of
    a class with fewer: `agree`, its decisions must stay as they are, or `refuse`."""

    margin: float = 0.02
    least_labelled: int = 200
    least_entries: int = 100
    least_agreement: float = 0.98
    most_drift: float = 0.2
    most_time_ratio: float = 2.0
    most_size_ratio: float = 2.0
    class_margin: float = 0.05
    least_of_class: int = 75
    few: str = "agree"

    @classmethod
    def of(cls, settings: TriggerSettings) -> Policy:
        """Raises BadSettings."""
        if settings.gate_few_labels not in ("agree", "refuse"):
            raise BadSettings(f"MILLRACE_GATE_FEW_LABELS is {settings.gate_few_labels!r}; it takes agree or refuse")
        return cls(
            margin=settings.gate_margin, least_labelled=settings.gate_min_labelled, class_margin=settings.gate_class_margin,
            least_of_class=settings.gate_class_min_labelled, few=settings.gate_few_labels,
        )  # fmt: skip


@dataclass(frozen=True, slots=True)
class Verdict:
    """notes: what was not judged by labels and why, and which answers had one; they refuse nothing."""

    passes: bool
    reasons: Sequence[str] = field(default_factory=tuple)
    notes: Sequence[str] = field(default_factory=tuple)


def judge(found: Comparison, policy: Policy) -> Verdict:
    """Every condition that is not met is a reason; a verdict without one passes."""
    reasons: list[str] = []
    if found.entries < policy.least_entries:
        reasons.append(f"{found.entries} answers could be compared, {policy.least_entries} are the least")
    rest = found.unlabelled or Unlabelled(found.entries, found.agreement, found.drift)
    notes = [_selection(rest)]
    labelled = found.accuracy.labelled if found.accuracy else 0
    enough = labelled >= policy.least_labelled
    if found.accuracy and enough:
        reasons += _worse("labelled requests", found.accuracy, policy.margin)
        for name, part in found.parts.items():
            reasons += _of_part(name, part, found.agreements.get(name), policy, notes)
    else:
        notes.append(
            f"{labelled} independent requests are labelled, too few to decide by ({policy.least_labelled}): the answers must agree"
        )
        if found.accuracy and found.accuracy.high < 0:
            reasons += _worse("labelled requests", found.accuracy, policy.margin)
    reasons += _of_classes(found, policy, enough, notes)
    for stratum in _strata(found):
        reasons += _of_the_rest(stratum, labelled, enough, policy)
    if found.time_ratio > policy.most_time_ratio:
        reasons.append(f"it takes {found.time_ratio:.1f} times as long, {policy.most_time_ratio} is allowed")
    if found.size_ratio > policy.most_size_ratio:
        reasons.append(f"it is {found.size_ratio:.1f} times as large, {policy.most_size_ratio} is allowed")
    return Verdict(not reasons, reasons, notes)


def _of_part(name: str, part: Accuracy | None, agreement: float | None, policy: Policy, notes: list[str]) -> list[str]:
    n = part.labelled if part else 0
    if part is not None and (n >= policy.least_labelled or part.low > -policy.margin):
        return _worse(name, part, policy.margin)
    words = f"too few labels to tell: {n} independent {name} are labelled, {policy.least_labelled} are the least"
    if policy.few == "refuse" or agreement is None:
        return [words]
    if agreement < policy.least_agreement:
        return [f"{words}, and {agreement:.1%} of the answers to them agree, {policy.least_agreement:.0%} must"]
    notes.append(f"{words}; {agreement:.1%} of the answers to them agree")
    return []


def _worse(name: str, found: Accuracy, margin: float) -> list[str]:
    """A difference is refused where it is worse, and where it cannot be told from worse."""
    if found.low > -margin:
        return []
    told = (
        f"{found.champion:.3f} became {found.candidate:.3f} of {found.labelled} {name}, difference {found.low:+.3f} to {found.high:+.3f}, "
        f"and {margin} is allowed"
    )
    if found.high < -margin:
        return [f"it may be worse: {told}"]
    more = needed((found.gained + found.lost) / found.labelled, margin)
    few = f"; of an equal one about {more} would tell it" if more > found.labelled else ""
    return [f"it may be worse, too few labels to tell: {told}{few}"]


def _of_classes(found: Comparison, policy: Policy, enough: bool, notes: list[str]) -> Iterator[str]:
    few: list[str] = []
    strata = _strata(found)
    for name, one in found.classes.items():
        sides = ((one.holds, "holds (recall)"), (one.absent, "does not hold"))
        counts = [side.labelled if side else 0 for side, _ in sides]
        judged = enough and min(counts) >= policy.least_of_class
        for side, where in sides:
            if side and judged:
                yield from _worse(f"labelled requests where {name} {where}", side, policy.class_margin)
            elif side and wilson(max(0, side.lost - side.gained), side.labelled)[0] > 1 - policy.least_agreement:
                yield (
                    f"too few labels to judge {name} by, and of {side.labelled} labelled requests where it {where} {side.lost} that were right "
                    f"become wrong, {side.gained} wrong ones right"
                )
        for stratum in strata:
            yield from _moved(name, stratum.turned.get(name, (Turned(), Turned())), policy, judged)
        if any(counts) and not judged:
            few.append(f"{name} ({counts[0]} where it holds, {counts[1]} where it does not)")
    if few:
        words = f"too few labels to judge a class by, {policy.least_of_class} are the least on each side: {', '.join(few)}"
        if policy.few == "refuse":
            yield words
        else:
            notes.append(f"{words}; its decisions must stay as they are")


def _moved(name: str, both: tuple[Turned, Turned], policy: Policy, judged: bool) -> Iterator[str]:
    """Unlabelled answers that change oftener than labelled ones, by what the champion says."""
    for turned, words in zip(both, (f"that {name} holds", f"that {name} does not hold"), strict=True):
        fair = judged and turned.told >= LEAST_SHOWN and (turned.alike or turned.untold <= turned.told * LITTLE_LEFT)
        allowed = 1 - policy.least_agreement + (_upper(turned.shown / turned.told, turned.told) if fair else 0.0)
        if wilson(turned.changed, turned.untold)[0] > allowed:
            told = f"of {turned.told} labelled ones {turned.shown} did"
            if turned.told and not fair:
                told += ", which are too few or not like the rest"
            yield (
                f"of {turned.untold} unlabelled answers {words} {turned.changed} become the contrary, {allowed:.1%} may: {told}. Labels of a "
                "random sample of such requests would tell whether that is right"
            )


def _upper(share: float, n: int) -> float:
    """A share of labelled answers, and what chance may add; where there are none, nothing is added."""
    return share + Z_ONE_SIDED * math.sqrt(share * (1 - share) / n) if n else 0.0


def _strata(found: Comparison) -> list[Unlabelled]:
    """What unlabelled answers are compared with: labelled ones of the same part, as after a drift those change that came since."""
    if found.strata:
        return list(found.strata.values())
    return [found.unlabelled or Unlabelled(found.entries, found.agreement, found.drift)]


def _of_the_rest(rest: Unlabelled, labelled: int, enough: bool, policy: Policy) -> Iterator[str]:
    if not rest.entries:
        return
    least = policy.least_agreement - (_upper(1 - rest.agreement_labelled, rest.labelled) if enough else 0.0)
    changed = round((1 - rest.agreement) * rest.entries)
    if rest.agreement < least and (not enough or wilson(changed, rest.entries)[0] > 1 - least):
        if not enough:
            yield (
                f"{labelled} requests are labelled, too few to decide by ({policy.least_labelled}), and {rest.agreement:.1%} of the "
                f"answers agree, {policy.least_agreement:.0%} must"
            )
        else:
            yield (
                f"{rest.agreement:.1%} of the {rest.entries} unlabelled answers agree, {least:.1%} must: of the {rest.labelled} labelled ones "
                f"{rest.agreement_labelled:.1%} do"
            )
    if enough and rest.entries < LEAST_TO_SPREAD:
        return
    for name, (_, shift) in rest.drift.items():
        shown = rest.drift_labelled.get(name, (0.0, 0.0))[1] if enough else 0.0
        if shift >= policy.most_drift and shown < shift / 2:
            yield (
                f"outputs of {name} moved by {shift:.2f} (stability index) on {rest.entries} unlabelled answers, by {shown:.2f} on labelled ones; "
                f"from {policy.most_drift} on it counts"
            )


def _selection(rest: Unlabelled) -> str:
    """What share was labelled, by whom, and whether what was labelled is like the rest."""
    entries = rest.entries + rest.labelled
    words = f"{rest.labelled} of {entries} answers ({rest.labelled / max(1, entries):.1%}) are labelled"
    if rest.sources:
        words += f", by {', '.join(f'{source or chr(63)} ({n})' for source, n in sorted(rest.sources.items()))}"
    if rest.flagged is not None and rest.labelled and rest.entries:
        words += f"; the champion flags {rest.flagged[0]:.1%} of them and {rest.flagged[1]:.1%} of the rest"
    if 0 < rest.entries < LEAST_TO_SPREAD:
        words += f"; how outputs are spread over the rest is not judged: {LEAST_TO_SPREAD} answers are the least for it"
    return words
