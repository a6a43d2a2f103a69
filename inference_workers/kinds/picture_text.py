"""OCR: the lines of text in a picture, with their boxes."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np

from inference_workers.backends.backend import Backend, OcrReader
from inference_workers.backends.choose import ocr_reader
from inference_workers.kinds.image_classification import brightness, notes_of
from inference_workers.kinds.one_model import OneModel
from inference_workers.media.reader import MediaReader
from inference_workers.models.folder import ModelFolder
from inference_workers.networks.pictures import Pixels
from inference_workers.task import Prediction, Prepared, Use, Versions
from schemas.columns import Columns
from schemas.errors import MediaRefused, RecordError
from streams.clock import timed


@dataclass(frozen=True, slots=True)
class Picture:
    """pixels: uint8 (height, width, 3). notes: what of the file is not in the pixels."""

    pixels: Pixels
    notes: Sequence[str]


class Ocr(OneModel):
    reads_media = True

    def load(self, folder: ModelFolder, model: str) -> Backend:
        reader = ocr_reader(folder)
        reader.read([np.full((64, 256, 3), 255, np.uint8)])
        return reader

    def prepare(self, columns: Columns, versions: Versions, media: MediaReader) -> Prepared:
        inputs: list[Picture] = []
        refused: dict[int, RecordError] = {}
        reader: OcrReader = versions[self.model].backend
        for row, views in enumerate(media.pictures(columns.nested("image"), reader.fit)):
            if isinstance(views, MediaRefused):
                refused[row] = views
            else:
                inputs.append(Picture(views.views[0][1], notes_of(views)))
        return Prepared(inputs, refused)

    def predict(self, inputs: Sequence[Picture], versions: Versions) -> Prediction:
        version = versions[self.model]
        reader: OcrReader = version.backend
        pictures = [picture.pixels for picture in inputs]
        lines, compute_ms = timed(lambda: reader.read(pictures))
        confidences = np.array([np.mean([line.probability for line in of]) if of else 1.0 for of in lines], "<f4")
        return Prediction(
            results={
                "text": ["\n".join(line.text for line in of) for of in lines],
                "lines": [
                    [
                        {
                            "text": line.text,
                            "probability": line.probability,
                            "box": [side for corner in line.box for side in corner],
                        }
                        for line in of
                    ]
                    for of in lines
                ],
                "notes": [list(picture.notes) for picture in inputs],
            },
            uses=[
                Use(
                    version,
                    confidences[:, None],
                    compute_ms,
                    signals={**brightness(pictures), "lines": np.array([len(of) for of in lines], "<f4")},
                )
            ],
        )


KIND = Ocr
