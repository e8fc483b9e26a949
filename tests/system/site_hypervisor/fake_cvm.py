"""`cvm mount` for tests: binds the folder that --url names, or fails, or hangs, as the url says."""

import os
import signal
import subprocess
import sys
import time


def main(arguments):
    word, name, place = arguments[:3]
    url = arguments[arguments.index("--url") + 1]
    assert word == "mount"
    assert arguments[-1] == "--foreground"
    if url == "refused:":
        print("cvm: the whitelist of", name, "expired", file=sys.stderr)
        print("  → ask its owner to sign it anew", file=sys.stderr)
        return 22
    if url == "silent:":
        time.sleep(1000)
    with open(url + ".starts", "a") as starts:
        starts.write(f"{os.getpid()}\n")
    if os.path.exists(url + ".broken"):
        print("cvm: not now", file=sys.stderr)
        return 30
    subprocess.run(["mount", "--bind", url, place], check=True)
    signal.signal(signal.SIGTERM, lambda *_: sys.exit(0))
    print("mounted", name, "at", place, flush=True)
    try:
        while True:
            time.sleep(1000)
    finally:
        subprocess.run(["umount", "-l", place], check=True)


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
