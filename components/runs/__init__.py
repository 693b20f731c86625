"""The lifecycle of a run: request, plan, record, look up, reproduce and remove."""
