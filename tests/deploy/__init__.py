"""What is deployed, held against the code: every path, port, variable, command and metric in those files."""
