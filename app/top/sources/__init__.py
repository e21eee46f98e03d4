"""The sources of top: /metrics pages, Kafka, the database. No source raises for an outage; its answer says why."""
