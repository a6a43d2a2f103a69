"""The online store's writer: tiles to windows to one blob per user or item.

`rollup.py` is the only place where windows are added up (pure; the offline store uses it too); `feature_sink.py` is the loop's
step; `attributes.py` reads profiles and items from their compacted topics.

May import: `flink/`, and `processors` and below; not `offline/`.
Next change: a feature computed from tiles goes into `Entity.values` of `rollup.py` (CONTRIBUTING.md, "A new feature").
"""
