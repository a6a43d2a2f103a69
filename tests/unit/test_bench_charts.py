"""Charts of the benchmarks, and how rounds become figures."""

from __future__ import annotations

from collections import defaultdict
from xml.etree import ElementTree

import pytest

from tests.benchmarks import latency, processes
from tests.benchmarks.svg import Line, Point, lines


def texts(svg: str) -> list[str]:
    return [element.text or "" for element in ElementTree.fromstring(svg).iter() if element.tag.endswith("text")]


def test_a_chart_has_a_line_and_a_name_for_each_series_inside_its_page() -> None:
    svg = lines(
        "Title & more", "workers", [Line("ours", [Point(1, 10, 8, 12), Point(4, 47)], ours=True), Line("theirs", [Point(4, 47)])]
    )
    root = ElementTree.fromstring(svg)
    width, height = map(float, root.attrib["viewBox"].split()[2:])
    assert len([element for element in root.iter() if element.tag.endswith("polyline")]) == 2
    assert {"Title & more", "ours", "theirs", "workers", "50"} <= set(texts(svg))
    for element in root.iter():
        for name, limit in (("x", width), ("x1", width), ("cx", width), ("y", height), ("y1", height), ("cy", height)):
            assert 0 <= float(element.attrib.get(name, 0)) <= limit
    with pytest.raises(ValueError, match="no point"):
        lines("Title", "workers", [])


def test_latency_takes_medians_of_rounds_and_the_fewest_answers() -> None:
    runs: latency.Runs = defaultdict(list)
    for delivery in latency.DELIVERIES:
        runs[delivery, "highest rate", 1.0] += [1_000.0, 3_000.0, 2_000.0]
        for share in latency.SHARES:
            runs[delivery, "answered", share] += [1.0, 0.97, 1.0]
            for q in latency.QUANTILES:
                runs[delivery, f"p{q}", share] += [q * 3.0, q * 1.0, q * 2.0]
    figures = latency.figures_of(runs)
    p99 = next(one for one in figures if one["name"] == "latency p99 at 50% of the highest rate, exactly-once")
    assert (p99["value"], p99["spread"], p99["answered"], p99["rate"]) == (198.0, [99.0, 297.0], 0.97, 1_000.0)
    assert {"exactly once, p99", "at least once, p50", "1,600"} <= set(texts(latency.chart(figures)))


def test_each_number_of_workers_is_drawn_beside_the_model_alone() -> None:
    figures = [
        processes._figure(model, n, [{"records_s": 900.0 * n}], [{"records_s": 1_000.0 * n}])
        for model in processes.MODELS
        for n in processes.WORKERS
    ]
    assert {one["ratio"] for one in figures} == {0.9}
    assert {"Millrace, 1 ms", "model alone, 0.1 ms", "4"} <= set(texts(processes.chart(figures)))
