"""Whether a canary takes over, and whether a version is worse than another. Pure."""

from __future__ import annotations

from dataclasses import dataclass
from enum import Enum, auto

from schemas.vocabulary import Arm
from training_triggers.recorded.confidence_sequence import PairedAnswers, difference, paired_difference
from training_triggers.recorded.evidence import ArmEvidence, time_ratio

MIN_LABELLED = 30  # in each arm, before a difference counts
MIN_BATCHES = 30  # in each arm, before times are compared
# Labels of these models tell what came of the answer that somebody saw, and nothing of one that nobody saw.
LABELLED_AS_SHOWN = frozenset({"recommendation"})


def watch_arm(model: str) -> Arm:
    """In which arm the version before answers during a watch: the same requests, unseen, or a share of the keys."""
    return Arm.CANARY if model in LABELLED_AS_SHOWN else Arm.SHADOW


@dataclass(frozen=True)
class RolloutPolicy:
    """share: of the keys that a canary answers. labelled: answers of the canary that must have labels before it may take over.
    margin: accuracy that it may lose. without_labels: answers after which the gate's verdict is enough, if too few labels arrive.
    max_s: longest time of a canary. watch_s: how long a new live version is watched, and longest time of a canary set by hand.
    watch_share: of the requests, or keys, that the version before answers during the watch."""

    share: float = 0.2
    labelled: int = 150
    margin: float = 0.05
    without_labels: int = 2_000
    max_s: float = 7_200.0
    watch_s: float = 86_400.0
    watch_share: float = 0.2
    max_time_ratio: float = 3.0


class CanaryAction(Enum):
    WAIT = auto()
    PROMOTE = auto()
    END = auto()


@dataclass(frozen=True, slots=True)
class CanaryDecision:
    action: CanaryAction
    reason: str = ""


def of_canary(new: ArmEvidence, old: ArmEvidence, elapsed_s: float, policy: RolloutPolicy) -> CanaryDecision:
    """new: the canary's answers; old: the live version's in the same time."""
    worse = breach(new, old, policy)
    if worse:
        return CanaryDecision(CanaryAction.END, worse)
    low, high = difference(new.share, old.share)
    accuracies = _accuracies(new, old, low, high)
    if new.labelled >= policy.labelled and low > -policy.margin:
        return CanaryDecision(CanaryAction.PROMOTE, f"no worse than the live version: {accuracies}")
    if new.answered >= policy.without_labels and _too_few_labels(new, old, elapsed_s, policy):
        return CanaryDecision(
            CanaryAction.PROMOTE,
            (
                f"it answered {new.answered} requests without a fault; only {new.labelled} of its answers and {old.labelled} of the live version's "
                "have labels, too few to compare them, so the gate's verdict counts"
            ),
        )
    if elapsed_s > policy.max_s:
        return CanaryDecision(CanaryAction.END, f"not shown to be as good within {policy.max_s:.0f} s: {accuracies}")
    return CanaryDecision(CanaryAction.WAIT, accuracies)


def _too_few_labels(new: ArmEvidence, old: ArmEvidence, elapsed_s: float, policy: RolloutPolicy) -> bool:
    """Whether labels arrive too slowly for a comparison within the canary's time, by their rate so far."""
    if elapsed_s > policy.max_s:
        only_old_is_labelled = not new.labelled and old.labelled >= MIN_LABELLED
        return new.labelled < MIN_LABELLED and not only_old_is_labelled
    return (new.labelled + old.labelled) * policy.max_s / max(elapsed_s, 1.0) < MIN_LABELLED


def breach(new: ArmEvidence, old: ArmEvidence, policy: RolloutPolicy) -> str:
    """Why the new version is certainly worse; empty if it is not."""
    if min(new.labelled, old.labelled) >= MIN_LABELLED:
        low, high = difference(new.share, old.share)
        if high < 0:
            return f"it is right less often: {_accuracies(new, old, low, high)}"
    return _slower(new, old, policy)


def paired_breach(new: ArmEvidence, old: ArmEvidence, pairs: PairedAnswers, policy: RolloutPolicy) -> str:
    """Why the new version is certainly worse than the old one on the same requests; empty if it is not."""
    if pairs.labelled >= MIN_LABELLED:
        low, high = paired_difference(pairs)
        if high < 0:
            return (
                f"it is right less often: of {pairs.labelled} labelled requests it alone was right on {pairs.gained}, the version before it alone "
                f"on {pairs.lost}, difference {low:+.3f} to {high:+.3f} (95 %, at all times)"
            )
    return _slower(new, old, policy)


def _slower(new: ArmEvidence, old: ArmEvidence, policy: RolloutPolicy) -> str:
    if min(len(new.batches), len(old.batches)) >= MIN_BATCHES:
        ratio = time_ratio(new, old)
        if ratio > policy.max_time_ratio:
            return f"it takes {ratio:.1f} times as long; at most {policy.max_time_ratio:.1f} times is allowed"
    return ""


def _accuracies(new: ArmEvidence, old: ArmEvidence, low: float, high: float) -> str:
    return (
        f"accuracy {new.share.value:.3f} of {new.labelled} labelled answers, the live version's {old.share.value:.3f} of {old.labelled}, "
        f"difference {low:+.3f} to {high:+.3f} (95 %, at all times)"
    )
