"""Models from the Hugging Face hub, or from a folder in that layout: `hf:ID`. Safetensors only, no remote code.

The only module that imports transformers. Uses a GPU if there is one.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import numpy as np
import numpy.typing as npt
import torch
import transformers
from transformers import (
    AutoImageProcessor,
    AutoModelForCTC,
    AutoModelForImageClassification,
    AutoModelForSeq2SeqLM,
    AutoModelForSequenceClassification,
    AutoProcessor,
    AutoTokenizer,
)

from inference_workers.backends.backend import Scores, Translated
from inference_workers.models.folder import ModelFolder
from inference_workers.networks.pictures import Fit, Pixels
from inference_workers.networks.speech import Floats, Heard, best_path
from schemas.errors import InvalidRequest, ModelRefused

transformers.logging.set_verbosity_error()
OVERLAP_TOKENS, CHUNKS_AT_ONCE = 32, 64


class _Loaded:
    def __init__(self, folder: ModelFolder, kind: Any) -> None:
        self._device = torch.device("cuda" if torch.cuda.is_available() else "cpu")
        if self._device.type == "cpu":
            torch.set_num_threads(1)  # as in every backend: throughput comes from more processes
        try:
            loaded = kind.from_pretrained(folder.path, use_safetensors=True, trust_remote_code=False)
        except Exception as error:  # transformers raises many kinds of errors on files that do not fit
            raise ModelRefused(f"{folder.name} cannot be loaded by {kind.__name__}: {error}") from error
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
        self._tokenizer: Any = AutoTokenizer.from_pretrained(folder.path, trust_remote_code=False)
        if not self._tokenizer.is_fast:
            raise ModelRefused(
                f"{folder.name} has no fast tokenizer, which is needed to split texts that are longer than the model's limit"
            )

    def classify(self, texts: Sequence[str]) -> Scores:
        """A text of more tokens than the model's limit is split into chunks that overlap; each label gets its largest logit of all
        chunks, and the embedding is that of the first."""
        stride = min(OVERLAP_TOKENS, int(self._tokenizer.model_max_length) // 4)
        inputs = self._tokenizer(
            list(texts), padding=True, truncation=True, stride=stride, return_overflowing_tokens=True, return_tensors="pt"
        )
        first = np.flatnonzero(np.diff(inputs.pop("overflow_to_sample_mapping").numpy(), prepend=-1))
        n = len(inputs["input_ids"])
        parts = [{name: rows[at : at + CHUNKS_AT_ONCE] for name, rows in inputs.items()} for at in range(0, n, CHUNKS_AT_ONCE)]
        scores = [self._scored(part.get("attention_mask"), **part) for part in parts]
        logits = np.maximum.reduceat(np.concatenate([part.logits for part in scores]), first, axis=0)
        embeddings = [part.embedding for part in scores if part.embedding is not None]
        return Scores(logits, np.concatenate(embeddings)[first] if embeddings else None)


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
        inputs = self._tokenizer(list(texts), padding=True, truncation=True, max_length=self._longest, return_tensors="pt").to(
            self._device
        )
        with torch.inference_mode():
            out = self._model.generate(
                **inputs,
                **options,
                num_beams=4,
                max_new_tokens=min(self._longest - 1, 2 * max(lengths) + 8),
                output_scores=True,
                return_dict_in_generate=True,
            )
        scores = out.sequences_scores.tolist()
        decoded = self._tokenizer.batch_decode(out.sequences, skip_special_tokens=True)
        return [
            Translated(text, score, length > self._longest) for text, score, length in zip(decoded, scores, lengths, strict=True)
        ]


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
