"""Results of `./millrace send` for people: a few lines for each record of a result."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import Any

from infra import console
from infra.records import readable
from infra.sending.terminal_chat import summary
from schemas.catalogue import consumption
from schemas.declared.own_records import common_fields
from streams.clock import SystemClock
from streams.terminal_text import as_json as json_line


def show(task: str, result: dict[str, Any], as_json: bool) -> None:
    if as_json:
        print(json_line(result, default=readable), flush=True)
        return
    results = consumption(task).results
    result_record = results.record_name if results is not None else ""
    if result["status"] != "ok":
        error = f"{result['error_code']}: {result['error_message'] or ''}"
        console.out.print(f"[red]{console.escape(str(result['status']))}[/]  {console.escape(error)}")
        return
    SHOW.get(result_record, _show_fields)(result)
    models = ", ".join(f"{model['name']} {model['version']} ({model['arm']})" for model in result["models"])
    console.out.print(
        f"  [dim]{console.escape(models)} · batch of {result['batch_size']} · queued "
        f"{result['queue_ms']:.1f} ms · computed in {result['compute_ms']:.1f} ms\n  request {result['request_id']} · "
        f"{result['origin_topic']}/{result['origin_partition']} at offset {result['origin_offset']}[/]"
    )


def _show_verdict(result: dict[str, Any]) -> None:
    flagged = [category["category"] for category in result["categories"] if category["flagged"]]
    deciding = result["deciding"]
    part = f"  by {deciding['part']}" if deciding and deciding["part"] != "text" else ""
    console.out.print(f"[red]flagged[/]  {', '.join(flagged)}{part}" if flagged else "[green]ok[/]  nothing flagged")
    for category in sorted(result["categories"], key=lambda category: -category["probability"]):
        _show_category(category)
    if len(result["parts"]) > 1 or any(part["error_code"] or part["unseen"] for part in result["parts"]):
        for part in result["parts"]:
            _show_part(part)
    if result["not_covered"]:
        console.out.print(f"  [dim]not covered: {', '.join(result['not_covered'])}[/]")


def _show_category(category: dict[str, Any]) -> None:
    bar = "█" * round(category["probability"] * 20)
    style = "[red]" if category["flagged"] else "[dim]"
    part = "" if category["part"] == "text" else f"  in {category['part']}"
    figures = f"{category['probability']:6.3f}  of {category['threshold']:.3f}"
    console.out.print(f"  {category['category']:<16}{figures}  {style}{bar}[/]{part}")


def _show_part(part: dict[str, Any]) -> None:
    if part["error_code"]:
        console.out.print(f"  [yellow]{part['part']}: not judged, {console.escape(part['error_message'] or '')}[/]")
    else:
        not_covered = f"; not covered there: {', '.join(part['not_covered'])}" if part["not_covered"] else ""
        console.out.print(f"  [dim]{part['part']}: {part['category']} {part['probability']:.3f}{not_covered}[/]")
    if part["unseen"]:
        console.out.print(f"  [yellow]{part['part']}: not judged in full, {console.escape(part['unseen'])}[/]")


def _show_classes(result: dict[str, Any]) -> None:
    for note in result["notes"]:
        console.out.print(f"  [yellow]{console.escape(note)}[/]")
    for ranked in result["classes"]:
        bar = "█" * round(ranked["probability"] * 20)
        console.out.print(f"  {console.escape(ranked['label']):<20}{ranked['probability']:6.3f}  {bar}")


def _show_translation(result: dict[str, Any]) -> None:
    truncated = "  [yellow]the text was cut: it is longer than the model reads[/]" if result["truncated"] else ""
    console.out.print(f"[bold]{console.escape(result['text'])}[/]{truncated}")
    console.out.print(f"  [dim]{result['source']} to {result['target']}, mean log-probability {result['score']:.2f}[/]")


def _show_transcript(result: dict[str, Any]) -> None:
    console.out.print(f"[bold]{console.escape(result['text']) or '(nothing heard)'}[/]  [dim]{result['duration_s']:.2f} s[/]")
    for note in result["notes"]:
        console.out.print(f"  [yellow]{console.escape(note)}[/]")
    for word in result["words"]:
        console.out.print(
            f"  {word['start_s']:6.2f}–{word['end_s']:.2f} s  {word['probability']:.2f}  {console.escape(word['text'])}"
        )


def _show_labels(result: dict[str, Any]) -> None:
    if result.get("value") is not None:
        console.out.print(f"[bold]{result['value']:g}[/]")
    for ranked in result["labels"]:
        bar = "█" * round(ranked["probability"] * 20)
        style = "[bold]" if ranked["positive"] else "[dim]"
        console.out.print(f"  {style}{console.escape(ranked['label']):<20}{ranked['probability']:6.3f}  {bar}[/]")


def _show_entities(result: dict[str, Any]) -> None:
    if not result["entities"]:
        console.out.print("  [dim](nothing is named)[/]")
    for entity in result["entities"]:
        place = f"{entity['start']}–{entity['end']}"
        console.out.print(
            f"  {console.escape(entity['label']):<10}{entity['probability']:6.3f}  {place:<10}{console.escape(entity['text'])}"
        )


def _show_embedding(result: dict[str, Any]) -> None:
    vector = result["embedding"]
    first = ", ".join(f"{number:.4f}" for number in vector[:6])
    console.out.print(
        f"{len(vector)} numbers: {first}, …" + ("  [yellow]the end of the text was left out[/]" if result["truncated"] else "")
    )


def _show_lines(result: dict[str, Any]) -> None:
    for note in result["notes"]:
        console.out.print(f"  [yellow]{console.escape(note)}[/]")
    if not result["lines"]:
        console.out.print("  [dim](no text)[/]")
    for line in result["lines"]:
        console.out.print(f"  {line['probability']:6.3f}  {console.escape(line['text'])}")


def _show_recommendation(result: dict[str, Any]) -> None:
    console.out.print(
        f"[bold]{len(result['items'])} items[/] for {console.escape(result['user_id']) or 'nobody'}  [dim]by {result['basis']} · "
        f"{result['candidates']} candidates of {result['index_items']} · {result['seen']} seen · index "
        f"{console.escape(result['index_version'])}[/]"
    )
    for note in result["notes"]:
        console.out.print(f"  [yellow]{console.escape(note)}[/]")
    rows = [
        (str(rank), item["item_id"], item["title"], f"{item['score']:.3f}", item["reason"])
        for rank, item in enumerate(result["items"], 1)
    ]
    if rows:
        console.table("", ("rank", "item", "title", "score", "why"), rows, right=("rank", "score"))
    for view in dict.fromkeys(feature["name"].partition(".")[0] for feature in result["feature_values"]):
        console.out.print(f"  [dim]{console.escape(_view_line(view, result['feature_values']))}[/]")


def _view_line(view: str, features: Sequence[dict[str, Any]]) -> str:
    """The features of a view with their age; those that are 0 are left out."""
    mine = [feature for feature in features if feature["name"].startswith(f"{view}.")]
    state, event_ms = mine[0]["state"], mine[0]["event_time_ms"]
    age = f", last event {(SystemClock().now_ms() - event_ms) / 1000:.0f} s ago" if event_ms else ""
    named = [(feature["name"].partition(".")[2], feature["value"]) for feature in mine if feature["value"] not in ("0", "")]
    values = [value if value.endswith(name) else f"{name} {value}" for name, value in named]
    return f"{view} {state}{age}: {' · '.join(values)}" if state in ("fresh", "stale") else f"{view} {state}"


def _show_answer(result: dict[str, Any]) -> None:
    console.out.print(f"[bold]{console.escape(result['text'])}[/]")
    console.out.print(f"[dim]{console.escape(summary(result))}[/]")


def _show_fields(result: dict[str, Any]) -> None:
    """The own fields of a task whose code is somebody's own."""
    for name, value in result.items():
        if name not in COMMON_FIELDS:
            console.out.print(f"  {name}: {console.escape(json_line(value, default=readable))}")


COMMON_FIELDS = frozenset(field["name"] for field in common_fields())
# By the record of the result.
SHOW: dict[str, Callable[[dict[str, Any]], None]] = {
    "moderation-verdict": _show_verdict,
    "vision-result": _show_classes,
    "translation-result": _show_translation,
    "transcription-result": _show_transcript,
    "text-classification-result": _show_labels,
    "tabular-result": _show_labels,
    "token-classification-result": _show_entities,
    "embedding-result": _show_embedding,
    "ocr-result": _show_lines,
    "recommendation-result": _show_recommendation,
    "chat-result": _show_answer,
}
