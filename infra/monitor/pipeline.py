"""The pipeline as a graph from the catalogue: who writes each topic, who reads it, and where it ends. Pure."""

from __future__ import annotations

from dataclasses import dataclass
from functools import lru_cache
from typing import Literal

from infra.provision import specs
from schemas.catalogue import Catalogue
from schemas.catalogue import catalogue as all_topics
from schemas.topic_kinds import Record, Topic
from schemas.topics import (
    ARCHIVE,
    AUDIT,
    DRIFT_STATE,
    ITEM_SINK,
    RECENT_SINK,
    REPLIES,
    SWAP_ACKS,
    USER_SINK,
    WORKER_STATUS,
)
from schemas.vocabulary import FlinkGroup

# Bookkeeping topics that nearly every process writes: drawn only on request.
ASIDE = frozenset(topic.name for topic in (REPLIES, WORKER_STATUS, SWAP_ACKS, DRIFT_STATE, AUDIT))
JOBS = {"tiles job": "tiles", "outcomes job": "outcomes"}
JOB_GROUPS = {"tiles": FlinkGroup.TILES, "outcomes": FlinkGroup.OUTCOMES}
STORES = {
    USER_SINK.group: "Redis",
    ITEM_SINK.group: "Redis",
    RECENT_SINK.group: "Redis",
    ARCHIVE.group: "Parquet lake",
    "reconcile": "MLflow",
}
# Writers and readers in the catalogue that are not processes of Millrace.
PEOPLE = {
    "producers": "producers",
    "generator": "producers",
    "replay command": "producers",
    "clients": "clients",
    "sinks": "sinks",
    "models command": "operator",
    "training command": "operator",
    "review command": "operator",
    "operator": "operator",
    "monitor": "operator",
}
ALIASES = {"training run": ("launch",), "strikes view": ("views",)}


NodeKind = Literal["topic", "worker", "processor", "job", "store", "person"]


@dataclass(frozen=True)
class GraphNode:
    """name: of the topic, group, job or store."""

    id: str
    kind: NodeKind
    name: str
    owner: str = ""
    aside: bool = False


@dataclass(frozen=True)
class GraphEdge:
    """group: of the readers, where it is an edge whose lag is known."""

    source: str
    target: str
    group: str = ""


def graph() -> tuple[list[GraphNode], list[GraphEdge]]:
    known = all_topics()
    answering = known.task_names
    nodes: dict[str, GraphNode] = {}
    edges: dict[tuple[str, str], GraphEdge] = {}

    def node(found: GraphNode) -> str:
        return nodes.setdefault(found.id, found).id

    owners = {taken.group: taken.topic.owner for taken in known.consumptions}
    for topic in known.topics:
        here = node(GraphNode(f"topic:{topic.name}", "topic", topic.name, topic.owner, topic.name in ASIDE))
        for writer in topic.writers:
            for one in _nodes(writer, topic, owners):
                edges.setdefault((node(one), here), GraphEdge(one.id, here))
        for reader in topic.readers:
            for one in _nodes(reader, topic, owners):
                edges.setdefault((here, node(one)), GraphEdge(here, one.id, _group(one)))
    for taken in known.consumptions:  # the catalogue's entry for a group takes precedence over the topic's list of readers
        one = GraphNode(
            f"group:{taken.group}", "worker" if taken.group in answering else "processor", taken.group, taken.topic.owner
        )
        edges[f"topic:{taken.topic.name}", node(one)] = GraphEdge(f"topic:{taken.topic.name}", one.id, taken.group)
        for name in (*taken.retry_topics(), taken.dead_letter_topic):  # inner: drawn only on request
            inner = node(GraphNode(f"topic:{name}", "topic", name, taken.topic.owner, aside=True))
            edges[one.id, inner] = GraphEdge(one.id, inner)
            if name != taken.dead_letter_topic:
                edges[inner, one.id] = GraphEdge(inner, one.id, taken.group)
        if taken.group in STORES:
            store = GraphNode(f"store:{STORES[taken.group]}", "store", STORES[taken.group], taken.topic.owner)
            edges.setdefault((one.id, node(store)), GraphEdge(one.id, store.id))
    return list(nodes.values()), list(edges.values())


def _nodes(word: str, topic: Topic[Record], owners: dict[str, str]) -> list[GraphNode]:
    word = word.removesuffix(" worker")
    if word in JOBS:
        return [GraphNode(f"job:{JOBS[word]}", "job", JOBS[word], topic.owner)]
    if word in PEOPLE or word.endswith(" command"):
        kind = PEOPLE.get(word, "operator")
        return [GraphNode(f"person:{kind}", "person", kind, aside=kind == "operator")]
    answering = all_topics().task_names
    names = tuple(sorted(answering)) if word == "workers" else ALIASES.get(word, (word,))
    return [
        GraphNode(f"group:{name}", "worker" if name in answering else "processor", name, owners.get(name, topic.owner))
        for name in names
    ]


def _group(node: GraphNode) -> str:
    return JOB_GROUPS.get(node.name, "") if node.kind == "job" else node.name if node.kind in ("worker", "processor") else ""


@dataclass(frozen=True)
class TopicAbout:
    """kind: of our own, or one of the two that each group of readers has. subject: in the registry. aside: bookkeeping that nearly
    everything writes."""

    name: str
    kind: Literal["topic", "retry", "dead letters"]
    owner: str
    partitions: int
    config: dict[str, str]
    record: str | None
    key: str
    subject: str
    guarantee: str
    writers: list[str]
    readers: list[str]
    compatibility: str
    aside: bool


def catalogue() -> list[TopicAbout]:
    """Every topic that provisioning creates: those of the catalogue, and the retry and dead-letter topics of their readers."""
    return _about(all_topics())


@lru_cache(maxsize=2)
def _about(known: Catalogue) -> list[TopicAbout]:
    made = {topic.name: topic for topic in known.topics}
    retries = {name: taken.topic for taken in known.consumptions for name in taken.retry_topics()}
    dead = {taken.dead_letter_topic: taken.topic for taken in known.consumptions}
    found = []
    for spec in specs(known.topics, known.consumptions):
        topic = made.get(spec.name)
        source = topic or retries.get(spec.name) or dead[spec.name]
        found.append(
            TopicAbout(
                name=spec.name,
                kind="topic" if topic else "retry" if spec.name in retries else "dead letters",
                owner=source.owner,
                partitions=spec.partitions,
                config=dict(spec.config),
                record=source.record_name or None,
                key=source.key,
                subject=source.subject,
                guarantee=source.guarantee.value if topic else "exactly once",
                writers=list(topic.writers) if topic else ["loop"],
                readers=list(topic.readers) if topic else ["loop"],
                compatibility=source.compatibility.value,
                aside=spec.name in ASIDE,
            )
        )
    return found


def about(topic: str) -> TopicAbout | None:
    """The topic's entry in the catalogue; None for a topic that is not in it."""
    return next((one for one in catalogue() if one.name == topic), None)
