"""Stored datasets: packing, uploading, caching and reading them."""
