"""Kafka clients: access, topics, producer, dead letters, outbox, session lease."""
