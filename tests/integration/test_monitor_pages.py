"""The monitor's pages: their components on Node, and the whole of it in a real Chromium on a real stack."""

from __future__ import annotations

import io
import os
import re
import shutil
import signal
import struct
import wave
import zlib
from collections.abc import Iterator
from pathlib import Path
from typing import Any, Literal

import pytest
from playwright.sync_api import Browser, Page, expect, sync_playwright

from infra.local import run_state
from infra.monitor import page_checks, safety
from infra.settings import ROOT
from schemas.codec import Encoder
from schemas.generated import ModelUpdate
from schemas.topics import CONTENT, MODEL_UPDATES, MODERATION_VERDICTS
from streams import headers as h
from streams.clock import SystemClock
from streams.ids import uuid7
from streams.kafka.sink import KafkaSink
from streams.rows import OutRecords
from tests.support.monitors import CHROMIUM_HELP, Site, chromium
from tests.support.stack import Stack
from tests.support.waiting import until

pytestmark = pytest.mark.real
HOSTILE = "<script>window.broken = 1</script><img src=x onerror='window.broken = 2'>"
PAGES = (
    "",
    "topics",
    "requests",
    "workers",
    "deadletters",
    "models",
    "drift",
    "training",
    "features",
    "users",
    "users/u-1",
    "schemas",
    "connectors",
    "audit",
)


IS_A_TEST = re.compile(r"^\s*(?:it|test)\(", re.MULTILINE)


def test_components_and_types() -> None:
    page_checks.run("format")
    page_checks.run("types")
    said = page_checks.run("tests")
    print(said)
    written = sum(len(IS_A_TEST.findall(file.read_text())) for file in (ROOT / "infra/monitor/web/src").rglob("*.test.tsx"))
    assert written > 0
    assert f"{written} passed ({written})" in said, "each test of a component ran"


@pytest.fixture(scope="module")
def browser() -> Iterator[Browser]:
    found = chromium()
    if found is None:
        words = f"no Chromium is here, so the pages were not looked at: {CHROMIUM_HELP}"
        if os.environ.get("CI"):
            pytest.fail(words)
        pytest.skip(words)
    with sync_playwright() as playwright:
        made = playwright.chromium.launch(executable_path=found, args=["--no-sandbox"] if os.geteuid() == 0 else [])
        try:
            yield made
        finally:
            made.close()


@pytest.fixture(scope="module")
def stack(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Stack]:
    made = Stack(tmp_path_factory.mktemp("pages"), "moderation policy+decisions", MILLRACE_MONITOR="true")
    try:
        up = made.run("up")
        assert up.returncode == 0, up.stdout + up.stderr
        made.connect()
        yield made
    finally:
        made.run("down")


@pytest.fixture(scope="module")
def site(stack: Stack) -> Site:
    running = run_state.read(stack.home / "run").find("monitor")
    assert running is not None
    said = stack.run("monitor", "--tokens")
    return Site(running.address, dict(line.split() for line in said.stdout.splitlines()))


@pytest.fixture
def page(browser: Browser, site: Site) -> Iterator[Page]:
    context = browser.new_context(base_url=site.base, viewport={"width": 1280, "height": 900})
    made = context.new_page()
    made.set_default_timeout(20_000)
    expect.set_options(timeout=20_000)  # some buttons wait for a command of another package
    wrong: list[str] = []
    made.on("pageerror", lambda error: wrong.append(str(error)))
    made.on("console", lambda said: wrong.append(said.text) if said.type == "error" and "status of 4" not in said.text else None)
    yield made
    assert made.evaluate("window.broken") is None
    context.close()
    assert wrong == []


def _unlock(page: Page, site: Site, role: str) -> None:
    page.get_by_role("button", name="read-only").click()
    page.get_by_label("Token").fill(safety.token_for("ada", site.tokens[role]))
    page.get_by_role("button", name="Unlock").click()
    expect(page.get_by_text(f"ada, {role}")).to_be_visible()


