"""Suggest which images to label next: those on which a run's two networks disagree and are uncertain."""
