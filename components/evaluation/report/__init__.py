"""The report of a run: its verdict, pictures, charts and figures on one self-contained page."""
