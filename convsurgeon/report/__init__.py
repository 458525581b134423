"""Views of the values that the public functions return: terminal, JSON, Markdown, SVG."""
