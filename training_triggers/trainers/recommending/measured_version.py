"""Trains, measures and writes a version of recommendation, with its card: figures are of the written folder, as it serves."""

from __future__ import annotations

import shutil
import tempfile
from dataclasses import dataclass
from pathlib import Path

import numpy as np

from inference_workers.models.folder import open_folder, write_manifest
from inference_workers.recommending.recommender import Recommender
from training_triggers.trainers.recommending import train_recommender, version_folder
from training_triggers.trainers.recommending.interactions import Interactions
from training_triggers.trainers.recommending.offline_measures import RecommendationScores, measure, scores, taken_later
from training_triggers.trainers.recommending.train_recommender import NAME, Progress
from training_triggers.trainers.recommending.training_options import RecommendationSettings, options_of
from training_triggers.trainers.recommending.version_folder import TrainedRecommender

HELD_OUT = 0.2  # the last events of each user
SEED = 7


@dataclass(frozen=True)
class MadeVersion:
    """popular: the scores of the most popular items, the same for everybody."""

    digest: str
    model: RecommendationScores
    popular: RecommendationScores
    losses: list[float]


def train_and_write(
    data: Interactions,
    settings: RecommendationSettings,
    out: Path,
    version: str,
    say: Progress,
    seed: int = SEED,
    later: Interactions | None = None,
) -> MadeVersion:
    """What is measured is what is written: the version is trained without the events that it is measured on. Those are `later`, of the
    same users and items, or without it the last of each user's. Raises ModelRefused."""
    data = data.merged()
    train, test = data.split(HELD_OUT) if later is None else (data, later)
    which = "the last fifth of each user's" if later is None else "those after all others"
    losses: list[float] = []

    def heard(line: str) -> None:
        say(line)
        if line.startswith("towers"):
            losses.append(float(line.rpartition(" ")[2]))

    trained = train_recommender.train(train, settings, seed, heard)
    popular = by_popularity(train, test)
    worst: list[float] = []

    def heard_difference(difference: float) -> str:
        worst.append(difference)
        return ""

    with tempfile.TemporaryDirectory() as place:
        folder = Path(place) / NAME
        version_folder.write(trained, folder, version, NAME, heard_difference)
        recommender = Recommender.load(open_folder(folder))
        measured = measure(recommender, train, test)
        (folder / "MODEL_CARD.md").write_text(_card(trained, measured, popular, test, which, version, worst[0]))
        digest = write_manifest(folder, NAME, version)
        shutil.rmtree(out, ignore_errors=True)
        shutil.copytree(folder, out)
    return MadeVersion(digest, measured, popular, losses)


def by_popularity(train: Interactions, test: Interactions) -> RecommendationScores:
    later, popularity = taken_later(train, test), train.popularity()
    order = np.argsort(-popularity, kind="stable")
    had = [train.item[train.starts[user] : train.starts[user + 1]] for user in later]
    shown = [order[~np.isin(order, some)] for some in had]
    return scores(shown, shown, list(later.values()), popularity)


def _card(
    trained: TrainedRecommender,
    model: RecommendationScores,
    popular: RecommendationScores,
    test: Interactions,
    which: str,
    version: str,
    worst: float,
) -> str:
    data = trained.data
    rows = "\n".join(
        f"| {name.replace('_', ' ')} | {value:.3f} | {popular.named()[name]:.3f} |"
        for name, value in model.named().items()
        if name != "users"
    )
    return f"""# {NAME}, version {version}

Ranks items for a user from the user's recent events and features. Candidates come from two towers and an index of item embeddings; a
ranker orders them. A user without events gets what fits the profile; one of whom nothing is known, what is popular. New items are
embedded from their attributes and title.

## Data and licence

{data.name}: {len(data.user)} events of {len(data.profiles)} users with {len(data.items.ids)} items, and {len(test.user)} later events to
measure, {which}. Events that follow each other with the same item count as one.
Weights of the generated shop are under the project's licence (Apache-2.0); weights of other events follow the licence of those.

## Measured on the later events of {model.users} users

Full rankings, items that a user had before left out, lists of 20.

| | this version | most popular first |
|---|---|---|
{rows}

Popularity bias: mean popularity of shown items over that of the items that users took; 1 is none. Weights are 16 bits and widened when
loaded; the figures are theirs. ONNX against torch: largest difference of an output {worst:.1e}.

## Limits

It repeats what users did: what was never shown was never taken. Ages and countries are used where profiles have them. It knows a user's
newest {trained.settings.towers.history} events.

## Made again

`{_command(trained)}`, seed {trained.seed}. Deterministic on one machine. Every setting is under `training` in `config.json`.
"""


def _command(trained: TrainedRecommender) -> str:
    """With the settings that were used, whatever the defaults are by then named."""
    options = "".join(f" --option {name}={value}" for name, value in options_of(trained.settings).items())
    return f"./millrace models train {NAME} --data {trained.data.option} --out DIR{options}"
