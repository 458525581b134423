"""A long run, and its record: `python -m fuzz.run TARGET --executions N`.

It needs atheris (`pip install atheris`; Linux or macOS). The saved corpus is where it begins; what
it learns stands in `build/fuzz/TARGET`, an input that breaks a promise in `build/fuzz/findings`.
The last line that it prints, a JSON object, is also added to `build/fuzz/log.jsonl`.
"""

from __future__ import annotations

import argparse
import json
import platform
import re
import subprocess
import sys
import time
from importlib.metadata import version
from pathlib import Path
from typing import Any

import convsurgeon
from fuzz.mutate import WORDS
from fuzz.seeds import seeds
from fuzz.targets import TARGETS

BUILD = Path("build/fuzz")
_STATUS = re.compile(r"#\d+\s+\w+\s+cov: (\d+) ft: (\d+) corp: (\d+)/")


def main() -> int:
    """Run one target; the exit code says whether there is a finding."""
    parser = argparse.ArgumentParser(prog="python -m fuzz.run", description=__doc__)
    parser.add_argument("target", choices=TARGETS)
    parser.add_argument("--executions", type=int, default=1_000_000)
    parser.add_argument("--seconds", type=int, default=0, help="stop earlier; 0: do not")
    parser.add_argument("--longest", type=int, default=2048, help="bytes of an input at most")
    parser.add_argument("--structured", type=float, default=0.5, help="share of whole-token edits")
    parser.add_argument("--blind", action="store_true", help="without coverage, faster")
    chosen = parser.parse_args()
    record = run(**vars(chosen))
    line = json.dumps(record)
    with (BUILD / "log.jsonl").open("a") as log:
        log.write(line + "\n")
    sys.stdout.write(line + "\n")
    return 1 if record["findings"] else 0


def run(
    target: str, executions: int, seconds: int, longest: int, structured: float, *, blind: bool
) -> dict[str, Any]:
    """Start the engine, and return the record of what it did."""
    begun, learnt, findings = BUILD / "seeds" / target, BUILD / target, BUILD / "findings" / target
    for folder in (begun, learnt, findings):
        folder.mkdir(parents=True, exist_ok=True)
    for number, seed in enumerate(seeds(target)):
        (begun / str(number)).write_bytes(seed)
    outcomes, log = BUILD / f"{target}.outcomes.json", BUILD / f"{target}.log"
    outcomes.write_text("{}")
    arguments = [f"-runs={executions}", f"-max_len={longest}", f"-artifact_prefix={findings}/"]
    arguments += [f"-max_total_time={seconds}", "-len_control=0"]
    arguments += ["-rss_limit_mb=1024", "-timeout=20", f"-dict={_dictionary()}"]
    options: dict[str, Any] = {"target": target, "outcomes": str(outcomes)}
    options |= {"structured": structured, "blind": blind}
    command = [sys.executable, "-m", "fuzz.engine", json.dumps(options)]
    start = time.monotonic()
    with log.open("w") as file:
        done = subprocess.run(
            [*command, *arguments, str(learnt), str(begun)], stdout=file, stderr=file, check=False
        )
    became = json.loads(outcomes.read_text())
    return {
        "target": target,
        "command": f"python -m fuzz.run {' '.join(sys.argv[1:])}",
        "seconds": round(time.monotonic() - start),
        "executions": sum(became.values()),
        "outcomes": became,
        **_status(log.read_text(errors="replace")),
        "findings": len(list(findings.iterdir())) or abs(done.returncode),
        "versions": _versions(),
    }


def _dictionary() -> Path:
    path = BUILD / "words.dict"
    lines = ("".join(f"\\x{byte:02x}" for byte in word) for word in WORDS)
    path.write_text("".join(f'"{line}"\n' for line in lines))
    return path


def _status(log: str) -> dict[str, int]:
    names = ("edges", "features", "corpus")
    found = _STATUS.findall(log)
    return dict(zip(names, map(int, found[-1] if found else (0, 0, 0)), strict=True))


def _versions() -> dict[str, str]:
    names = ("atheris", "safetensors")
    return {
        "convsurgeon": convsurgeon.__version__,
        "python": platform.python_version(),
        **{name: version(name) for name in names},
    }


if __name__ == "__main__":
    sys.exit(main())
