"""The cost of encryption: the worker and the bridge with TLS and accounts everywhere, compared with plain connections.

    python -m tools.bench.encryption --rows 500000 --messages 50000 --runs 3

One Kafka, one PostgreSQL and one Mosquitto with both kinds of listener; plain and encrypted take turns. Encrypted is
SASL_SSL with SCRAM-SHA-512 to Kafka, TLS to PostgreSQL and MQTT, certificates verified. Prints medians and ratios.
"""

import argparse
import asyncio
import os
import statistics
import tempfile
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from pathlib import Path

import asyncpg
from pydantic import SecretStr

from app.kafka import topics
from app.kafka.access import Access
from app.local.servers.common import LOOPBACK, free_port
from app.local.servers.postgres import Postgres
from app.settings import Settings
from tests.integration.bridges import create_topics, program, publisher, read_topic
from tests.integration.test_bridge import settings as of_bridge
from tests.secured import ACCOUNT, PASSWORD, Certificates, SecuredKafka, SecuredMosquitto, SecuredPostgres, running
from tools.bench import bridge, end_to_end
from tools.bench.load import fill

WAYS = ("plain", "encrypted")


class BothPostgres(SecuredPostgres):
    """A PostgreSQL that accepts connections with TLS and without."""

    async def open_both(self) -> None:
        """Accept plain connections as well; call this method after TLS is enabled."""
        rules = "hostssl all all 127.0.0.1/32 trust\nhostnossl all all 127.0.0.1/32 trust\n"
        (self._home().data / "pg_hba.conf").write_text(rules)
        connection = await asyncpg.connect(self.dsn_of("postgres"), ssl="require")
        await connection.execute("SELECT pg_reload_conf()")
        await connection.close()


def to_kafka(kafka: SecuredKafka, made: Certificates) -> dict[str, str]:
    """Settings of a client that connects with TLS and its account."""
    return {
        "IOT_KAFKA_SECURITY_PROTOCOL": "SASL_SSL",
        "IOT_KAFKA_CA_FILE": str(made.ca),
        "IOT_KAFKA_USERNAME": ACCOUNT,
        "IOT_KAFKA_PASSWORD": PASSWORD,
    }


@contextmanager
def variables(values: Mapping[str, str]) -> Iterator[None]:
    """Set environment variables for the programs that are started within the context."""
    os.environ.update(values)
    try:
        yield
    finally:
        for name in values:
            del os.environ[name]


def worker(kafka: SecuredKafka, postgres: Postgres, made: Certificates, options: argparse.Namespace, home: str) -> None:
    """Measure the worker on a backlog from Kafka to the table, plain and encrypted in turns."""
    dsn = postgres.dsn
    asyncio.run(end_to_end.prepare(dsn))
    base = Settings(_env_file=None, kafka_broker=kafka.bootstrap, kafka_topic="rows")
    asyncio.run(topics.create(Access(kafka.bootstrap), topics.wanted(base), 1))
    asyncio.run(fill(kafka.bootstrap, "rows", options.rows, options.devices, False))
    results: dict[str, list[end_to_end.Result]] = {way: [] for way in WAYS}
    for run in range(options.runs):
        for way in WAYS if run % 2 == 0 else reversed(WAYS):
            asyncio.run(end_to_end.empty(dsn))
            changed: dict[str, object] = {"app": f"{way}{run}", "metrics_port": free_port()}
            changed["database_url"] = SecretStr(dsn + ("?sslmode=disable" if way == "plain" else ""))
            changed["kafka_broker"] = kafka.bootstrap if way == "plain" else kafka.at("SASL_SSL")
            settings = base.model_copy(update=changed)
            asyncio.run(topics.create(Access(kafka.bootstrap), topics.wanted(settings), 1))
            secure = to_kafka(kafka, made) | {"IOT_DATABASE_TLS": "true", "IOT_DATABASE_CA_FILE": str(made.ca)}
            with variables(secure if way == "encrypted" else {}):
                result = end_to_end.run_worker(settings, options, home)
            results[way].append(result)
            print(f"  worker {way:10} {result.rate:9,.0f} rows/s  {result.cpu:5.2f} CPU s per million", flush=True)
    tell("worker", {way: [(one.rate, one.cpu) for one in runs] for way, runs in results.items()})


