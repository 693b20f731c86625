"""The `cps` command: one module for each group of commands."""
