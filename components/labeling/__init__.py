"""What to label next: unlabelled images on which a run's two networks disagree and are unsure."""
