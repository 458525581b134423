"""Fuzzing: what must hold of every input, and two engines that look for one of which it does not."""
