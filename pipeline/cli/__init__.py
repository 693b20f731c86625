"""The `cps` command: its frame, and what its commands share."""
