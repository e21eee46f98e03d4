"""What watches the programs, made from Python: the dashboards of Grafana and the rules as Kubernetes takes them."""
