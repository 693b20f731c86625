"""Training processes, started, watched, restarted and stopped; what they store."""
