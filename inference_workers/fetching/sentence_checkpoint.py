"""A checkpoint in the layout of sentence-transformers: the Hugging Face layout, and pooling as one more file."""

from __future__ import annotations

import shutil
from pathlib import Path

from inference_workers.fetching.converted import Converted, the_file
from schemas.errors import ModelRefused

FILES = {
    "config.json": "config.json",
    "model.safetensors": "model.safetensors",
    "tokenizer.json": "tokenizer.json",
    "tokenizer_config.json": "tokenizer_config.json",
    "special_tokens_map.json": "special_tokens_map.json",
    "vocab.txt": "vocab.txt",
    "sentence_bert_config.json": "sentence_bert_config.json",
    "1_Pooling/config.json": "pooling.json",
}


def convert(source: Path, made: Path) -> Converted:
    """Raises ModelRefused if a file is missing."""
    model = the_file(source, "modules.json").parent
    for name, flat in FILES.items():
        try:
            shutil.copyfile(model / name, made / flat)
        except FileNotFoundError as error:
            raise ModelRefused(f"the package holds no {name} beside modules.json") from error
    return Converted(notes=["The files are those of the package, unchanged."])
