"""Whether a candidate may take over, judged by its comparison with the live version. Pure.

A candidate never passes because nothing was compared. Where labels are sufficient they decide: for all requests, for each named
subset, and for each class (the spam of one message in two hundred hardly changes overall accuracy). Unlabelled answers must stay
as they are (`gate_unlabelled.py`).
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import dataclass, field

from schemas.errors import BadSettings
from training_triggers.recorded.comparison import Accuracy, Comparison
from training_triggers.recorded.paired import needed, wilson
from training_triggers.runs.gate_unlabelled import agreement_reasons, changed_reasons, note_on_selection, strata_of
from training_triggers.settings import TriggerSettings


@dataclass(frozen=True, slots=True)
class GatePolicy:
    """margin: accuracy that a candidate may lose, at 95 % confidence; class_margin: the same for a class, both where it holds and
    where it does not. least_labelled: examples needed to decide by labels; least_of_class: the same for a class, on each side.
    few: rule for a class with fewer: `agree`, its decisions must stay the same, or `refuse`."""

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
    def of(cls, settings: TriggerSettings) -> GatePolicy:
        """Raises BadSettings."""
        if settings.gate_few_labels not in ("agree", "refuse"):
            raise BadSettings(f"MILLRACE_GATE_FEW_LABELS is {settings.gate_few_labels!r}; it takes agree or refuse")
        return cls(
            margin=settings.gate_margin,
            least_labelled=settings.gate_min_labelled,
            class_margin=settings.gate_class_margin,
            least_of_class=settings.gate_class_min_labelled,
            few=settings.gate_few_labels,
        )


@dataclass(frozen=True, slots=True)
class GateVerdict:
    """reasons: why the candidate is refused. notes: what labels could not judge and why, and which answers had labels; they
    refuse nothing."""

    passes: bool
    reasons: Sequence[str] = field(default_factory=tuple)
    notes: Sequence[str] = field(default_factory=tuple)


def judge(comparison: Comparison, policy: GatePolicy) -> GateVerdict:
    """Each condition that is not met is a reason; without a reason the candidate passes."""
    strata = strata_of(comparison)
    labelled = comparison.accuracy.labelled if comparison.accuracy else 0
    by_labels = labelled >= policy.least_labelled
    reasons: list[str] = []
    notes = [note_on_selection(comparison, by_labels)]
    if comparison.entries < policy.least_entries:
        reasons.append(f"only {comparison.entries} answers could be compared; at least {policy.least_entries} are needed")
    reasons += _overall(comparison, policy, by_labels, notes)
    reasons += _classes(comparison, policy, by_labels, notes)
    for stratum in strata:
        reasons += agreement_reasons(
            stratum, labelled, policy.least_labelled, by_labels, policy.least_agreement, policy.most_drift
        )
    if comparison.time_ratio > policy.most_time_ratio:
        reasons.append(f"it takes {comparison.time_ratio:.1f} times as long; at most {policy.most_time_ratio} times is allowed")
    if comparison.size_ratio > policy.most_size_ratio:
        reasons.append(f"it is {comparison.size_ratio:.1f} times as large; at most {policy.most_size_ratio} times is allowed")
    return GateVerdict(not reasons, reasons, notes)


def _overall(comparison: Comparison, policy: GatePolicy, by_labels: bool, notes: list[str]) -> Iterator[str]:
    """Accuracy on all labelled requests and on each subset."""
    accuracy = comparison.accuracy
    if accuracy and by_labels:
        yield from _worse("labelled requests", accuracy, policy.margin)
        for name, subset in comparison.parts.items():
            yield from _subset(name, subset, comparison.agreements.get(name), policy, notes)
        return
    n = accuracy.labelled if accuracy else 0
    notes.append(
        f"{n} independent requests are labelled, too few to decide by ({policy.least_labelled} are needed): the answers must agree"
    )
    if accuracy and accuracy.high < 0:
        yield from _worse("labelled requests", accuracy, policy.margin)


def _subset(name: str, accuracy: Accuracy | None, agreement: float | None, policy: GatePolicy, notes: list[str]) -> Iterator[str]:
    n = accuracy.labelled if accuracy else 0
    if accuracy is not None and (n >= policy.least_labelled or accuracy.low > -policy.margin):
        yield from _worse(name, accuracy, policy.margin)
        return
    few = f"too few labels to tell: {n} independent {name} are labelled, at least {policy.least_labelled} are needed"
    if policy.few == "refuse" or agreement is None:
        yield few
    elif agreement < policy.least_agreement:
        yield f"{few}, and only {agreement:.1%} of the answers to them agree; at least {policy.least_agreement:.0%} must"
    else:
        notes.append(f"{few}; {agreement:.1%} of the answers to them agree")


def _worse(name: str, accuracy: Accuracy, margin: float) -> Iterator[str]:
    """A reason if the candidate is worse by more than the margin, or if that cannot be ruled out."""
    if accuracy.low > -margin:
        return
    difference = (
        f"{accuracy.champion:.3f} became {accuracy.candidate:.3f} of {accuracy.labelled} {name}, difference {accuracy.low:+.3f} to "
        f"{accuracy.high:+.3f}; a loss of {margin} is allowed"
    )
    if accuracy.high < -margin:
        yield f"it may be worse: {difference}"
        return
    n = needed((accuracy.gained + accuracy.lost) / accuracy.labelled, margin)
    more = f"; about {n} would show that an equal candidate is not worse" if n > accuracy.labelled else ""
    yield f"it may be worse, too few labels to tell: {difference}{more}"


def _classes(comparison: Comparison, policy: GatePolicy, by_labels: bool, notes: list[str]) -> Iterator[str]:
    """Accuracy on each class with enough labels, on both sides; decisions of the others."""
    few: list[str] = []
    for name, accuracy in comparison.classes.items():
        sides = ((accuracy.holds, "holds (recall)"), (accuracy.absent, "does not hold"))
        counts = [side.labelled if side else 0 for side, _ in sides]
        judged = by_labels and min(counts) >= policy.least_of_class
        for side, where in sides:
            if side and judged:
                yield from _worse(f"labelled requests where {name} {where}", side, policy.class_margin)
            elif side and wilson(max(0, side.lost - side.gained), side.labelled)[0] > 1 - policy.least_agreement:
                yield (
                    f"too few labels to judge {name} by; of {side.labelled} labelled requests where it {where}, {side.lost} right answers "
                    f"become wrong and {side.gained} wrong ones right"
                )
        yield from changed_reasons(comparison, name, policy.least_agreement, judged, policy.class_margin)
        if any(counts) and not judged:
            few.append(f"{name} ({counts[0]} where it holds, {counts[1]} where it does not)")
    if few:
        words = f"too few labels to judge a class by, at least {policy.least_of_class} are needed on each side: {', '.join(few)}"
        if policy.few == "refuse":
            yield words
        else:
            notes.append(f"{words}; its decisions must stay the same")
