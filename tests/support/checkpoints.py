"""Small models with random weights, saved as their makers save them: in the Hugging Face layout, and tables in ONNX."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import numpy as np
import onnx
import torch
import transformers
from onnx import TensorProto, helper
from tokenizers import Tokenizer, models, pre_tokenizers, trainers


def tokenizer(folder: Path) -> Any:
    made = Tokenizer(models.WordLevel(unk_token="<unk>"))
    made.pre_tokenizer = pre_tokenizers.Whitespace()
    special = ["<pad>", "<s>", "</s>", "<unk>"]
    made.train_from_iterator(["hello there how are you today my friend"], trainers.WordLevelTrainer(special_tokens=special))
    fast = transformers.PreTrainedTokenizerFast(
        tokenizer_object=made, pad_token="<pad>", bos_token="<s>", eos_token="</s>", unk_token="<unk>", model_max_length=64
    )
    fast.save_pretrained(folder)
    return fast


def vision(folder: Path) -> None:
    torch.manual_seed(1)
    config = transformers.ViTConfig(
        hidden_size=16,
        num_hidden_layers=1,
        num_attention_heads=2,
        intermediate_size=16,
        image_size=32,
        patch_size=16,
        id2label={0: "cat", 1: "dog", 2: "seal"},
        label2id={"cat": 0, "dog": 1, "seal": 2},
    )
    transformers.ViTForImageClassification(config).save_pretrained(folder)
    settings = {
        "image_processor_type": "ViTImageProcessor",
        "size": {"height": 32, "width": 32},
        "do_resize": True,
        "do_rescale": True,
        "do_normalize": True,
    }
    (folder / "preprocessor_config.json").write_text(json.dumps(settings))


def bert(folder: Path, kind: Any, seed: int = 1, **settings: Any) -> None:
    torch.manual_seed(seed)
    words = tokenizer(folder)
    size = {"hidden_size": 16, "num_hidden_layers": 1, "num_attention_heads": 2, "intermediate_size": 16}
    config = transformers.BertConfig(vocab_size=len(words), max_position_embeddings=64, pad_token_id=0, **{**size, **settings})
    kind(config).save_pretrained(folder)


def texts(folder: Path, seed: int = 1, **settings: Any) -> None:
    labels = {0: "spam", 1: "violence"}
    bert(
        folder,
        transformers.BertForSequenceClassification,
        seed,
        id2label=labels,
        label2id={label: i for i, label in labels.items()},
        **settings,
    )


def names(folder: Path, **settings: Any) -> None:
    bert(folder, transformers.BertForTokenClassification, id2label={0: "O", 1: "B-PER", 2: "I-PER"}, **settings)


def sentences(folder: Path, seed: int = 1, **settings: Any) -> None:
    bert(folder, transformers.BertModel, seed, **settings)


def translation(folder: Path) -> None:
    torch.manual_seed(1)
    words = tokenizer(folder)
    config = transformers.BartConfig(
        vocab_size=len(words),
        d_model=16,
        encoder_layers=1,
        decoder_layers=1,
        encoder_attention_heads=2,
        decoder_attention_heads=2,
        encoder_ffn_dim=16,
        decoder_ffn_dim=16,
        max_position_embeddings=64,
        pad_token_id=0,
        bos_token_id=1,
        eos_token_id=2,
        decoder_start_token_id=2,
        forced_eos_token_id=2,
    )
    transformers.BartForConditionalGeneration(config).save_pretrained(folder)


def transcription(folder: Path) -> None:
    torch.manual_seed(1)
    letters = ["<pad>", "<s>", "</s>", "<unk>", "|", *"ABCDEF"]
    (folder / "vocab.json").write_text(json.dumps({letter: i for i, letter in enumerate(letters)}))
    words = transformers.Wav2Vec2CTCTokenizer(str(folder / "vocab.json"))
    extractor = transformers.Wav2Vec2FeatureExtractor(sampling_rate=16_000)
    transformers.Wav2Vec2Processor(feature_extractor=extractor, tokenizer=words).save_pretrained(folder)
    config = transformers.Wav2Vec2Config(
        vocab_size=len(letters),
        hidden_size=16,
        num_hidden_layers=1,
        num_attention_heads=2,
        intermediate_size=16,
        conv_dim=(16, 16),
        conv_stride=(5, 4),
        conv_kernel=(10, 8),
        num_conv_pos_embeddings=4,
        num_conv_pos_embedding_groups=2,
        pad_token_id=0,
    )
    transformers.Wav2Vec2ForCTC(config).save_pretrained(folder)


# --- tables ----------------------------------------------------------------------------------------------------


def table(folder: Path, columns: tuple[str, ...] = ("amount", "user:total_purchases"), classes: int = 2) -> str:
    """A linear model with one input per column, as scikit-learn's exporter writes them."""
    inputs = [helper.make_tensor_value_info(name, TensorProto.FLOAT, [None, 1]) for name in columns]
    weights = np.linspace(-1, 1, len(columns) * classes, dtype=np.float32).reshape(len(columns), classes)
    nodes = [
        helper.make_node("Concat", list(columns), ["row"], axis=1),
        helper.make_node("MatMul", ["row", "weights"], ["logits"]),
        helper.make_node("Softmax", ["logits"], ["probabilities"], axis=1),
        helper.make_node("ArgMax", ["logits"], ["label"], axis=1, keepdims=0),
    ]
    outputs = [
        helper.make_tensor_value_info("label", TensorProto.INT64, [None]),
        helper.make_tensor_value_info("probabilities", TensorProto.FLOAT, [None, classes]),
    ]
    constant = helper.make_tensor("weights", TensorProto.FLOAT, weights.shape, weights.ravel())
    return saved(folder, helper.make_graph(nodes, "table", inputs, outputs, [constant]))


