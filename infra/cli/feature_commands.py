"""Commands of features and their traffic: `features …`, `generate`, `replay`. `feature_jobs` does most of the work."""

from __future__ import annotations

import sys
from pathlib import Path
from typing import Annotated

import typer

from infra.subcommands import PASSED_ON, Json, python, settings

PANEL = "Features"

app = typer.Typer()
features_app = typer.Typer(no_args_is_help=True, help="Show feature values, freshness, history and parity.")


@features_app.command("list")
def features_list(as_json: Json = False) -> None:
    """List every feature with its view, type, default and meaning."""
    from infra.cli import feature_lag

    feature_lag.show(as_json)


@features_app.command("freshness")
def features_freshness(as_json: Json = False) -> None:
    """Show how far each step is behind, and how old values were when they became readable."""
    from infra.cli import feature_lag

    feature_lag.freshness(settings(), as_json)


@features_app.command("get", context_settings=PASSED_ON)
def features_get(context: typer.Context) -> None:
    """Print the values of entities in the online store: `get user|item ID …`, --json."""
    flags = [word for word in context.args if word == "--json"]
    words = [word for word in context.args if word != "--json"]
    _feature_job("get", *flags, *words[:1], "--", *words[1:])  # an id may begin with a hyphen


@features_app.command("clear", context_settings=PASSED_ON)
def features_clear(context: typer.Context) -> None:
    """Remove a view from the online store: `clear user|item`, --json. Running sinks write it again."""
    _feature_job("clear", *context.args)


@features_app.command("backfill", context_settings=PASSED_ON)
def features_backfill(context: typer.Context) -> None:
    """Write the offline history of a range of days: --from DAY --to DAY, --json."""
    _feature_job("backfill", *context.args)


@features_app.command("training-set", context_settings=PASSED_ON)
def features_training_set(context: typer.Context) -> None:
    """Join labels with the features as they were at each label's time: --labels FILE --out FILE, --json."""
    _feature_job("training-set", *context.args)


@features_app.command("parity", context_settings=PASSED_ON)
def features_parity(context: typer.Context) -> None:
    """Compare the online store with the archive: --sample N, --seed N, --json."""
    _feature_job("parity", *context.args)


app.add_typer(features_app, name="features", rich_help_panel=PANEL)


@app.command(context_settings=PASSED_ON, rich_help_panel=PANEL)
def generate(context: typer.Context) -> None:
    """Generate shop traffic on user-events-v1.

    Options: --rate (events per second), --seconds, --days (of history first), --users, --items, --seed, --user (u-42: visits of this person alone)."""
    _feature_job("generate", *context.args)


@app.command(context_settings=PASSED_ON, rich_help_panel=PANEL)
def replay(context: typer.Context, name: Annotated[str, typer.Argument(help="Name of the recording: movielens.")]) -> None:
    """Replay recorded events on user-events-v1, in event time.

    Option: --speed (seconds of event time per second)."""
    if name != "movielens":
        raise typer.BadParameter(f"there is no recording {name!r}; the only one is movielens")
    _feature_job("replay", "--data", str(Path(settings().data) / "movielens_100k"), *context.args)


def _feature_job(*words: str) -> None:
    from infra.local import loop_processes, run_state

    current = settings()
    environment = loop_processes.process_environment(current, run_state.require(current.run_folder))
    sys.exit(python("feature_jobs", *words, **environment))
