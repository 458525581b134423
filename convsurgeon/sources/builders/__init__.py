"""One module per kind of `--model SPEC`: each builds a model without memory and reads it."""
