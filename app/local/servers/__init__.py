"""Kafka, PostgreSQL and Mosquitto as child processes of the embedded stack."""
