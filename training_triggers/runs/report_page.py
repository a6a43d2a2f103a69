"""A run's report as a page: one HTML file without scripts, for people."""

from __future__ import annotations

import html
from typing import Any

SHOWN = 50
STYLE = """
:root { color-scheme: light dark; font: 15px/1.5 system-ui, sans-serif }
body { max-width: 60rem; margin: 2rem auto; padding: 0 1rem }
h1 { font-size: 1.4rem } h2 { font-size: 1.1rem; margin-top: 2rem }
table { border-collapse: collapse } td, th { padding: .2rem .9rem .2rem 0; text-align: left; border-bottom: 1px solid #8884 }
td.n { text-align: right; font-variant-numeric: tabular-nums } .passes { color: #18794e } .refused { color: #c62a2f }
@media (prefers-color-scheme: dark) { .passes { color: #4cc38a } .refused { color: #ff6369 } }
svg { max-width: 100%; height: auto } polyline { fill: none; stroke: #3e7bfa; stroke-width: 2 }
.axis { stroke: #8886 } text { fill: currentColor; font-size: 12px }
"""


def of(report: dict[str, Any]) -> str:
    verdict = "passes" if report["passes"] else "refused"
    reasons = "".join(f"<li>{_text(reason)}</li>" for reason in report["reasons"])
    notes = "".join(f"<li>{_text(note)}</li>" for note in report["notes"])
    return f"""<!doctype html>
<html lang="en"><head><meta charset="utf-8"><title>{_text(report["run_key"])}</title>
<meta name="viewport" content="width=device-width, initial-scale=1"><style>{STYLE}</style></head><body>
<h1>{_text(report["model"])}: {_text(report["candidate"])} beside {_text(report["champion"])}</h1>
<p class="{verdict}"><strong>{"May take over" if report["passes"] else "Refused"}</strong></p>{f"<ul>{reasons}</ul>" if reasons else ""}
{f"<ul>{notes}</ul>" if notes else ""}
<p>Run {_text(report["run_key"])}. Asked for because: {_text(report["reason"])}</p>
<h2>Answered right</h2>{_accuracies(report)}
<h2>Answers</h2>
<p>{report["entries"]} recorded requests of {_text(report["offsets"])} through both; {report["agreement"]:.2%} of the answers agree.
The candidate takes {report["time_ratio"]:.2f} times the champion's time and is {report["size_ratio"]:.2f} times as large.</p>
{_outputs(report)}{_changed(report)}{_curve(report["losses"])}
</body></html>
"""


def _text(value: object) -> str:
    return html.escape(str(value))


def _table(heads: tuple[str, ...], rows: list[tuple[object, ...]]) -> str:
    head = "".join(f"<th>{_text(one)}</th>" for one in heads)
    body = "".join(
        "<tr>"
        + "".join(f'<td class="n">{_text(one)}</td>' if i else f"<td>{_text(one)}</td>" for i, one in enumerate(row))
        + "</tr>"
        for row in rows
    )
    return f"<table><thead><tr>{head}</tr></thead><tbody>{body}</tbody></table>"


def _accuracies(report: dict[str, Any]) -> str:
    classes = {
        f"{name}, where it {where}": one[side]
        for name, one in report["classes"].items()
        for side, where in (("holds", "holds"), ("absent", "does not hold"))
    }
    found = {"all labelled requests held back": report["accuracy"], **report["parts"], **classes}
    rows: list[tuple[object, ...]] = [
        (name, one["labelled"], f"{one['champion']:.3f}", f"{one['candidate']:.3f}", f"{one['low']:+.3f} to {one['high']:+.3f}")
        for name, one in found.items()
        if one is not None
    ]
    if not rows:
        return "<p>None of the requests is labelled.</p>"
    return _table(("on", "examples", "champion", "candidate", "difference, 95 %"), rows)


def _outputs(report: dict[str, Any]) -> str:
    rows: list[tuple[object, ...]] = [(name, f"{ks:.3f}", f"{psi:.3f}") for name, (ks, psi) in report["drift"].items()]
    return "<h2>Outputs, candidate against champion</h2>" + _table(("output", "KS distance", "stability index"), rows)


def _changed(report: dict[str, Any]) -> str:
    if not report["changed"]:
        return ""
    rows: list[tuple[object, ...]] = [
        (f"{request_id} {part}", name, f"{was:.3f}", f"{now:.3f}")
        for request_id, part, name, was, now in report["changed"][:SHOWN]
    ]
    left = len(report["changed"]) - len(rows)
    more = f"<p>{left} more.</p>" if left > 0 else ""
    return "<h2>Decisions that changed</h2>" + _table(("request", "output", "champion", "candidate"), rows) + more


def _curve(losses: list[float]) -> str:
    if len(losses) < 2:
        return ""
    low, high = min(losses), max(losses)
    spread = (high - low) or 1.0
    points = " ".join(
        f"{50 + 500 * i / (len(losses) - 1):.1f},{160 - 140 * (one - low) / spread:.1f}" for i, one in enumerate(losses)
    )
    return f"""<h2>Training</h2><svg viewBox="0 0 600 200" role="img" aria-label="mean training loss by epoch">
<line class="axis" x1="50" y1="160" x2="550" y2="160"/><line class="axis" x1="50" y1="20" x2="50" y2="160"/><polyline points="{points}"/>
<text x="4" y="24">{high:.3f}</text><text x="4" y="164">{low:.3f}</text><text x="50" y="184">epoch 1</text>
<text x="520" y="184">epoch {len(losses)}</text></svg>"""
