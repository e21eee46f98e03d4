"""A consumer that takes no records for longer than aiokafka's maximum poll interval, and stays in its group."""

from aiokafka import AIOKafkaConsumer

from app.kafka.fetch.fetcher import count_as_polled


async def test_a_consumer_counts_as_polled_without_taking_records() -> None:
    client = AIOKafkaConsumer("t", bootstrap_servers="127.0.0.1:9", group_id="g")
    subscription = client._subscription
    subscription._last_fetch_ended -= 7200.0
    assert subscription.fetcher_idle_time > 7000
    count_as_polled(client)
    assert subscription.fetcher_idle_time < 60
    await client.stop()
