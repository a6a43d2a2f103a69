"""Settings of a chat worker whose answers a server computes: `MILLRACE_CHAT_BACKEND`, `MILLRACE_CHAT_SERVER…`."""

from __future__ import annotations

from dataclasses import dataclass
from enum import Enum

from streams.process.settings import setting

LOCAL = "local"


class ServerKind(Enum):
    VLLM = "vllm"
    SGLANG = "sglang"
    LLAMA_CPP = "llama.cpp"
    TRANSFORMERS = "transformers"


@dataclass(frozen=True)
class ServerSettings:
    chat_backend: str = setting(
        LOCAL, "what computes answers: local, or the address of an OpenAI-compatible server, such as http://127.0.0.1:8000/v1"
    )
    chat_server_kind: ServerKind = setting(ServerKind.VLLM, "vllm, sglang, llama.cpp or transformers: which server that is")
    chat_server_model: str = setting("", "the model's name at the server; empty: the server's only one")
    chat_server_key: str = setting("", "API key that the server asks for", secret=True)
    chat_server_wait_s: float = setting(60.0, "longest wait for an answer's next token from the server, seconds", 0.1, 3_600)
    chat_server_context: int = setting(
        0, "tokens that the server takes for prompt and answer together; 0: as many as the model's config names", 0, 100_000_000
    )
