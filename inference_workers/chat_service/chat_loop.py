"""The plan of the chat worker's loop."""

from __future__ import annotations

import os
from collections.abc import Callable, Mapping

from inference_workers.chat.settings import EngineSettings
from inference_workers.chat_remote.remote_model import remote_model
from inference_workers.chat_remote.settings import LOCAL, ServerSettings
from inference_workers.chat_service.cancels import Cancels
from inference_workers.chat_service.chat_judge import Moderation
from inference_workers.chat_service.chat_step import ChatStep
from inference_workers.chat_service.chat_versions import AnnouncedVersions, ChatVersions
from inference_workers.chat_service.history import History
from inference_workers.chat_service.server_version import ServerVersion
from inference_workers.chat_service.settings import ChatSettings
from inference_workers.chat_service.takeover import KafkaLog
from inference_workers.models.addresses import open_tokenizer
from inference_workers.served.announcements import Updates
from inference_workers.served.swaps import Swaps
from inference_workers.settings import WorkerSettings
from schemas.chat_topics import CHAT, CHAT_CONTROLS, CHAT_RESULTS
from schemas.topics import MODEL_UPDATES
from streams.clock import Clock
from streams.kafka.admin import KafkaAdmin
from streams.kafka.broadcast import KafkaBroadcast
from streams.kafka.config import KafkaAddress
from streams.loop.limits import Delivery
from streams.loop.step import Step
from streams.process.settings import load
from streams.process.wiring import LoopPlan, Surroundings
from streams.rows import Place

MOST_ROWS, MOST_BYTES = 8, 256 * 1024  # of a batch: tokenising a prompt takes its time, and tokens of others wait for it
LINGER_MS = (
    0.5  # the records of a step are made in less; one by one they went in as many requests, and the broker takes one at a time
)
CANCELS_SINCE_MS = 600_000  # cancellations of requests that the last owner did not end


def chat_plan(settings: WorkerSettings, failpoint: Callable[[str], None]) -> LoopPlan:
    """Building its step raises BrokerUnavailable, SchemaRefused, ModelRefused, RetryLater. The delivery is always at least once: tokens
    are read before their request's offset is committed."""
    chat = load(ChatSettings, os.environ, CHAT.group)
    engine = load(EngineSettings, os.environ, CHAT.group)
    server = load(ServerSettings, os.environ, CHAT.group)

    def build(given: Surroundings) -> Step:
        versions = _local if server.chat_backend == LOCAL else _at_server
        return ChatStep(
            versions(given, chat.chat_model, engine, server),
            KafkaLog(given.address, given.registry, given.side, given.clock, given.metrics, chat.max_answer_tokens),
            Cancels(_controls(given.address, given.clock), given.registry, given.clock, given.metrics),
            given.registry,
            given.clock,
            given.worker,
            given.metrics,
            chat.span_records,
            chat.max_answer_tokens,
            History(
                lambda read: _results(given.address, given.clock, chat.history_hours, read),
                given.registry,
                given.metrics,
                chat.history_characters,
            ),
            Moderation(settings.bootstrap, settings.registry, given.worker) if chat.chat_moderation else None,
            chat.judge_every_tokens,
        )

    return LoopPlan(
        consumption=CHAT,
        build=build,
        kind="worker",
        name=CHAT.group,
        batches=settings.batches(MOST_ROWS, MOST_BYTES),
        limits=settings.limits(Delivery.AT_LEAST_ONCE),
        linger_ms=LINGER_MS,
        failpoint=failpoint,
    )


def _local(given: Surroundings, source: str, settings: EngineSettings, server: ServerSettings) -> ChatVersions:
    from inference_workers.chat.load import load as load_model  # torch, which a worker before a server does without

    return AnnouncedVersions(
        KafkaBroadcast(given.address, MODEL_UPDATES.name, given.clock),
        given.registry,
        given.clock,
        given.worker,
        given.metrics,
        given.side.produce,
        lambda folder: load_model(folder.path, settings, given.clock),
        source,
    )


def _at_server(given: Surroundings, source: str, settings: EngineSettings, server: ServerSettings) -> ChatVersions:
    folder = open_tokenizer(source)
    model, engine = remote_model(folder, server, settings, given.clock)
    broadcast = KafkaBroadcast(given.address, MODEL_UPDATES.name, given.clock)
    updates = Updates(broadcast, given.registry, given.clock, given.metrics)
    swaps = Swaps(given.registry, given.clock, given.worker, given.metrics, given.side.produce)
    return ServerVersion(model, folder, server.chat_server_model, updates, swaps, given.clock, lambda: engine.trouble)


def _results(address: KafkaAddress, clock: Clock, hours: float, read: Mapping[Place, int]) -> KafkaBroadcast:
    """read: the offsets behind what was read before."""
    admin = KafkaAdmin(address)
    places = [(CHAT_RESULTS.name, number) for number in range(admin.partitions()[CHAT_RESULTS.name])]
    starts = admin.offsets_at(places, int(clock.now_ms() - hours * 3_600_000))
    return KafkaBroadcast(address, CHAT_RESULTS.name, clock, {**starts, **read})


def _controls(address: KafkaAddress, clock: Clock) -> KafkaBroadcast:
    place = (CHAT_CONTROLS.name, 0)
    starts = KafkaAdmin(address).offsets_at([place], max(0, clock.now_ms() - CANCELS_SINCE_MS))
    return KafkaBroadcast(address, CHAT_CONTROLS.name, clock, starts)
