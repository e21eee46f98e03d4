"""The consumer group over time: answers of Kafka in; out, lag, growth of the log and of the committed offsets."""

from collections.abc import Callable, Mapping

from app.top.model.answers import GroupAnswer

NOTHING = GroupAnswer(at=0.0)


class GroupHistory:
    """The last two answers that were none of a failure."""

    def __init__(self) -> None:
        self._before: GroupAnswer | None = None
        self._now: GroupAnswer | None = None
        self._failed = False

    def take(self, answer: GroupAnswer) -> None:
        """Note an answer; an answer that was taken before changes nothing."""
        self._failed = bool(answer.problem)
        if not answer.problem and (self._now is None or answer.at > self._now.at):
            self._before, self._now = self._now, answer

    @property
    def current(self) -> GroupAnswer:
        """The last answer; an empty one while Kafka does not answer."""
        return NOTHING if self._failed or self._now is None else self._now

    @property
    def said(self) -> str:
        """The group, its state and how many members it has, in words; empty while Kafka does not answer."""
        one = self.current
        return f"{one.group}: {one.state}, {one.members} member{'s' * (one.members != 1)}" if one.group else ""

    def lag(self) -> dict[int, float]:
        """Records of each partition that the log still holds and that are not committed."""
        one = self.current
        return {n: float(max(0, end - _position(one, n))) for n, end in one.ends.items()}

    def lag_seconds(self, wall: float) -> dict[int, float]:
        """For how many seconds the oldest record of each partition waits, by `wall`, seconds since 1970; 0 where none
        does. Partitions that were not looked up are absent.
        """
        one, lag = self.current, self.lag()
        waiting = {n: max(0.0, wall - since) for n, since in one.waiting_since.items() if lag.get(n)}
        return waiting | {n: 0.0 for n, records in lag.items() if not records}

    def messages_per_second(self) -> float | None:
        """Growth of the log in records a second, over all partitions; None before the second answer."""
        rates = self._rates(lambda one: one.ends)
        return sum(rates.values()) if rates else None

    def committed_per_second(self) -> dict[int, float]:
        """Growth of the committed offset of each partition in records a second; empty before the second answer."""
        return self._rates(lambda one: {n: _position(one, n) for n in one.ends})

    def _rates(self, of: Callable[[GroupAnswer], Mapping[int, int]]) -> dict[int, float]:
        if self._failed or self._before is None or self._now is None:
            return {}
        before, seconds = of(self._before), self._now.at - self._before.at
        return {n: max(0, at - before.get(n, at)) / seconds for n, at in of(self._now).items()}


def _position(one: GroupAnswer, partition: int) -> int:
    return max(one.starts.get(partition, 0), one.committed.get(partition, 0))
