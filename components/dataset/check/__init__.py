"""What would break a training hours later, or make its figures wrong, found before anything is stored.

Every file is read, hashed and decoded once, over all cores. What is found is fatal (the dataset is refused), a
warning (it can be trained on, and one should know), or fine.
"""
