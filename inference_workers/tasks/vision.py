"""Vision: which digit a picture shows."""

from __future__ import annotations

from inference_workers.kinds.image_classification import ImageClassification
from schemas.catalogue import consumption

MODEL = "vision-digits"
TASK = ImageClassification(consumption("vision"), MODEL, f"shipped:{MODEL}")
