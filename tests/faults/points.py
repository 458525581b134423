"""From the calls of an undisturbed run to the faults of all others."""

from __future__ import annotations

import random
from collections import Counter
from collections.abc import Iterator, Sequence
from dataclasses import dataclass

from tests.faults.strace import Call

# Memory, signals and the process itself: an error there is not one of a file.
_NO_FILE = frozenset({
    "brk", "clock_gettime", "futex", "getegid", "geteuid", "getgid", "getpid", "getrandom",
    "gettid", "getuid", "madvise", "mmap", "mprotect", "mremap", "munmap", "prlimit64", "rseq",
    "rt_sigaction", "rt_sigprocmask", "rt_sigreturn", "sched_getaffinity", "sched_yield",
    "sigaltstack", "sysinfo", "uname",
})  # fmt: skip
_WRITES = frozenset({"write", "pwrite64", "writev", "pwritev", "copy_file_range", "sendfile"})
_REMOVES = frozenset({"unlink", "unlinkat", "rmdir"})

ERRORS = ("EIO", "ENOSPC", "EINTR")
MORE_ERRORS = ("EACCES", "EDQUOT", "EMFILE", "ENOENT", "ENOMEM", "EPERM", "EROFS", "ESTALE")
SIGNALS = ("SIGTERM", "SIGINT")
_SECOND = (
    ("error=EIO", "error"),
    ("signal=SIGKILL", "SIGKILL"),
    ("signal=SIGTERM", "SIGTERM"),
)


@dataclass(frozen=True)
class Fault:
    """What goes wrong in one run.

    Attributes:
        kind: `EIO`, `EIO for ever`, `disk dies`, `lost`, `SIGKILL`, ...
        call: the first call that it hits.
        injections: for strace.
        names: the calls that can be hit.
    """

    kind: str
    call: Call
    injections: tuple[str, ...]
    names: frozenset[str]

    @property
    def options(self) -> list[str]:
        """Return the options of strace."""
        trace = ",".join(sorted(self.names))
        return [
            "-e",
            f"trace={trace}",
            *(o for i in self.injections for o in ("-e", f"inject={i}")),
        ]

    @property
    def silences(self) -> bool:
        """Whether nothing can be said any more."""
        return self.call.reports or any(
            i.startswith("write:") and "+" in i for i in self.injections
        )

    @property
    def kills(self) -> bool:
        """Whether it ends the process on the spot."""
        return "SIGKILL" in self.kind or self.kind == "power cut"

    @property
    def interrupts(self) -> bool:
        """Whether it asks the process to end."""
        return any(signal in self.kind for signal in SIGNALS)

    def __str__(self) -> str:
        return f"{self.kind} at call {self.call.place}: {self.call.name}({self.call.text[:120]}"


def _one(kind: str, call: Call, what: str, when: str) -> Fault:
    return Fault(kind, call, (f"{call.name}:{what}:when={when}",), frozenset({call.name}))


def errors(calls: Sequence[Call], error: str) -> Iterator[Fault]:
    """Each call fails once."""
    for call in calls:
        # To the C library it means that a folder which was removed has nothing more to list.
        seen = (call.name, error) != ("getdents64", "ENOENT")
        if seen and call.name not in _NO_FILE:
            yield _one(error, call, f"error={error}", f"{call.number}")


def for_ever(calls: Sequence[Call], error: str) -> Iterator[Fault]:
    """Each call fails, and every later one of its name."""
    for call in calls:
        if call.name not in _NO_FILE:
            yield _one(f"{error} for ever", call, f"error={error}", f"{call.number}+")


def dead_disk(calls: Sequence[Call], error: str) -> Iterator[Fault]:
    """From each call that changes the disk on, every call that does so fails."""
    changing = [call for call in calls if call.changes]
    names = frozenset(call.name for call in changing)
    done: Counter[str] = Counter()
    numbers = Counter(call.name for call in calls)
    first = {n: min(c.number for c in calls if c.name == n) for n in numbers}
    for call in calls:
        if call in changing:
            rest = tuple(f"{n}:error={error}:when={first[n] + done[n]}+" for n in sorted(names))
            yield Fault(f"disk dies with {error}", call, rest, names)
        done[call.name] += 1


def lost(calls: Sequence[Call]) -> Iterator[Fault]:
    """Each write says that it wrote all, or half, and wrote nothing."""
    for call in calls:
        if call.name in _WRITES and call.result > 1:
            for count in (call.result, call.result // 2):
                yield _one("lost write", call, f"retval={count}", f"{call.number}")


def signals(calls: Sequence[Call], signal: str) -> Iterator[Fault]:
    """A signal at each call, whatever the call is for, until it is ignored: all is over then."""
    for call in calls:
        if call.name == "rt_sigaction" and call.text.startswith(f"{signal}, {{sa_handler=SIG_IGN"):
            return
        yield _one(signal, call, f"signal={signal}", f"{call.number}")


def compound(calls: Sequence[Call], count: int, chance: random.Random) -> Iterator[Fault]:
    """Two faults in one run: an error, and while that is dealt with another, or the end."""
    files = [call for call in calls if call.name not in _NO_FILE]
    cleaning = sorted({call.name for call in calls} & _REMOVES)
    for _ in range(count):
        first = chance.choice(files)
        error = chance.choice((*ERRORS, *MORE_ERRORS))
        second = chance.choice(files[files.index(first) :])
        name, number = second.name, second.number
        if cleaning and chance.random() < 0.5:
            name, number = chance.choice(cleaning), 1
        if name != first.name:  # strace keeps one rule for each name
            what, end = chance.choice(_SECOND)
            pair = (
                f"{first.name}:error={error}:when={first.number}",
                f"{name}:{what}:when={number}",
            )
            yield Fault(f"error, then {end}", first, pair, frozenset({first.name, name}))


def kinds(calls: Sequence[Call]) -> dict[str, list[Fault]]:
    """Return every single fault, by kind."""
    found = [*lost(calls), *dead_disk(calls, "EIO"), *dead_disk(calls, "ENOSPC")]
    for signal in ("SIGKILL", *SIGNALS):
        found += signals(calls, signal)
    for error in (*ERRORS, *MORE_ERRORS):
        found += errors(calls, error)
    for error in ("EIO", "ENOSPC"):
        found += for_ever(calls, error)
    by_kind: dict[str, list[Fault]] = {}
    for fault in found:
        by_kind.setdefault(fault.kind, []).append(fault)
    return by_kind


def chosen(calls: Sequence[Call], count: int, seed: int) -> list[Fault]:
    """Return at most so many faults: those at calls that change files first, then any."""
    chance = random.Random(seed)
    faults = [fault for faults in kinds(calls).values() for fault in faults]
    chance.shuffle(faults)
    main = {*ERRORS, "SIGKILL", "SIGTERM", "disk dies with EIO", "lost write"}
    faults.sort(key=lambda fault: not (fault.call.changes and fault.kind in main))
    return faults[:count]


def long_run(calls: Sequence[Call], count: int, seed: int) -> list[Fault]:
    """Return so many faults for a long run: single ones, and one in eight compound."""
    double = list(compound(calls, count // 8, random.Random(seed)))
    return [*chosen(calls, count - len(double), seed), *double]
