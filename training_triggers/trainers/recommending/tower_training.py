"""Trains the two towers: after each event of a history, the user's vector must be near the items that follow.

Targets are the next `horizon` events, not the next alone, and items that the user has already are left out of the softmax: what is
asked later is a list of new items. Deterministic on one machine: fixed seeds, one thread.
"""

from __future__ import annotations

import math
from collections.abc import Callable
from dataclasses import dataclass

import numpy as np
import numpy.typing as npt
import torch
from torch import Tensor, nn

from inference_workers.networks.recommendation.histories import AGES, FeatureColumns, age_buckets, place_buckets
from inference_workers.networks.recommendation.two_towers import ItemTower, UserTower
from training_triggers.trainers.recommending import softmax_losses as losses
from training_triggers.trainers.recommending.interactions import KIND_WEIGHTS, Interactions

Progress = Callable[[str], None]
Ints = npt.NDArray[np.int64]
FULL_ITEMS = 20_000  # up to so many, the softmax is over all of them
SAMPLED = 2_000
KNOWN_AT_ONCE = 10_000  # events whose features are held as dictionaries
LEAST_STEPS = 11  # of a schedule: its first tenth must be a step long
_WEIGHTS = torch.tensor(
    [0.0, *(KIND_WEIGHTS.get(kind, 1.0) for kind in ("view", "click", "cart", "purchase", "rating", "search"))]
)


@dataclass(frozen=True)
class TowerSettings:
    """history: events that the user tower sees. horizon: later events that are targets. places: events of each history that are
    trained on in a step."""

    width: int = 64
    history: int = 100
    horizon: int = 20
    places: int = 24
    batch: int = 32
    epochs: int = 20
    rate: float = 3e-3
    dropout: float = 0.2
    without_id: float = 0.15
    without_features: float = 0.1


class Towers(nn.Module):
    def __init__(self, items: int, tokens: Ints, features: int, settings: TowerSettings) -> None:
        super().__init__()
        self.items = ItemTower(items, max(1, int(tokens.max(initial=0))), settings.width)
        self.users = UserTower(settings.width, features, settings.dropout)
        self.scale = nn.Parameter(torch.tensor(math.log(1 / 0.07)))


@dataclass(frozen=True)
class _Batch:
    """Windows of histories with a padding column in front. rows, kinds: (n, length + 1). at: (n, p), columns after which is asked, and
    events: (n, p), numbers of their events, -1 for the column in front. ages, places: (n, p, length + 1). targets, weights: (n, p, horizon)."""

    user: Tensor
    rows: Tensor
    kinds: Tensor
    at: Tensor
    events: Tensor
    ages: Tensor
    places: Tensor
    targets: Tensor
    weights: Tensor


def train(
    data: Interactions,
    tokens: Ints,
    columns: FeatureColumns,
    settings: TowerSettings,
    seed: int,
    say: Progress,
    start: Towers | None = None,
) -> Towers:
    """tokens: int64 (items, MAX_TOKENS). start: towers to train on from, which are changed."""
    torch.manual_seed(seed)
    torch.set_num_threads(1)
    random = np.random.default_rng(seed)
    towers = start or Towers(len(data.items.ids), tokens, columns.width, settings)
    features, token_table = _user_features(data, columns), torch.from_numpy(tokens)
    sampler = losses.sampling(torch.from_numpy(data.popularity()))
    users = np.flatnonzero(np.diff(data.starts) >= 2)
    steps = settings.epochs * math.ceil(len(users) / settings.batch)
    optimizer = torch.optim.Adam(towers.parameters(), lr=settings.rate)
    rate = torch.optim.lr_scheduler.OneCycleLR(optimizer, settings.rate, max(LEAST_STEPS, steps), pct_start=0.1)
    towers.train()
    for epoch in range(settings.epochs):
        total, batches = 0.0, _batches(users, np.diff(data.starts), settings.batch, random)
        for some in batches:
            batch = _windows(data, some, settings, random)
            loss = _loss(towers, batch, features, token_table, sampler, settings)
            optimizer.zero_grad(set_to_none=True)
            loss.backward()
            nn.utils.clip_grad_norm_(towers.parameters(), 1.0)
            optimizer.step()
            rate.step()
            total += loss.item()
        say(f"towers: epoch {epoch + 1} of {settings.epochs}, loss {total / len(batches):.3f}")
    return towers.eval()


@dataclass(frozen=True)
class _UserFeatures:
    """of_profiles: (users, width). of_events: (events, width), what was known at each event and not later; None if that is the
    profile."""

    of_profiles: Tensor
    of_events: Tensor | None

    def at(self, batch: _Batch) -> Tensor:
        """(n, 1, width), or of each place (n, p, width)."""
        profiles = self.of_profiles[batch.user][:, None]
        if self.of_events is None:
            return profiles
        return torch.where((batch.events >= 0)[..., None], self.of_events[batch.events.clamp(min=0)], profiles)


