"""The real worker on a simulated Kafka, database and clock, under one seeded scheduler (docs/simulation.md)."""
