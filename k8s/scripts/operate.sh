#!/usr/bin/env bash
# operate.sh dlq|history|load ...: `iot-stream dlq`, `history` or `load` in the cluster kubectl points to, as a Job made of
# the CronJob of that name (components/operations). Prints what the command prints, and ends with its exit code; Ctrl-C
# ends the command in order. The Job and its log stay for an hour.
#   k8s/scripts/operate.sh dlq replay --reason rate_limited --yes
set -euo pipefail
in_namespace=(kubectl -n "${NAMESPACE:-iot-stream}")
case ${1:-} in
  dlq | history | load) ;;
  *) echo "say which: operate.sh dlq ls, operate.sh history verify, operate.sh load --users 30" >&2; exit 2 ;;
esac
template="cronjob/iot-$1"
job="iot-$1-$(date -u +%Y%m%d-%H%M%S)-$RANDOM"
who=$(kubectl auth whoami -o 'jsonpath={.status.userInfo.username}' 2>/dev/null || true) # Kubernetes 1.28 and newer
if ! "${in_namespace[@]}" get "$template" -o name >/dev/null; then
  echo "there is no $template: name components/operations in your overlay, and apply it" >&2
  exit 2
fi

# The arguments, and who it was, for the audit line.
"${in_namespace[@]}" create job "$job" --from="$template" --dry-run=client -o json | python3 -c '
import json, sys
who, *words = sys.argv[1:]
job = json.load(sys.stdin)
(container,) = job["spec"]["template"]["spec"]["containers"]
container["args"] = words
container.setdefault("env", []).append({"name": "IOT_OPERATOR", "value": who})
json.dump(job, sys.stdout)
' "${who:-${USER:-}}" "$@" | "${in_namespace[@]}" create -f - >&2

interrupted=
trap 'interrupted=yes' INT TERM
of_pod() { "${in_namespace[@]}" get pod -l "job-name=$job" -o "jsonpath={.items[0].status.$1}" 2>/dev/null || true; }
waited=
until [[ $(of_pod phase) =~ ^(Running|Succeeded|Failed)$ ]]; do
  if [ -n "$interrupted" ]; then "${in_namespace[@]}" delete job "$job" --wait=false >&2; exit 130; fi
  sleep "${LOOK_SECONDS:-1}"
  waited+=.
  if [ ${#waited} -eq 30 ]; then echo "the pod does not start; why: ${in_namespace[*]} describe pod -l job-name=$job" >&2; fi
done
"${in_namespace[@]}" logs --follow "job/$job" || true
if [ -n "$interrupted" ]; then
  # Its process is the first of the pod, to which SIGTERM means nothing before a command waits for it.
  "${in_namespace[@]}" exec "job/$job" -- sh -c 'kill -INT 1' >&2 || true
  "${in_namespace[@]}" logs --follow --since=2s "job/$job" || true
fi
code=
until [ -n "$code" ]; do
  code=$(of_pod containerStatuses[0].state.terminated.exitCode)
  if [ -z "$code" ] && [ "$(of_pod phase)" = Failed ]; then code=1; fi # evicted: no container has ended
  [ -n "$code" ] || sleep "${LOOK_SECONDS:-1}"
done
exit "$code"