def _send(stack: Stack, values: list[bytes | None], key: bytes = b"k", headers: list[tuple[str, bytes]] | None = None) -> None:
    sink = KafkaSink(stack.address, None)
    own = [[(h.CE_ID, uuid7(SystemClock().now_ms()).encode()), *(headers or [])] for _ in values]
    sink.produce(OutRecords(CONTENT.name, [key] * len(values), values, own))
    sink.close()


def _texts(stack: Stack, n: int, words: str) -> list[bytes | None]:
    encoder = Encoder.of(CONTENT, stack.registry)
    return list(encoder.encode({"content_id": [f"c-{i}" for i in range(n)], "text": [words] * n}, n))


def test_the_pipeline_shows_a_lag_that_rises_and_falls(stack: Stack, page: Page) -> None:
    _send(stack, _texts(stack, 20, "before"))
    page.goto("/")
    graph = page.get_by_test_id("graph")
    for name in ("content-v1", "moderation", "moderation-verdicts-v1", "policy"):
        expect(graph.get_by_text(name, exact=True)).to_be_visible()
    cell = page.locator('[data-lag="moderation/content-v1"]')
    expect(cell).to_have_text("0")
    stack.signal("moderation-0", signal.SIGSTOP)
    try:
        _send(stack, _texts(stack, 300, "while it stands still"))
        expect(cell).to_have_text("300")
        expect(graph.locator(".edge-label.late", has_text="300")).to_be_visible()
        expect(page.get_by_label("What stands out")).to_contain_text("moderation", timeout=40_000)  # it says nothing any more
    finally:
        stack.signal("moderation-0", signal.SIGCONT)
    expect(cell).to_have_text("0", timeout=40_000)


def test_a_poison_record_is_found_mended_and_redriven(stack: Stack, site: Site, page: Page) -> None:
    _send(stack, [b"\x00\x00\x00\x00\x63poison"], key=b"poison-key")
    page.goto("/deadletters")
    page.get_by_text("undecodable").first.click()
    letter = page.get_by_role("row", name="poison-key")
    letter.get_by_role("button").click()
    dialog = page.get_by_role("dialog")
    expect(dialog.get_by_text("undecodable in decode")).to_be_visible()
    mended = dialog.get_by_label("Mended value")
    expect(mended).not_to_have_value("")  # an example of the topic that it came from
    mended.fill('{"content_id": "mended-1", "text": "all is well"}')
    dialog.get_by_role("button", name="Redrive mended").click()
    page.get_by_label("Token").fill(safety.token_for("ada", site.tokens["operator"]))
    page.get_by_role("button", name="Unlock").click()
    expect(page.get_by_label("Token")).to_have_count(0)  # what is typed before it has closed goes into it
    mended.fill('{"content_id": 5}')
    dialog.get_by_role("button", name="Dry run").click()
    expect(dialog.get_by_text("content_id: expected a text")).to_be_visible()
    mended.fill('{"content_id": "mended-1", "text": "all is well"}')
    dialog.get_by_role("button", name="Dry run").click()
    expect(dialog.get_by_text("would be sent")).to_be_visible()
    dialog.get_by_role("button", name="Redrive mended").click()
    expect(dialog.get_by_text("are being sent")).to_be_visible()
    dialog.get_by_role("button", name="Close").click()
    page.get_by_label("those redriven too").check()
    expect(page.get_by_text("redriven by ada")).to_be_visible()

    def verdicts() -> list[Any]:
        return [one for one in stack.records(MODERATION_VERDICTS.name) if one["content_id"] == "mended-1"]

    until(lambda: len(verdicts()) == 1, 30, lambda: f"{verdicts()}")
    assert verdicts()[0]["redrive"] == 1
    page.goto("/audit")
    expect(page.get_by_role("row", name="ada operator")).to_contain_text("1 of them mended")


