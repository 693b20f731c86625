"""The Kubeflow DAG and the ways to run it. Nothing here imports paddle."""
