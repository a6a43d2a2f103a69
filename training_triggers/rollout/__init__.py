"""From a candidate that passed the gate to the version that answers, or back. One process decides it.

`controller.py` holds the decisions and no state of its own: it derives everything from topics; `rollout_topics.py` is its access to
Kafka.

May import: everything of this package but `runs/`.
Next change: a new decision goes into `controller.py`. `tests/unit/training_triggers/test_rollout.py` crashes it after every write.
"""
