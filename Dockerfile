# The worker, the bridge, the notifier and the commands, as one image: docker build -t iot-stream .
# The packages are those of requirements.lock, each checked against its hash. To pin the base as well, build with
# --build-arg BUILDER=python@sha256:... --build-arg BASE=python@sha256:... as your registry names them.
# The sinks want 200 MB more, for Parquet and estimates of series: docker build --build-arg SINKS=true -t iot-stream-sinks .
# Alerts to e-mail, chats and pagers want 30 MB more, in the image of the notifier: --build-arg CHANNELS=true.
ARG BUILDER=python:3.11.14-bookworm
ARG BASE=python:3.11.14-slim-bookworm

FROM ${BUILDER} AS packages
SHELL ["/bin/bash", "-o", "pipefail", "-c"]
ARG SINKS=false
ARG CHANNELS=false
COPY requirements.lock /tmp/
# Without symbols the packages take 91 MB, with them 156. Bytecode is made here, since the running image is read-only;
# it is checked by no time stamp, so that two builds are alike.
RUN python -m venv --without-pip /opt/venv \
    && pip --python /opt/venv/bin/python install --no-cache-dir --no-compile --no-deps --require-hashes \
       -r /tmp/requirements.lock \
    && if [ "$SINKS" != true ]; then \
       pip --python /opt/venv/bin/python uninstall --quiet --yes pyarrow numpy datasketches; fi \
    && if [ "$CHANNELS" != true ]; then \
       pip --python /opt/venv/bin/python uninstall --quiet --yes apprise markdown oauthlib requests-oauthlib; fi \
    && rm -rf /opt/venv/lib/python3.11/site-packages/pyarrow/tests /opt/venv/lib/python3.11/site-packages/pyarrow/include \
    && find /opt/venv -type f \( -name '*.so' -o -name '*.so.*' \) -exec strip --strip-unneeded {} + \
    && python -m compileall -q -j 0 --invalidation-mode unchecked-hash /opt/venv/lib
COPY app /opt/iot-stream/app
COPY init.sql LICENSE /opt/iot-stream/
RUN python -m compileall -q --invalidation-mode unchecked-hash /opt/iot-stream/app \
    && printf '#!/bin/sh\nexec /opt/venv/bin/python -m app "$@"\n' > /opt/venv/bin/iot-stream \
    && chmod 755 /opt/venv/bin/iot-stream \
    && mkdir -p /var/lib/iot-stream && chmod 700 /var/lib/iot-stream

FROM ${BASE}
LABEL org.opencontainers.image.title="iot-stream" \
      org.opencontainers.image.description="MQTT telemetry to TimescaleDB through Kafka, with stateful alerts" \
      org.opencontainers.image.licenses="Apache-2.0"
COPY --from=packages /opt/venv /opt/venv
COPY --from=packages /opt/iot-stream /opt/iot-stream
COPY --from=packages --chown=10001:10001 /var/lib/iot-stream /var/lib/iot-stream
ENV PATH=/opt/venv/bin:$PATH \
    PYTHONPATH=/opt/iot-stream \
    PYTHONUNBUFFERED=1 \
    PYTHONDONTWRITEBYTECODE=1 \
    IOT_METRICS_HOST=0.0.0.0 \
    IOT_METRICS_PORT=9000 \
    IOT_LOG_FORMAT=json \
    IOT_STATE_DIR=/var/lib/iot-stream
WORKDIR /opt/iot-stream
USER 10001:10001
# As compose and k8s set it, a port of each program's own.
EXPOSE 9000-9011
# Alive, not ready: a worker that waits out an outage must not be restarted for it.
HEALTHCHECK --interval=15s --timeout=5s --start-period=60s --retries=4 \
    CMD ["python", "-S", "-c", "import os, urllib.request as r; r.urlopen('http://127.0.0.1:' + os.environ['IOT_METRICS_PORT'] + '/live', timeout=4)"]
ENTRYPOINT ["iot-stream"]
CMD ["worker"]
