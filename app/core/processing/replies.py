"""The reply to the sender of refused rules or a command: a message on a topic beside that of the request."""

from datetime import datetime
from hashlib import blake2b

import msgspec
from msgspec import UNSET, Struct, UnsetType

from app.core.alerts.commands import NAME_MAX, Command
from app.core.model.arrival import moment_of
from app.core.model.fault import printable
from app.core.model.identity import bad_character
from app.core.model.keys import device_key
from app.core.model.records import Kind, Reason, Rejected
from app.core.model.reply import Reply
from app.core.user_config.last_known_good import RefusedRevision

PAYLOAD_MAX = 1000  # characters of the refused payload, so that its sender recognises it
_TOPICS = {Kind.CONFIG: "config/errors", Kind.ALERTS_MANAGE: "alerts/errors"}


class RefusalBody(Struct):
    """What is published of a refused configuration or command; `received` is when it came in."""

    id: str  # the same when the reply is sent again, so that a receiver can drop repeats
    reason: str
    error: str
    payload: str
    received: datetime | None
    request_id: str | UnsetType = UNSET  # of the command, if it had one


class ObeyedBody(Struct):
    """What is published of a command that was obeyed, to a sender who asked for it."""

    id: str
    request_id: str
    status: str  # "obeyed"
    received: datetime
    note: str | UnsetType = UNSET  # what a person would not expect of it


class _Asked(Struct):
    request_id: str = ""


def obeyed(given: Command, note: str, partition: int, offset: int) -> Reply | None:
    """The answer to a command that was obeyed, the record at `offset` of `partition`, with a note or an empty one;
    None: nobody asked for an answer.
    """
    if not given.request_id:
        return None
    body = ObeyedBody("", given.request_id, "obeyed", moment_of(given.at), note or UNSET)
    return _answer(given.user_id, _TOPICS[Kind.ALERTS_MANAGE], body, partition, offset)


def answer(rejected: Rejected, kind: Kind, user_id: str, partition: int, at: int) -> Reply | None:
    """The answer to a refused record of `partition` that came in `at`, in ms since 1970.

    None where nobody is to be notified, or the sender is not known.
    """
    topic = _TOPICS.get(kind)
    if topic is None or not user_id:
        return None
    record = rejected.record
    payload = printable(record.value or b"", PAYLOAD_MAX)
    asked = (_request_id(record.value or b"") if kind is Kind.ALERTS_MANAGE else "") or UNSET
    body = RefusalBody("", rejected.reason, rejected.detail, payload, moment_of(at), asked)
    return _answer(user_id, topic, body, partition, record.offset)


def answer_to_edit(refusal: RefusedRevision) -> Reply | None:
    """The answer to a configuration that was written into user_configs by hand; every worker gives it the same id."""
    user_id, text, edited, *_ = refusal.change
    if not user_id or any(char in user_id for char in "/+#\0") or bad_character(user_id):  # no level of a topic
        return None
    payload = printable((text or "").encode(), PAYLOAD_MAX)
    body = RefusalBody("", Reason.INVALID_RULES, "; ".join(refusal.reasons), payload, edited)
    return _answer(user_id, _TOPICS[Kind.CONFIG], body, edited.isoformat())


def _request_id(payload: bytes) -> str:
    try:
        return msgspec.json.decode(payload, type=_Asked).request_id[:NAME_MAX]
    except (msgspec.DecodeError, UnicodeError, RecursionError):
        return ""


def _answer(user_id: str, topic: str, body: RefusalBody | ObeyedBody, *place: str | int) -> Reply:
    """The reply with this body; its id is a digest that `place`, where the request was found, makes unique."""
    body.id = blake2b(msgspec.json.encode([user_id, topic, *place]), digest_size=16).hexdigest()
    return Reply(device_key(user_id, ""), msgspec.json.encode(body), f"users/{user_id}/{topic}")
