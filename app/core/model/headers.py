"""Names of record headers that say how the MQTT broker delivered a message."""

PACKET_ID = "mqtt_id"  # header: the MQTT packet id under which the bridge received the message
REDELIVERED = "mqtt_dup"  # header: the MQTT broker has sent the message before
RETAINED = "retained"  # header: the MQTT broker had kept the message for whoever subscribes; history, not news
