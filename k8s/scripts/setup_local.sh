#!/usr/bin/env bash
# A cluster on this machine with everything in it: builds the image, makes the secrets, applies k8s/overlays/local, waits.
# Takes the cluster kubectl points to when it is kind, minikube or Docker Desktop; makes a kind cluster when there is none.
set -euo pipefail
cd "$(dirname "$0")/../.."
tag=$(sed -n 's/.*newTag: //p' k8s/base/kustomization.yaml | tr -d '}')
secrets=deploy/secrets

need() {
  command -v "$1" >/dev/null || { echo "setup_local: $1 is needed ($2)" >&2; exit 1; }
}
need docker "https://docs.docker.com/engine/install"
need kubectl "https://kubernetes.io/docs/tasks/tools"

context=$(kubectl config current-context 2>/dev/null || true)
if [ -z "$context" ]; then
  need kind "https://kind.sigs.k8s.io, or start minikube or Docker Desktop's Kubernetes first"
  kind create cluster --name iot-stream --wait 120s
  context=$(kubectl config current-context)
fi
case $context in
  kind-* | minikube | docker-desktop) echo "setup_local: cluster $context" ;;
  *) echo "setup_local: $context is not a cluster of this machine: kubectl config use-context kind-iot-stream" >&2; exit 1 ;;
esac

docker build --tag "iot-stream:$tag" .
case $context in
  kind-*) kind load docker-image --name "${context#kind-}" "iot-stream:$tag" ;;
  minikube) minikube image load "iot-stream:$tag" ;;
esac

scripts/secrets "$secrets" >/dev/null
kubectl apply -f k8s/overlays/local/namespace.yaml
secret() { # name, files...
  local name=$1 file
  shift
  local arguments=()
  for file in "$@"; do arguments+=(--from-file="$secrets/$file"); done
  kubectl -n iot-stream create secret generic "$name" "${arguments[@]}" --dry-run=client -o yaml | kubectl apply -f -
}
secret iot-stream worker_db_password notifier_db_password gateway_db_password bridge_mqtt_password notifier_mqtt_password \
  vector_mqtt_password
secret iot-stream-sinks influx_token redis_password feed_token grpc_push_token
secret iot-stream-admin postgres_password
secret emqx emqx_cookie emqx_dashboard_password emqx_db_password
secret grafana grafana_password grafana_db_password
receivers=$secrets/alertmanager.yml # a copy with receivers
[ -e "$receivers" ] || receivers=deploy/alertmanager/alertmanager.yml
kubectl -n iot-stream create secret generic alertmanager --from-file=alertmanager.yml="$receivers" --dry-run=client -o yaml \
  | kubectl apply -f -
kubectl -n iot-stream create configmap watching --from-file=deploy/prometheus/alerts.yml --from-file=deploy/grafana/dashboards \
  --from-file=deploy/grafana/provisioning/datasources --from-file=deploy/grafana/provisioning/dashboards \
  --dry-run=client -o yaml | kubectl apply --server-side --force-conflicts -f - # too large for the annotation of a plain apply

# A job cannot be changed, so the jobs of the last run go.
kubectl -n iot-stream delete job iot-topics iot-schema iot-accounts --ignore-not-found
kubectl apply -k k8s/overlays/local
kubectl -n iot-stream wait --for=condition=complete --timeout=600s job/iot-topics job/iot-schema job/iot-accounts
for part in redpanda timescaledb emqx prometheus alertmanager grafana iot-worker iot-bridge iot-notifier; do
  kubectl -n iot-stream rollout status "statefulset/$part" --timeout=600s
done
echo "ready. MQTT: kubectl -n iot-stream port-forward svc/emqx 1883"
echo "       dashboards: kubectl -n iot-stream port-forward svc/grafana 3000; admin, $secrets/grafana_password"
echo "       metrics: kubectl -n iot-stream port-forward statefulset/iot-worker 9000"
