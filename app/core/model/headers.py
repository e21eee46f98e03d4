"""Names of record headers: what a message is about, which way it came in, and how the MQTT broker delivered it.

Each gateway puts TOPIC, KIND and the time of arrival first, in this order; a trace context is last.
"""

TOPIC = "mqtt_topic"  # header: the MQTT topic, or the topic that the message would have come by
KIND = "kind"  # header: what the record is about (app.core.model.records.Kind)
GATEWAY = "gateway"  # header: the way in, other than MQTT
PACKET_ID = "mqtt_id"  # header: the MQTT packet id under which the bridge received the message
REDELIVERED = "mqtt_dup"  # header: the MQTT broker has sent the message before
RETAINED = "retained"  # header: the MQTT broker had kept the message for new subscribers; history, not news
