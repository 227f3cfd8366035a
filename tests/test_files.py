"""Outputs: whole or absent, in folders that exist, under distinct and safe names."""

import errno
import os
import subprocess
import sys
from urllib.parse import unquote

import pytest

from xaimaps._results.atomic import prepare_folder, safe_stem, write_atomic
from xaimaps.errors import OutputError


def listing(folder):
    return sorted(path.name for path in folder.iterdir())


def test_writes_and_replaces(tmp_path):
    path = tmp_path / "a.bin"
    for data in (b"one", b"", b"two" * 100_000):
        write_atomic(path, lambda file, data=data: file.write(data))
        assert path.read_bytes() == data
    assert listing(tmp_path) == ["a.bin"]


@pytest.mark.parametrize("error", [RuntimeError, KeyboardInterrupt, MemoryError])
def test_interrupted_write_keeps_the_old_file(tmp_path, error):
    path = tmp_path / "a.bin"
    path.write_bytes(b"old")

    def torn(file):
        file.write(b"new" * 100_000)
        file.flush()
        assert path.read_bytes() == b"old"
        assert len(listing(tmp_path)) == 2
        raise error

    with pytest.raises(error):
        write_atomic(path, torn)
    assert path.read_bytes() == b"old"
    assert listing(tmp_path) == ["a.bin"]


@pytest.mark.fault("F09")
def test_killed_writer_leaves_the_old_file(tmp_path):
    path = tmp_path / "a.bin"
    path.write_bytes(b"old")
    code = (
        "import os, sys, pathlib; from xaimaps._results.atomic import write_atomic\n"
        "def torn(file): file.write(b'x' * 100000); file.flush(); os._exit(9)\n"
        "write_atomic(pathlib.Path(sys.argv[1]), torn)"
    )
    done = subprocess.run([sys.executable, "-c", code, str(path)], check=False)
    assert done.returncode == 9
    assert path.read_bytes() == b"old"
    left = [name for name in listing(tmp_path) if name != "a.bin"]
    assert len(left) == 1, "no code ran after the kill: the part stays, under a name of its own"
    assert left[0].startswith(".a.bin.")
    assert left[0].endswith(".part")


@pytest.mark.fault("F04")
def test_full_disk(tmp_path):
    """A limit on the file size stands in for a full disk."""
    path = tmp_path / "a.bin"
    code = (
        "import resource, signal, sys, pathlib; from xaimaps._results.atomic import write_atomic\n"
        "from xaimaps.errors import OutputError\n"
        "signal.signal(signal.SIGXFSZ, signal.SIG_IGN)\n"
        "resource.setrlimit(resource.RLIMIT_FSIZE, (4096, 4096))\n"
        "try: write_atomic(pathlib.Path(sys.argv[1]), lambda file: file.write(bytes(99999)))\n"
        "except OutputError as error: print(error); sys.exit(3)"
    )
    run = [sys.executable, "-c", code, str(path)]
    done = subprocess.run(run, check=False, capture_output=True, text=True)
    assert done.returncode == 3, done.stderr
    assert "File too large" in done.stdout
    assert str(path) in done.stdout
    assert listing(tmp_path) == []


def refuse(code):
    def write(file):
        raise OSError(code, os.strerror(code))

    return write


@pytest.mark.parametrize(
    ("code", "words"),
    [(errno.ENOSPC, "No space left.*free space"), (errno.EACCES, "permission is denied")],
)
def test_system_errors_in_words(tmp_path, code, words):
    with pytest.raises(OutputError, match=words) as caught:
        write_atomic(tmp_path / "a.bin", refuse(code))
    assert isinstance(caught.value.__cause__, OSError)
    assert listing(tmp_path) == []


def test_bad_destinations(tmp_path):
    (tmp_path / "folder").mkdir()
    (tmp_path / "file").write_bytes(b"")
    with pytest.raises(OutputError, match="is a folder"):
        write_atomic(tmp_path / "folder", lambda file: None)
    with pytest.raises(OutputError, match="does not exist"):
        write_atomic(tmp_path / "gone" / "x", lambda file: None)
    with pytest.raises(OutputError, match="a part of its path is a file"):
        write_atomic(tmp_path / "file" / "x", lambda file: None)
    assert listing(tmp_path) == ["file", "folder"]


