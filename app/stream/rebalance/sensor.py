"""Rebalances as Faust reports them: in, their beginnings and ends; out, what they changed and how long they took.

While a rebalance goes on nothing is taken from any partition of this worker, which hands back its partitions, joins,
brings states up and finds the positions. A second rebalance may begin in the middle, and then all of this comes again.
"""

import time
from typing import Any

import faust
from faust.types import TP

from app.stream.events import RebalanceEvents


class RebalanceSensor(faust.Sensor):
    """Follows the partitions of `topic`: `app.sensors.add(RebalanceSensor(topic, events))`."""

    def __init__(self, topic: str, events: RebalanceEvents) -> None:
        super().__init__()
        self._topic, self._events = topic, events
        self._held: frozenset[int] = frozenset()  # read until now
        self._began: float | None = None
        self._rounds = 0
        self._first_since: float | None = None  # no batch came yet since the end of the rebalance that began then

    def on_rebalance_start(self, app: Any) -> dict[str, float]:
        """The worker hands back its partitions. Called in the thread of the consumer."""
        now = time.monotonic()
        if self._began is None:
            self._began, self._rounds = now, 0
        self._rounds += 1
        self._first_since = None
        self._events.rebalance_begins(app.consumer_generation_id, self._held)
        return {"began": now}

    def on_rebalance_return(self, app: Any, state: dict[str, float]) -> None:
        """The group has a new assignment, and the databases of its states are open."""
        state["joined"] = time.monotonic()

    def on_rebalance_end(self, app: Any, state: dict[str, float]) -> None:
        """States and positions agree with Kafka's: batches come from here on."""
        now, began = time.monotonic(), self._began or state["began"]
        joined = state.get("joined", now)
        self._began, self._first_since = None, began
        before, self._held = self._held, frozenset(tp.partition for tp in app.consumer.assignment() if self._ours(tp))
        self._events.rebalance_ended(
            app.consumer_generation_id, before, self._held, joined - began, now - began, self._rounds
        )

    def on_message_in(self, tp: TP, offset: int, message: Any) -> None:
        """A batch is handed over."""
        if self._first_since is not None and self._ours(tp):
            seconds, self._first_since = time.monotonic() - self._first_since, None
            self._events.first_batch(message.generation_id, tp.partition, seconds)

    def _ours(self, tp: TP) -> bool:
        return bool(tp.topic == self._topic)
