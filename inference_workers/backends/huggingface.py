"""Models of other makers, by their Hugging Face id or a folder in that layout: `hf:ID`. Safetensors only, no remote code.

transformers is imported here and nowhere else. A GPU is used where there is one.
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
OVERLAP_TOKENS, STRETCHES_AT_ONCE = 32, 64


class _Loaded:
    def __init__(self, folder: ModelFolder, kind: Any) -> None:
        self._device = torch.device("cuda" if torch.cuda.is_available() else "cpu")
        if self._device.type == "cpu":
            torch.set_num_threads(1)  # as every backend: more throughput is more processes
        try:
            loaded = kind.from_pretrained(folder.path, use_safetensors=True, trust_remote_code=False)
        except Exception as error:  # transformers raises what it likes on files that do not fit
            raise ModelRefused(f"{folder.name} cannot be loaded by {kind.__name__}: {error}") from error
        self._model: Any = loaded.eval().to(self._device)

    def _run(self, **inputs: Any) -> Any:
        with torch.inference_mode():
            return self._model(**{name: value.to(self._device) for name, value in inputs.items()})

    def _scored(self, mask: Any | None = None, **inputs: Any) -> Scores:
        """The embedding is the mean of what the model's body says of each token or place; padding, by the mask, is none."""
        body, said = self._model.base_model, []
        hook = body.register_forward_hook(lambda _module, _given, out: said.append(out[0])) if body is not self._model else None
        try:
            logits = self._run(**inputs).logits.double().cpu().numpy()
        finally:
            if hook is not None:
                hook.remove()
        return Scores(logits, _mean(said[0], mask) if said else None)

    def close(self) -> None:
        return


def _mean(hidden: Any, mask: Any | None) -> npt.NDArray[np.float32]:
    """hidden: (n, tokens, width), (n, channels, height, width) or (n, width). mask: (n, tokens), 1 where it is no padding."""
    hidden = hidden.float()
    if hidden.ndim == 3:
        weights = hidden.new_ones(hidden.shape[:2]) if mask is None else mask.to(hidden)
        hidden = (hidden * weights[..., None]).sum(dim=1) / weights.sum(dim=1, keepdim=True).clamp(min=1)
    elif hidden.ndim == 4:
        hidden = hidden.mean(dim=(2, 3))
    found: npt.NDArray[np.float32] = hidden.cpu().numpy()
    return found


class HuggingFaceTextClassifier(_Loaded):
    def __init__(self, folder: ModelFolder) -> None:
        super().__init__(folder, AutoModelForSequenceClassification)
        self.labels = folder.coverage
        self._tokenizer: Any = AutoTokenizer.from_pretrained(folder.path, trust_remote_code=False)
        if not self._tokenizer.is_fast:
            raise ModelRefused(f"{folder.name} has no fast tokenizer: texts longer than it reads could not be read whole")

    def classify(self, texts: Sequence[str]) -> Scores:
        """A text of more tokens than the model reads is read in stretches that overlap: of each label the most that any of them says."""
        stride = min(OVERLAP_TOKENS, int(self._tokenizer.model_max_length) // 4)
        inputs = self._tokenizer(
            list(texts), padding=True, truncation=True, stride=stride, return_overflowing_tokens=True, return_tensors="pt"
        )
        first = np.flatnonzero(np.diff(inputs.pop("overflow_to_sample_mapping").numpy(), prepend=-1))
        n = len(inputs["input_ids"])
        parts = [
            {name: rows[at : at + STRETCHES_AT_ONCE] for name, rows in inputs.items()} for at in range(0, n, STRETCHES_AT_ONCE)
        ]
        scores = [self._scored(part.get("attention_mask"), **part) for part in parts]
        logits = np.maximum.reduceat(np.concatenate([one.logits for one in scores]), first, axis=0)
        embeddings = [one.embedding for one in scores if one.embedding is not None]
        return Scores(logits, np.concatenate(embeddings)[first] if embeddings else None)


class HuggingFaceImageClassifier(_Loaded):
    def __init__(self, folder: ModelFolder) -> None:
        super().__init__(folder, AutoModelForImageClassification)
        self.labels = folder.coverage
        self.fit = Fit("RGB")
        self._processor: Any = AutoImageProcessor.from_pretrained(folder.path, trust_remote_code=False)

    def classify(self, pictures: Sequence[Pixels]) -> Scores:
        inputs = self._processor(list(pictures), return_tensors="pt")
        return self._scored(pixel_values=inputs["pixel_values"])


class HuggingFaceTranslator(_Loaded):
    """Pairs are not checked: Marian models know one, M2M100 is told the target's code. Others are not tried."""

    def __init__(self, folder: ModelFolder) -> None:
        super().__init__(folder, AutoModelForSeq2SeqLM)
        self.pairs: frozenset[tuple[str, str]] = frozenset()
        self._tokenizer: Any = AutoTokenizer.from_pretrained(folder.path, trust_remote_code=False)
        self._longest = int(getattr(self._model.config, "max_position_embeddings", None) or 512)

    def translate(self, texts: Sequence[str], source: str, target: str) -> list[Translated]:
        further: dict[str, Any] = {}
        if hasattr(self._tokenizer, "get_lang_id"):
            try:
                self._tokenizer.src_lang = source
                further["forced_bos_token_id"] = self._tokenizer.get_lang_id(target)
            except KeyError as error:
                raise InvalidRequest(f"the model does not know the language {error}") from error
        lengths = [len(ids) for ids in self._tokenizer(list(texts)).input_ids]
        inputs = self._tokenizer(list(texts), padding=True, truncation=True, max_length=self._longest, return_tensors="pt").to(
            self._device
        )
        with torch.inference_mode():
            out = self._model.generate(
                **inputs, **further, num_beams=4, max_new_tokens=min(self._longest - 1, 2 * max(lengths) + 8),
                output_scores=True, return_dict_in_generate=True,
            )  # fmt: skip
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
        heard = []
        for sound in sounds:  # one by one: not every such model masks its padding
            inputs = self._processor(sound, sampling_rate=self.rate_hz, return_tensors="pt")
            probabilities = self._run(input_values=inputs["input_values"]).logits[0].float().softmax(dim=-1).cpu().numpy()
            frame_s = len(sound) / self.rate_hz / max(1, len(probabilities))
            heard.append(self._words(best_path(probabilities, self._vocabulary, frame_s, self._blank)))
        return heard

    def _words(self, letters: list[Heard]) -> list[Heard]:
        words: list[list[Heard]] = [[]]
        for letter in letters:
            if letter.text == self._delimiter:
                words.append([])
            elif letter.text not in self._silent:
                words[-1].append(letter)
        return [
            Heard(
                "".join(one.text for one in word), word[0].start_s, word[-1].end_s,
                float(np.mean([one.probability for one in word])),
            )
            for word in words
            if word
        ]  # fmt: skip
