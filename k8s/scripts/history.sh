#!/usr/bin/env bash
# history.sh reset|replay|... : `iot-stream history` (docs/replay.md) in the cluster kubectl points to, as operate.sh runs
# it. For `reset --yes` the workers are stopped before, and KEDA where it owns their number; both start again, whatever
# came of it.
#   k8s/scripts/history.sh reset --since 6h --yes
set -euo pipefail
in_namespace=(kubectl -n "${NAMESPACE:-iot-stream}")
if [ $# -eq 0 ]; then echo "say which: history.sh reset --since 6h, history.sh replay --into TABLE" >&2; exit 2; fi

stop_workers() {
  workers=$("${in_namespace[@]}" get statefulset iot-worker -o 'jsonpath={.spec.replicas}')
  keda=$("${in_namespace[@]}" get scaledobject iot-worker -o name --ignore-not-found 2>/dev/null || true)
  again="${in_namespace[*]} scale statefulset iot-worker --replicas=$workers"
  if [ -n "$keda" ]; then again+=" && ${in_namespace[*]} annotate scaledobject iot-worker autoscaling.keda.sh/paused-"; fi
  echo "stopping $workers workers; if this script is killed, they start again with: $again" >&2
  trap start_workers EXIT
  # Its minimum of workers would start them again at once.
  if [ -n "$keda" ]; then
    "${in_namespace[@]}" annotate scaledobject iot-worker autoscaling.keda.sh/paused=true --overwrite >&2
  fi
  "${in_namespace[@]}" scale statefulset iot-worker --replicas=0 >&2
  "${in_namespace[@]}" wait --for=delete pod -l app.kubernetes.io/component=worker --timeout=150s >&2
}

start_workers() {
  "${in_namespace[@]}" scale statefulset iot-worker --replicas="$workers" >&2
  if [ -n "$keda" ]; then
    "${in_namespace[@]}" annotate scaledobject iot-worker autoscaling.keda.sh/paused- >&2
  fi
}

words=("$@")
if [ "$1" = reset ] && [[ " $* " == *" --yes "* ]]; then
  stop_workers
  words+=(--wait 120) # a worker is a static member: Kafka misses it when its session has ended, 30 s as it is set here
fi
"$(dirname "${BASH_SOURCE[0]}")/operate.sh" history "${words[@]}"
