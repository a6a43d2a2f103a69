"""Transcription: spoken digits as text."""

from __future__ import annotations

from inference_workers.kinds.sound_transcription import Transcription
from schemas.catalogue import consumption

MODEL = "transcription-digits"
TASK = Transcription(consumption("transcription"), MODEL, f"shipped:{MODEL}")
