"""Running the compiled pipeline on this machine, and the services that it needs there."""
