"""Commands of this package; `./millrace models …` runs them."""

from __future__ import annotations

import argparse
import json
import os
import sys
from collections.abc import Callable
from dataclasses import asdict
from pathlib import Path
from typing import Any

from schemas.errors import BadSettings, MillraceError
from schemas.vocabulary import Arm
from streams.process.arguments import real, whole
from streams.terminal_text import moment, moment_ms
from training_triggers.settings import TriggerSettings

NAMES = ("moderation-text", "moderation-image", "vision-digits", "translation-en-fr", "transcription-digits", "recommendation")


def main() -> None:
    arguments = _parser().parse_args()
    try:
        COMMANDS[arguments.command](arguments)
    except MillraceError as error:
        sys.exit(f"{error.code}: {error}")
    except BrokenPipeError:  # the reader of the output has closed it
        os.dup2(os.open(os.devnull, os.O_WRONLY), sys.stdout.fileno())


def _parser() -> argparse.ArgumentParser:
    parser = argparse.ArgumentParser(prog="training_triggers", description="Train, register, promote and roll back models.")
    commands = parser.add_subparsers(dest="command", required=True)
    _add_training(commands)
    _add_versions(commands)
    _add_drift(commands)
    _add_runs(commands)
    return parser


def _add(commands: Any, name: str, help_: str, *, as_json: bool = False, as_actor: bool = False) -> argparse.ArgumentParser:
    parser: argparse.ArgumentParser = commands.add_parser(name, help=help_)
    if as_actor:
        parser.add_argument("--actor", help="name of the person who acts; default: the current account")
    if as_json:
        parser.add_argument("--json", action="store_true", dest="as_json", help="print JSON, one object per line")
    return parser


def _add_options(parser: argparse.ArgumentParser, help_: str) -> None:
    parser.add_argument("--option", action="append", default=[], help=help_)


def _options(chosen: argparse.Namespace) -> dict[str, str]:
    """Raises BadSettings."""
    if wrong := [one for one in chosen.option if "=" not in one]:
        raise BadSettings(f"--option takes NAME=VALUE, not {', '.join(wrong)}")
    return dict(one.split("=", 1) for one in chosen.option)


def _add_training(commands: Any) -> None:
    train = _add(commands, "train", "train a model, write its folder, and register it if MILLRACE_MLFLOW names a server")
    train.add_argument("name", choices=NAMES)
    train.add_argument("--data", type=Path, required=True, help="folder of the data sets; for recommendation, `generated` too")
    train.add_argument("--out", type=Path, required=True, help="model folder to write")
    train.add_argument("--version", default="1", help="version of the model; default: 1")
    _add_options(train, "NAME=VALUE, such as towers.epochs=12; only recommendation has them; repeatable")
    serve = _add(commands, "serve", "run loops of this package in one process")
    serve.add_argument("names", nargs="+", choices=["drift", "accuracy", "decide", "launch", "rollout"])
    serve.add_argument("--slot", type=whole(0), default=0, help="number of the process; must be 0")


def _add_versions(commands: Any) -> None:
    seal = _add(commands, "seal", "write the manifest of a model folder, with a digest of every file")
    seal.add_argument("folder", type=Path)
    seal.add_argument("--name", required=True)
    seal.add_argument("--version", required=True)
    register = _add(commands, "register", "register a model folder as a version in the MLflow registry", as_json=True)
    register.add_argument("folder", type=Path)
    register.add_argument("--metrics", type=Path, help="file with a JSON object of metrics")
    promote = _add(commands, "promote", "make a version the live one", as_json=True, as_actor=True)
    promote.add_argument("name")
    promote.add_argument("source")
    promote.add_argument("--reason", required=True)
    rollback = _add(commands, "rollback", "go back to the version before the last promotion", as_json=True, as_actor=True)
    rollback.add_argument("name")
    rollback.add_argument("--reason", required=True)
    challenge = _add(commands, "challenge", "start or end a canary or shadow of the live version", as_json=True, as_actor=True)
    challenge.add_argument("name")
    challenge.add_argument("source", nargs="?", help="a version, in the form that promote takes; without it the arm is ended")
    challenge.add_argument("--arm", choices=[Arm.CANARY.value, Arm.SHADOW.value], default=Arm.CANARY.value)
    challenge.add_argument("--share", type=real(0.0, 1.0, above=True), default=0.1, help="share of the keys, above 0, at most 1")
    challenge.add_argument("--reason", required=True)
    rescore = _add(commands, "rescore", "send the requests that a version answered through the live version again", as_json=True)
    rescore.add_argument("name")
    rescore.add_argument("version")
    rescore.add_argument("--from", dest="from_", default="", help="start time; default: a day ago")
    listing = _add(commands, "list", "list versions in the MLflow registry", as_json=True)
    listing.add_argument("name", nargs="?")
    reconcile = _add(commands, "reconcile", "keep the MLflow alias `champion` at the live version")
    reconcile.add_argument("--once", action="store_true", help="repair once, then exit")


