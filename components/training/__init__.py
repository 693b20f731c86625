"""CPS training: one step (cps.py), the loop around it (loop.py), and the recoveries that make it resumable."""
