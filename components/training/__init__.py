"""CPS training: one step as pure functions, the loop around it, and what makes it resumable."""
