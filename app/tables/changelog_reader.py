"""Bringing states up to date: in, the stores of assigned changelog partitions; out, all that Kafka holds is in them.

Faust reads changelogs through the consumer, the flow and the queues of its streams, a record at a time. What an
interrupted recovery has left in a queue may come after the next recovery has begun, and what lies in between is then
skipped: states of the past. So a client of its own reads changelogs, and ends with the recovery for which it was made.
"""

import time
from collections.abc import Mapping
from typing import Any

import faust
import structlog
from aiokafka import AIOKafkaConsumer
from faust.transport.drivers.aiokafka import credentials_to_aiokafka_auth, server_list
from faust.types import TP

from app.kafka.access import ask_until_answered
from app.kafka.close_clients import close_consumer
from app.tables.rocksdb_store import StateStore

log = structlog.get_logger()

RECORDS = 5_000  # at once; storing them takes some 50 ms, in which the worker does nothing else
FETCH_BYTES = 1 << 20


class ChangelogReader:
    """Reads the changelogs of an app's tables, as that app would connect to Kafka."""

    def __init__(self, app: faust.App) -> None:
        """`app` is asked for brokers, account and TLS at each `catch_up`."""
        self._app = app

    async def catch_up(self, stores: Mapping[TP, StateStore], identities: Mapping[str, str]) -> None:
        """Read each changelog partition from where its store is to its present end; wait out an outage of Kafka.

        `identities` are those of the topics by their name, as far as they are known. May be cancelled at any time: a
        store keeps what it has taken, and knows from where to go on. Raises a KafkaError that is no outage.
        """
        began, read = time.monotonic(), 0
        if stores:
            read = await ask_until_answered("state recovery", lambda: self._read_once(stores, identities))
        seconds = round(time.monotonic() - began, 3)
        log.info("states_recovered", partitions=len(stores), records=read, seconds=seconds)

    async def _read_once(self, stores: Mapping[TP, StateStore], identities: Mapping[str, str]) -> int:
        consumer = AIOKafkaConsumer(**self._options())
        try:
            await consumer.start()
            return await _read(consumer, stores, identities)
        finally:
            await close_consumer(consumer)

    def _options(self) -> dict[str, Any]:
        conf, transport = self._app.conf, self._app.transport
        return {
            "bootstrap_servers": server_list(transport.url, transport.default_port),
            "client_id": f"{conf.broker_client_id}-states",
            "request_timeout_ms": int(conf.broker_request_timeout * 1000),
            "enable_auto_commit": False,
            "auto_offset_reset": "earliest",  # compaction may have taken the place
            "max_partition_fetch_bytes": FETCH_BYTES,
            "fetch_max_wait_ms": 100,
            **credentials_to_aiokafka_auth(conf.broker_credentials, conf.ssl_context),
        }


async def _read(consumer: AIOKafkaConsumer, stores: Mapping[TP, StateStore], identities: Mapping[str, str]) -> int:
    """How many records there were up to the ends of now."""
    ends = await consumer.end_offsets(list(stores))
    places = {tp: stores[tp].place(tp.partition, end, identities.get(tp.topic, "")) for tp, end in ends.items()}
    left = {tp: end for tp, end in ends.items() if places[tp] < end}
    consumer.assign(list(left))
    for tp in left:
        consumer.seek(tp, places[tp])
    read = 0
    while left:
        for tp, records in (await consumer.getmany(*left, timeout_ms=1000, max_records=RECORDS)).items():
            stores[tp].take(tp.partition, records)
            read += len(records)
        reached = {tp: await consumer.position(tp) for tp in left}  # past what compaction has removed, too
        left = {tp: end for tp, end in left.items() if reached[tp] < end}
    return read
