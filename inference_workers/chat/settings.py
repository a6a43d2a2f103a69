"""Settings of the chat engine: `MILLRACE_CHAT__…`."""

from __future__ import annotations

from dataclasses import dataclass
from enum import Enum

from streams.process.settings import setting


class Weights(Enum):
    AUTO = "auto"
    FLOAT32 = "float32"
    BFLOAT16 = "bfloat16"
    FLOAT16 = "float16"
    INT8 = "int8"


@dataclass(frozen=True)
class EngineSettings:
    weights: Weights = setting(Weights.AUTO, "auto, float32, bfloat16, float16 or int8: how weights are kept in memory")
    torch_threads: int = setting(1, "threads of the model on a CPU; answers do not depend on it", 1, 256)
    max_running: int = setting(32, "maximum number of answers that are made at once", 1, 4_096)
    max_waiting: int = setting(
        256, "maximum number of requests in the queue; more are refused with a time to retry", 1, 1_000_000
    )
    kv_tokens: int = setting(16_384, "size of the KV cache, tokens", 16, 100_000_000)
    block_tokens: int = setting(16, "tokens of a block of the KV cache: prompts share whole blocks", 1, 1_024)
    step_tokens: int = setting(256, "maximum number of tokens in one step: longer prompts are read in several", 1, 65_536)
    max_prompt_characters: int = setting(262_144, "maximum size of a conversation, characters", 1, 100_000_000)
    attention_kernel: bool = setting(
        False, "1 or 0: on a GPU, attention reads the KV cache where it lies, by a kernel that was not yet run there as it is now"
    )
    prefix_cache: bool = setting(True, "1 or 0: keep the KV cache of prompts for prompts that begin in the same way")
