"""The packaged catalogue of known architectures, and what it says about a header."""
