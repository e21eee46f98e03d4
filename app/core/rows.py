"""Reading -> a row of raw_telemetry."""

from app.core.model import Reading, Row


def row(reading: Reading) -> Row:
    """The reading's values in the column order of init.sql; `extra_data` is JSON text, each number as it was sent."""
    return (
        reading.time,
        reading.user_id,
        reading.device_id,
        reading.sequence_id,
        reading.temperature,
        reading.battery,
        reading.extra_json,
    )
