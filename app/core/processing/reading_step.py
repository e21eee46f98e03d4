"""A reading of a device that has a state -> the changes of this state, its alerts, and whether its row stays."""

from app.core.alerts.evaluate import evaluate
from app.core.alerts.outputs import emit
from app.core.decode.future_times import latest_allowed
from app.core.model.arrival import moment_of
from app.core.model.records import Reading, Record
from app.core.processing.batch_context import BatchContext
from app.core.processing.cached_device import CachedDevice
from app.core.processing.clock_back import on_time
from app.core.processing.sampled_step import evaluate_sampled
from app.core.state.device_state import DeviceState


class ReadingStep:
    """Steps readings. Keeps only the latest time that rules are shown, for the last second of arrival."""

    def __init__(self, set_back_after: int) -> None:
        """After so many readings in a row a device's clock is believed to be set back (clock_back.py); 0: never."""
        self._set_back_after = set_back_after
        self._second, self._latest = -1, moment_of(0)

    def apply(
        self, batch: BatchContext, device: CachedDevice, state: DeviceState, record: Record, reading: Reading, at: int
    ) -> int:
        """Step the `state` of the device, in place; `reading` has the last row, and its record came in `at`, in ms
        since 1970. Returns as how many more quiet readings it counts: an event, or an open alert, takes as long.
        """
        offset, time, watch, second = record.offset, reading.time, device.watch, at // 1000
        if self._second != second:
            self._second, self._latest = second, latest_allowed(second)
        if device.moved_in != batch.begin:  # asked here too: a call takes longer
            batch.move(device)
        in_time = state.latest <= time <= self._latest and state.back is None
        if in_time and watch.sampling is None and not state.episodes and watch.quiet(reading):  # nearly all
            if offset > state.applied_offset:
                state.applied_offset, state.latest = offset, time
            return 0
        if not in_time:
            reading, found = on_time(state, reading, record, at, self._set_back_after)
            if found is not None:
                batch.output.set_back.append(found)
        if watch.sampling is None:
            events = evaluate(state, reading, watch.rules, offset, watch.quiet, watch.maintenance, at, watch.mutes)
        else:
            events, dropped = evaluate_sampled(state, reading, watch.sampling, watch, offset, at)
            if dropped:
                batch.output.drop_last("cov")
        if events:
            emit(batch.output, record, events, state.way)
        return batch.steps(max(len(events), len(state.episodes) - 1))
