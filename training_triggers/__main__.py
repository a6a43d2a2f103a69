"""`python -m training_triggers train NAME --data DIR --out DIR`."""

from training_triggers.cli import main

if __name__ == "__main__":
    main()
