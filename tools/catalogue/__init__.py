"""From rows about public architectures to the packaged catalogue."""
