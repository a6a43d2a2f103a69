"""The command line. Each command is a few lines here; what it does lives in a module of its own, imported when run."""

from __future__ import annotations

import os
import sys
from pathlib import Path
from typing import Annotated

import typer

from infra.cli.model_commands import drift_app, models_app, replay_compare, training_app
from infra.subcommands import PASSED_ON, Json, Monitored, python, settings, with_monitor
from schemas.errors import MillraceError
from streams.terminal_text import visible

app = typer.Typer(
    no_args_is_help=True,
    name="millrace",
    pretty_exceptions_enable=False,
    add_completion=False,
    help="Event-driven machine learning on Kafka. Start with `./millrace demo`.",
)
config_app = typer.Typer(no_args_is_help=True, help="Settings and where each value comes from.")
review_app = typer.Typer(no_args_is_help=True, help="Content items that wait for a person.")
app.add_typer(review_app, name="review")
features_app = typer.Typer(no_args_is_help=True, help="Features: values, freshness, history, parity.")
app.add_typer(features_app, name="features")
app.add_typer(config_app, name="config")
app.add_typer(models_app, name="models")
app.add_typer(drift_app, name="drift")
app.add_typer(training_app, name="training")


def main() -> None:
    """Errors of ours, and of the disk, end with their words and exit code 1; Ctrl-C with 130."""
    try:
        app(prog_name="./millrace")
    except MillraceError as error:
        print(f"{error.code}: {visible(str(error))}", file=sys.stderr)
        sys.exit(1)
    except BrokenPipeError:  # the reader has seen enough
        os.dup2(os.open(os.devnull, os.O_WRONLY), sys.stdout.fileno())
        sys.exit(1)
    except OSError as error:
        print(f"system: {visible(str(error))}", file=sys.stderr)
        sys.exit(1)
    except KeyboardInterrupt:
        sys.exit(130)


# --- the stack ----------------------------------------------------------------------------------------------------


@app.command()
def demo(
    count: Annotated[int, typer.Option(help="Number of texts.", min=1, max=1_000_000)] = 400,
    keep: Annotated[bool, typer.Option("--keep", help="Leave the stack up.")] = False,
    drift: Annotated[
        bool, typer.Option("--drift", help="Another story: the traffic changes, and a model learns it by itself.")
    ] = False,
    model: Annotated[
        str, typer.Option(help="Of that story: moderation-text, or vision-digits, which needs torch and MNIST.")
    ] = "moderation-text",
    monitor: Monitored = True,
) -> None:
    """Start everything, send real texts, watch the verdicts, sum up."""
    if drift:
        from infra.demo import drift_demo

        drift_demo.run(with_monitor(monitor), model, keep)
        return
    from infra.demo import moderation_demo as run

    run.run(with_monitor(monitor), count, keep)


@app.command()
def up(
    with_: Annotated[
        list[str] | None,
        typer.Option(
            "--with",
            help="Further parts: features (Redis, Flink, sinks, archive), training (detectors), connect (Kafka Connect).",
        ),
    ] = None,
    monitor: Monitored = True,
) -> None:
    """Start broker, registry, workers and monitor; what is up already is left alone. Data of last time is kept."""
    from infra import console
    from infra.local import stack

    parts = set(with_ or [])
    if parts - {"features", "training", "connect"}:
        raise typer.BadParameter(f"--with {', '.join(sorted(parts))}: there are features, training and connect")
    running = stack.up(
        with_monitor(monitor),
        with_features="features" in parts,
        with_training="training" in parts,
        with_connect="connect" in parts,
    )
    console.out.print(f"\n  Kafka {running.bootstrap}\n  registry {running.registry}")
    if running.redis and "features" in parts:
        cluster = running.find("jobmanager")
        console.out.print(f"  Redis {running.redis}\n  Flink {cluster.address if cluster else ''}")
    connect = running.find("connect")
    if connect is not None and connect.alive():
        console.out.print(f"  Kafka Connect {connect.address}")
    watched = running.find("monitor")
    if watched is not None and watched.alive():
        console.out.print(f"  monitor {watched.address}")
    console.out.print("  `./millrace down` stops them")


@app.command()
def monitor(
    tokens: Annotated[bool, typer.Option("--tokens", help="Print the tokens that unlock its actions, a role a line.")] = False,
    name: Annotated[str, typer.Option(help="Print tokens that act as this person, whose name the audit then has.")] = "",
    as_json: Json = False,
) -> None:
    """The stream monitor in a browser: the address of the one that runs, or start it."""
    from infra.cli import open_monitor

    open_monitor.run(settings(), tokens, as_json, name)


@app.command()
def down() -> None:
    """Stop what `up` started, and nothing else. Data is kept."""
    from infra import console
    from infra.local import stack

    stopped = stack.down(settings())
    console.out.print(f"stopped: {', '.join(stopped)}" if stopped else "nothing of ours was running")


