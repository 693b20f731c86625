"""Forecast how long a run takes, on this machine or on a GPU."""
