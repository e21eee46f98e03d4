#!/usr/bin/env bash
# Removes what setup_local.sh made: the namespace with all its data, and the kind cluster if that one was made for it.
set -euo pipefail
context=$(kubectl config current-context)
case $context in
  kind-iot-stream) kind delete cluster --name iot-stream ;;
  kind-* | minikube | docker-desktop) kubectl delete namespace iot-stream --ignore-not-found ;;
  *) echo "teardown: $context is not a cluster of this machine" >&2; exit 1 ;;
esac
