"""Ends and first offsets of topics, positions of groups, and the rates and lags derived from them."""

from __future__ import annotations

from collections.abc import Mapping

from infra.behind import LOOKED_BEHIND, looked
from infra.monitor import pipeline
from infra.monitor.watching.figures_history import Ends
from infra.provision import specs
from schemas.catalogue import catalogue
from streams.clock import Clock
from streams.kafka.admin import KafkaAdmin
from streams.kafka.config import KafkaAddress
from streams.rows import Place

FIRSTS_EVERY = 15  # in samples, because retention moves slowly


def groups() -> tuple[str, ...]:
    """All consumer groups whose positions are read."""
    return (*(taken.group for taken in catalogue().consumptions), *pipeline.JOB_GROUPS.values())


class BrokerOffsets:
    """Call `sample` from one thread; its results may be read from any: they are replaced as a whole, and never changed."""

    def __init__(self, address: KafkaAddress, clock: Clock) -> None:
        self._address, self._clock = address, clock
        self._admin = KafkaAdmin(address)
        self._history = Ends()
        self._samples = 0
        self._ends: Mapping[Place, int] = {}
        self._firsts: Mapping[Place, int] = {}
        self._committed: Mapping[str, Mapping[Place, int]] = {}
        self._behind: dict[tuple[Place, int, int], tuple[int, int]] = {}  # records behind a position, time of the first

    def reconnect(self) -> None:
        """An old client keeps using the leader epoch from before a broker's restart; a new client does not."""
        self._admin = KafkaAdmin(self._address)

    def sample(self, now_ms: int, elapsed_s: float) -> dict[str, float]:
        """Query the broker: rates since the last sample, and lags, by series name. Raises BrokerUnavailable."""
        if self._samples % FIRSTS_EVERY == 0:
            partitions = self._admin.partitions()
            places = [(spec.name, number) for spec in specs() for number in range(partitions.get(spec.name, 0))]
            self._firsts = self._admin.firsts(places)
        ends = self._admin.ends(list(self._firsts))
        committed = self._admin.committed_of(groups())
        self._look_behind(ends, committed)
        rates = self._rates(ends, committed, elapsed_s) if self._samples else {}
        self._ends, self._committed = ends, committed
        self._history.append(now_ms, ends)
        self._samples += 1
        return rates | self._lags(now_ms)

    def offsets_kept(self) -> dict[str, tuple[int, int]]:
        """By topic: the number of kept offsets of all partitions, and the number of partitions."""
        found: dict[str, tuple[int, int]] = {}
        for place, end in self._ends.items():
            kept, partitions = found.get(place[0], (0, 0))
            found[place[0]] = kept + end - self._firsts.get(place, 0), partitions + 1
        return found

    def topics_of(self, group: str) -> set[str]:
        """The topics in which the group has committed positions."""
        return {topic for topic, _ in self._committed.get(group, {})}

    def committed(self, topic: str) -> dict[str, dict[int, int]]:
        """By group with commits in the topic: the position by partition."""
        found: dict[str, dict[int, int]] = {}
        for group, positions in self._committed.items():
            mine = {place[1]: offset for place, offset in positions.items() if place[0] == topic}
            if mine:
                found[group] = mine
        return found

    def _look_behind(self, ends: Mapping[Place, int], committed: Mapping[str, Mapping[Place, int]]) -> None:
        """A position that does not move may have records behind it, or only transaction markers, which nobody reads. So read
        what follows it, once for each position and end. The lag of a moving position comes from its offsets alone."""
        wanted: dict[Place, int] = {}
        for group, positions in committed.items():
            for place, offset in positions.items():
                end = ends.get(place, 0)
                still = self._ends.get(place) == end and self._committed.get(group, {}).get(place) == offset
                is_new = (place, offset, end) not in self._behind and place not in wanted
                if still and is_new and 0 < end - offset <= LOOKED_BEHIND:
                    wanted[place] = offset
        if not wanted:
            return
        for place, seen in looked(self._address, wanted, ends, self._clock).items():
            self._behind = {key: value for key, value in self._behind.items() if key[0] != place or key[1] != wanted[place]}
            self._behind[place, wanted[place], ends[place]] = seen

    def _rates(
        self, ends: Mapping[Place, int], committed: Mapping[str, Mapping[Place, int]], elapsed_s: float
    ) -> dict[str, float]:
        values: dict[str, float] = {}
        for place, end in ends.items():
            name = f"topic/{place[0]}/rate"
            values[name] = values.get(name, 0.0) + (end - self._ends.get(place, end)) / elapsed_s
        for group, positions in committed.items():
            before = self._committed.get(group, {})
            for place, offset in positions.items():
                name = f"edge/{group}/{place[0]}/rate"
                values[name] = values.get(name, 0.0) + max(0, offset - before.get(place, offset)) / elapsed_s
        return values

    def _lags(self, now_ms: int) -> dict[str, float]:
        """Lag in records, and in seconds: the age of the first unread record in the worst partition."""
        values: dict[str, float] = {}
        for group, positions in self._committed.items():
            for place, offset in positions.items():
                if place not in self._ends:
                    continue
                edge = f"edge/{group}/{place[0]}"
                records, age_s = self._lag(place, offset, now_ms)
                values[f"{edge}/lag"] = values.get(f"{edge}/lag", 0.0) + records
                values[f"{edge}/lag_s"] = max(values.get(f"{edge}/lag_s", 0.0), age_s)
        return values

    def _lag(self, place: Place, offset: int, now_ms: int) -> tuple[int, float]:
        end = self._ends[place]
        known = self._behind.get((place, offset, end))
        if known is not None:
            records, first_ms = known
            return records, (now_ms - first_ms) / 1000 if records else 0.0
        records = max(0, end - max(offset, self._firsts.get(place, 0)))
        return records, self._history.age_s(place, offset, now_ms) if records else 0.0
