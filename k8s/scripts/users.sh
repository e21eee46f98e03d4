#!/usr/bin/env bash
# users.sh add|list|passwd|remove ...: `iot-stream users` (docs/users.md) in the cluster kubectl points to, as the owner of
# the database. It runs beside a worker, which has the program and may reach the database; the password goes through a pipe.
#   printf 'a long one!!' | k8s/scripts/users.sh add alice --password-file -
set -euo pipefail
in_namespace=(kubectl -n "${NAMESPACE:-iot-stream}")
password=$("${in_namespace[@]}" get secret iot-stream-admin -o 'jsonpath={.data.postgres_password}' | base64 --decode)
{
  printf '%s\n' "$password"
  # only what is piped in: a terminal would be waited for
  if [ ! -t 0 ]; then cat; fi
} | "${in_namespace[@]}" exec -i "${WORKER:-iot-worker-0}" -- sh -c '
  read -r PGPASSWORD
  export PGPASSWORD IOT_DATABASE_PASSWORD_FILE= IOT_DATABASE_URL="postgresql://$DATABASE_ADMIN"
  exec iot-stream users "$@"' users "$@"
