"""The pictures of `docs/monitor/`: each page of a running monitor, 1280 pixels wide.

`python -m tests.support.monitor_pictures ADDRESS NAME=PATH…`; a name that ends with `-dark` is taken in dark mode. Pictures in
a record are made visible first."""

from __future__ import annotations

import os
import sys
from pathlib import Path
from typing import Literal

from playwright.sync_api import sync_playwright

from infra.settings import ROOT
from tests.support.monitors import CHROMIUM_HELP, chromium

FOLDER = ROOT / "docs" / "monitor"
SETTLE_MS = 4_000  # charts request data every four seconds


def main(address: str, wanted: dict[str, str], folder: Path = FOLDER) -> None:
    found = chromium()
    if found is None:
        sys.exit(f"no Chromium is here: {CHROMIUM_HELP}")
    folder.mkdir(parents=True, exist_ok=True)
    with sync_playwright() as playwright:
        browser = playwright.chromium.launch(executable_path=found, args=["--no-sandbox"] if os.geteuid() == 0 else [])
        for name, path in wanted.items():
            scheme: Literal["dark", "light"] = "dark" if name.endswith("-dark") else "light"
            page = browser.new_page(viewport={"width": 1280, "height": 860}, color_scheme=scheme)
            page.goto(address + path)
            page.wait_for_timeout(SETTLE_MS)
            for button in page.get_by_role("button", name="Show picture").all():
                button.click()
            page.screenshot(path=folder / f"{name}.png")
            page.close()
        browser.close()


if __name__ == "__main__":
    main(sys.argv[1], dict(word.split("=", 1) for word in sys.argv[2:]))
