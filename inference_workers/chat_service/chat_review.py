"""What moderation lets through: the prompt before the model sees it, and the answer as it is made. No clock, no topics.

Of an answer at most a window of tokens is readable before its verdict, and its end waits for the verdict on the whole.
"""

from __future__ import annotations

from inference_workers.chat_service.chat_answer import Answer
from inference_workers.chat_service.chat_judge import Judge, Judged


class Reviews:
    """judge: None lets all pass. window_tokens: so many may be readable without a verdict, and so many are made between two."""

    def __init__(self, judge: Judge | None, window_tokens: int) -> None:
        self._judge, self._window_tokens = judge, window_tokens

    def asks_first(self, answer: Answer) -> bool:
        """Whether the answer must wait for the verdict on its prompt; asks for it."""
        if self._judge is None or answer.review.passed:
            return False
        self._judge.judge(answer.key, answer.input.written)
        return True

    def ask(self, answer: Answer) -> None:
        """Ask about the answer so far, where it is due."""
        review, new = answer.review, answer.made - answer.review.cleared
        due = new >= self._window_tokens or (answer.ended is not None and new > 0)
        if self._judge is not None and due and review.asked is None and not review.cut:
            review.asked = answer.made
            self._judge.judge(answer.key, answer.made_text)

    def may_show(self, answer: Answer) -> int:
        """How many of the tokens that wait may be read now."""
        if self._judge is None:
            return len(answer.waiting)
        return max(0, min(answer.made, answer.review.cleared + self._window_tokens) - answer.sequence)

    def may_end(self, answer: Answer) -> bool:
        """Whether all of it has its verdict."""
        return self._judge is None or bool(answer.review.cut) or answer.review.cleared >= answer.made

    def judged(self) -> list[Judged]:
        return self._judge.judged() if self._judge is not None else []

    def take(self, answer: Answer, judged: Judged) -> None:
        """The verdict that was awaited. Without one nothing goes on: whoever turns moderation on wants no text that nobody judged.
        What waits when an answer is cut is not shown."""
        review = answer.review
        if judged.flagged or judged.error:
            review.cut = f"moderation flags it: {', '.join(judged.flagged)}" if judged.flagged else f"no verdict: {judged.error}"
            answer.waiting.clear()
        elif not review.passed:
            review.passed = True
        else:
            review.cleared, review.asked = review.asked or review.cleared, None

    def close(self) -> None:
        if self._judge is not None:
            self._judge.close()
