"""Trains recommendation again on what users did: the events of the log, or of an archive. The labelled requests say by how much.

The newest labelled requests are the holdout. Nothing after the first of them is trained on, and of each of their users both versions
are asked for a list with the values that were served then: it is right if it has one of the items that the user takes next. So the gate
compares what the versions would have shown, where `engaged` tells only of what the champion did show.
"""

from __future__ import annotations

import os
from collections.abc import Mapping, Sequence
from contextlib import suppress
from pathlib import Path

import numpy as np
import numpy.typing as npt

from feature_jobs.settings import FeatureSettings
from inference_workers.models.folder import ModelFolder, open_folder
from inference_workers.recommending.recommender import Recommender
from inference_workers.recommending.served_requests import ServedRequest, served_request
from schemas.errors import BadSettings, RecordTooLarge
from streams.kafka.config import KafkaAddress
from streams.process.settings import load
from streams.schema_registry import Registry
from training_triggers.recorded.training_window import Examples
from training_triggers.settings import TriggerSettings
from training_triggers.trainers.recommending import event_log, event_readers, measured_version, point_in_time
from training_triggers.trainers.recommending.interactions import Interactions, Items
from training_triggers.trainers.recommending.offline_measures import taken_later
from training_triggers.trainers.recommending.training_options import settings_of, with_options
from training_triggers.trainers.retrain import Bools, Job, Retrained
from training_triggers.trainers.train import Say, TrainedVersion

HELD_OUT = 0.25  # of the labelled requests, the newest
SHOWN = 20  # items of a list that is judged
NEXT = 5  # items that a user takes after a request; of all that are taken in a long time, any list has one
AT_ONCE = 16
OF_THE_RUN = ("from_ms", "since_ms", "control")  # options that are not the trainer's
ENGAGED = "engaged"


def retrain(champion: ModelFolder, examples: Examples, job: Job, say: Say) -> Retrained:
    """Trained as the champion was, unless options say otherwise: those of `models train`, `seed`, and `archive`, a folder of archived
    events instead of the log. Raises BadSettings, ModelRefused, BrokerUnavailable."""
    options = {name: value for name, value in job.options.items() if name not in (*OF_THE_RUN, "seed", "archive")}
    settings, seed = with_options(settings_of(champion.config), options), int(job.number("seed", measured_version.SEED))
    data = _events(job)
    requests = sorted(map(served_request, examples.seen), key=lambda one: one.at_ms)
    holdout = _first_of_each_user(requests[int(len(requests) * (1 - HELD_OUT)) :])
    from_s = holdout[0].at_ms / 1000
    known, later = data.take(data.time_s < from_s), data.take(data.time_s >= from_s)
    numbers = {user: number for number, user in enumerate(data.users)}
    judged = [(request, wanted) for request in holdout if (wanted := taken_after(data, numbers.get(request.user_id), request))]
    if not judged or not taken_later(known, later):
        raise BadSettings(
            "none of the users of the newest requests did anything later: there is nothing to compare the versions by"
        )
    engaged = examples.truth[:, list(examples.names).index(ENGAGED)]
    say(
        f"{data.name}: {len(known.user)} events before the {len(holdout)} requests that are held out; {(engaged == 1).sum()} of "
        f"{(engaged >= 0).sum()} labelled answers were followed"
    )
    made = measured_version.train_and_write(known, settings, job.out, job.version, say, seed, later)
    folders = champion, open_folder(job.out, made.digest)
    before, after = (hits(served(folder, data.items), judged) for folder in folders)
    say(
        f"of {len(judged)} held-out requests, a list of {SHOWN} had an item that was taken: {before.mean():.3f} -> {after.mean():.3f}"
    )
    return Retrained(TrainedVersion(made.digest, made.model.named(), made.losses), (before, after))


def served(folder: ModelFolder, items: Items) -> Recommender:
    """The version as a worker serves it: with the items of the catalogue that it lacks, and without others."""
    recommender = Recommender.load(folder)
    for item, title, attributes in zip(items.ids, items.titles, items.attributes, strict=True):
        if item not in recommender.items.rows:
            with suppress(RecordTooLarge):  # a worker leaves it out too
                recommender.add(item, title, attributes)
    recommender.keep_only(set(items.ids))
    return recommender


def _events(job: Job) -> Interactions:
    """The same in each attempt of a run."""
    data = event_log.kept(job.scratch)
    if data is None:
        if "archive" in job.options:
            data = event_readers.archive(Path(job.options["archive"]))
        else:
            settings, lake = load(TriggerSettings, os.environ), Path(load(FeatureSettings, os.environ).lake)
            data = event_log.read_log(KafkaAddress(bootstrap=settings.bootstrap), Registry(settings.registry))
            data = point_in_time.with_user_features(data, lake) if point_in_time.has_history(lake) else data
        job.scratch.mkdir(parents=True, exist_ok=True)
        event_log.save(data, job.scratch)
    return data


def _first_of_each_user(requests: Sequence[ServedRequest]) -> list[ServedRequest]:
    """Later requests of a user have nearly the same history and wishes: they would count the same thing twice. Raises BadSettings."""
    found: Mapping[str, ServedRequest] = {request.user_id: request for request in reversed(requests)}
    if not found:
        raise BadSettings("no labelled request can be held out")
    return sorted(found.values(), key=lambda one: one.at_ms)


def taken_after(data: Interactions, number: int | None, request: ServedRequest) -> set[str]:
    """The NEXT items that the user took after the request, without those that had been seen. number: of the user in data."""
    if number is None:
        return set()
    part = slice(data.starts[number], data.starts[number + 1])
    later = dict.fromkeys(data.items.ids[row] for row in data.item[part][data.time_s[part] > request.at_ms / 1000])
    return set([item for item in later if item not in request.seen][:NEXT])


def hits(recommender: Recommender, judged: Sequence[tuple[ServedRequest, set[str]]]) -> Bools:
    """bool (n,): whether the first SHOWN items have one that was taken."""
    found: list[bool] = []
    for at in range(0, len(judged), AT_ONCE):
        part = judged[at : at + AT_ONCE]
        users = [request.history for request, _ in part]
        embeddings = recommender.embed(users)
        candidates = recommender.candidates(embeddings, 1_000, [request.seen for request, _ in part])
        ranked = recommender.rank(users, embeddings, candidates)
        shown = [{recommender.items.ids[row] for row in one.items[:SHOWN]} for one in ranked]
        found += [bool(items & wanted) for items, (_, wanted) in zip(shown, part, strict=True)]
    made: npt.NDArray[np.bool_] = np.array(found, np.bool_)
    return made
