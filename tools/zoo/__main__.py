"""`python -m tools.zoo`: what can be done with the libraries and with rows."""

from __future__ import annotations

import argparse
import sys
from pathlib import Path

from tools.zoo import __doc__ as about
from tools.zoo import tables
from tools.zoo.build import LIBRARIES, build
from tools.zoo.check import differences
from tools.zoo.second import probe


def main() -> int:
    """Do one command; return the exit code: 1 where `check` found a difference."""
    args = _parser().parse_args()
    if args.command == "check":
        found = list(differences(tables.read(args.rows), tables.read(args.census)))
        sys.stdout.writelines(f"{line}\n" for line in found)
        return 1 if found else 0
    if args.command == "join":
        rows = [row for path in args.rows for row in tables.read(path)]
        tables.write(args.out, sorted(rows, key=lambda row: (row["source"], row["name"])))
        return 0
    if args.command == "probe":
        lines_of = probe(tables.read(args.rows), args.out, args.resume)
    else:
        lines_of = build(args.library, args.out, frozenset(args.only), args.resume)
    for line in lines_of:
        sys.stderr.write(f"{line}\n")
    return 0


def _parser() -> argparse.ArgumentParser:
    kind = argparse.RawDescriptionHelpFormatter
    parser = argparse.ArgumentParser("tools.zoo", description=about, formatter_class=kind)
    commands = parser.add_subparsers(dest="command", required=True)
    one = commands.add_parser("build", help="build every architecture of a library")
    one.add_argument("library", choices=LIBRARIES)
    one.add_argument("--only", nargs="*", default=[], help="names of architectures")
    one.add_argument("--resume", action="store_true", help="keep the rows that are there")
    one.add_argument("-o", "--out", type=Path, required=True)
    two = commands.add_parser("check", help="compare with an oracle")
    two.add_argument("rows", type=Path)
    two.add_argument("census", type=Path)
    three = commands.add_parser("join", help="one sorted file of several")
    three.add_argument("rows", type=Path, nargs="+")
    three.add_argument("-o", "--out", type=Path, required=True)
    four = commands.add_parser("probe", help="change configurations, see what follows")
    four.add_argument("rows", type=Path, help="rows of one library")
    four.add_argument("--resume", action="store_true", help="keep the rows that are there")
    four.add_argument("-o", "--out", type=Path, required=True)
    return parser


if __name__ == "__main__":
    sys.exit(main())
