"""Fuzzing: what must hold of every input, and engines that look for one of which it does not."""
