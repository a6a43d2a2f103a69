"""Takes a candidate that passed the gate to the live version, or back. One process decides it.

`controller.py` is the loop; it derives its state from topics alone. `decisions.py` holds the pure decisions on canaries and
watched versions; `rollout_topics.py` is the access to Kafka.

May import: everything of this package except `runs/`.
Next change: a new decision goes into `decisions.py`. `tests/unit/training_triggers/test_rollout.py` crashes it after every write.
"""
