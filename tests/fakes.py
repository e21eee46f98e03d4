"""Small real implementations of the ports, on dictionaries; each passes the contract suite of its real adapter."""

import asyncio
import json
from collections.abc import Callable, Sequence
from datetime import datetime
from typing import Any

from app.core.batch.copy_policy import PartitionEpoch
from app.core.batch.effects import Effect, Statement, WriteResult
from app.core.model.records import Row
from app.errors import TransientError
from app.postgres.store.encode_check import fault
from tests import DEFAULT

Key = tuple[datetime, str, str, int]


class FakeStore:
    """ports.Store in memory. Clear `available` for an outage: writes hold until it is set, or `interrupt` is."""

    def __init__(self, interrupt: asyncio.Event | None = None) -> None:
        self.rows: dict[Key, Row] = {}
        self.configs: dict[str, str] = {}
        self.maintenance: dict[str, str] = {}
        self.sampling: dict[str, str] = {}
        self.averages: dict[tuple[Any, ...], tuple[Any, ...]] = {}  # by user, device, key and seconds
        self.edited: dict[str, tuple[datetime, int, int]] = {}
        self.statuses: dict[tuple[str, str], tuple[Any, ...]] = {}  # by key and way
        self.active_alerts: dict[tuple[Any, ...], tuple[Any, ...]] = {}  # by user, device, rule and way
        self.muted: dict[tuple[Any, ...], tuple[Any, ...]] = {}  # the same; and mutes by user, rule and device
        self.mutes: dict[tuple[Any, ...], tuple[Any, ...]] = {}
        self.history: dict[tuple[str, str, int], tuple[Any, ...]] = {}
        self.interrupt = interrupt or asyncio.Event()
        self.available = asyncio.Event()
        self.available.set()

    async def write(
        self, rows: Sequence[Row], effects: Sequence[Effect] = (), origin: PartitionEpoch | None = None
    ) -> WriteResult:
        """Store rows and effects, or raise TransientError when interrupted while unavailable."""
        while not self.available.is_set():
            if self.interrupt.is_set():
                raise TransientError("interrupted")
            await asyncio.sleep(0.01)
        refused = [
            (index, wrong) for index, row in enumerate(rows) if (wrong := fault(row, DEFAULT) or _json_fault(row[6]))
        ]
        bad = {index for index, _ in refused}
        before = len(self.rows)
        for index, row in enumerate(rows):
            if index not in bad:
                self.rows.setdefault((row[0], row[1], row[2], row[3]), row)
        stored = len(self.rows) - before
        return WriteResult(stored, len(rows) - stored - len(refused), tuple(refused), self._apply(effects))

    def _apply(self, effects: Sequence[Effect]) -> tuple[tuple[int, str], ...]:
        refused = []
        for index, effect in enumerate(effects):
            wrong = _effect_fault(effect)
            if wrong:
                refused.append((index, wrong))
            else:
                self._carry_out(effect)
        return tuple(refused)

    def _carry_out(self, effect: Effect) -> None:
        args = effect.args
        match effect.statement:
            case Statement.UPSERT_CONFIG:
                self._configure(*args)
            case Statement.UPSERT_SAMPLED_CONFIG:
                if self._configure(*args[:7]):
                    self.sampling[args[0]] = args[7]
            case Statement.INSERT_CONFIG:
                if args[0] not in self.configs:
                    self.sampling[args[0]] = args[4] or "{}"
                    self._configure(*(*args[:4], 0, -1, True))
            case Statement.INSERT_STATUS:
                self.statuses.setdefault((args[0], ""), args)
            case Statement.UPSERT_AVERAGE:
                key = (*args[:4], args[9])
                if key not in self.averages or self.averages[key][4:6] <= args[4:6]:
                    self.averages[key] = args
            case Statement.UPSERT_STATUS:
                if (args[0], "") not in self.statuses or self.statuses[args[0], ""][4] <= args[4]:
                    self.statuses[args[0], ""] = args
            case Statement.UPSERT_PRESENCE:
                stored = self.statuses.get((args[0], args[6]))
                if stored is None or stored[4] <= args[4]:
                    self.statuses[args[0], args[6]] = (*args[:5], stored[5] if stored else "{}")
            case Statement.UPSERT_ACTIVE_ALERT:
                stored = self.active_alerts.get((*args[:3], args[12]))
                older = stored is None or stored[9] <= args[9] or self._resolved(stored[3])
                if older and not self._resolved(args[3]):
                    self.active_alerts[*args[:3], args[12]] = args
            case Statement.DELETE_ACTIVE_ALERT:
                stored = self.active_alerts.get((*args[:3], args[4]))
                if stored is not None and (stored[8] <= args[3] or self._resolved(stored[3])):
                    del self.active_alerts[*args[:3], args[4]]
            case Statement.UPSERT_MUTED_ALERT:
                self.muted[*args[:3], args[7]] = args
            case Statement.DELETE_MUTED_ALERT:
                self.muted.pop(args, None)
            case Statement.UPSERT_MUTE:
                if args[:3] not in self.mutes or self.mutes[args[:3]][4] <= args[4]:
                    self.mutes[args[:3]] = args
            case Statement.DELETE_MUTE:
                if args[:3] in self.mutes and self.mutes[args[:3]][4] <= args[3]:
                    del self.mutes[args[:3]]
            case Statement.ADOPT_ACTIVE_ALERT:
                stored = self.active_alerts.get((*args[:3], ""))
                if stored is not None and stored[3] == args[3] and (*args[:3], "iot") not in self.active_alerts:
                    del self.active_alerts[*args[:3], ""]
                    self.active_alerts[*args[:3], "iot"] = (*stored[:12], "iot", *stored[13:])
            case Statement.ADOPT_AVERAGES:
                for key in [key for key in self.averages if (*key[:2], key[4]) == (*args, "")]:
                    if (*key[:4], "iot") not in self.averages:
                        self.averages[*key[:4], "iot"] = (*self.averages.pop(key)[:9], "iot")
            case Statement.ADOPT_STATUS:
                if (args[0], "") in self.statuses and (args[0], "iot") not in self.statuses:
                    self.statuses[args[0], "iot"] = self.statuses.pop((args[0], ""))
            case Statement.INSERT_HISTORY:
                self.history.setdefault(args[:3], args)

    def _configure(
        self,
        user: str,
        rules: str | None,
        maintenance: str | None,
        at: datetime,
        partition: int,
        offset: int,
        live: bool,
    ) -> bool:
        last = self.edited.get(user)
        later = last is not None and live and partition == last[1] and offset >= last[2]
        if last is not None and not later and at <= last[0]:
            return False
        self.configs[user] = rules or self.configs.get(user, "[]")
        self.maintenance[user] = maintenance or self.maintenance.get(user, "[]")
        self.edited[user] = (at if last is None else max(at, last[0]), partition, offset)
        return True

    def _resolved(self, alert_id: str) -> bool:
        return any(key[:2] == (alert_id, "RESOLVED") for key in self.history)


