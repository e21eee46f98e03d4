"""Records that are no telemetry -> Effects on the database, or Rejected: device status and rule changes."""

import msgspec

from app.core.batch.effects import Effect, Statement
from app.core.model.arrival import is_replay, moment_of
from app.core.model.fault import printable
from app.core.model.namespaces import FLEET
from app.core.model.records import Reason, Record, Rejected, Stage
from app.core.presence.last_will import word_of
from app.core.routing.address import Address
from app.core.rules.rule import InvalidRules
from app.core.schema.schema import Schema
from app.core.user_config.document import PARTS, parse_config

STATUS_MAX = 64  # characters; a status is a word such as "online"

_object = msgspec.json.Decoder(dict[str, msgspec.Raw]).decode


def status_effect(record: Record, address: Address, at: int) -> Effect | Rejected:
    """`iot/{node}/status`: a word ("online"), or a JSON object with such a word (last_will.py), kept as detail.

    `last_seen` is when the record came in, `at` ms since 1970, so that a replay says the same. A status that the broker
    had retained is taken where the node has no row yet.
    """
    payload = record.value or b""
    if not payload:
        return _rejected(record, Reason.EMPTY_PAYLOAD, "status is empty; send a word such as online, or a JSON object")
    is_object = payload.lstrip().startswith(b"{")
    try:
        detail = payload.decode() if is_object else "{}"
        word = word_of(payload)
    except UnicodeDecodeError:
        return _rejected(record, Reason.BAD_ENCODING, "status is not UTF-8")
    except (msgspec.DecodeError, KeyError, RecursionError):
        return _rejected(
            record, Reason.BAD_JSON, f'status must be a word or {{"status": "online"}}: {printable(payload)}'
        )
    if not word or len(word) > STATUS_MAX or not word.isprintable():
        return _rejected(record, Reason.WRONG_TYPE, f"status must be a word of 1 to {STATUS_MAX} characters")
    key = f"{address.user_id}/{address.device_id}" if address.device_id else address.user_id
    statement = Statement.INSERT_STATUS if address.retained else Statement.UPSERT_STATUS
    return Effect(statement, (key, address.user_id, address.device_id, word, moment_of(at), detail))


def config_effect(record: Record, address: Address, at: int, partition: int, schema: Schema) -> Effect | Rejected:
    """`users/{user}/config`: the user's whole rule set, an array or {"rules": [...]}; one bad rule refuses all.

    `maintenance` and `sampling`, beside `rules` or without: the user's maintenance windows, and which readings are
    stored and averaged. Among messages the place in the log says which is newest; against edits by hand the time of
    arrival counts, `at` ms since 1970: so a redelivery takes back no later edit. A configuration that the broker had
    retained is taken where the user has none.
    """
    payload = record.value or b""
    if not payload:
        return _rejected(record, Reason.EMPTY_PAYLOAD, 'config is empty; send {"rules": [...]}')
    if address.user_id == FLEET:
        detail = f"the user {FLEET} stands for all users; an operator says what holds for them: iot-stream rules set"
        return _rejected(record, Reason.INVALID_RULES, f"{detail} '{FLEET}' FILE")
    found = parse_config(payload, address.user_id, schema)
    if isinstance(found, InvalidRules):
        return _rejected(record, Reason.INVALID_RULES, "; ".join(found.reasons))
    place = (moment_of(at), partition, record.offset, not is_replay(record))
    is_object = payload.lstrip().startswith(b"{")
    parts = _object(payload) if is_object else {"rules": msgspec.Raw(payload)}
    rules, windows, sampling = [bytes(parts[name]).decode() if name in parts else None for name in PARTS]
    if address.retained:
        return Effect(Statement.INSERT_CONFIG, (address.user_id, rules, windows, moment_of(at), sampling))
    if sampling is None:
        return Effect(Statement.UPSERT_CONFIG, (address.user_id, rules, windows, *place))
    return Effect(Statement.UPSERT_SAMPLED_CONFIG, (address.user_id, rules, windows, *place, sampling))


def _rejected(record: Record, reason: Reason, detail: str) -> Rejected:
    return Rejected(record, reason, Stage.VALIDATE, detail)
