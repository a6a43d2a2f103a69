"""Models from the Hugging Face hub, or from a folder in that layout: `hf:ID`. Safetensors only, no remote code.

The only module that imports transformers. Uses a GPU if there is one.
"""

from __future__ import annotations

import json
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

import numpy as np
import numpy.typing as npt
import torch
import transformers
from transformers import (
    AutoImageProcessor,
    AutoModel,
    AutoModelForCTC,
    AutoModelForImageClassification,
    AutoModelForSeq2SeqLM,
    AutoModelForSequenceClassification,
    AutoModelForTokenClassification,
    AutoProcessor,
    AutoTokenizer,
)

from inference_workers.backends.backend import Embedded, Scores, Translated
from inference_workers.models.folder import ModelFolder
from inference_workers.networks.entities import Entity, entities_of
from inference_workers.networks.pictures import Fit, Pixels
from inference_workers.networks.speech import Floats, Heard, best_path
from schemas.errors import InvalidRequest, ModelRefused

transformers.logging.set_verbosity_error()
transformers.logging.disable_progress_bar()
OVERLAP_TOKENS, CHUNKS_AT_ONCE = 32, 64
LENGTH_STEP = 16  # texts are answered together whose lengths in tokens round up to the same multiple
POOLING = {"mean": "pooling_mode_mean_tokens", "cls": "pooling_mode_cls_token", "max": "pooling_mode_max_tokens"}


class _Loaded:
    def __init__(self, folder: ModelFolder, kind: Any) -> None:
        self._device = torch.device("cuda" if torch.cuda.is_available() else "cpu")
        if self._device.type == "cpu":
            torch.set_num_threads(1)  # as in every backend: throughput comes from more processes
        try:
            loaded = kind.from_pretrained(folder.path, use_safetensors=True, trust_remote_code=False)
        except Exception as error:  # transformers raises many kinds of errors on files that do not fit
            (reason, *_) = str(error).splitlines() or [type(error).__name__]
            raise ModelRefused(f"{folder.name} cannot be loaded by {kind.__name__}: {reason[:400]}") from error
        self._model: Any = loaded.eval().to(self._device)

    def _run(self, **inputs: Any) -> Any:
        with torch.inference_mode():
            return self._model(**{name: value.to(self._device) for name, value in inputs.items()})

    def _scored(self, mask: Any | None = None, **inputs: Any) -> Scores:
        """Logits, and as embedding the mean of the last hidden state over tokens or positions, without padding. mask: (n, tokens)."""
        body, hidden = self._model.base_model, []
        hook = (
            body.register_forward_hook(lambda _module, _inputs, out: hidden.append(out[0])) if body is not self._model else None
        )
        try:
            logits = self._run(**inputs).logits.double().cpu().numpy()
        finally:
            if hook is not None:
                hook.remove()
        return Scores(logits, _mean(hidden[0], mask) if hidden else None)

    def close(self) -> None:
        return


def _mean(hidden: Any, mask: Any | None) -> npt.NDArray[np.float32]:
    """hidden: (n, tokens, width), (n, channels, height, width) or (n, width). mask: (n, tokens), 0 where padded. Returns float32 (n, width)."""
    hidden = hidden.float()
    if hidden.ndim == 3:
        weights = hidden.new_ones(hidden.shape[:2]) if mask is None else mask.to(hidden)
        hidden = (hidden * weights[..., None]).sum(dim=1) / weights.sum(dim=1, keepdim=True).clamp(min=1)
    elif hidden.ndim == 4:
        hidden = hidden.mean(dim=(2, 3))
    mean: npt.NDArray[np.float32] = hidden.cpu().numpy()
    return mean


