"""What has to do with a KFP server: the compiled pipeline, runs and schedules made of it, and how they fare."""

from pipeline.cluster.compiled import compile_pipeline

__all__ = ["compile_pipeline"]