def matrix(folder: Path) -> str:
    """A regression with one input for all columns."""
    inputs = [helper.make_tensor_value_info("float_input", TensorProto.FLOAT, [None, 3])]
    nodes = [helper.make_node("MatMul", ["float_input", "weights"], ["variable"])]
    constant = helper.make_tensor("weights", TensorProto.FLOAT, [3, 1], [1.0, 2.0, 3.0])
    outputs = [helper.make_tensor_value_info("variable", TensorProto.FLOAT, [None, 1])]
    return saved(folder, helper.make_graph(nodes, "matrix", inputs, outputs, [constant]))


def strict(folder: Path) -> str:
    """A classifier that refuses countries that it does not know, reads whole numbers, and gives its classes as a map."""
    inputs = [
        helper.make_tensor_value_info("amount", TensorProto.INT64, [None, 1]),
        helper.make_tensor_value_info("country", TensorProto.STRING, [None, 1]),
    ]
    of_scikit_learn = "ai.onnx.ml"
    nodes = [
        helper.make_node("OneHotEncoder", ["country"], ["hot"], domain=of_scikit_learn, cats_strings=["de", "fr"], zeros=0),
        helper.make_node("Reshape", ["hot", "two_wide"], ["countries"]),
        helper.make_node("Cast", ["amount"], ["amounts"], to=TensorProto.FLOAT),
        helper.make_node("Concat", ["amounts", "countries"], ["row"], axis=1),
        helper.make_node("MatMul", ["row", "weights"], ["logits"]),
        helper.make_node("Softmax", ["logits"], ["scores"], axis=1),
        helper.make_node("ArgMax", ["logits"], ["label"], axis=1, keepdims=0),
        helper.make_node("ZipMap", ["scores"], ["probabilities"], domain=of_scikit_learn, classlabels_strings=["fine", "fraud"]),
    ]
    a_map = helper.make_sequence_type_proto(
        helper.make_map_type_proto(TensorProto.STRING, helper.make_tensor_type_proto(TensorProto.FLOAT, []))
    )
    outputs = [helper.make_tensor_value_info("label", TensorProto.INT64, [None]), helper.make_value_info("probabilities", a_map)]
    constants = [
        helper.make_tensor("weights", TensorProto.FLOAT, [3, 2], [0.0, 1.0, 3.0, 0.0, 0.0, 3.0]),
        helper.make_tensor("two_wide", TensorProto.INT64, [2], [-1, 2]),
    ]
    return saved(folder, helper.make_graph(nodes, "strict", inputs, outputs, constants))


def saved(folder: Path, graph: Any) -> str:
    file = folder / "model.onnx"
    versions = [helper.make_opsetid("", 17), helper.make_opsetid("ai.onnx.ml", 3)]
    onnx.save(helper.make_model(graph, opset_imports=versions, ir_version=9), file)
    return f"file:{file}"
