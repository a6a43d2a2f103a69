"""PP-OCRv4 out of the package of RapidOCR: its three ONNX files as they are, and the characters that the last of them holds."""

from __future__ import annotations

import shutil
from pathlib import Path

from inference_workers.backends.ocr import CHARACTERS, DETECT, DIRECTION, READ
from inference_workers.backends.onnx import OnnxNetwork
from inference_workers.fetching.converted import Converted, the_file
from inference_workers.models.folder import ModelFolder
from schemas.errors import ModelRefused

FILES = {
    "ch_PP-OCRv4_det_infer.onnx": DETECT,
    "ch_ppocr_mobile_v2.0_cls_infer.onnx": DIRECTION,
    "ch_PP-OCRv4_rec_infer.onnx": READ,
}
CONFIG = {
    "task": "ocr",
    "network": "pp-ocr",
    "enlarged": [736, 1_280],
    "most_side": 2_000,
    "boxes": {"pixel": 0.3, "box": 0.5, "growth": 2.0},
    "text_probability": 0.5,
    "turned_probability": 0.9,
    "line_width": [320, 3_200],
}
PIXELS = {"dtype": "float32", "shape": ["n", 3, "height", "width"]}


def convert(source: Path, made: Path) -> Converted:
    """Raises ModelRefused if a file is missing or has no characters."""
    for name, ours in FILES.items():
        shutil.copyfile(the_file(source, name), made / ours)
    metadata = OnnxNetwork(ModelFolder(made, made.name, "", "", {}, {}), READ).metadata
    if "character" not in metadata:
        raise ModelRefused(f"{READ} does not say which characters it reads")
    characters = [*metadata["character"].split("\n"), " "]  # the network's last class is the space
    (made / CHARACTERS).write_text("\n".join(characters))
    signature = {
        DETECT: {
            "inputs": {"x": PIXELS},
            "outputs": {"probabilities": {"dtype": "float32", "shape": ["n", 1, "height", "width"]}},
        },
        DIRECTION: {"inputs": {"x": PIXELS}, "outputs": {"shares": {"dtype": "float32", "shape": ["n", 2]}}},
        READ: {
            "inputs": {"x": PIXELS},
            "outputs": {"probabilities": {"dtype": "float32", "shape": ["n", "steps", len(characters) + 1]}},
        },
    }
    return Converted(CONFIG, signature, [f"The ONNX files are those of the package, unchanged. {len(characters):,} characters."])
