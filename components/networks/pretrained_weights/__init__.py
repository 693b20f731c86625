"""Weights from elsewhere: read the formats in which they are published, and load them into a network."""