def _add_drift(commands: Any) -> None:
    _add(commands, "drift", "show what is watched and the newest findings", as_json=True)
    renew = _add(commands, "renew", "start new drift baselines for all versions of a model", as_json=True)
    renew.add_argument("model")
    accuracy = _add(commands, "accuracy", "show the accuracy of a model over time", as_json=True)
    accuracy.add_argument("model")
    accuracy.add_argument("--hours", type=real(0.0, 1e6, above=True), default=1.0, help="hours back from now; default: 1")


def _add_runs(commands: Any) -> None:
    runs = _add(commands, "runs", "show training runs, their reasons and results", as_json=True)
    runs.add_argument("only", nargs="?", default="", help="a model, or a run key for all events of that run")
    run = _add(commands, "run", "do one training run, or continue it")
    run.add_argument("run_key")
    request = _add(commands, "request", "request a training run", as_json=True, as_actor=True)
    request.add_argument("model")
    request.add_argument("--reason", required=True)
    request.add_argument("--from", dest="from_", default="", help="start time of the recorded requests to train on")
    _add_options(request, "NAME=VALUE for the trainer, such as epochs=8; repeatable")
    compare = _add(commands, "replay-compare", "compare champion and candidate on the same recorded requests", as_json=True)
    compare.add_argument("model")
    compare.add_argument("--candidate", required=True, help="a version, in the form that promote takes")
    compare.add_argument(
        "--from", dest="from_", default="", help="start time in UTC, such as 2026-05-01T12:00; default: an hour ago"
    )
    compare.add_argument("--to", default="", help="end time; default: now")
    compare.add_argument("--limit", type=whole(), default=10_000, help="maximum number of requests; default: 10000")


def _settings() -> TriggerSettings:
    from streams.process.settings import load

    return load(TriggerSettings, os.environ)


def _train(chosen: argparse.Namespace) -> None:
    from training_triggers.trainers import train  # heavy: only when something is trained

    def say(line: str) -> None:
        print(line, flush=True)

    made = train.TRAIN[chosen.name](chosen.data, chosen.out, chosen.version, say, _options(chosen))
    say(f"wrote {chosen.out}, digest {made.digest}")
    if _settings().mlflow not in ("", "local"):
        from training_triggers.versions.mlflow_registry import ModelRegistry

        found = ModelRegistry(_settings().mlflow).register(chosen.out, made.metrics, made.losses)
        say(f"registered as version {found.number} of {found.name}")


def _seal(chosen: argparse.Namespace) -> None:
    from inference_workers.models.folder import open_folder, write_manifest

    if not chosen.folder.is_dir():
        raise BadSettings(f"{chosen.folder} is not a folder")
    digest = write_manifest(chosen.folder, chosen.name, chosen.version)
    open_folder(chosen.folder, digest)
    print(f"{chosen.folder} is {chosen.name} {chosen.version}, digest {digest}")


def _register(chosen: argparse.Namespace) -> None:
    from training_triggers.versions.mlflow_registry import ModelRegistry

    metrics: dict[str, float] = json.loads(chosen.metrics.read_text()) if chosen.metrics else {}
    found = ModelRegistry(_settings().mlflow).register(chosen.folder, metrics)
    if chosen.as_json:
        print(json.dumps(asdict(found)))
    else:
        print(f"{found.name} {found.version} is version {found.number} of the registry, digest {found.digest[:12]}")


def _connected() -> tuple[Any, Any, Any]:
    """model updates, registry of schemas, clock."""
    from streams.clock import SystemClock
    from streams.kafka.config import KafkaAddress
    from streams.schema_registry import Registry
    from training_triggers.versions.compare_and_set import on_kafka

    settings, clock = _settings(), SystemClock()
    ids = Registry(settings.registry)
    return on_kafka(KafkaAddress(bootstrap=settings.bootstrap), ids, clock, "models command"), ids, clock


def _promote(chosen: argparse.Namespace) -> None:
    from training_triggers.versions.promotion import announce, find_source

    source = find_source(chosen.name, chosen.source, _settings().mlflow)
    log, _, clock = _connected()
    _said(chosen, announce(chosen.name, source, chosen.reason, log, clock, chosen.actor))


def _rollback(chosen: argparse.Namespace) -> None:
    from training_triggers.versions.promotion import roll_back

    log, _, clock = _connected()
    _said(chosen, roll_back(chosen.name, f"rollback: {chosen.reason}", log, clock, chosen.actor))


def _challenge(chosen: argparse.Namespace) -> None:
    from training_triggers.versions.promotion import challenge, find_source

    source = find_source(chosen.name, chosen.source, _settings().mlflow) if chosen.source else None
    log, _, clock = _connected()
    made = challenge(chosen.name, source, chosen.arm, chosen.share, chosen.reason, log, clock, chosen.actor)
    _said(chosen, made)


def _said(chosen: argparse.Namespace, update: Any) -> None:
    if chosen.as_json:
        print(json.dumps(asdict(update)))
    else:
        print(f"{update.model} {update.version} is announced; `./millrace models history {update.model}` shows who swapped")


