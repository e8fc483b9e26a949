"""How long a user waits for `cvm --help`, beside an empty interpreter: medians of whole processes.

Run: .venv/bin/python bench/startup.py
"""

import statistics
import subprocess
import sys
import time
from pathlib import Path

RUNS = 21
COMMANDS = {
    "python -c pass": [sys.executable, "-c", "pass"],
    "cvm --help": [str(Path(sys.executable).with_name("cvm")), "--help"],
    "cvm repo --help": [str(Path(sys.executable).with_name("cvm")), "repo", "--help"],
    "cvm ls --help": [str(Path(sys.executable).with_name("cvm")), "ls", "--help"],
}


def main():
    medians = {name: median_ms(command) for name, command in COMMANDS.items()}
    bare = medians["python -c pass"]
    for name, taken in medians.items():
        print(f"{name:18} {taken:6.1f} ms  {taken / bare:4.1f} x an empty interpreter")


def median_ms(command):
    taken = []
    for _ in range(RUNS):
        began = time.perf_counter()
        subprocess.run(command, stdout=subprocess.DEVNULL, check=True, timeout=10)
        taken.append(1000 * (time.perf_counter() - began))
    return statistics.median(taken)


if __name__ == "__main__":
    main()