@app.command()
def status(as_json: Json = False) -> None:
    """Processes of the stack, and what each worker says of itself."""
    from infra.cli import show

    show.status(settings(), as_json)


@app.command()
def logs(
    name: Annotated[str, typer.Argument(help="A process of `status`; all of them if left out.")] = "",
    lines: Annotated[int, typer.Option(help="Lines from the end.", min=1, max=1_000_000)] = 30,
) -> None:
    """The last lines of the processes' logs."""
    from infra.cli import show

    show.logs(settings(), name, lines)


@app.command()
def clean(yes: Annotated[bool, typer.Option("--yes", help="Without a question.")] = False) -> None:
    """Remove everything that set-up and the stack wrote, data included, after `down`; it asks first."""
    from infra import clean as run

    sys.exit(run.main(["--yes"] if yes else []))


@app.command()
def setup(
    groups: Annotated[
        list[str] | None, typer.Argument(help="Further parts: features, mlflow, huggingface, views, s3, train.")
    ] = None,
) -> None:
    """Fetch all that `up` and `demo` need, and start nothing. Further parts are fetched by name."""
    from infra.local import stack

    stack.fetch(settings(), with_features="features" in (groups or []))
    print("ready: `./millrace demo`")


@app.command()
def doctor(as_json: Json = False) -> None:
    """What is missing, who holds a port, how much memory there is, and the command that mends it."""
    from infra.cli import doctor as run

    sys.exit(run.run(settings(), as_json))


# --- requests and topics ------------------------------------------------------------------------------------------


@app.command()
def send(
    task: Annotated[str, typer.Argument(help="moderation, vision, translation or transcription.")],
    text: Annotated[list[str] | None, typer.Option(help="A text; may be given more than once.")] = None,
    file: Annotated[list[Path] | None, typer.Option(help="A file whose content is a text.")] = None,
    image: Annotated[list[Path] | None, typer.Option(help="A picture; may be given more than once.")] = None,
    video: Annotated[Path | None, typer.Option(help="A video, for moderation.")] = None,
    audio: Annotated[list[Path] | None, typer.Option(help="A sound, for transcription.")] = None,
    source: Annotated[str, typer.Option(help="Language of the text, for translation.")] = "en",
    target: Annotated[str, typer.Option(help="Language that is wanted.")] = "fr",
    top: Annotated[int, typer.Option(help="How many classes to name, for vision.", min=1, max=10_000)] = 5,
    author: Annotated[str | None, typer.Option(help="Who wrote the item, for moderation.")] = None,
    jsonl: Annotated[
        Path | None, typer.Option(help='One request a line, as JSON; {"file": "path"} stands for media; - is standard input.')
    ] = None,
    deadline_ms: Annotated[
        int, typer.Option(help="How long anybody waits for each answer, from when it is sent.", min=1, max=86_400_000)
    ] = 10_000,
    as_json: Json = False,
) -> None:
    """Send requests and print the answers, in the order of the input. Reads texts from standard input if given none."""
    from infra.cli import send as run

    given = run.Given(
        text or [], file or [], image or [], video, audio or [], source=source, target=target, top=top, author=author, jsonl=jsonl
    )
    sys.exit(run.run(settings(), task, given, deadline_ms, as_json))


@review_app.command("list")
def review_list(as_json: Json = False) -> None:
    """Content items that wait for a person."""
    from infra.cli import review

    review.show(settings(), as_json)


@review_app.command("decide")
def review_decide(
    content_id: str,
    action: Annotated[str, typer.Argument(help="allow or remove.")],
    category: Annotated[list[str] | None, typer.Option(help="What the item truly is; what was flagged, if left out.")] = None,
    part: Annotated[str | None, typer.Option(help="Where that is, as the verdict names it: text, image 2.")] = None,
    note: Annotated[str | None, typer.Option(help="Why, in words.")] = None,
    as_json: Json = False,
) -> None:
    """Decide on an item: it comes back as a label, and as the item's action."""
    from infra.cli import review

    review.decide(settings(), content_id, action, category or [], note, as_json, part)


@app.command()
def tail(
    topic: Annotated[str, typer.Argument(help="A topic of the catalogue, or a retry or dead-letter topic.")],
    limit: Annotated[int, typer.Option("--limit", "-n", help="Stop after so many records; 0 goes on.", min=0)] = 0,
    first: Annotated[bool, typer.Option("--first", help="From the first record kept, not from now on.")] = False,
    as_json: Json = False,
) -> None:
    """Decoded records of a topic, live."""
    from infra.cli import show

    show.tail(settings(), topic, limit, first, as_json)


@app.command()
def topics(
    provision: Annotated[bool, typer.Option("--provision", help="Create and register what is missing.")] = False,
    as_json: Json = False,
) -> None:
    """Every topic of the catalogue: records, guarantee, lag."""
    from infra.cli import show

    show.topics(settings(), provision, as_json)


