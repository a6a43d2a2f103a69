"""Training of text moderation: `moderation_text.py` is the order of it, `moderation_text_retrain.py` moves a version to labelled
requests.

May import: other trainers, `inference_workers/networks/`, and model folders.
Next change: one more source of texts in `moderation_text_data.py`; a way of writing that hides words in `moderation_text_disguises.py`.
"""