def test_a_promotion_is_made_and_seen(stack: Stack, site: Site, page: Page, tmp_path: Path) -> None:
    from inference_workers.models.folder import SHIPPED, write_manifest

    folder = tmp_path / "v2"
    shutil.copytree(SHIPPED / "moderation-text", folder)
    write_manifest(folder, "moderation-text", "2-better")
    page.goto("/models/moderation-text")
    _unlock(page, site, "releaser")
    page.get_by_role("button", name="Promote…").click()
    page.get_by_role("textbox", name="version").fill(str(folder))
    page.get_by_role("textbox", name="why").fill("it is better")
    page.get_by_role("button", name="Promote a version").click()
    expect(page.get_by_text("is on the topic")).to_be_visible()
    page.get_by_role("button", name="Close").click()
    _send(stack, _texts(stack, 40, "which version answers"))
    expect(page.get_by_role("img", name="live 2-better from")).to_be_visible()
    expect(page.get_by_text("swapped").first).to_be_visible()
    expect(page.locator(".figure", has_text="workers answer with")).to_contain_text("2-better")
    page.get_by_role("button", name="Roll back…").click()
    page.get_by_role("textbox", name="why").fill("it was a test")
    page.get_by_role("button", name="Bring back the version before").click()
    expect(page.get_by_text("is on the topic")).to_be_visible()


def test_markup_stays_text_wherever_it_comes_from(stack: Stack, page: Page) -> None:
    update = ModelUpdate(
        model=HOSTILE, version=HOSTILE, uri="u", digest="d", reason=HOSTILE, actor=HOSTILE, decided_ms=SystemClock().now_ms()
    )
    sink = KafkaSink(stack.address, None)
    value = Encoder.of(MODEL_UPDATES, stack.registry).encode_one(update)
    sink.produce(OutRecords(MODEL_UPDATES.name, [HOSTILE.encode()], [value], [[]]))
    sink.close()
    _send(stack, _texts(stack, 1, HOSTILE), HOSTILE.encode(), [(HOSTILE, HOSTILE.encode())])
    page.goto("/topics/content-v1?match=window.broken")
    page.get_by_test_id("messages").get_by_role("listitem").first.click()
    record = page.get_by_role("complementary")
    expect(record.get_by_text(HOSTILE, exact=True).first).to_be_visible()
    expect(record.locator(".json")).to_contain_text("window.broken")
    page.goto("/models")
    expect(page.get_by_role("heading", name=HOSTILE)).to_be_visible()
    assert page.locator("main script, main img").count() == 0


def test_a_picture_and_a_sound_are_shown_behind_a_click_and_markup_is_none(stack: Stack, page: Page) -> None:
    files = [_png(), _wav(), b"<svg xmlns='http://www.w3.org/2000/svg' onload='window.broken = 3'/>"]
    images = [{"data": data, "uri": None, "sha256": None, "size": None} for data in files]
    encoder = Encoder("content", CONTENT.subject, stack.registry)
    values: list[bytes | None] = list(encoder.encode({"content_id": ["picture-1"], "images": [images]}, 1))
    _send(stack, values)
    page.goto("/topics/content-v1?match=content_id%3Dpicture-1")
    row = page.get_by_test_id("messages").get_by_role("listitem").first
    expect(row).to_contain_text("‹image/png")
    row.click()
    record = page.get_by_role("complementary")
    assert record.locator("img, audio").count() == 0
    record.get_by_role("button", name="Show picture").click()
    picture = record.get_by_role("img", name="images.0.data")
    expect(picture).to_be_visible()
    until(lambda: picture.evaluate("one => one.naturalWidth") == 3, 20, lambda: "the picture is not decoded")
    record.get_by_role("button", name="Show sound").click()
    sound = record.locator("audio")
    until(lambda: 0.09 < (sound.evaluate("one => one.duration") or 0) < 0.11, 20, lambda: "the sound is not decoded")
    assert record.get_by_role("button", name="Show").count() == 0  # of markup there is nothing to show


def _png() -> bytes:
    """Three pixels of grey."""

    def chunk(kind: bytes, data: bytes) -> bytes:
        return struct.pack(">I", len(data)) + kind + data + struct.pack(">I", zlib.crc32(kind + data))

    head = chunk(b"IHDR", struct.pack(">IIBBBBB", 3, 1, 8, 0, 0, 0, 0))
    return b"\x89PNG\r\n\x1a\n" + head + chunk(b"IDAT", zlib.compress(b"\x00\x80\x80\x80")) + chunk(b"IEND", b"")


