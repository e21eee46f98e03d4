#!/usr/bin/env bash
# reset.sh --since 6h ...: `iot-stream history reset --yes` (docs/replay.md) in the cluster kubectl points to. Stops the
# workers, and KEDA where it owns their number; sets the offsets in a pod with the workers' settings and account; starts
# them again, whatever came of it. What it would do: kubectl -n iot-stream exec iot-worker-0 -- iot-stream history reset ...
set -euo pipefail
in_namespace=(kubectl -n "${NAMESPACE:-iot-stream}")
pod=iot-history-reset
if [ $# -eq 0 ]; then echo "say where to: reset.sh --since 6h, --until, --offset or --to-earliest" >&2; exit 2; fi

workers=$("${in_namespace[@]}" get statefulset iot-worker -o 'jsonpath={.spec.replicas}')
keda=$("${in_namespace[@]}" get scaledobject iot-worker -o name --ignore-not-found 2>/dev/null || true)
again="${in_namespace[*]} scale statefulset iot-worker --replicas=$workers"
if [ -n "$keda" ]; then again+=" && ${in_namespace[*]} annotate scaledobject iot-worker autoscaling.keda.sh/paused-"; fi
echo "stopping $workers workers; if this script is killed, they start again with: $again" >&2

start_again() {
  "${in_namespace[@]}" delete pod "$pod" --ignore-not-found --wait=false > /dev/null || true
  "${in_namespace[@]}" scale statefulset iot-worker --replicas="$workers"
  if [ -n "$keda" ]; then "${in_namespace[@]}" annotate scaledobject iot-worker autoscaling.keda.sh/paused-; fi
}
trap start_again EXIT
# Its minimum of workers would start them again at once.
if [ -n "$keda" ]; then "${in_namespace[@]}" annotate scaledobject iot-worker autoscaling.keda.sh/paused=true --overwrite; fi
"${in_namespace[@]}" scale statefulset iot-worker --replicas=0
"${in_namespace[@]}" wait --for=delete pod -l app.kubernetes.io/component=worker --timeout=150s

# A worker's own pod without its name, its volume and its probes. A worker is a static member: Kafka misses it only when
# its session has ended, 30 s as it is set here; so the command waits.
"${in_namespace[@]}" get statefulset iot-worker -o json | python3 -c '
import json, sys
name, *words = sys.argv[1:]
spec = json.load(sys.stdin)["spec"]["template"]["spec"]
container = spec["containers"][0]
for part in ("ports", "startupProbe", "livenessProbe", "readinessProbe"):
    container.pop(part, None)
container["args"] = ["history", "reset", "--wait", "120", *words, "--yes"]
spec.pop("topologySpreadConstraints", None)
spec["volumes"] = [*spec.get("volumes", []), {"name": "state", "emptyDir": {}}]
spec["restartPolicy"] = "Never"
labels = {"app.kubernetes.io/name": "iot-stream", "app.kubernetes.io/component": "history"}
json.dump({"apiVersion": "v1", "kind": "Pod", "metadata": {"name": name, "labels": labels}, "spec": spec}, sys.stdout)
' "$pod" "$@" | "${in_namespace[@]}" apply -f - > /dev/null

phase=
until [ "$phase" = Succeeded ] || [ "$phase" = Failed ]; do
  sleep "${LOOK_SECONDS:-1}"
  phase=$("${in_namespace[@]}" get pod "$pod" -o 'jsonpath={.status.phase}')
done
"${in_namespace[@]}" logs "$pod"
[ "$phase" = Succeeded ]
