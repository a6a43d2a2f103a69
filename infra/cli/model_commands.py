"""Commands of models and of the loop that retrains: `models …`, `drift …`, `training …`. `training_triggers` does the work."""

from __future__ import annotations

import sys
from pathlib import Path
from typing import Annotated

import typer

from infra.settings import ROOT
from infra.subcommands import PASSED_ON, Json, python, settings, within

models_app = typer.Typer(no_args_is_help=True, help="Models: train, promote, see who is live.")
drift_app = typer.Typer(no_args_is_help=True, help="Drift: what is watched, and what was found.")
training_app = typer.Typer(no_args_is_help=True, help="Training runs: what was asked for, why, and what became of it.")


@models_app.command("train")
def models_train(
    name: Annotated[str, typer.Argument(help="A model, for instance vision-digits.")],
    data: Annotated[Path | None, typer.Option(help="Folder of the public data sets.")] = None,
    out: Annotated[Path | None, typer.Option(help="Model folder to write; the shipped one if left out.")] = None,
    version: str = "1",
) -> None:
    """Train a model on public data and write its folder, with card and digests; register it where MILLRACE_MLFLOW is set."""

    target = out or ROOT / "inference_workers" / "shipped" / name
    from infra.running import mlflow_address

    where = data or Path(settings().data)
    words = ("train", name, "--data", str(where), "--out", str(target), "--version", version)
    sys.exit(python("training_triggers", *words, MILLRACE_MLFLOW=mlflow_address(settings())))


@models_app.command("register")
def models_register(
    folder: Annotated[Path, typer.Argument(help="A model folder.")],
    metrics: Annotated[Path | None, typer.Option(help="JSON object of measured figures.")] = None,
    as_json: Json = False,
) -> None:
    """Make a folder a version in the MLflow registry, with its config, card, signature, figures and curve."""
    _trigger("register", str(folder), *(["--metrics", str(metrics)] if metrics else []), as_json=as_json)


@models_app.command("list")
def models_list(
    name: Annotated[str, typer.Argument(help="A model; all of them if left out.")] = "", as_json: Json = False
) -> None:
    """Versions in the MLflow registry, and which is the champion."""
    _trigger("list", *([name] if name else []), as_json=as_json)


@models_app.command("promote")
def models_promote(
    name: Annotated[str, typer.Argument(help="A model, for instance vision-digits.")],
    source: Annotated[str, typer.Argument(help="Its version: a folder, shipped:NAME, hf:ID, or a number of the registry.")],
    reason: Annotated[str, typer.Option(help="Why, for those who ask later.")] = "by hand",
    as_json: Json = False,
) -> None:
    """Write a version to model-updates-v1; every worker loads it, swaps between two batches, and says so."""
    _act("promote", name, f"{source}: {reason}", "promote", name, source, f"--reason={reason}", as_json=as_json)


@models_app.command("rollback")
def models_rollback(
    name: Annotated[str, typer.Argument(help="A model.")],
    reason: Annotated[str, typer.Option(help="Why, for those who ask later.")] = "by hand",
    as_json: Json = False,
) -> None:
    """Bring back the version that answered before the last promotion."""
    _act("rollback", name, reason, "rollback", name, f"--reason={reason}", as_json=as_json)


@models_app.command("challenge")
def models_challenge(
    name: Annotated[str, typer.Argument(help="A model.")],
    source: Annotated[str | None, typer.Argument(help="A version, as `promote` takes it; none ends the arm.")] = None,
    arm: Annotated[
        str, typer.Option(help="canary answers a share of the keys; shadow answers them for the log alone.")
    ] = "canary",
    share: Annotated[float, typer.Option(help="Of the keys, above 0, at most 1.", callback=within(0.0, 1.0))] = 0.1,
    reason: Annotated[str, typer.Option(help="Why, for those who ask later.")] = "by hand",
    as_json: Json = False,
) -> None:
    """Let a version answer beside the live one, or end that. Nobody judges it: promote it, or end it."""
    words = ["challenge", name, *([source] if source else []), "--arm", arm, "--share", str(share), f"--reason={reason}"]
    _act("challenge", name, f"{arm} {source or 'ends'}, {share:.0%}: {reason}", *words, as_json=as_json)


