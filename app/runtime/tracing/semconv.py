"""Names of spans and of their attributes. Names for messaging and databases are OpenTelemetry's semantic conventions.

Messaging is there of status Development (v1.44): what moves is mended here, and nowhere else.
"""

# Spans, in the order in which a message meets them.
MQTT_PUBLISH = "mqtt_publish"  # the simulated fleet and the load tester
BRIDGE = "bridge"  # from MQTT to Kafka's ack
GATEWAY = "gateway"  # from HTTP, TCP, gRPC or QUIC to Kafka's ack
WORKER_PROCESS = "worker_process"  # from being taken from Kafka to the ack
BATCH_FLUSH = "batch_flush"  # a batch, from its decoding to its end
STORE_TELEMETRY_BATCH = "store_telemetry_batch"  # the write of a batch to the database
ALERT_PUBLISH = "alert_publish"  # an alert event to the alert topic
NOTIFY = "notify"  # from the alert topic to MQTT's ack

# What a message is.
USER_ID = "user_id"
DEVICE_ID = "device_id"
SEQUENCE_ID = "sequence_id"

# What became of a message: an attribute of worker_process.
OUTCOME = "iot.outcome"
REASON = "iot.reason"  # of a dead letter: app.core.model.records.Reason
ALERT_ID = "iot.alert.id"
ALERT_STATUS = "iot.alert.status"
RULE_ID = "iot.rule.id"
LINKS_LEFT_OUT = "iot.links_left_out"  # sampled messages of a batch beyond the messages that it has links to
ROWS_STORED = "iot.rows.stored"
ROWS_DUPLICATE = "iot.rows.duplicate"
ROWS_REFUSED = "iot.rows.refused"

MESSAGING_SYSTEM = "messaging.system"
MESSAGING_OPERATION_NAME = "messaging.operation.name"
MESSAGING_OPERATION_TYPE = "messaging.operation.type"  # create, send, receive, process, settle
MESSAGING_DESTINATION_NAME = "messaging.destination.name"
MESSAGING_DESTINATION_TEMPLATE = "messaging.destination.template"
MESSAGING_DESTINATION_PARTITION_ID = "messaging.destination.partition.id"
MESSAGING_CONSUMER_GROUP_NAME = "messaging.consumer.group.name"
MESSAGING_CLIENT_ID = "messaging.client.id"
MESSAGING_MESSAGE_ID = "messaging.message.id"
MESSAGING_MESSAGE_BODY_SIZE = "messaging.message.body.size"
MESSAGING_BATCH_MESSAGE_COUNT = "messaging.batch.message_count"
MESSAGING_KAFKA_OFFSET = "messaging.kafka.offset"
MESSAGING_KAFKA_MESSAGE_KEY = "messaging.kafka.message.key"
KAFKA = "kafka"  # values of MESSAGING_SYSTEM
MQTT = "mqtt"

DB_SYSTEM_NAME = "db.system.name"
DB_OPERATION_BATCH_SIZE = "db.operation.batch.size"
DB_COLLECTION_NAME = "db.collection.name"
DB_RESPONSE_STATUS_CODE = "db.response.status_code"  # the SQLSTATE
POSTGRESQL = "postgresql"  # a value of DB_SYSTEM_NAME

ERROR_TYPE = "error.type"
EXCEPTION_MESSAGE = "exception.message"
SERVICE_NAME = "service.name"
SERVICE_NAMESPACE = "service.namespace"
SERVICE_VERSION = "service.version"
