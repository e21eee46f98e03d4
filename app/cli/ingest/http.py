"""`iot-stream http`: the HTTP gateway alone."""

from app.cli.ingest.run import run
from app.settings import load


def http() -> None:
    """Take telemetry in over HTTP; a 2xx goes out once Kafka has every item that the answer calls accepted.

    POST /v1/users/USER/devices/DEVICE/telemetry and /v1/nodes/NODE/sensors/SENSOR/telemetry take one JSON object,
    POST /v1/events takes a batch: a JSON array, NDJSON, or a protobuf EventBatch, with gzip or zstd.
    POST /api/v2/write and /write take Influx line protocol, from Telegraf and InfluxDB's clients.
    GET /openapi.json describes all paths.

    The gateway listens on IOT_HTTP_HOST and IOT_HTTP_PORT (127.0.0.1:8088); beyond this machine with TLS alone
    (IOT_HTTP_CERTIFICATE_FILE). Accounts are made by iot-stream users.

    Example, with a token of the user alice:

    \b
    iot-stream http &
    TOKEN=$(iot-stream users token add alice)
    curl http://127.0.0.1:8088/v1/users/alice/devices/d1/telemetry -H "Authorization: Bearer $TOKEN" \\
      -H "Content-Type: application/json" \\
      -d '{"sequence_id": 1, "timestamp": "'$(date -u +%FT%TZ)'", "temperature": 21}'
    """
    run(load(), ["http"])
