"""Writes towers, ranker, items and index as one model folder: one version, which is promoted and taken back as a whole."""

from __future__ import annotations

import json
import tempfile
from collections.abc import Callable, Mapping
from dataclasses import asdict, dataclass
from pathlib import Path

import numpy as np
import numpy.typing as npt
import safetensors.numpy
import torch
from torch import Tensor, nn

from inference_workers.networks.recommendation import ranking_features
from inference_workers.networks.recommendation.candidate_ranker import CandidateRanker
from inference_workers.networks.recommendation.histories import AGES, KINDS, PLACES, FeatureColumns
from inference_workers.networks.recommendation.neighbours import Neighbours
from inference_workers.recommending import item_index
from inference_workers.recommending.recommender import INDEX_FILE, ITEM_ARRAYS, ITEM_NAMES, NETWORK, RANKER, USER_TOWER
from training_triggers.trainers import export
from training_triggers.trainers.recommending.interactions import Interactions
from training_triggers.trainers.recommending.tower_training import Towers
from training_triggers.trainers.recommending.training_options import RecommendationSettings

Ints = npt.NDArray[np.int64]


@dataclass(frozen=True)
class TrainedRecommender:
    """tokens: int64 (items, MAX_TOKENS), numbers of the vocabulary. settings, seed: of its training. users: embeddings to measure the
    index with, float32 (n, width)."""

    towers: Towers
    ranker: CandidateRanker
    neighbours: Neighbours
    columns: FeatureColumns
    tokens: Ints
    vocabulary: tuple[str, ...]
    settings: RecommendationSettings
    seed: int
    data: Interactions
    users: npt.NDArray[np.float32]


def item_vectors(towers: Towers, tokens: Ints) -> tuple[npt.NDArray[np.float32], npt.NDArray[np.float32]]:
    """Of all items: unit vectors (n, width), and their lengths before (n,)."""
    with torch.no_grad():
        ids, attributes = towers.items.parts(torch.arange(len(tokens)), torch.from_numpy(tokens))
    vectors = (ids + attributes).numpy()
    lengths = np.linalg.norm(vectors, axis=1)
    return vectors / np.maximum(lengths, 1e-12)[:, None], lengths


def write(trained: TrainedRecommender, folder: Path, version: str, name: str, card: Callable[[float], str]) -> str:
    """Returns the version's digest. Raises ModelRefused if the index does not reach its recall, or ONNX differs from torch."""
    vectors, lengths = item_vectors(trained.towers, trained.tokens)
    embeddings = vectors.astype(np.float16)
    index = item_index.build(embeddings, trained.users if len(trained.users) >= item_index.QUERIES else None)
    weights = export.halves(nn.ModuleDict({"towers": trained.towers, "ranker": trained.ranker}))
    config = {
        "task": "recommendation",
        "network": NETWORK,
        "history": trained.settings.towers.history,
        "user_features": trained.columns.as_config(),
        "dense_features": list(ranking_features.NAMES),
        "index": index.plan.as_config(),
        "trained_on": {"data": trained.data.name, "events": len(trained.data.user), "users": len(trained.data.profiles)},
        "training": {**asdict(trained.settings), "seed": trained.seed},
    }
    artifact = export.Artifact(
        name, weights, _graphs(trained), config, _signature(trained), card, _files(trained, embeddings, lengths, index)
    )
    return export.write(artifact, folder, version)


def _files(
    trained: TrainedRecommender,
    embeddings: npt.NDArray[np.float16],
    lengths: npt.NDArray[np.float32],
    index: item_index.ItemIndex,
) -> Mapping[str, bytes]:
    items = trained.data.items
    names = {"ids": items.ids, "titles": items.titles, "attributes": items.attributes, "tokens": trained.vocabulary}
    near = trained.neighbours
    arrays = {
        "embeddings": embeddings,
        "popularity": trained.data.popularity(),
        "lengths": lengths.astype(np.float32),
        "token_vectors": trained.towers.items.tokens.weight.detach().numpy()[: len(trained.vocabulary) + 1].astype(np.float16),
        "after": near.after,
        "after_weights": near.after_weights,
        "beside": near.beside,
        "beside_weights": near.beside_weights,
    }
    files = {
        ITEM_NAMES: json.dumps(names, ensure_ascii=False, separators=(",", ":")).encode(),
        ITEM_ARRAYS: safetensors.numpy.save({name: np.ascontiguousarray(value) for name, value in arrays.items()}),
    }
    if index.plan.kind is not item_index.IndexKind.FLAT:
        with tempfile.TemporaryDirectory() as place:
            index.save(Path(place) / INDEX_FILE)
            files[INDEX_FILE] = (Path(place) / INDEX_FILE).read_bytes()
    return files


def _example(n: int, length: int, width: int, features: int) -> dict[str, Tensor]:
    random = torch.Generator().manual_seed(n)
    return {
        "history": nn.functional.normalize(torch.randn(n, length, width, generator=random), dim=-1),
        "kinds": torch.randint(1, len(KINDS), (n, length), generator=random),
        "ages": torch.randint(0, AGES, (n, length), generator=random),
        "places": torch.randint(0, PLACES, (n, length), generator=random),
        "features": torch.randn(n, features, generator=random),
    }


def _graphs(trained: TrainedRecommender) -> list[export.Graph]:
    width, features, dense = trained.towers.users.width, trained.columns.width, len(ranking_features.NAMES)
    users = [_example(n, length, width, features) for n, length in ((3, 7), (1, 1), (16, trained.settings.towers.history))]
    ranked = []
    for some, c in zip(users, (11, 1, 200), strict=True):
        n = len(some["kinds"])
        candidates, numbers = torch.randn(n, c, width), torch.randn(n, c, dense)
        ranked.append((nn.functional.normalize(torch.randn(n, width), dim=-1), *some.values(), candidates, numbers))
    many = [{0: "n", 1: "length"}] * 4
    return [
        export.Graph(
            USER_TOWER,
            trained.towers.users,
            tuple(users[0]),
            ("user",),
            [tuple(some.values()) for some in users],
            [*many, {0: "n"}],
            True,
        ),
        export.Graph(
            RANKER,
            trained.ranker,
            ("user", *users[0], "candidates", "dense"),
            ("scores",),
            ranked,
            [{0: "n"}, *many, {0: "n"}, {0: "n", 1: "candidates"}, {0: "n", 1: "candidates"}],
            True,
        ),
    ]


def _signature(trained: TrainedRecommender) -> dict[str, object]:
    width = trained.towers.users.width
    user = {"dtype": "float32", "shape": ["n", width]}
    inputs = {
        "history": {"dtype": "float32", "shape": ["n", "length", width]},
        **{
            name: {"dtype": "int64", "shape": ["n", "length"], "below": below}
            for name, below in (("kinds", len(KINDS)), ("ages", AGES), ("places", PLACES))
        },
        "features": {"dtype": "float32", "shape": ["n", trained.columns.width]},
    }
    more = {
        "candidates": {"dtype": "float32", "shape": ["n", "candidates", width]},
        "dense": {"dtype": "float32", "shape": ["n", "candidates", len(ranking_features.NAMES)]},
    }
    scores = {"scores": {"dtype": "float32", "shape": ["n", "candidates"]}}
    return {
        USER_TOWER: {"inputs": inputs, "outputs": {"user": user}},
        RANKER: {"inputs": {"user": user, **inputs, **more}, "outputs": scores},
    }