def _user_features(data: Interactions, columns: FeatureColumns) -> _UserFeatures:
    profiles = torch.from_numpy(columns.encode(data.profiles))
    if data.at_events is None:
        return _UserFeatures(profiles, None)
    n, encoded = len(data.user), [columns.encode([])]
    for at in range(0, n, KNOWN_AT_ONCE):
        encoded.append(columns.encode([data.known_at(event) for event in range(at, min(at + KNOWN_AT_ONCE, n))]))
    return _UserFeatures(profiles, torch.from_numpy(np.concatenate(encoded)))


def _batches(users: Ints, sizes: Ints, batch: int, random: np.random.Generator) -> list[Ints]:
    """Users with histories of like length together, so that little is padded."""
    order = users[np.argsort(sizes[users] + random.random(len(users)) * 20)]
    parts = [order[at : at + batch] for at in range(0, len(order), batch)]
    random.shuffle(parts)
    return parts


def _windows(data: Interactions, users: Ints, settings: TowerSettings, random: np.random.Generator) -> _Batch:
    starts = data.starts
    longest = settings.history + settings.horizon
    length = int(min(longest, max(starts[u + 1] - starts[u] for u in users)))
    n, p, k = len(users), min(settings.places, length), settings.horizon
    rows, kinds, at = (np.zeros((n, size), np.int64) for size in (length + 1, length + 1, p))
    events = np.full((n, p), -1)
    times = np.zeros((n, length + 1))
    for i, user in enumerate(users):
        size = int(starts[user + 1] - starts[user])
        end = size if size <= longest else int(random.integers(longest, size + 1))
        inside = slice(starts[user] + max(0, end - longest), starts[user] + end)
        count = inside.stop - inside.start
        rows[i, -count:], kinds[i, -count:], times[i, -count:] = data.item[inside], data.kind[inside], data.time_s[inside]
        first = length + 1 - count
        chosen = random.permutation(np.arange(first, length))[: p - 1]
        at[i, 1 : 1 + len(chosen)] = chosen  # column 0 stands for a user of whom no event is known
        events[i, 1 : 1 + len(chosen)] = inside.start + chosen - first
    column = np.arange(length + 1)
    back = at[:, :, None] - column
    visible = (back >= 0) & (kinds[:, None] > 0) & (at[:, :, None] > 0)
    ages = np.where(visible, age_buckets(np.take_along_axis(times, at, 1)[:, :, None] - times[:, None]), 0)
    places = np.where(visible, place_buckets(np.maximum(back, 0)), 0)
    first = (kinds > 0).argmax(axis=1)
    ahead = np.maximum(at, first[:, None] - 1)[:, :, None] + 1 + np.arange(k)
    inside_window = np.minimum(ahead, length)
    there = ahead <= length
    targets, target_kinds = (np.take_along_axis(some[:, None].repeat(p, 1), inside_window, 2) for some in (rows, kinds))
    weights = _WEIGHTS.numpy()[target_kinds] * there
    return _Batch(
        *(torch.from_numpy(some) for some in (users, rows, kinds, at, events, ages, places, targets, weights.astype(np.float32)))
    )


def _loss(
    towers: Towers, batch: _Batch, features: _UserFeatures, tokens: Tensor, sampler: Tensor, settings: TowerSettings
) -> Tensor:
    few = len(tokens) <= FULL_ITEMS
    sample = torch.arange(len(tokens)) if few else torch.multinomial(sampler, SAMPLED, replacement=True)
    used = sample if few else torch.cat([sample, batch.rows.flatten(), batch.targets.flatten()]).unique()
    vectors = towers.items(used, tokens[used], settings.without_id)
    place = (
        torch.arange(len(tokens)) if few else torch.zeros(len(tokens), dtype=torch.long).scatter(0, used, torch.arange(len(used)))
    )
    known = features.at(batch) * (torch.rand(len(batch.user), 1, 1) >= settings.without_features)
    user = towers.users.at(vectors[place[batch.rows]], batch.kinds, batch.ages, batch.places, known, batch.at)
    n, p, k = batch.targets.shape
    fresh = batch.weights * ~_repeats(batch)
    user, scale = user.reshape(n * p, -1), towers.scale.exp()
    targets, weights = batch.targets.reshape(n * p, k), fresh.reshape(n * p, k)
    if few:
        return losses.full_softmax(scale * (user @ vectors.T), targets, weights, _seen(batch, len(tokens)))
    positive = scale * (vectors[place[targets]] @ user[:, :, None])[..., 0]
    log_q = torch.log(SAMPLED * sampler[sample])
    return losses.sampled_softmax(positive, scale * (user @ vectors[place[sample]].T), log_q, weights)


def _repeats(batch: _Batch) -> Tensor:
    """bool (n, p, k): targets that the user had before."""
    had = torch.where(batch.places > 0, batch.rows[:, None], -1)
    return (batch.targets[..., None] == had[:, :, None]).any(dim=-1)


def _seen(batch: _Batch, items: int) -> Tensor:
    """bool (n * p, items)."""
    n, p, _ = batch.places.shape
    found = torch.zeros(n, p, items + 1, dtype=torch.bool)
    found.scatter_(2, torch.where(batch.places > 0, batch.rows[:, None], items), True)
    return found[..., :items].reshape(n * p, items)


assert AGES > 2 * 31  # ages of decades have buckets
