"""`iot-stream tcp`: JSON lines or Influx lines over TCP and TLS, acknowledged once Kafka has them."""

from app.cli.ingest.run import run
from app.settings import load


def tcp() -> None:
    """Take lines in over TCP at IOT_TCP_HOST:IOT_TCP_PORT; {"acked":n} says that Kafka has the first n lines.

    The first line is the login, unless a client certificate (IOT_TCP_CA_FILE) names the account:
    {"user":"alice","token":"..."} or {"user":"alice","password":"..."}, answered {"ok":true}.

    Then one JSON object a line, or Influx line protocol with IOT_TCP_FORMAT=influx. A line that is refused is answered
    {"line":3,"reason":"...","error":"..."}; other lines go on. After a lost connection repeat lines without an ack.

    Example, with a token of the user alice:

    \b
    iot-stream tcp &
    TOKEN=$(iot-stream users token add alice)
    (echo '{"user":"alice","token":"'$TOKEN'"}'
     echo '{"device_id":"d1","sequence_id":1,"timestamp":'$(date +%s)'}') | nc -N 127.0.0.1 8089
    """
    run(load(), ["tcp"])
