"""The MQTT 5 bridge."""
