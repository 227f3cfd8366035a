"""Damages small Keras files at random and reads each: a model, or an error of ours.

Run as a script, in a process of its own, for HDF5 is a C library: what kills it is a find.

    python fuzzing.py FOLDER COUNT SEED

FOLDER holds the sound files; `current` there is the one being read. The last line is a summary.
"""

import collections
import json
import random
import resource
import sys
import traceback
import zipfile
from pathlib import Path

from xaimaps_keras.read import read_model

from xaimaps.errors import XaimapsError

MEMORY = 2**34  # addresses, of which TensorFlow reserves many


def damaged(rng, content):
    """One to eight bytes changed, a piece cut out or doubled, or the end lost."""
    kind = rng.choice(["flip", "flip", "flip", "cut", "double", "truncate"])
    start, length = rng.randrange(len(content)), rng.randrange(1, 64)
    if kind == "flip":
        spoiled = bytearray(content)
        for _ in range(rng.randrange(1, 9)):
            spoiled[rng.randrange(len(content))] = rng.choice(
                [0, 1, 127, 128, 255, rng.randrange(256)]
            )
        return bytes(spoiled)
    if kind == "truncate":
        return content[:start]
    piece = content[start : start + length]
    return content[:start] + (piece * 2 if kind == "double" else b"") + content[start + length :]


def in_a_member(rng, path):
    """A zip with sound sums, of which one member is damaged."""
    with zipfile.ZipFile(path) as archive:
        members = {name: archive.read(name) for name in archive.namelist()}
    name = rng.choice(sorted(members))
    members[name] = damaged(rng, members[name])
    return members


def spoil(rng, path, target):
    """Write a damaged file."""
    if path.suffix == ".keras" and rng.random() < 0.7:
        members = in_a_member(rng, path)
        with zipfile.ZipFile(target, "w") as archive:
            for name, content in members.items():
                archive.writestr(name, content)
    else:
        target.write_bytes(damaged(rng, path.read_bytes()))


def main(folder, count, seed):
    """Read so many damaged files."""
    resource.setrlimit(resource.RLIMIT_AS, (MEMORY, MEMORY))
    files = sorted(path for path in folder.iterdir() if path.name.startswith("sound"))
    counts, finds = collections.Counter(), []
    for number in range(count):
        rng = random.Random(f"{seed}/{number}")
        path = rng.choice(files)
        target = folder / f"current{path.suffix}"
        spoil(rng, path, target)
        try:
            read_model(target)
            counts["model"] += 1
        except XaimapsError as error:
            counts["error"] += 1
            if "\n" in str(error):
                finds.append(f"{number}: several lines: {error}")
        except BaseException:
            finds.append(f"{number}: {traceback.format_exc(limit=-4)}")
    # Unlike ru_maxrss, this does not start at what the parent has used.
    status = Path("/proc/self/status").read_text().splitlines()
    peak = 1024 * next(int(line.split()[1]) for line in status if line.startswith("VmHWM"))
    print(json.dumps({"counts": counts, "finds": finds, "peak": peak}))  # noqa: T201


if __name__ == "__main__":
    main(Path(sys.argv[1]), int(sys.argv[2]), sys.argv[3])
