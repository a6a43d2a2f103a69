"""Translation: English into French."""

from __future__ import annotations

from inference_workers.kinds.text_to_text import TextToText
from schemas.catalogue import consumption

MODEL = "translation-en-fr"
TASK = TextToText(consumption("translation"), MODEL, f"shipped:{MODEL}")
