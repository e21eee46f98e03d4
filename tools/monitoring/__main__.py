"""Writes deploy/grafana/dashboards and k8s/components/monitoring/alerts.yaml anew: `make docs`."""

from tools.monitoring.files import files

if __name__ == "__main__":
    for path, text in files().items():
        if not path.exists() or path.read_text() != text:
            path.write_text(text)
            print(f"rewritten: {path}")
