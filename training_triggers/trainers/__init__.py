"""One trainer per shipped model (`vision_digits.py` …), and one per model that learns from recorded requests (`…_retrain.py`).

`train.py` and `retrain.py` list them by model; `export.py` writes model folders; `evaluation.py` measures;
`settings_search.py` is the only module that imports ray. Text moderation lies in `moderating/`.

May import: `recorded/`, `inference_workers/networks/`, `inference_workers/models/`; not the worker or its tasks.
Next change: CONTRIBUTING.md, "A model that learns from recorded requests".
"""
