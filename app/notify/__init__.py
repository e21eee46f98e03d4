"""Alerts out to MQTT and webhooks, each with a consumer group of its own."""
