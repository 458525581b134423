"""Swapped files into live models: what `cs.load` does, one step a module."""
