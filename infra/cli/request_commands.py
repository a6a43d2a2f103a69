"""Commands that send requests and follow them: `send`, `request`, `monitor`, `review …`."""

from __future__ import annotations

import sys
from pathlib import Path
from typing import Annotated

import typer

from infra.subcommands import Json, settings

PANEL = "Ask and watch"

app = typer.Typer()
review_app = typer.Typer(no_args_is_help=True, help="List content items that wait for a person, and decide.")


@app.command(rich_help_panel=PANEL)
def send(
    task: Annotated[
        str, typer.Argument(help="moderation, vision, translation, transcription, recommendation, or a declared task.")
    ],
    text: Annotated[list[str] | None, typer.Option(help="A text to send. May be repeated.")] = None,
    file: Annotated[list[Path] | None, typer.Option(help="A file whose content is sent as one text. May be repeated.")] = None,
    image: Annotated[list[Path] | None, typer.Option(help="An image file. May be repeated.")] = None,
    video: Annotated[Path | None, typer.Option(help="A video file, for moderation.")] = None,
    audio: Annotated[list[Path] | None, typer.Option(help="A sound file, for transcription. May be repeated.")] = None,
    source: Annotated[str, typer.Option(help="Language of the text, for translation.")] = "en",
    target: Annotated[str, typer.Option(help="Language to translate into.")] = "fr",
    top: Annotated[int, typer.Option(help="Number of classes to return, for vision.", min=1, max=10_000)] = 5,
    author: Annotated[str | None, typer.Option(help="Author of the item, for moderation.")] = None,
    user: Annotated[list[str] | None, typer.Option(help="Id of a user, for recommendation. May be repeated.")] = None,
    limit: Annotated[int, typer.Option(help="Number of items to return, for recommendation.")] = 20,
    jsonl: Annotated[
        Path | None,
        typer.Option(help='File with one JSON request per line; {"file": "path"} stands for media; - reads standard input.'),
    ] = None,
    request: Annotated[list[str] | None, typer.Option(help="A request as JSON, for any task. May be repeated.")] = None,
    key: Annotated[
        list[str] | None, typer.Option(help="Key of each request, in their order; its result has it too. Its id if left out.")
    ] = None,
    key_field: Annotated[
        str, typer.Option(help="Field of each line of --jsonl that is the request's key; it is not sent otherwise.")
    ] = "",
    deadline_ms: Annotated[
        int, typer.Option(help="Milliseconds to wait for each answer, counted from sending.", min=1, max=86_400_000)
    ] = 10_000,
    as_json: Json = False,
) -> None:
    """Send requests and print the answers in input order.

    Without texts, files or --jsonl it reads texts from standard input, one per line."""
    from infra.sending import send as run
    from infra.sending.request_input import Given

    given = Given(
        text or [],
        file or [],
        image or [],
        video,
        audio or [],
        source,
        target,
        top,
        author,
        user or [],
        limit,
        jsonl,
        request or [],
        key or [],
        key_field,
    )
    sys.exit(run.run(settings(), task, given, deadline_ms, as_json))


@app.command(rich_help_panel=PANEL)
def nearest(
    task: Annotated[str, typer.Argument(help="A declared task of kind embedding with a sink.")],
    text: Annotated[str, typer.Option(help="The text to compare with.")],
    limit: Annotated[int, typer.Option(help="Maximum number of keys to print.", min=1, max=10_000)] = 10,
    deadline_ms: Annotated[int, typer.Option(help="Milliseconds to wait for the text's vector.", min=1, max=86_400_000)] = 10_000,
    as_json: Json = False,
) -> None:
    """Find the keys whose vectors are nearest to a text's."""
    from infra.running import command_environment
    from infra.subcommands import python

    current = settings()
    words = [f"--text={text}", "--limit", str(limit), "--deadline-ms", str(deadline_ms), *(["--json"] if as_json else [])]
    sys.exit(python("inference_workers", "nearest", *words, "--", task, **command_environment(current)))