@app.command()
def request(request_id: str, as_json: Json = False) -> None:
    """One request's way through the topics: request, batch, result, dead letter."""
    from infra.cli import show

    sys.exit(show.request(settings(), request_id, as_json))


# --- features -----------------------------------------------------------------------------------------------------


@features_app.command("list")
def features_list(as_json: Json = False) -> None:
    """Every feature: view, type, default, meaning."""
    from infra.cli import feature_lag

    feature_lag.show(as_json)


@features_app.command("freshness")
def features_freshness(as_json: Json = False) -> None:
    """How far each step is behind, and how old values were when they could be read."""
    from infra.cli import feature_lag

    feature_lag.freshness(settings(), as_json)


@features_app.command("get", context_settings=PASSED_ON)
def features_get(context: typer.Context) -> None:
    """The values of entities in the online store: user|item ID …"""
    flags = [word for word in context.args if word == "--json"]
    words = [word for word in context.args if word != "--json"]
    _feature_job("get", *flags, *words[:1], "--", *words[1:])  # an id may begin with a hyphen


@features_app.command("clear", context_settings=PASSED_ON)
def features_clear(context: typer.Context) -> None:
    """Remove a view from the online store: user|item. Sinks that run write it anew."""
    _feature_job("clear", *context.args)


@features_app.command("backfill", context_settings=PASSED_ON)
def features_backfill(context: typer.Context) -> None:
    """Write the offline history: --from DAY --to DAY."""
    _feature_job("backfill", *context.args)


@features_app.command("training-set", context_settings=PASSED_ON)
def features_training_set(context: typer.Context) -> None:
    """Labels joined with the features of their time: --labels FILE --out FILE."""
    _feature_job("training-set", *context.args)


@features_app.command("parity", context_settings=PASSED_ON)
def features_parity(context: typer.Context) -> None:
    """Compare the online store with the archive: --sample N."""
    _feature_job("parity", *context.args)


@app.command(context_settings=PASSED_ON)
def generate(context: typer.Context) -> None:
    """Shop traffic on user-events-v1: --rate, --seconds, --days, --users, --items, --seed."""
    _feature_job("generate", *context.args)


@app.command(context_settings=PASSED_ON)
def replay(context: typer.Context, name: Annotated[str, typer.Argument(help="movielens.")]) -> None:
    """Recorded events on user-events-v1, in event time: --speed."""
    if name != "movielens":
        raise typer.BadParameter(f"no recording {name}; there is movielens")
    _feature_job("replay", "--data", str(Path(settings().data) / "movielens_100k"), *context.args)


def _feature_job(*words: str) -> None:
    from infra.local import run_state, stack

    found = settings()
    sys.exit(python("feature_jobs", *words, **stack.environment(found, run_state.require(found.run_folder))))


# --- settings ------------------------------------------------------------------------------------------


@config_app.command("show")
def config_show(as_json: Json = False) -> None:
    """Every setting: its value, and whether a variable or the default gave it."""
    from infra.cli import show

    show.config(as_json)


app.command("replay-compare", context_settings=PASSED_ON)(replay_compare)


# --- the project's own checks -------------------------------------------------------------------------------------


@app.command(context_settings=PASSED_ON)
def test(context: typer.Context) -> None:
    """All tests, those on real servers included. Further words go to pytest."""
    from infra.cli import checks

    sys.exit(checks.test(settings(), context.args))


@app.command()
def check() -> None:
    """Format, lint, types, import order, generated files. Changes nothing."""
    from infra.cli import checks

    sys.exit(checks.check())


@app.command()
def fix() -> None:
    """Format, mend what lint can mend, write generated files."""
    from infra.cli import checks

    sys.exit(checks.fix())


@app.command(context_settings=PASSED_ON)
def bench(context: typer.Context, name: str, as_json: Json = False) -> None:
    """A benchmark beside its references: worker, tasks, swap, features, drift, gate, retraining, monitor."""
    from infra.local import stack

    stack.fetch(settings())
    extra = ["--json"] if as_json else []
    sys.exit(python(f"tests.benchmarks.{name}", *context.args, *extra, MILLRACE_HOME=settings().home))


@app.command(context_settings=PASSED_ON)
def chaos(context: typer.Context) -> None:
    """Kill, freeze and restart at random for a while, then check the ledger. `--seconds`, `--seed`, `--seeds`, `--scale`."""
    from infra.local import stack

    stack.fetch(settings())
    sys.exit(python("tests.chaos.storm", *context.args, MILLRACE_HOME=settings().home))


@app.command(context_settings=PASSED_ON)
def mutate(context: typer.Context) -> None:
    """Small faults in the loop, and whether its tests see them. `--sample`, `--seed`, `--module`, `--list`, `--json`."""
    sys.exit(python("tests.mutate", *context.args))