def _effect_fault(effect: Effect) -> str | None:
    """What the database would refuse: NUL and lone surrogates in text, and JSON it cannot hold."""
    for value in effect.args:
        if isinstance(value, str) and ("\0" in value or any("\ud800" <= c <= "\udfff" for c in value)):
            return "not text that the database can hold"
    if effect.statement is Statement.INSERT_HISTORY and not 0 <= effect.args[2] < 2**31:
        return "repeat: out of range"
    json_at = {
        Statement.UPSERT_CONFIG: (1, 2),
        Statement.UPSERT_SAMPLED_CONFIG: (1, 2, 7),
        Statement.INSERT_CONFIG: (1, 2, 4),
        Statement.UPSERT_STATUS: (5,),
        Statement.UPSERT_MUTE: (3,),
        Statement.INSERT_STATUS: (5,),
        Statement.INSERT_HISTORY: (12,),
    }.get(effect.statement, ())
    texts = (effect.args[index] for index in json_at if effect.args[index] is not None)
    return next((wrong for text in texts if (wrong := _json_fault(text))), None)


def _json_fault(text: str) -> str | None:
    """What jsonb refuses: bad syntax, NaN, \\u0000, lone surrogates, numbers past numeric, too deep nesting."""
    try:
        value = json.loads(text, parse_constant=_refuse, parse_float=_numeric, parse_int=_numeric)
        json.dumps(value, ensure_ascii=False, default=str).encode()
    except (ValueError, RecursionError) as error:
        return f"extra_data is not JSON that jsonb can hold: {error}"
    return "extra_data holds \\u0000" if _holds_nul(value) else None


def _refuse(constant: str) -> Any:
    raise ValueError(constant)


def _numeric(text: str) -> Any:
    """PostgreSQL's numeric has up to 131,072 digits before the point."""
    exponent = int(text.lower().partition("e")[2] or 0)
    if exponent > 131_071:
        raise ValueError("number too large")
    return text


def _holds_nul(value: Any) -> bool:
    walk: Callable[[Any], bool] = _holds_nul
    if isinstance(value, dict):
        return any(walk(part) for pair in value.items() for part in pair)
    if isinstance(value, list):
        return any(map(walk, value))
    return isinstance(value, str) and "\0" in value
