"""Damaged files with what is true about each, found without the package that is tested.

- `content`: safetensors files as values, by a strict reader and a writer of their own;
- `floats`: the numbers that the bits of each dtype stand for;
- `cases`: layers of every form and dtype, by number, before and after a true swap;
- `kind`: what a kind of damage is. Kinds: `elements` (which ones are hit: `ways`; what is done to
  them: `edits`), `files`, `records`, and `folders` of shards;
- `mutants`: all kinds for single files in one table, and the mutants of a case;
- `oracle`: what is true about a damaged file;
- `judged`, `judge`, `alarms`: what the proofs say. Only these three know the package.
"""
