"""What the `moderation` task does with the parts of content items: scores, sexual content, text in pictures, and the verdict.

`scores.py` judges parts by one model, `sexual_content.py` turns the classes of a picture model into a category, `reading.py`
reads text in pictures, and `verdicts.py` joins all scores of an item.

May import: `kinds/`, `task.py`, `content_items.py`, `backends/`, `media/`, `models/`, `networks/`; not `tasks/` or the worker.
Next change: one more model that looks at parts is one more list of `Scored` in `tasks/moderation.py`.
"""
