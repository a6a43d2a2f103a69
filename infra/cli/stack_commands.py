"""Commands that start and stop: `demo`, `setup`, `doctor`, `up`, `down`, `clean`."""

from __future__ import annotations

import sys
from typing import Annotated

import typer

from infra.subcommands import Json, Monitored, settings, with_monitor

PANEL = "Start and stop"
PARTS = ("features", "recommendation", "training", "connect", "chat")

app = typer.Typer()


@app.command(rich_help_panel=PANEL)
def demo(
    count: Annotated[int, typer.Option(help="Number of texts to send.", min=1, max=1_000_000)] = 400,
    keep: Annotated[bool, typer.Option("--keep", help="Leave the stack running afterwards.")] = False,
    drift: Annotated[
        bool, typer.Option("--drift", help="Run the drift demo: the traffic changes and a model is retrained for it.")
    ] = False,
    model: Annotated[
        str,
        typer.Option(
            help="Model of the drift demo: moderation-text, vision-digits (needs torch and MNIST), or recommendation (needs torch and "
            "the packages of features)."
        ),
    ] = "moderation-text",
    monitor: Monitored = True,
) -> None:
    """Start everything, send texts, print verdicts and a summary."""
    if drift:
        from infra.demo import drift_demo

        drift_demo.run(with_monitor(monitor), model, keep)
        return
    from infra.demo import moderation_demo

    moderation_demo.run(with_monitor(monitor), count, keep)


@app.command(rich_help_panel=PANEL)
def setup(
    groups: Annotated[
        list[str] | None,
        typer.Argument(help="Optional parts to fetch too: features, mlflow, huggingface, chat, vectors, views, s3, train."),
    ] = None,
) -> None:
    """Download what `up` and `demo` need, without starting it."""
    from infra.local import stack

    stack.fetch(settings(), with_features="features" in (groups or []))
    print("ready: `./millrace demo`")


@app.command(rich_help_panel=PANEL)
def doctor(as_json: Json = False) -> None:
    """Check Python, memory, disk, downloads, ports and processes.

    Each row that fails names the command that fixes it; the exit code is 1 if any row fails."""
    from infra.cli import doctor as run

    sys.exit(run.run(settings(), as_json))


@app.command(rich_help_panel=PANEL)
def up(
    with_: Annotated[
        list[str] | None,
        typer.Option(
            "--with",
            help="Optional part to start too: features (Redis, Flink, sinks, archive), recommendation (features, the task and a "
            "shop's generated traffic), training (drift detection and retraining), connect (Kafka Connect) or chat (a language "
            "model, and OpenAI's API). May be repeated.",
        ),
    ] = None,
    monitor: Monitored = True,
) -> None:
    """Start broker, registry, workers and monitor.

    Processes that run already are left alone, and data of earlier runs is kept."""
    from infra import better_models, console
    from infra.local import stack

    parts = set(with_ or [])
    if unknown := parts.difference(PARTS):
        raise typer.BadParameter(f"--with {', '.join(sorted(unknown))}: the optional parts are {', '.join(PARTS)}")
    current = with_monitor(monitor)
    running = stack.up(
        current,
        with_features=bool(parts & {"features", "recommendation"}),
        with_recommendation="recommendation" in parts,
        with_training="training" in parts,
        with_connect="connect" in parts,
        with_chat="chat" in parts,
    )
    addresses = [("Kafka", running.bootstrap), ("registry", running.registry)]
    if running.redis and parts & {"features", "recommendation"}:
        cluster = running.find("jobmanager")
        addresses += [("Redis", running.redis), ("Flink", cluster.address if cluster else "")]
    for title, name in (("Kafka Connect", "connect"), ("OpenAI's API", "openai"), ("monitor", "monitor")):
        server = running.find(name)
        if server is not None and server.alive():
            addresses.append((title, server.address))
    console.out.print()
    for title, address in addresses:
        console.out.print(f"  {title} {address}")
    console.out.print("  `./millrace down` stops them")
    if "recommendation" in parts:
        console.out.print("  `./millrace send recommendation --user u-42` asks for recommendations")
    if line := better_models.fetch_line(current):
        console.out.print(f"  [dim]{line}[/]")


@app.command(rich_help_panel=PANEL)
def down() -> None:
    """Stop what `up` started. Data is kept."""
    from infra import console
    from infra.local import stack

    stopped = stack.down(settings())
    console.out.print(f"stopped: {', '.join(stopped)}" if stopped else "nothing was running")


@app.command(rich_help_panel=PANEL)
def clean(yes: Annotated[bool, typer.Option("--yes", help="Do not ask for confirmation.")] = False) -> None:
    """Delete everything that setup and the stack wrote, data too.

    It asks first, and refuses while a process of the stack runs."""
    from infra import clean as run

    sys.exit(run.main(["--yes"] if yes else []))
