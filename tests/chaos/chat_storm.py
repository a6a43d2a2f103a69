"""`./millrace chaos --chat`: conversations go on while their workers are killed and frozen. Each caller must read the tokens of an
undisturbed answer, and each request must have one result."""

from __future__ import annotations

import asyncio
import random
import signal
from collections import Counter

from streams.chat_client import ChatClient, connect_chat
from streams.schema_registry import Registry
from tests.chaos.chat_workers import ChatWorkers
from tests.chaos.stage import Worker
from tests.conftest import Servers
from tests.support.chat_callers import Read, conversation, converse, result_counts

WORKERS, TOKENS = 2, 600
START_LIMIT_S = 240.0
PAUSE_S, LONGEST_FREEZE_S = (1.0, 6.0), 6.0
CHANCES = {signal.SIGKILL: 2.0, signal.SIGSTOP: 1.0, signal.SIGTERM: 0.5}


async def _harm(workers: ChatWorkers, chance: random.Random, happened: Counter[str]) -> None:
    """Until it is cancelled: harm a worker, and start others until as many live as before."""
    while True:
        await asyncio.sleep(chance.uniform(*PAUSE_S))
        (number,) = chance.choices(list(CHANCES), list(CHANCES.values()))
        worker: Worker = chance.choice(workers.alive)
        happened[number.name] += 1
        worker.signal(number)
        if number == signal.SIGSTOP:
            await asyncio.sleep(chance.uniform(0.5, LONGEST_FREEZE_S))
            worker.signal(signal.SIGCONT)
        await asyncio.sleep(0.5)
        while len(workers.alive) < WORKERS:
            workers.start()


async def _disturbed(chat: ChatClient, workers: ChatWorkers, conversations: int, seed: int, happened: Counter[str]) -> list[Read]:
    harm = asyncio.create_task(_harm(workers, random.Random(seed), happened))
    try:
        return await converse(chat, [conversation(number, TOKENS) for number in range(conversations)])
    finally:
        harm.cancel()


def chat_storm(servers: Servers, conversations: int, rounds: int, seed: int) -> tuple[Counter[str], list[str]]:
    """What happened, and what was wrong."""
    workers, happened = ChatWorkers(servers), Counter[str]()

    async def all_rounds() -> list[str]:
        problems: list[str] = []
        async with connect_chat(servers.bootstrap, servers.registry, "chaos") as chat:
            wanted = await converse(chat, [conversation(number, TOKENS) for number in range(conversations)])
            for round_ in range(rounds):
                read = await _disturbed(chat, workers, conversations, seed + round_, happened)
                problems += _problems(servers, read, wanted)
        return problems

    try:
        for _ in range(WORKERS):
            workers.start().wait_assigned(START_LIMIT_S)
        return happened, asyncio.run(all_rounds())
    finally:
        workers.stop()


def _problems(servers: Servers, read: list[Read], wanted: list[Read]) -> list[str]:
    counts = result_counts(servers.address, Registry(servers.registry), [one.request_id for one in read])
    found = [f"{request_id} has {count} different results" for request_id, count in counts.items() if count != 1]
    for mine, undisturbed in zip(read, wanted, strict=True):
        if mine.tokens != undisturbed.tokens:
            found.append(
                f"{mine.request_id}: {len(mine.tokens)} tokens, not the {len(undisturbed.tokens)} of an undisturbed answer"
            )
        if (mine.result["status"], mine.result["text"]) != ("ok", undisturbed.text):
            found.append(f"{mine.request_id}: the result is {mine.result['status']}, or has another text")
    return found