async def bridges(
    kafka: SecuredKafka, mqtt: SecuredMosquitto, made: Certificates, options: argparse.Namespace, home: str
) -> None:
    """Measure the bridge, plain and encrypted in turns; the publisher limits the rate as much as the bridge."""
    results: dict[str, list[tuple[float, float]]] = {way: [] for way in WAYS}
    for run in range(options.runs):
        for way in WAYS if run % 2 == 0 else reversed(WAYS):
            topic = f"bridge-{way}{run}"
            await create_topics(kafka.bootstrap, topic, f"{topic}-dlq")
            values = of_bridge(kafka.bootstrap, mqtt, topic)
            if way == "encrypted":
                values |= {"kafka_broker": kafka.at("SASL_SSL"), "mqtt_port": mqtt.tls_port}
                values |= {"mqtt_tls": "true", "mqtt_ca_file": made.ca}
            with (
                variables(to_kafka(kafka, made) if way == "encrypted" else {}),
                program("bridge", Path(home) / topic, **values) as one,
            ):
                await one.logged("bridge_mqtt_connected")
                began, used = asyncio.get_running_loop().time(), bridge.cpu(one.pid)
                async with publisher(mqtt, topic) as client:
                    await client.publish(bridge.messages(options.messages), window=5000)
                await read_topic(kafka.bootstrap, topic, lambda found: len(found) >= options.messages, 120)
                took, used = asyncio.get_running_loop().time() - began, bridge.cpu(one.pid) - used
            results[way].append((options.messages / took, used / options.messages * 1e6))
            rate, cost = results[way][-1]
            print(f"  bridge {way:10} {rate:9,.0f} messages/s  {cost:5.2f} CPU s per million", flush=True)
    tell("bridge", results)


def tell(name: str, results: Mapping[str, list[tuple[float, float]]]) -> None:
    """Print medians, and the medians of the ratios encrypted / plain of rate and CPU, run by run."""
    for way, runs in results.items():
        rate, cost = (statistics.median(values) for values in zip(*runs, strict=True))
        print(f"{name} {way:10} {rate:9,.0f}/s  {cost:5.2f} CPU s per million")
    pairs = list(zip(results["encrypted"], results["plain"], strict=True))
    rates, costs = ([one[at] / other[at] for one, other in pairs] for at in (0, 1))
    print(
        f"{name} encrypted / plain: rate {statistics.median(rates):.2f}, CPU {statistics.median(costs):.2f}", flush=True
    )


def main() -> None:
    """Start the servers, measure, stop them."""
    options = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    for name, default in (("rows", 500_000), ("messages", 50_000), ("runs", 3), ("devices", 500), ("in-flight", 3)):
        options.add_argument(f"--{name}", type=int, default=default)
    given = options.parse_args()
    with tempfile.TemporaryDirectory(prefix="iot-bench-") as home:
        os.chmod(home, 0o755)  # PostgreSQL runs under its own account
        (Path(home) / "certificates").mkdir()
        made = Certificates(Path(home) / "certificates")
        kafka, postgres = SecuredKafka(Path(home) / "kafka", made), BothPostgres(Path(home) / "postgres", made)
        mqtt = SecuredMosquitto(Path(home) / "mqtt", made)
        assert mqtt.host == LOOPBACK
        with running(kafka), running(postgres), running(mqtt):
            postgres.secure()
            asyncio.run(postgres.open_both())
            worker(kafka, postgres, made, given, home)
            asyncio.run(bridges(kafka, mqtt, made, given, home))


if __name__ == "__main__":
    main()
