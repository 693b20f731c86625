"""Datasets in the object store and in the cache of this machine: packing, storing, reading."""
