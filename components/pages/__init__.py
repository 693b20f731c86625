"""What every HTML page shares: template base, style, palette, charts, pictures."""
