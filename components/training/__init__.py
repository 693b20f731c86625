"""CPS training: one step (cps.py), the loop around it (loop.py), and recoveries, from which a training resumes."""
