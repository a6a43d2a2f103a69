"""A conversation in the terminal: what is sent with the next question depends on what the service keeps of the last one."""

from __future__ import annotations

from concurrent.futures import Future
from typing import Any, cast

import pytest

from infra.sending.terminal_chat import Conversation, _turn
from streams.chat_client import ChatClient

SYSTEM = {"role": "system", "content": "Be brief."}


class Client:
    def now_ms(self) -> int:
        return 1


@pytest.mark.parametrize(
    ("fields", "kept"),
    [
        ({"status": "ok", "finish_reason": "stop", "text": "Yes."}, False),
        ({"status": "ok", "finish_reason": "content_filter", "text": "Y"}, True),
        ({"status": "expired", "finish_reason": "expired", "text": "Y"}, False),
        ({"status": "busy", "finish_reason": "busy", "text": None, "retry_after_ms": 5}, True),
    ],
)
def test_the_system_message_goes_again_until_the_service_keeps_a_turn(fields: dict[str, Any], kept: bool) -> None:
    result = {
        "error_message": "m",
        "prompt_tokens": 1,
        "completion_tokens": 1,
        "cached_tokens": 0,
        "truncated_messages": 0,
        "time_to_first_token_ms": 1.0,
        "ms_per_token": 1.0,
        "models": [],
        **fields,
    }

    def call(work: Any) -> Future[Any]:
        work.close()
        done: Future[Any] = Future()
        done.set_result(result)
        return done

    talk = Conversation({}, [SYSTEM])
    assert _turn(talk, cast(ChatClient, Client()), call, "hello", 0) is (fields["status"] == "ok")
    assert talk.request("again")["messages"][0] == (SYSTEM if kept else {"role": "user", "content": "again"})
