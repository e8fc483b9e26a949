"""How the deflaters compare on one core: speed, and stored bytes beside zlib's level 6, over the files of a tree.

Usage: python bench/deflaters.py TREE
"""

import sys
import time
from pathlib import Path

from cernvm.core.errors import PrerequisiteError
from cernvm.fs.format.deflater import find_deflater

SETTINGS = (
    *("zlib:6", "zlib:4", "zlib:1"),
    *("zlib-ng:6", "zlib-ng:5", "zlib-ng:4", "zlib-ng:3", "zlib-ng:2"),
    *("isal:3", "isal:1"),
    *(
        "libdeflate:6",
        "libdeflate:5",
        "libdeflate:4",
        "libdeflate:3",
        "libdeflate:2",
        "libdeflate:1",
    ),
)
PIECE_BYTES = 8 << 20  # larger files are stored in chunks


def main(tree):
    pieces = []
    for path in sorted(tree.rglob("*")):
        if path.is_file() and not path.is_symlink():
            data = path.read_bytes()
            pieces += [data[at : at + PIECE_BYTES] for at in range(0, len(data), PIECE_BYTES)]
    total = sum(map(len, pieces))
    print(
        f"{len(pieces)} files and chunks, {total / 1e6:.0f} MB\n\n| | MB/s | stored | to zlib 6 |"
    )
    print("|---|---|---|---|")
    usual = 0
    for setting in SETTINGS:
        try:
            deflater = find_deflater(setting)
        except PrerequisiteError as exc:
            print(f"| {setting} | {exc} | | |")
            continue
        start = time.process_time()
        stored = sum(len(deflater.deflate(piece)) for piece in pieces)
        took_s = time.process_time() - start
        usual = usual or stored
        speed, share, growth = total / 1e6 / took_s, stored / total, stored / usual - 1
        print(f"| {setting} | {speed:.0f} | {share:.2%} | {growth:+.1%} |", flush=True)


if __name__ == "__main__":
    main(Path(sys.argv[1]))
