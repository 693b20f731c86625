"""The parts that all HTML pages share: rendering, style, charts and pictures."""
