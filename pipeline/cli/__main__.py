"""`python -m pipeline.cli`: the command without an installation."""

from pipeline.cli.main import main

main()
