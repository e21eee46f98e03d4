"""Simulated devices over real MQTT."""

USERS = tuple(f"fleet-{number}" for number in range(1, 5))
