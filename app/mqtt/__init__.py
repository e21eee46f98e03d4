"""Publishing over MQTT."""
