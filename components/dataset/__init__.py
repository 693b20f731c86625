"""Datasets: how they are recognised, fetched, checked, stored and split."""
