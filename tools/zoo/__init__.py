"""Read the true geometry of every public architecture out of the libraries that define it.

    python -m tools.zoo build LIBRARY -o ROWS.jsonl     one row for each architecture
    python -m tools.zoo check ROWS CENSUS               every difference, by kind
    python -m tools.zoo probe ROWS.jsonl -o PROBED.jsonl  change the configuration, see what follows
    python -m tools.zoo join ROWS.jsonl... -o ROWS.jsonl.xz

Models are built on the meta device in their default configuration, without weights. The numbers of
a configuration are tagged with the field that they come from, so that each convolution knows which
field its stride is.
"""
