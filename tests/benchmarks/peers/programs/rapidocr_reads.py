"""Reads the pictures of a file, arrays of uint8 (height, width, 3), by RapidOCR; prints the lines of each as JSON."""

import json
import sys

import numpy as np
from rapidocr_onnxruntime import RapidOCR

engine = RapidOCR()
pictures = np.load(sys.argv[1])
found = []
for name in pictures.files:
    lines, _ = engine(pictures[name][:, :, ::-1])  # it reads blue, green, red
    found.append([text for _, text, _ in lines or []])
print(json.dumps(found))
