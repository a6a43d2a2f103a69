"""A chat model in a GGUF file as a checkpoint in the Hugging Face layout: safetensors in 16 bits, tokenizer, chat template.

transformers reads the file; packages `gguf` and `accelerate` do the rest.
"""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import torch
import transformers
from safetensors.torch import save_file
from transformers import AutoModelForCausalLM, AutoTokenizer

from inference_workers.fetching.converted import Converted, the_file
from schemas.errors import ModelRefused

END_OF_TURN = "<|im_end|>"  # transformers takes another token for it
QUESTION, MOST_TOKENS = "What is the capital of France?", 32


def convert(source: Path, made: Path) -> Converted:
    """Raises ModelRefused if the file holds no chat model, or if its weights do not fit 16 bits."""
    torch.set_num_threads(1)
    transformers.logging.set_verbosity_error()
    file = the_file(source, "*.gguf")
    tokenizer: Any = AutoTokenizer.from_pretrained(file.parent, gguf_file=file.name)
    network: Any = AutoModelForCausalLM.from_pretrained(file.parent, gguf_file=file.name, dtype=torch.float32).eval()
    if not tokenizer.chat_template or END_OF_TURN not in tokenizer.get_vocab():
        raise ModelRefused(f"{file.name} has no chat template, or no {END_OF_TURN}")
    tokenizer.eos_token = tokenizer.pad_token = END_OF_TURN
    tokenizer.model_max_length = network.config.max_position_embeddings
    tokenizer.clean_up_tokenization_spaces = False  # it would remove spaces before punctuation
    tokenizer.save_pretrained(made)
    difference = _in_halves(network, made / "model.safetensors", tokenizer)
    _write_configs(network, made)
    answer = _answer(AutoModelForCausalLM.from_pretrained(made, dtype=torch.float32).eval(), tokenizer)
    notes = [
        f"Weights: from the 4 bits of {file.name} to 16. The largest difference of a logit to 32 bits, over the tokens of one question: "
        f"{difference:.3f}.",
        f"Asked “{QUESTION}”, it answers: “{answer}”",
    ]
    return Converted(notes=notes)


def _in_halves(network: Any, file: Path, tokenizer: Any) -> float:
    """Write the weights in 16 bits, keep them in the network, and return the largest difference of a logit that it makes."""
    tokens = tokenizer(QUESTION, return_tensors="pt")
    with torch.inference_mode():
        before = network(**tokens).logits
        for value in network.parameters():
            value.copy_(value.half().float())
        difference = float((network(**tokens).logits - before).abs().max())
    state = {name: value.half().contiguous() for name, value in network.state_dict().items()}
    if network.config.tie_word_embeddings:
        del state["lm_head.weight"]
    if not all(bool(value.isfinite().all()) for value in state.values()):
        raise ModelRefused("a weight is too large for 16 bits")
    save_file(state, file, metadata={"format": "pt"})
    return difference


def _write_configs(network: Any, made: Path) -> None:
    """As `save_pretrained` would, which refuses weights that came from a GGUF file."""
    config = network.config.to_dict()
    for left_out in ("quantization_config", "_name_or_path"):
        config.pop(left_out, None)
    config |= {"dtype": "float16", "architectures": [type(network).__name__]}
    (made / "config.json").write_text(json.dumps(config, indent=2, sort_keys=True) + "\n")
    network.generation_config.save_pretrained(made)


def _answer(network: Any, tokenizer: Any) -> str:
    chat = [{"role": "user", "content": QUESTION}]
    tokens = tokenizer.apply_chat_template(chat, add_generation_prompt=True, return_tensors="pt", return_dict=True)
    with torch.inference_mode():
        out = network.generate(**tokens, max_new_tokens=MOST_TOKENS, do_sample=False)
    return str(tokenizer.decode(out[0, tokens["input_ids"].shape[1] :], skip_special_tokens=True)).strip()