@models_app.command("accuracy")
def models_accuracy(
    name: Annotated[str, typer.Argument(help="A model.")],
    hours: Annotated[float, typer.Option(help="How far back.", callback=within(0.0, 1e6))] = 1.0,
    as_json: Json = False,
) -> None:
    """How often it was right, over time, where labels came."""
    _trigger("accuracy", name, "--hours", str(hours), as_json=as_json)


@models_app.command("rescore", context_settings=PASSED_ON)
def models_rescore(
    context: typer.Context,
    name: Annotated[str, typer.Argument(help="A model.")],
    version: Annotated[str, typer.Argument(help="The version whose answers are no good.")],
) -> None:
    """Ask again what a version answered, exactly those offsets: --from TIME, --json."""
    _trigger("rescore", name, version, *context.args, as_json=False)


def replay_compare(context: typer.Context, model: Annotated[str, typer.Argument(help="A model.")]) -> None:
    """A candidate beside the version that answers, on recorded requests: --candidate VERSION --from TIME --to TIME --limit N."""
    _trigger("replay-compare", model, *context.args, as_json=False)


@drift_app.command("status")
def drift_status(as_json: Json = False) -> None:
    """Each watched model version: how full baseline and window are, and the newest findings."""
    _trigger("drift", as_json=as_json)


@drift_app.command("renew")
def drift_renew(model: Annotated[str, typer.Argument(help="A model.")], as_json: Json = False) -> None:
    """Begin the baselines of a model's versions anew: what it is compared with is no longer what is right."""
    _trigger("renew", model, as_json=as_json)


@training_app.command("list")
def training_list(
    model: Annotated[str, typer.Argument(help="A model; all where none is named.")] = "", as_json: Json = False
) -> None:
    """The runs that were asked for, with their reasons."""
    _trigger("runs", model, as_json=as_json)


@training_app.command("show")
def training_show(run: Annotated[str, typer.Argument(help="Key of a run.")], as_json: Json = False) -> None:
    """One run: every event, from its cause on."""
    _trigger("runs", run, as_json=as_json)


@training_app.command("request", context_settings=PASSED_ON)
def training_request(
    context: typer.Context,
    model: Annotated[str, typer.Argument(help="A model that is learnt from recorded requests, for instance moderation-text.")],
    reason: Annotated[str, typer.Option(help="Why, for those who ask later.")],
) -> None:
    """Ask for a run, as drift does: --from TIME, --option NAME=VALUE, --json."""
    _act("train", model, reason, "request", model, f"--reason={reason}", *context.args, as_json=False)


@models_app.command("reconcile")
def models_reconcile() -> None:
    """Move the registry's aliases to where model-updates-v1 says, once; `up` keeps a process that does it always."""
    _trigger("reconcile", "--once", as_json=False)


def _act(action: str, subject: str, said: str, *words: str, as_json: bool) -> None:
    """What changes something: between two lines of the audit."""
    from infra import audit
    from infra.running import environment

    where, options = environment(settings()), ["--json"] if as_json else []
    sys.exit(audit.by_hand(settings(), action, subject, said, lambda: python("training_triggers", *words, *options, **where)))


def _trigger(*words: str, as_json: bool) -> None:
    from infra.running import environment

    sys.exit(python("training_triggers", *words, *(["--json"] if as_json else []), **environment(settings())))


@models_app.command("history")
def models_history(name: str, as_json: Json = False) -> None:
    """Who was live when and why, and at which offsets workers swapped."""
    from infra.cli import model_history

    sys.exit(model_history.history(settings(), name, as_json))
