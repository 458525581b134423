"""Classifiers into fully convolutional networks: trace, decide, rebuild.

A model is traced once, on tensors without values, so that the shape of everything is known while
its forward runs. Rules then say what becomes of each operation between the flattened map and the
output. Nothing is computed, and nothing of the model is changed.
"""
