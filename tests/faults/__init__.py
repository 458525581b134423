"""Real faults: system calls of a command that fail, lie, or never return.

`python -m tests.faults --help` injects as many as one has time for; `tests/test_faults_*.py` are
the part that runs in CI. docs/faults.md says what is injected and what was found.

    zygote     imports everything once, then forks one command per order
    strace     puts the faults into such a process, and reads what it did
    scenarios  the commands, and the folders that they work on
    points     from the calls of an undisturbed run to the faults of all others
    judge      what has to hold after a fault, and after the run that follows it
    unsafe     writers that must not pass
"""
