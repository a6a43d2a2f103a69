"""Who runs in the next step, and with how many tokens: admission by tokens, prompts in chunks, preemption when blocks run out.

Sequences that decode come first, a token each; what is left of the step goes to prompts, in the order of admission. Where no block is
available, the sequence that would be admitted last gives up its blocks and is computed again later; the first can always finish,
since `ContinuousEngine` refuses what does not fit alone.
"""

from __future__ import annotations

from bisect import insort
from dataclasses import dataclass

from inference_workers.chat.blocks import Blocks
from inference_workers.chat.sequence import Sequence
from inference_workers.chat.settings import EngineSettings


@dataclass(frozen=True)
class Share:
    """count: how many of the sequence's tokens the step computes."""

    sequence: Sequence
    count: int


class Scheduler:
    def __init__(self, settings: EngineSettings, blocks: Blocks) -> None:
        self.waiting: list[Sequence] = []
        self.running: list[Sequence] = []
        self.preemptions = 0
        self.prompt_tokens = 0
        self.prefix_hit_tokens = 0
        self._settings = settings
        self._blocks = blocks

    def queue(self, sequence: Sequence) -> None:
        insort(self.waiting, sequence, key=lambda one: one.order)

    def remove(self, sequence: Sequence) -> None:
        """It has ended: its blocks are given back."""
        (self.running if sequence in self.running else self.waiting).remove(sequence)
        self._release(sequence)

    def shares(self) -> list[Share]:
        """The next step. Every share has blocks for its tokens."""
        self._admit()
        left = self._settings.step_tokens
        shares: dict[int, Share] = {}
        decode_first = sorted(self.running, key=lambda one: (one.pending > 1, one.order))
        for sequence in decode_first:
            if sequence not in self.running:  # it was preempted for one before it
                continue
            count = min(sequence.pending, left)
            if count and self._reserve(sequence, sequence.computed + count):
                shares[sequence.arrival] = Share(sequence, count)
                left -= count
        return [share for share in shares.values() if share.sequence in self.running]

    def computed(self, share: Share) -> None:
        """The step has run: full blocks may be found by later prompts."""
        sequence, size = share.sequence, self._settings.block_tokens
        before = sequence.computed // size
        sequence.computed += share.count
        for number in range(before, sequence.computed // size):
            self._blocks.name(sequence.blocks[number], sequence.keys[number])

    def _admit(self) -> None:
        size = self._settings.block_tokens
        while self.waiting and len(self.running) < self._settings.max_running:
            sequence = self.waiting[0]
            sequence.update_keys(size)
            # The last token is always computed: its logits are wanted.
            shared = self._blocks.find(sequence.keys[: (len(sequence.tokens) - 1) // size])
            needed = -(-len(sequence.tokens) // size) - len(shared) + self._blocks.unheld(shared)
            # Each running sequence may need one more block soon: without this reserve admission would cause preemption.
            if self.running and needed + len(self.running) > self._blocks.available:
                return
            self.waiting.pop(0)
            for block in shared:
                self._blocks.hold(block)
            sequence.blocks, sequence.computed = list(shared), len(shared) * size
            if sequence.first_s is None:
                sequence.cached = min(sequence.computed, len(sequence.generation.prompt))
            self.prompt_tokens += len(sequence.tokens)
            self.prefix_hit_tokens += sequence.computed
            self.running.append(sequence)

    def _reserve(self, sequence: Sequence, tokens: int) -> bool:
        """Blocks for so many tokens; False if the sequence itself had to give up its blocks for that."""
        while len(sequence.blocks) * self._settings.block_tokens < tokens:
            if not self._blocks.available:
                victim = max(self.running, key=lambda one: one.order)
                self._preempt(victim)
                if victim is sequence:
                    return False
                continue
            sequence.blocks.append(self._blocks.take())
        return True

    def _preempt(self, sequence: Sequence) -> None:
        self.running.remove(sequence)
        self._release(sequence)
        self.queue(sequence)
        self.preemptions += 1

    def _release(self, sequence: Sequence) -> None:
        self._blocks.release(sequence.blocks)
        sequence.blocks, sequence.computed = [], 0