@app.command(rich_help_panel=PANEL)
def chat(
    system: Annotated[str | None, typer.Option(help="What the model is told first, such as how to answer.")] = None,
    temperature: Annotated[float, typer.Option(help="0 takes the most probable words; up to 2.", min=0.0, max=2.0)] = 0.0,
    top_p: Annotated[float, typer.Option(help="Probability mass that words are chosen from.", min=0.01, max=1.0)] = 1.0,
    max_tokens: Annotated[int, typer.Option(help="Most tokens of an answer.", min=1, max=1_000_000)] = 256,
    seed: Annotated[int | None, typer.Option(help="Equal seeds give equal answers.")] = None,
    deadline_ms: Annotated[
        int, typer.Option(help="Milliseconds to wait for each answer, counted from sending.", min=1, max=86_400_000)
    ] = 120_000,
) -> None:
    """Talk with the chat model, on the terminal.

    `./millrace up --with chat` starts it. Piped, each line of standard input is a question, and the answers are all that is printed."""
    from infra.sending import terminal_chat

    options = {"temperature": temperature, "top_p": top_p, "max_tokens": max_tokens, "seed": seed}
    sys.exit(terminal_chat.run(settings(), system, options, deadline_ms))


@app.command(rich_help_panel=PANEL)
def serve(
    port: Annotated[int, typer.Option(help="Port to listen on.", min=1, max=65_535)] = 8000,
    host: Annotated[
        str, typer.Option(help="Address to listen on; others than this machine's need MILLRACE_DOOR_TOKEN.")
    ] = "127.0.0.1",
) -> None:
    """Serve OpenAI's API over the topics, until Ctrl-C.

    It has chat, completions, embeddings and models."""
    from infra.running import command_environment
    from infra.subcommands import python

    current = settings()
    environment = command_environment(current)
    print(f"http://{host}:{port}/v1", file=sys.stderr)
    sys.exit(python("infra.openai_door", "--port", str(port), "--host", host, **environment))


@app.command(rich_help_panel=PANEL)
def request(request_id: Annotated[str, typer.Argument(help="Id of the request.")], as_json: Json = False) -> None:
    """Follow one request through the topics, from input to result."""
    from infra.cli import record_lines

    sys.exit(record_lines.request(settings(), request_id, as_json))


@app.command(rich_help_panel=PANEL)
def monitor(
    tokens: Annotated[
        bool, typer.Option("--tokens", help="Print the tokens that unlock its actions, one role per line.")
    ] = False,
    name: Annotated[str, typer.Option(help="Print tokens for this person; the audit records the name.")] = "",
    as_json: Json = False,
) -> None:
    """Print the address of the monitor; start it if needed."""
    from infra.cli import open_monitor

    open_monitor.run(settings(), tokens, as_json, name)


@review_app.command("list")
def review_list(as_json: Json = False) -> None:
    """List the items that wait for a decision, oldest first."""
    from infra.cli import review

    review.show(settings(), as_json)


@review_app.command("decide")
def review_decide(
    content_id: Annotated[str, typer.Argument(help="Id of the content item.")],
    action: Annotated[str, typer.Argument(help="allow or remove.")],
    category: Annotated[
        list[str] | None,
        typer.Option(help="A category that holds for the item; the flagged ones if left out. May be repeated."),
    ] = None,
    part: Annotated[
        str | None, typer.Option(help="Part of the item that the categories hold for, as the verdict names it: text, image 2.")
    ] = None,
    note: Annotated[str | None, typer.Option(help="Reason for the decision, stored with the label.")] = None,
    as_json: Json = False,
) -> None:
    """Decide on an item: writes a label and changes its action."""
    from infra.cli import review

    review.decide(settings(), review.Decision(content_id, action, tuple(category or ()), part, note), as_json)


app.add_typer(review_app, name="review", rich_help_panel=PANEL)
