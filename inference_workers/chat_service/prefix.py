"""Whether tokens that were read back from `chat-tokens-v1` can be those of a worker. Whoever may write to Kafka can write there. Pure."""

from __future__ import annotations

from inference_workers.chat.answer_text import AnswerText
from inference_workers.chat.chat_model import ChatModel
from inference_workers.chat_service.takeover import Begun
from schemas.vocabulary import FinishReason

WITHOUT_TEXT = (FinishReason.FAILED, FinishReason.BUSY)


def foreign(begun: Begun, model: ChatModel, stops: tuple[str, ...], most_tokens: int) -> str:
    """Why a worker of this model cannot have written them; empty if it can. most_tokens: of the answer."""
    reason = begun.stream.reason
    if reason and reason not in set(FinishReason):
        return f"they end with {reason!r:.40}"
    if begun.stream.gaps:
        return f"some are missing from position {begun.stream.sequence} on"
    if len(begun.tokens) > most_tokens:
        return f"there are more than the {most_tokens} of the request"
    text = AnswerText(model.template.text, stops)
    for token in begun.tokens:
        if not 0 <= token.token < model.vocabulary:
            return f"{token.token} at position {token.sequence} is not in the vocabulary"
        added = text.add(token.token)
        is_last = token is begun.tokens[-1]
        if token.text != added and not (is_last and token.text == added + text.end()):
            return f"the text at position {token.sequence} is not that of the token"
    return ""
