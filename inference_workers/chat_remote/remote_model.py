"""A server as a chat model, with the tokenizer and the chat template of a model folder, whose weights are not read."""

from __future__ import annotations

from inference_workers.chat.chat_model import ChatModel, ends_of
from inference_workers.chat.constraint import Constraints
from inference_workers.chat.settings import EngineSettings
from inference_workers.chat.template import TOKENIZER, JinjaChatTemplate
from inference_workers.chat_remote.remote_engine import RemoteEngine
from inference_workers.chat_remote.server_streams import ServerStreams
from inference_workers.chat_remote.server_text import ServerText
from inference_workers.chat_remote.settings import ServerSettings
from inference_workers.models.folder import ModelFolder, read_fields
from schemas.errors import ModelRefused
from streams.clock import Clock


def remote_model(
    folder: ModelFolder, server: ServerSettings, settings: EngineSettings, clock: Clock
) -> tuple[ChatModel, RemoteEngine]:
    """Asks the server nothing yet. Raises ModelRefused if the folder has no tokenizer or no chat template, BadSettings."""
    raw = read_fields(folder.path / "config.json")
    template = JinjaChatTemplate(folder.path, settings.max_prompt_characters)
    text = ServerText(folder.path / TOKENIZER, template)
    context, vocabulary = raw.get("max_position_embeddings"), raw.get("vocab_size")
    limit = server.chat_server_context or context
    if not isinstance(limit, int) or limit < 1:
        raise ModelRefused(f"{folder.path}/config.json has no max_position_embeddings: set MILLRACE_CHAT_SERVER_CONTEXT")
    if not isinstance(vocabulary, int):
        vocabulary = int(template.tokenizer.get_vocab_size())
    ends = ends_of(folder.path, raw, template.end)
    engine = RemoteEngine(
        ServerStreams(server.chat_backend, server.chat_server_key, server.chat_server_wait_s),
        server,
        settings,
        clock,
        limit,
        vocabulary,
        ends,
        text,
        template.text,
        lambda: Constraints(template.tokenizer, vocabulary, min(ends)),
    )
    return ChatModel(engine, template, limit, vocabulary), engine