class HuggingFaceTextClassifier(_Loaded):
    def __init__(self, folder: ModelFolder) -> None:
        super().__init__(folder, AutoModelForSequenceClassification)
        self.labels = folder.coverage
        self._tokenizer = _fast_tokenizer(folder)
        self._longest = longest(self._tokenizer, folder)

    def classify(self, texts: Sequence[str]) -> Scores:
        """A text of more tokens than the model's limit is split into chunks that overlap; each label gets its largest logit of all
        chunks, and the embedding is that of the first."""
        stride = min(OVERLAP_TOKENS, self._longest // 4)
        inputs = self._tokenizer(
            list(texts),
            padding=True,
            truncation=True,
            max_length=self._longest,
            stride=stride,
            return_overflowing_tokens=True,
            return_tensors="pt",
        )
        first = np.flatnonzero(np.diff(inputs.pop("overflow_to_sample_mapping").numpy(), prepend=-1))
        n = len(inputs["input_ids"])
        parts = [{name: rows[at : at + CHUNKS_AT_ONCE] for name, rows in inputs.items()} for at in range(0, n, CHUNKS_AT_ONCE)]
        scores = [self._scored(part.get("attention_mask"), **part) for part in parts]
        logits = np.maximum.reduceat(np.concatenate([part.logits for part in scores]), first, axis=0)
        embeddings = [part.embedding for part in scores if part.embedding is not None]
        chunks = np.diff(np.append(first, n))
        return Scores(logits, np.concatenate(embeddings)[first] if embeddings else None, chunks)


class HuggingFaceTokenClassifier(_Loaded):
    """Tags of tokens as entities: labels in the schemes IOB2, IOBES and plain ones. A text of more tokens than the model's limit is
    split into chunks that overlap; in the overlap each token keeps the tag of the chunk in which it is farther from the edge."""

    def __init__(self, folder: ModelFolder) -> None:
        super().__init__(folder, AutoModelForTokenClassification)
        self._labels = folder.coverage
        if len(self._labels) != self._model.config.num_labels:
            raise ModelRefused(
                f"{folder.name} has {self._model.config.num_labels} tags, and its config names {len(self._labels)}"
            )
        self._tokenizer = _fast_tokenizer(folder)
        self._longest = longest(self._tokenizer, folder)

    def entities(self, texts: Sequence[str]) -> list[list[Entity]]:
        stride = min(OVERLAP_TOKENS, self._longest // 4)
        inputs = self._tokenizer(
            list(texts),
            padding=True,
            truncation=True,
            max_length=self._longest,
            stride=stride,
            return_overflowing_tokens=True,
            return_offsets_mapping=True,
            return_special_tokens_mask=True,
            return_tensors="pt",
        )
        owners = inputs.pop("overflow_to_sample_mapping").tolist()
        places, special = inputs.pop("offset_mapping").tolist(), inputs.pop("special_tokens_mask").tolist()
        probabilities = [
            rows
            for at in range(0, len(owners), CHUNKS_AT_ONCE)
            for rows in self._run(**{name: rows[at : at + CHUNKS_AT_ONCE] for name, rows in inputs.items()})
            .logits.softmax(-1)
            .tolist()
        ]
        tokens: list[dict[tuple[int, int], tuple[int, list[float]]]] = [{} for _ in texts]
        for owner, chunk, skipped, rows in zip(owners, places, special, probabilities, strict=True):
            length = len(chunk) - sum(skipped)
            kept = [i for i, skip in enumerate(skipped) if not skip]
            for number, i in enumerate(kept):
                place, distance = (chunk[i][0], chunk[i][1]), min(number, length - 1 - number)
                if place[0] < place[1] and (place not in tokens[owner] or tokens[owner][place][0] < distance):
                    tokens[owner][place] = distance, rows[i]
        return [
            entities_of(
                text, [(*place, self._labels[best], row[best]) for place, (_, row) in sorted(of.items()) for best in [_best(row)]]
            )
            for text, of in zip(texts, tokens, strict=True)
        ]


def _best(row: Sequence[float]) -> int:
    return max(range(len(row)), key=row.__getitem__)


class HuggingFaceTextEncoder(_Loaded):
    """Pooling and scaling as in the files of sentence-transformers (`1_Pooling/config.json`, `modules.json`) if they are there; else
    the mean of all tokens, not scaled."""

    def __init__(self, folder: ModelFolder, pooling: str | None = None, normalise: bool | None = None) -> None:
        super().__init__(folder, AutoModel)
        self._tokenizer = _fast_tokenizer(folder)
        self._longest = longest(self._tokenizer, folder)
        self._pooling, own_normalise = pooling_of(folder.path, pooling)
        self._normalise = own_normalise if normalise is None else normalise

    def embed(self, texts: Sequence[str]) -> Embedded:
        inputs = self._tokenizer(list(texts), padding=True, truncation=True, max_length=self._longest, return_tensors="pt")
        truncated = [bool(encoding.overflowing) for encoding in inputs.encodings]
        hidden, mask = self._run(**inputs).last_hidden_state.float(), inputs["attention_mask"]
        if self._pooling == "cls":
            vectors = hidden[:, 0]
        elif self._pooling == "max":
            vectors = hidden.masked_fill(mask.to(hidden)[..., None] == 0, float("-inf")).amax(dim=1)
        else:
            vectors = torch.from_numpy(_mean(hidden, mask))
        if self._normalise:
            vectors = torch.nn.functional.normalize(vectors, dim=1)
        return Embedded(vectors.cpu().numpy().astype(np.float32), np.array(truncated))


def pooling_of(path: Path, wanted: str | None = None) -> tuple[str, bool]:
    """How a checkpoint of sentence-transformers pools tokens, unless another way is wanted, and whether it scales the vector to length 1.
    Raises ModelRefused for a way that is not known here: other vectors than the model's own would look like its own."""
    settings = _json_in(path, "1_Pooling/config.json") or _json_in(path, "pooling.json") or {}
    chosen = [key for key, is_on in settings.items() if key.startswith("pooling_mode_") and is_on is True]
    if wanted is None and (len(chosen) > 1 or not set(chosen) <= set(POOLING.values())):
        raise ModelRefused(f"{path} pools its tokens by {' and '.join(chosen)}; known is one of {', '.join(POOLING.values())}")
    kinds = [str(module.get("type", "")).rpartition(".")[2] for module in _json_in(path, "modules.json") or []]
    if unknown := sorted(set(kinds) - {"Transformer", "Pooling", "Normalize"}):
        raise ModelRefused(f"{path} has a step {', '.join(unknown)} after its encoder, which is not known here")
    pooling = next((word for word, key in POOLING.items() if key in chosen), "mean")
    return wanted or pooling, "Normalize" in kinds or settings.get("normalise") is True


def _json_in(path: Path, name: str) -> Any:
    try:
        return json.loads((path / name).read_text())
    except (OSError, ValueError):
        return None


def longest(tokenizer: Any, folder: ModelFolder) -> int:
    """The most tokens of a text that the model reads. Some tokenizers do not say, and RoBERTa's first positions stand for no token."""
    positions = int(folder.config.get("max_position_embeddings") or 10**9)
    if folder.config.get("model_type") in ("roberta", "xlm-roberta", "camembert"):
        positions -= int(folder.config.get("pad_token_id") or 0) + 1
    return min(int(tokenizer.model_max_length), positions)


def _fast_tokenizer(folder: ModelFolder) -> Any:
    tokenizer: Any = AutoTokenizer.from_pretrained(folder.path, trust_remote_code=False)
    if not tokenizer.is_fast:
        raise ModelRefused(
            f"{folder.name} has no fast tokenizer, which is needed to split texts that are longer than the model's limit"
        )
    return tokenizer


class HuggingFaceImageClassifier(_Loaded):
    def __init__(self, folder: ModelFolder) -> None:
        super().__init__(folder, AutoModelForImageClassification)
        self.labels = folder.coverage
        self.fit = Fit("RGB")
        self._processor: Any = AutoImageProcessor.from_pretrained(folder.path, trust_remote_code=False)

    def classify(self, pictures: Sequence[Pixels]) -> Scores:
        """pictures: uint8 (height, width, channels), of any size: the model's own processor resizes them."""
        inputs = self._processor(list(pictures), return_tensors="pt")
        return self._scored(pixel_values=inputs["pixel_values"])


class HuggingFaceTranslator(_Loaded):
    """Pairs of languages are not checked: Marian models have one pair, M2M100 gets the code of the target. Other models are untested."""

    def __init__(self, folder: ModelFolder) -> None:
        super().__init__(folder, AutoModelForSeq2SeqLM)
        self.pairs: frozenset[tuple[str, str]] = frozenset()
        self._tokenizer: Any = AutoTokenizer.from_pretrained(folder.path, trust_remote_code=False)
        self._longest = int(getattr(self._model.config, "max_position_embeddings", None) or 512)

    def translate(self, texts: Sequence[str], source: str, target: str) -> list[Translated]:
        options: dict[str, Any] = {}
        if hasattr(self._tokenizer, "get_lang_id"):
            try:
                self._tokenizer.src_lang = source
                options["forced_bos_token_id"] = self._tokenizer.get_lang_id(target)
            except KeyError as error:
                raise InvalidRequest(f"the model does not know the language {error}") from error
        lengths = [len(ids) for ids in self._tokenizer(list(texts)).input_ids]
        groups: dict[int, list[int]] = {}
        for row, length in enumerate(lengths):
            groups.setdefault(-(-min(length, self._longest) // LENGTH_STEP) * LENGTH_STEP, []).append(row)
        answers: dict[int, Translated] = {}
        for most_tokens, rows in groups.items():
            generated = self._generated([texts[row] for row in rows], min(self._longest - 1, 2 * most_tokens + 8), options)
            answers |= {
                row: Translated(text, score, lengths[row] > self._longest)
                for row, (text, score) in zip(rows, generated, strict=True)
            }
        return [answers[row] for row in range(len(texts))]

    def _generated(self, texts: Sequence[str], most_new: int, options: Mapping[str, Any]) -> list[tuple[str, float]]:
        """Text and mean log-probability of each answer, which has at most `most_new` tokens. That limit depends on the text's own
        length alone, so that an answer does not depend on the others of its batch."""
        inputs = self._tokenizer(list(texts), padding=True, truncation=True, max_length=self._longest, return_tensors="pt")
        with torch.inference_mode():
            out = self._model.generate(
                **inputs.to(self._device),
                **options,
                num_beams=4,
                max_new_tokens=most_new,
                output_scores=True,
                return_dict_in_generate=True,
            )
        decoded = self._tokenizer.batch_decode(out.sequences, skip_special_tokens=True)
        return list(zip(decoded, out.sequences_scores.tolist(), strict=True))


class HuggingFaceTranscriber(_Loaded):
    """CTC models (wav2vec 2.0 and the like): letters become words at the word delimiter."""

    def __init__(self, folder: ModelFolder) -> None:
        super().__init__(folder, AutoModelForCTC)
        self._processor: Any = AutoProcessor.from_pretrained(folder.path, trust_remote_code=False)
        tokenizer = self._processor.tokenizer
        self.rate_hz = int(self._processor.feature_extractor.sampling_rate)
        self._delimiter = tokenizer.word_delimiter_token
        self._vocabulary = tokenizer.convert_ids_to_tokens(list(range(self._model.config.vocab_size)))
        self._silent = set(tokenizer.all_special_tokens) - {self._delimiter}
        self._blank = int(tokenizer.pad_token_id)

    def transcribe(self, sounds: Sequence[Floats]) -> list[list[Heard]]:
        """sounds: mono, float32 (t,), at `rate_hz`."""
        transcripts = []
        for sound in sounds:  # one by one, as not every such model masks its padding
            inputs = self._processor(sound, sampling_rate=self.rate_hz, return_tensors="pt")
            probabilities = self._run(input_values=inputs["input_values"]).logits[0].float().softmax(dim=-1).cpu().numpy()
            frame_s = len(sound) / self.rate_hz / max(1, len(probabilities))
            transcripts.append(self._words(best_path(probabilities, self._vocabulary, frame_s, self._blank)))
        return transcripts

    def _words(self, letters: list[Heard]) -> list[Heard]:
        words: list[list[Heard]] = [[]]
        for letter in letters:
            if letter.text == self._delimiter:
                words.append([])
            elif letter.text not in self._silent:
                words[-1].append(letter)
        return [
            Heard(
                "".join(letter.text for letter in word),
                word[0].start_s,
                word[-1].end_s,
                float(np.mean([letter.probability for letter in word])),
            )
            for word in words
            if word
        ]
