"""The pictures of `docs/monitor/`: each page of a monitor that runs, 1280 pixels wide. `python -m tests.support.monitor_pictures ADDRESS NAME=PATH…`"""

from __future__ import annotations

import os
import sys
from pathlib import Path

from playwright.sync_api import sync_playwright

from infra.settings import ROOT
from tests.support.monitors import CHROMIUM_HELP, chromium

FOLDER = ROOT / "docs" / "monitor"
SETTLE_MS = 4_000  # charts ask every four seconds


def main(address: str, wanted: dict[str, str], folder: Path = FOLDER) -> None:
    found = chromium()
    if found is None:
        sys.exit(f"no Chromium is here: {CHROMIUM_HELP}")
    folder.mkdir(parents=True, exist_ok=True)
    with sync_playwright() as playwright:
        browser = playwright.chromium.launch(executable_path=found, args=["--no-sandbox"] if os.geteuid() == 0 else [])
        page = browser.new_page(viewport={"width": 1280, "height": 860})
        for name, path in wanted.items():
            page.goto(address + path)
            page.wait_for_timeout(SETTLE_MS)
            page.screenshot(path=folder / f"{name}.png")
        browser.close()


if __name__ == "__main__":
    main(sys.argv[1], dict(word.split("=", 1) for word in sys.argv[2:]))
