"""Decide what a run consists of, before anything is computed: its recipe, split, key and cost."""
