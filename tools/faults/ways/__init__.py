"""The ways in beside MQTT in the fault tests: what is sent by each, who sends it, and clients that misbehave."""
