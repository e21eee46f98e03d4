"""Where top's answers come from: /metrics pages, Kafka, the database. None raises for an outage; it answers why."""
