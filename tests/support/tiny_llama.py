"""A Llama with random weights as a checkpoint folder: hidden 32, two layers, a byte-level tokenizer. Made in a moment, nothing downloaded."""

from __future__ import annotations

import json
from pathlib import Path

import torch
from safetensors.torch import save_file
from tokenizers import AddedToken, Tokenizer, decoders, models, pre_tokenizers

SPECIALS = ("<|unknown|>", "<|start|>", "<|end|>")
MERGES = [("t", "h"), ("th", "e"), ("i", "n"), ("Ġ", "the"), ("a", "n"), ('"', ":")]
TEMPLATE = (
    "{% for message in messages %}<|start|>{{ message['role'] }}\n{{ message['content'] }}<|end|>\n{% endfor %}"
    "{% if add_generation_prompt %}<|start|>assistant\n{% endif %}"
)
CONTEXT_TOKENS = 512


def tiny_llama(folder: Path, *, letters: object = False, **changes: object) -> Path:
    """Write the checkpoint. letters: whether its answers are of visible characters, mostly. changes: of its config.json."""
    folder.mkdir(parents=True, exist_ok=True)
    tokenizer = _tokenizer()
    tokenizer.save(str(folder / "tokenizer.json"))
    (folder / "chat_template.jinja").write_text(TEMPLATE)
    (folder / "tokenizer_config.json").write_text(
        json.dumps({"tokenizer_class": "PreTrainedTokenizerFast", "eos_token": "<|end|>", "bos_token": "<|start|>"})
    )
    config = {
        "architectures": ["LlamaForCausalLM"],
        "model_type": "llama",
        "vocab_size": tokenizer.get_vocab_size(),
        "hidden_size": 32,
        "intermediate_size": 64,
        "num_hidden_layers": 2,
        "num_attention_heads": 4,
        "num_key_value_heads": 2,
        "head_dim": 8,
        "hidden_act": "silu",
        "max_position_embeddings": CONTEXT_TOKENS,
        "rope_parameters": {"rope_type": "default", "rope_theta": 10_000.0},
        "rms_norm_eps": 1e-5,
        "tie_word_embeddings": True,
        "eos_token_id": 2,
        "bos_token_id": 1,
    }
    (folder / "config.json").write_text(json.dumps(config | changes))
    weights = _weights(tokenizer.get_vocab_size())
    if letters:
        others = [number for token, number in tokenizer.get_vocab().items() if not (token.isascii() and token.isprintable())]
        weights["model.embed_tokens.weight"][others] *= 0.1
    save_file(weights, folder / "model.safetensors", metadata={"format": "pt"})
    return folder


def _tokenizer() -> Tokenizer:
    alphabet = sorted(pre_tokenizers.ByteLevel.alphabet())
    names = [*SPECIALS, *alphabet, *(a + b for a, b in MERGES)]
    tokenizer = Tokenizer(models.BPE(vocab={name: number for number, name in enumerate(names)}, merges=MERGES))
    tokenizer.pre_tokenizer = pre_tokenizers.ByteLevel(add_prefix_space=False)
    tokenizer.decoder = decoders.ByteLevel()
    tokenizer.add_special_tokens([AddedToken(name, special=True) for name in SPECIALS])
    return tokenizer


def _weights(vocabulary: int) -> dict[str, torch.Tensor]:
    """Large enough that answers differ by prompt and go on for long; the ends of an answer are made improbable."""
    generator = torch.Generator().manual_seed(0)

    def normal(*shape: int) -> torch.Tensor:
        return torch.randn(*shape, generator=generator) * 0.3

    weights = {"model.embed_tokens.weight": normal(vocabulary, 32), "model.norm.weight": torch.ones(32)}
    weights["model.embed_tokens.weight"][: len(SPECIALS)] *= 0.1
    for number in range(2):
        layer = f"model.layers.{number}."
        shapes = {"self_attn.q": (32, 32), "self_attn.k": (16, 32), "self_attn.v": (16, 32), "self_attn.o": (32, 32)}
        shapes |= {"mlp.gate": (64, 32), "mlp.up": (64, 32), "mlp.down": (32, 64)}
        weights |= {f"{layer}{name}_proj.weight": normal(*shape) for name, shape in shapes.items()}
        weights |= {f"{layer}{name}_layernorm.weight": 1 + normal(32) for name in ("input", "post_attention")}
    return weights
