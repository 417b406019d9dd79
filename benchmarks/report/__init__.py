"""What comes out of a run: Markdown, JSON and SVG."""
