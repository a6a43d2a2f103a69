"""`./millrace monitor`: prints the monitor's address (and starts the monitor if it does not run), and the tokens that permit
actions."""

from __future__ import annotations

import json
import sys
from dataclasses import replace

from infra import console
from infra.local import home, run_state, stack, web
from infra.monitor import safety
from infra.running import addresses
from infra.settings import StackSettings


def run(settings: StackSettings, tokens: bool, as_json: bool, name: str = "") -> None:
    """name: print tokens for this person. Raises NotUp if no stack runs."""
    tokens_by_role = safety.tokens(settings.run_folder / "monitor")
    if name:
        tokens_by_role = {role: safety.token_for(name, token) for role, token in tokens_by_role.items()}
    if tokens or name:
        if as_json:
            print(json.dumps(tokens_by_role))
            return
        for role, token in tokens_by_role.items():
            print(f"{role:<10}{token}")
        return
    address, registry = addresses(settings)
    started = run_state.read(settings.run_folder).find("monitor")
    if started is None or not started.alive():
        home.mark(settings.home_folder)
        with run_state.locked(settings.run_folder):
            running = run_state.read(settings.run_folder)
            running.bootstrap, running.registry = address.bootstrap, registry.url
            if as_json:
                console.out.file = sys.stderr  # standard output contains only the JSON
            web.make(replace(settings, monitor=True))  # the command requests the monitor, whatever the settings say
            started = stack.monitor(settings, running)
    if as_json:
        print(json.dumps({"address": started.address}))
        return
    console.out.print(f"  [bold]{started.address}[/]")
    console.out.print("  read-only: `./millrace monitor --tokens` prints tokens for its actions, `./millrace down` stops it")
