"""After the last record of a batch: in, its context; out, in its output, the states that changed, and the mark."""

from collections.abc import Iterable

from app.core.alerts.outputs import active_effects, unmuted_effects
from app.core.batch.batch import Batch
from app.core.batch.effects import Effect
from app.core.batch.output import BatchOutput
from app.core.model.records import Kind, Record
from app.core.processing.batch_context import BatchContext
from app.core.processing.cached_device import WEIGHS_ONE, CachedDevice
from app.core.processing.device_cache import DeviceCache
from app.core.processing.sampled_step import average_effects
from app.core.state.device_state import encode
from app.core.state.keys import MARK_KEY
from app.core.state.partition_log import LOG_KEY, note

MARK_SECONDS = 5.0  # a mark alone is stored at most this often; together with states a mark costs nothing


def finish(context: BatchContext, batch: Batch, devices: DeviceCache, telemetry: int) -> BatchOutput:
    """Put the states, the effects and the mark of the batch up to where it was cut into its output, which is returned;
    so many of these records were telemetry.
    """
    output, last, end = context.output, batch.records[-1], batch.next_offset
    if context.cut is not None:
        last, end = _leave_over(output, batch, context.cut), context.cut
    output.count(Kind.TELEMETRY, telemetry)
    if output.rows:
        output.oldest = output.rows[0][0].timestamp()  # looking for the minimum costs 0.1 us a row
    _encode_moved(context, devices)
    output.gather(context.partition.registry.adopted)
    context.partition.stepped = end
    _mark(context, end, last)
    return output


def _leave_over(output: BatchOutput, batch: Batch, cut: int) -> Record:
    """Leave the records from offset `cut` on to the next batch; returns the last record before."""
    stepped = sum(record.offset < cut for record in batch.records)
    output.left_over = len(batch.records) - stepped
    output.annotated = [record for record in output.annotated if record.offset < cut]
    return batch.records[stepped - 1]


def _encode_moved(context: BatchContext, devices: DeviceCache) -> None:
    output, averages = context.output, list[Effect]()
    for device in context.moved:
        state = device.state
        if state is not None and state.applied_offset != state.persisted_offset:  # dirty
            output.states[device.key] = stored = encode(state)
            if len(stored) >= WEIGHS_ONE or device.weight > 1:
                devices.weigh(device, len(stored))
            if state.touched:
                output.alert_effects += active_effects(state, *device.name)
                if device.watch.no_data:
                    _set_alarms(context, device, state.touched)
            if state.unmuted:
                output.alert_effects += unmuted_effects(state, *device.name)
            if state.sampled and device.watch.sampling:
                averages += average_effects(state, device.watch.sampling, *device.name)
            state.mark_persisted()
    output.alert_effects += averages  # together, so that the averages are one statement


def _set_alarms(context: BatchContext, device: CachedDevice, touched: Iterable[str]) -> None:
    """A reading was about open alerts: from now on these alerts may go stale."""
    registry, now = context.partition.registry, context.clock
    for rule_id in touched:
        if rule_id in device.watch.no_data:
            alarm = (device.name, rule_id)
            if alarm not in registry.heard:
                registry.alarms.arm(alarm, now + device.watch.no_data[rule_id])
            registry.heard[alarm] = now


def _mark(context: BatchContext, end: int, last: Record) -> None:
    """Note that everything before offset `end` was stepped, the record `last` too; after the states, so that a mark
    never runs ahead of them.
    """
    output, partition, now = context.output, context.partition, context.clock
    offset, log = end - 1, partition.log
    if offset <= partition.mark:  # a replay
        return
    partition.mark = offset
    if output.states or output.answers or now - partition.marked_at >= MARK_SECONDS:
        if not log.generation:
            output.states[MARK_KEY] = b"%d" % offset
        if log.identity:
            output.states[LOG_KEY] = note(log, offset, last.timestamp)
        partition.marked_at = now