def test_longest_name(tmp_path):
    for name in ("n" * 255, "é" * 127):
        write_atomic(tmp_path / name, lambda file: file.write(b"x"))
        assert (tmp_path / name).read_bytes() == b"x"


def test_link_is_replaced_not_followed(tmp_path):
    (tmp_path / "input.png").write_bytes(b"precious")
    (tmp_path / "out.png").symlink_to("input.png")
    write_atomic(tmp_path / "out.png", lambda file: file.write(b"map"))
    assert (tmp_path / "input.png").read_bytes() == b"precious"


def test_prepare_folder(tmp_path):
    deep = tmp_path / "a" / "b"
    assert prepare_folder(deep) == deep
    assert deep.is_dir()
    assert prepare_folder(deep) == deep
    (tmp_path / "file").write_bytes(b"")
    with pytest.raises(OutputError, match="not a folder"):
        prepare_folder(tmp_path / "file")
    with pytest.raises(OutputError, match="a part of its path is a file"):
        prepare_folder(tmp_path / "file" / "x")


@pytest.mark.fault("O01")
def test_folder_without_permission(tmp_path, monkeypatch):
    monkeypatch.setattr(os, "access", lambda path, mode: False)  # root may write anywhere
    with pytest.raises(OutputError, match="writable"):
        prepare_folder(tmp_path)


NAMES = [
    "cat",
    "two words",
    "a/b",
    "../../etc/passwd",
    "line\nbreak",
    "-rf",
    ".hidden",
    "..",
    "50%",
    'a\\b:c*d?e"f<g>h|',
    "tab\t\x7f\x85",
    os.fsdecode(b"bad\xff\xfe"),
    "猫🐱",
    "end.",
    "end ",
]


@pytest.mark.parametrize("name", NAMES)
def test_stems_are_safe_and_reversible(tmp_path, name):
    stem = safe_stem(name, set())
    assert unquote(stem, errors="surrogateescape") == name
    assert stem.isprintable()
    assert not set(stem) & set('/\\\n:*?"<>|')
    assert stem[0] not in "-."
    assert stem[-1] not in ". "
    (tmp_path / f"{stem}-overlay.png").write_bytes(b"")
    assert listing(tmp_path) == [f"{stem}-overlay.png"]


def test_plain_names_stay():
    assert [safe_stem(name, set()) for name in ("cat", "two words", "猫", "a-b.c")] == [
        "cat",
        "two words",
        "猫",
        "a-b.c",
    ]
    assert safe_stem("", set()) == "_"


@pytest.mark.fault("I43")
def test_collisions_get_distinct_names():
    taken = set()
    names = ["a", "a", "A", "a", "é", "e\u0301", "É", "straße", "STRASSE", "a/b", "a%2Fb", "", "_"]
    stems = [safe_stem(name, taken) for name in names]
    assert stems[0] == "a"
    assert len({stem.casefold() for stem in stems}) == len(names)
    assert len(taken) == len(names)
    assert [safe_stem(name, set()) for name in names[:1]] == stems[:1]


def test_the_hash_does_not_depend_on_how_many_came_before():
    stems = [safe_stem("A", {"a", *more}) for more in ([], ["x", "y"])]
    assert stems[0] == stems[1] != "A"
    assert stems[0].startswith("A-")


@pytest.mark.parametrize("letter", ["n", "é", "🐱", "\n", "/"])
def test_long_names_are_cut_and_distinct(tmp_path, letter):
    taken = set()
    stems = [safe_stem(letter * 255 + end, taken) for end in "abb"]
    assert len(set(stems)) == 3
    for stem in stems:
        assert len(stem.encode()) <= 200
        unquote(stem, errors="strict")
        write_atomic(tmp_path / f"{stem}-overlay.png", lambda file: file.write(b""))
