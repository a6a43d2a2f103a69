"""The line that names pretrained models with which moderation judges better and sees more, until they are fetched."""

from __future__ import annotations

from infra.settings import StackSettings

MODELS = {
    "moderation-minilm": "judges texts better",
    "ppocr-v4": "reads text in pictures",
    "nsfw-mobilenet-v2": "sees sexual content of pictures",
}


def fetch_line(settings: StackSettings) -> str:
    """Names what is not on this machine yet; empty if all is, or if nothing here moderates."""
    fetched = settings.home_folder / "models" / "packages"
    missing = [name for name in MODELS if not (fetched / name).is_dir()]
    started = {name for word in settings.processes.split() for name in word.split("+")}
    if not missing or "moderation" not in started:
        return ""
    what = ", ".join(f"`./millrace models fetch {name}` {MODELS[name]}" for name in missing)
    return f"for moderation: {what} (docs/tasks/moderation.md)"
