"""Run the command line without installing it: `python -m pipeline.cli`."""

from pipeline.cli.main import main

main()