def _wav() -> bytes:
    """A tenth of a second of silence."""
    file = io.BytesIO()
    with wave.open(file, "wb") as out:
        out.setnchannels(1)
        out.setsampwidth(2)
        out.setframerate(8_000)
        out.writeframes(bytes(1_600))
    return file.getvalue()


def test_a_live_tail_shows_a_record_as_it_comes(stack: Stack, page: Page) -> None:
    page.goto("/topics/content-v1?from=live")
    expect(page.get_by_text("live: the newest first")).to_be_visible()

    def seen() -> bool:
        _send(stack, _texts(stack, 1, "tailed text"))  # again, as the tail may have begun a moment later
        return page.get_by_text("tailed text").count() > 0

    until(seen, 20, lambda: "not seen")


def test_each_page_is_reached_by_keys_has_words_and_can_be_read_on_a_phone(browser: Browser, site: Site, page: Page) -> None:
    page.goto("/")
    expect(page.get_by_role("heading", name="Pipeline")).to_be_visible()
    page.keyboard.press("g")
    page.keyboard.press("t")
    expect(page.get_by_role("heading", name="Topics")).to_be_visible()
    page.keyboard.press("/")
    page.keyboard.type("labels")
    page.wait_for_url("**q=labels")
    page.keyboard.press("Escape")
    page.get_by_role("heading", name="Topics").click()
    page.keyboard.press("?")
    expect(page.get_by_role("dialog")).to_contain_text("search on this page")
    page.keyboard.press("Escape")
    for name in PAGES:
        page.goto(f"/{name}")
        expect(page.get_by_role("heading").first).to_be_visible()
        expect(page.locator("main table, main .empty, main .section").first).to_be_visible()
        unnamed = page.evaluate("""() => [...document.querySelectorAll('button, a, input, select, textarea')].filter((one) => one.offsetParent
            && !(one.textContent.trim() || one.ariaLabel || one.labels?.length || one.title)).map((one) => one.outerHTML)""")
        assert unnamed == [], f"{name}: {unnamed}"
        page.set_viewport_size({"width": 390, "height": 800})
        assert page.evaluate("document.documentElement.scrollWidth") <= 391, name
        page.set_viewport_size({"width": 1280, "height": 900})


def test_light_and_dark_have_contrast(browser: Browser, site: Site) -> None:
    schemes: tuple[Literal["light", "dark"], ...] = ("light", "dark")
    for scheme in schemes:
        context = browser.new_context(base_url=site.base, color_scheme=scheme)
        page = context.new_page()
        page.goto("/topics")
        expect(page.get_by_role("heading", name="Topics")).to_be_visible()
        expect(page.locator("td a").first).to_be_visible()
        poor = page.evaluate(CONTRAST)
        context.close()
        assert poor == [], f"{scheme}: {poor}"


CONTRAST = """() => {
  const parse = (text) => (text.match(/[\\d.]+/g) || []).map(Number);
  const light = ([r, g, b]) => [r, g, b].map((v) => v / 255).map((v) => (v <= 0.03928 ? v / 12.92 : ((v + 0.055) / 1.055) ** 2.4))
    .reduce((sum, v, i) => sum + v * [0.2126, 0.7152, 0.0722][i], 0);
  const back = (node) => { for (let at = node; at; at = at.parentElement) { const c = parse(getComputedStyle(at).backgroundColor);
    if (c.length === 3 || (c.length === 4 && c[3] > 0.99)) return c; } return [255, 255, 255]; };
  const poor = new Set();
  for (const node of document.querySelectorAll('body *')) {
    if (!node.offsetParent || ![...node.childNodes].some((one) => one.nodeType === 3 && one.textContent.trim())) continue;
    const [a, b] = [light(parse(getComputedStyle(node).color)), light(back(node))];
    const ratio = (Math.max(a, b) + 0.05) / (Math.min(a, b) + 0.05);
    if (ratio < 4.5) poor.add(`${node.tagName}.${node.className}: ${ratio.toFixed(2)}`);
  }
  return [...poor];
}"""
