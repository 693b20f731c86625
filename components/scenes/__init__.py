"""Generated street scenes: a dataset that needs no download."""