def _rescore(chosen: argparse.Namespace) -> None:
    from streams.clock import SystemClock
    from training_triggers.recorded.rescore import rescore

    from_ms = _time_ms(chosen.from_, SystemClock().now_ms() - 86_400_000)
    done = rescore(_settings(), chosen.name, chosen.version, from_ms, lambda words: print(words, file=sys.stderr))
    if chosen.as_json:
        print(json.dumps(asdict(done)))
    else:
        print(f"{done.requests} requests are asked again through {done.topic}; their new answers have redrive {done.redrive}")


def _list(chosen: argparse.Namespace) -> None:
    from training_triggers.versions.mlflow_registry import ModelRegistry

    registry = ModelRegistry(_settings().mlflow)
    for name in [chosen.name] if chosen.name else registry.names():
        for one in registry.versions(name):
            if chosen.as_json:
                print(json.dumps(asdict(one)))
                continue
            figures = "  ".join(f"{key} {value:.4g}" for key, value in sorted(one.metrics.items())[:4])
            print(
                f"{name:<22} {one.number:>4}  {one.version:<8} {'champion' if one.champion else '':<9} {one.digest[:12]}  {figures}"
            )


def _reconcile(chosen: argparse.Namespace) -> None:
    from schemas.topics import MODEL_UPDATES
    from streams.kafka.broadcast import KafkaBroadcast
    from streams.kafka.config import KafkaAddress
    from streams.process.shell import configure_logging, stop_event
    from training_triggers.versions.mlflow_registry import ModelRegistry
    from training_triggers.versions.reconcile import run

    settings, stopping = _settings(), stop_event()
    configure_logging(settings.log_json)
    _, ids, clock = _connected()
    broadcast = KafkaBroadcast(KafkaAddress(bootstrap=settings.bootstrap), MODEL_UPDATES.name, clock)
    run(ModelRegistry(settings.mlflow), broadcast, ids, clock, stopping.is_set, chosen.once)


def _serve(chosen: argparse.Namespace) -> None:
    from training_triggers.training_loops import serve

    sys.exit(serve(chosen.names, chosen.slot))


def _drift(chosen: argparse.Namespace) -> None:
    from training_triggers.runs import report

    report.drift(_settings(), chosen.as_json)


def _renew(chosen: argparse.Namespace) -> None:
    from training_triggers.drift import renew_baseline

    event = renew_baseline.renew(_settings(), chosen.model)
    if chosen.as_json:
        print(json.dumps(asdict(event)))
    else:
        print(
            f"the baselines of {event.model} begin anew with what it answers from {moment(event.to_ms)} on; `./millrace drift status`"
        )


def _accuracy(chosen: argparse.Namespace) -> None:
    from training_triggers.recorded.accuracy_history import over_time

    found = over_time(_settings(), chosen.model, chosen.hours)
    if chosen.as_json:
        print(json.dumps(found))
        return
    for at_ms, n, right, versions in zip(found["at_ms"], found["n"], found["right"], found["versions"], strict=True):
        if n:
            print(f"{moment(at_ms)}  {right / n:7.1%} of {n:>6}  {versions}")
    if not any(found["n"]):
        print(f"no answer of {chosen.model} met a label in the last {chosen.hours:g} h")


def _runs(chosen: argparse.Namespace) -> None:
    from training_triggers.runs import report

    report.runs(_settings(), chosen.as_json, chosen.only)


def _run(chosen: argparse.Namespace) -> None:
    from training_triggers.runs import run_process

    sys.exit(run_process.main(_settings(), chosen.run_key))


def _request(chosen: argparse.Namespace) -> None:
    from training_triggers.runs import manual_request

    options = _options(chosen)
    if chosen.from_:
        options["from_ms"] = str(_time_ms(chosen.from_, 0))
    made = manual_request.ask(_settings(), chosen.model, chosen.reason, options, chosen.actor)
    print(
        json.dumps(asdict(made))
        if chosen.as_json
        else f"asked for {made.run_key}; `./millrace training show {made.run_key}` follows it"
    )


def _replay_compare(chosen: argparse.Namespace) -> None:
    from streams.clock import SystemClock
    from training_triggers.runs import replay_compare

    now_ms = SystemClock().now_ms()
    from_ms, to_ms = _time_ms(chosen.from_, now_ms - 3_600_000), _time_ms(chosen.to, now_ms)
    found = replay_compare.run(_settings(), chosen.model, chosen.candidate, from_ms, to_ms, chosen.limit, chosen.as_json)
    sys.exit(found)


def _time_ms(text: str, default: int) -> int:
    """Raises BadSettings."""
    return moment_ms(text) if text else default


COMMANDS: dict[str, Callable[[argparse.Namespace], None]] = {
    "train": _train,
    "serve": _serve,
    "drift": _drift,
    "renew": _renew,
    "replay-compare": _replay_compare,
    "accuracy": _accuracy,
    "runs": _runs,
    "run": _run,
    "request": _request,
    "seal": _seal,
    "register": _register,
    "promote": _promote,
    "rollback": _rollback,
    "challenge": _challenge,
    "rescore": _rescore,
    "list": _list,
    "reconcile": _reconcile,
}
