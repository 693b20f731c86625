"""Find dataset problems before anything is stored: those that would break training hours later, or distort its scores.

Every file is read, hashed and decoded once, on all cores. The verdict is fatal (the dataset is refused), warning (it is
usable, but the user should know), or fine.
"""
