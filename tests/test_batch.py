"""A batch run: what it stores, what a later run completes, and how it survives faults."""

import csv
import io
import json
import os
import random
import signal
import subprocess
import sys
import tarfile
import time
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

import numpy as np
import pytest
from click.testing import CliRunner
from PIL import Image

import xaimaps
from xaimaps import _load
from xaimaps._ahead import ahead
from xaimaps._cli import cli
from xaimaps._images.preprocess import PRESETS
from xaimaps.errors import (
    ArrayInputError,
    BackendError,
    InputImageError,
    ManifestError,
    OutOfMemoryError,
    OutputError,
    TargetError,
)
from xaimaps.testing import ReferenceBackend, pooled_network

pytest.importorskip("pyarrow")
from xaimaps import batch

LABELS = ("tench", "goldfish", "great white shark", "tiger shark", "hammerhead")


def network():
    backend = ReferenceBackend(pooled_network())
    backend.info.labels = LABELS
    backend.info.preprocess = PRESETS["unit"]
    return backend


@pytest.fixture
def model():
    return network()


def paint(path, seed):
    path.parent.mkdir(parents=True, exist_ok=True)
    pixels = np.random.default_rng(seed).integers(0, 256, (12, 12, 3), np.uint8)
    Image.fromarray(pixels).save(path)


@pytest.fixture
def folder(tmp_path, monkeypatch):
    """Seven pictures in three folders, two of the same name, and files that are none."""
    monkeypatch.chdir(tmp_path)
    names = ("a/cat.png", "a/deep/dog.png", "b/cat.png", "c.png", "d.png", "e.png", "f.png")
    for seed, name in enumerate(names):
        paint(Path("in", name), seed)
    Path("in/notes.md").write_text("no picture")
    Path("in/.hidden.png").write_bytes(b"")
    return tmp_path


def settings(**given):
    return batch.Settings(**{"batch_size": 2, "chunk_size": 3, "workers": 2, **given})


def run(model, pictures="in", out="out", methods=("saliency", "grad_cam"), given=None, **rest):
    return batch.run(model, pictures, out, list(methods), settings=given or settings(), **rest)


def rows(out="out", **where):
    found = batch.read(out).to_table().to_pylist()
    return [row for row in found if all(row[name] == value for name, value in where.items())]


def stored(out="out"):
    return {file.name: file.read_bytes() for file in Path(out, "maps").iterdir()}


def in_order(out="out"):
    return list(dict.fromkeys(row["picture"] for row in rows(out)))


ALL = [f"in/{name}.png" for name in ("c", "d", "e", "f", "a/cat", "a/deep/dog", "b/cat")]


def test_the_rows_hold_the_maps_of_explain(model, folder):
    summary = run(model, target="top-2")
    assert (summary.pictures, summary.failed, summary.there) == (7, 0, 0)
    assert in_order() == ALL
    assert len(rows()) == 7 * 2 * 2
    for name in ALL:
        for method in ("saliency", "grad_cam"):
            alone = xaimaps.explain(model, name, method, target="top-2")
            found = rows(picture=name, method=method)
            maps = [np.reshape(row["map"], row["shape"]) for row in found]
            np.testing.assert_allclose(maps, alone.maps[0], rtol=1e-5, atol=1e-7)
            assert [row["class"] for row in found] == alone.classes[0].tolist()
            assert [row["explained"] for row in found] == [LABELS[i] for i in alone.classes[0]]
            assert found[0]["top_classes"] == [one.index for one in alone.top()]
            assert found[0]["sha256"] == alone.pictures[0].sha256
            assert found[0]["layer"] == alone.layer
            assert found[0]["notes"] == alone.notes()


def test_a_later_run_computes_only_what_is_not_stored(model, folder, monkeypatch):
    run(model)
    whole = stored()
    Path("out/maps/00000001.parquet").unlink()
    explained = []
    monkeypatch.setattr(
        batch._task.Task,
        "decode",
        lambda task, number, item, decode=batch._task.Task.decode: (
            explained.append(item.name) or decode(task, number, item)
        ),
    )
    summary = run(model)
    assert (summary.pictures, summary.there) == (7, 4)
    assert sorted(explained) == sorted(ALL[3:6])
    assert stored() == whole


@pytest.mark.fault("F14")
@pytest.mark.parametrize("seconds", [0, 2**33])
def test_no_clock_tells_what_is_stored(model, folder, seconds):
    run(model)
    for path in (*Path("in").rglob("*"), *Path("out").rglob("*")):
        os.utime(path, (seconds, seconds))
    assert run(model).there == 7


def write_inputs():
    Path("list.txt").write_text("in/c.png\n\nin/a/cat.png\n")
    with Path("table.csv").open("w", newline="") as file:
        csv.writer(file).writerows(
            [("path", "label", "target"), ("in/c.png", "x", "3"), ("in/a/cat.png", "", "goldfish")]
        )
    arrow, parquet = pytest.importorskip("pyarrow"), pytest.importorskip("pyarrow.parquet")
    parquet.write_table(arrow.table({"file": ["in/c.png", "in/a/cat.png"]}), "table.parquet")
    with tarfile.open("shard.tar", "w") as tar:
        for name in ("c.png", "a/cat.png"):
            tar.add(f"in/{name}", name)
        label = tarfile.TarInfo("a/cat.cls")
        label.size = 1
        tar.addfile(label, io.BytesIO(b"7"))


@pytest.mark.parametrize(
    ("given", "names", "more"),
    [
        ("in/c.png", ["in/c.png"], {}),
        (["in/c.png", "in/a"], ["in/c.png", "in/a/cat.png", "in/a/deep/dog.png"], {}),
        ("in/*/cat.png", ["in/a/cat.png", "in/b/cat.png"], {}),
        ("list.txt", ["in/c.png", "in/a/cat.png"], {}),
        ("table.csv", ["in/c.png", "in/a/cat.png"], {}),
        ("table.parquet", ["in/c.png", "in/a/cat.png"], {"column": "file"}),
        ("shard.tar", ["shard.tar/c.png", "shard.tar/a/cat.png"], {}),
    ],
)
def test_inputs(model, folder, given, names, more):
    write_inputs()
    run(model, given, methods=["grad_cam"], given=settings(**more))
    assert in_order() == names
    by_name = {Path(name).name: row["sha256"] for name, row in zip(names, rows(), strict=True)}
    alone = xaimaps.explain(model, "in/c.png").pictures[0].sha256
    assert by_name.get("c.png", alone) == alone


def test_a_table_gives_labels_and_targets(model, folder):
    write_inputs()
    run(model, ["table.csv", "in/d.png"], methods=["grad_cam"], target="hammerhead")
    assert [row["class"] for row in rows()] == [3, 1, 4]
    assert [row["label"] for row in rows()] == ["x", None, None]
    maps = np.stack([np.reshape(row["map"], row["shape"]) for row in rows()])
    alone = xaimaps.explain(model, ["in/c.png", "in/a/cat.png", "in/d.png"], target=[3, 1, 4])
    np.testing.assert_allclose(maps, alone.maps, rtol=1e-5, atol=1e-7)


def test_a_tar_file_gives_labels(model, folder):
    write_inputs()
    run(model, "shard.tar", methods=["grad_cam"])
    assert [row["label"] for row in rows()] == [None, "7"]


@pytest.mark.parametrize("target", ["9", "no such class", "top-2", '"'])
def test_a_wrong_target_in_a_table_fails_only_its_picture(model, folder, target):
    with Path("table.csv").open("w", newline="") as file:
        csv.writer(file).writerows(
            [("path", "target"), ("in/c.png", target), ("in/d.png", "2"), ("in/e.png", "")]
        )
    summary = run(model, "table.csv", methods=["grad_cam"])
    assert (summary.pictures, summary.failed) == (3, 1)
    assert "target" in rows()[0]["error"]
    assert [row["class"] for row in rows()[1:2]] == [2]


@pytest.mark.parametrize("target", ["no such class", 5, "region:in/c.png@1", "box:1"])
def test_a_target_that_suits_no_picture_ends_the_run(model, folder, target):
    with pytest.raises(TargetError):
        run(model, target=target)
    assert stored() == {}


@pytest.mark.parametrize("target", [[1, 2], "[1, 2]", [], np.array([1, 2]), "[1, 2] vs 3"])
def test_a_list_of_targets_is_refused(model, folder, target):
    with pytest.raises(TargetError, match=r"one for all pictures"):
        run(model, target=target)
    assert not Path("out").exists()


def test_a_target_that_does_not_suit_one_picture_fails_only_it(model, folder):
    summary = run(model, methods=["grad_cam"], target="similarity:in/d.png")
    assert (summary.pictures, summary.failed) == (7, 1)
    assert "must be to another picture" in rows(picture="in/d.png")[0]["error"]
    for name in (ALL[0], ALL[2]):
        (row,) = rows(picture=name)
        alone = xaimaps.explain(model, name, target="similarity:in/d.png")
        values = np.reshape(row["map"], row["shape"])
        np.testing.assert_allclose(values, alone.maps[0], rtol=1e-4, atol=1e-7)


def test_a_class_that_the_outputs_do_not_have_fails_only_its_picture(model, folder):
    model.info.labels = None
    Path("table.csv").write_text("path,target\nin/c.png,1\nin/d.png,9\nin/e.png,3\n")
    assert run(model, "table.csv", methods=["grad_cam"]).failed == 1
    assert [row["class"] for row in rows()] == [1, None, 3]
    assert "from 0 to 4, got 9" in rows(picture="in/d.png")[0]["error"]


@pytest.mark.parametrize(
    ("name", "data", "words"),
    [
        ("empty.txt", b"\n", "no pictures"),
        ("nothing", None, "no pictures"),
        ("x*.png", None, "no pictures"),
        ("missing.txt", None, "no such file"),
        ("other.csv", b"file\nin/c.png\n", "column 'path'"),
        ("empty.csv", b"", "column 'path'"),
        ("torn.parquet", b"PAR1 no more", "Parquet"),
        ("torn.tar", b"no tar file", "tar file"),
        ("torn.tar", b"\x1f\x8b\x08 zipped", "without compression"),
    ],
)
def test_an_input_that_cannot_be_read_is_one_sentence(model, folder, name, data, words):
    Path("nothing").mkdir()
    if data is not None:
        Path(name).write_bytes(data)
    with pytest.raises(InputImageError, match=words) as error:
        run(model, name)
    assert "\n" not in str(error.value)


def test_a_list_from_a_pipe_is_refused(model, folder):
    os.mkfifo("pipe.txt")
    with pytest.raises(InputImageError, match="must be a file"):
        run(model, "pipe.txt")


def spoil(folder):
    """Six kinds of bad pictures in the folder `in`."""
    Path("in/a/empty.png").write_bytes(b"")
    Path("in/a/text.png").write_text("no picture")
    Path("in/cut.png").write_bytes(Path("in/c.png").read_bytes()[:-200])
    Path("in/dangling.png").symlink_to("nowhere.png")
    (folder / "outside.png").write_bytes(Path("in/c.png").read_bytes())
    Path("in/leaving.png").symlink_to(folder / "outside.png")
    os.mkfifo("in/pipe.png")


@pytest.mark.fault("F05", "I41")
def test_a_bad_picture_is_a_row_with_its_reason(model, folder):
    spoil(folder)
    summary = run(model)
    assert (summary.pictures, summary.failed) == (13, 6)
    reasons = {Path(row["picture"]).stem: row["error"] for row in rows() if row["error"]}
    words = {
        "empty": "an empty file",
        "text": "unsupported",
        "cut": "damaged",
        "dangling": "dangling link",
        "leaving": "a link out of its folder",
        "pipe": "a named pipe",
    }
    assert reasons.keys() == words.keys()
    assert all(word in reasons[name] for name, word in words.items())
    assert sorted(in_order()) == sorted(set(in_order()))
    numbers = [row["number"] for row in rows()]
    assert numbers == sorted(numbers)
    good = {row["picture"] for row in rows(method="grad_cam")}
    assert good == set(ALL)


def test_links_out_of_a_folder_may_be_followed(model, folder):
    (folder / "outside.png").write_bytes(Path("in/c.png").read_bytes())
    Path("in/leaving.png").symlink_to(folder / "outside.png")
    assert run(model, given=settings(follow_symlinks=True)).pictures == 8


@pytest.mark.fault("I44")
def test_a_picture_that_vanishes_after_the_listing_is_a_row(model, folder):
    Path("list.txt").write_text("in/c.png\nin/gone.png\n")
    assert run(model, "list.txt").failed == 1
    assert "no such file" in rows(picture="in/gone.png")[0]["error"]


@pytest.mark.fault("F03")
def test_a_picture_that_the_memory_does_not_hold_is_a_row(model, folder, monkeypatch):
    prepare = batch._task.prepare

    def short(model, picture):
        if picture.source == "in/c.png":
            raise MemoryError
        return prepare(model, picture)

    monkeypatch.setattr(batch._task, "prepare", short)
    assert run(model).failed == 1
    assert "must fit into the memory" in rows(picture="in/c.png")[0]["error"]


@pytest.mark.fault("I42")
def test_names_that_are_not_utf_8_are_stored(model, folder):
    name = os.fsencode("in/") + b"\xff.png"
    Path(os.fsdecode(name)).write_bytes(Path("in/c.png").read_bytes())
    summary = run(model, given=settings(overlays=True))
    assert summary.pictures == 8
    assert "in/\\udcff.png" in in_order()


@pytest.mark.fault("F06")
def test_more_errors_than_allowed_end_the_run(model, folder):
    spoil(folder)
    with pytest.raises(InputImageError, match="at most 2 pictures may fail, got"):
        run(model, given=settings(max_errors=2))
    assert 0 < len(stored()) < 5, "what was complete is stored"
    with pytest.raises(InputImageError, match="at most 2 pictures may fail, got"):
        run(model, given=settings(max_errors=2))
    assert run(model, given=settings(max_errors=6)).failed == 6


@pytest.mark.fault("I43")
def test_overlays_of_equal_names_are_in_the_folders_of_the_input(model, folder):
    paint(Path("in/a/cat.jpg"), 9)
    run(model, methods=["grad_cam"], given=settings(overlays=True))
    for name in [*ALL, "in/a/cat.jpg"]:
        drawn = np.asarray(Image.open(f"out/overlays/{name}-grad_cam.png"))
        alone = xaimaps.explain(model, name).overlay()
        np.testing.assert_allclose(drawn.astype(int), np.asarray(alone, int), atol=1)
    assert len(list(Path("out").rglob("*.png"))) == 8


def test_overlays_of_one_picture_with_two_targets(model, folder):
    Path("table.csv").write_text("path,target\n../x/in/c.png,1\n../x/in/c.png,2\n")
    (folder.parent / "x").symlink_to(folder)
    run(model, "table.csv", methods=["grad_cam"], given=settings(overlays=True))
    (folder.parent / "x").unlink()
    found = sorted(file.relative_to("out/overlays").as_posix() for file in Path("out").rglob("*g"))
    assert found == [f"%2E%2E/x/in/c.png-grad_cam-{i}.png" for i in (1, 2)]


@pytest.mark.fault("O02", "F16")
def test_another_model_or_option_in_the_same_folder_is_refused(model, folder):
    run(model)
    before = stored()
    other = network()
    other.info.sha256 = "0" * 64
    for change in (
        lambda: run(other),
        lambda: run(model, target="tench"),
        lambda: run(model, methods=["saliency"]),
        lambda: run(model, methods=["saliency", "grad_cam"], layer="conv1"),
        lambda: run(model, methods=["saliency", "grad_cam"], augment="flip"),
        lambda: run(model, given=settings(chunk_size=4)),
    ):
        with pytest.raises(ManifestError, match=r"holds a run with other values of .*run\.json"):
            change()
    assert stored() == before


def test_a_model_without_a_file_has_a_note(model, folder):
    (note,) = run(model).notes
    assert "cannot check that it is the same" in note
    model.info.sha256 = "0" * 64
    assert run(model, out="other").notes == []


@pytest.mark.fault("F16")
@pytest.mark.parametrize("change", ["more", "fewer", "other"])
def test_other_pictures_in_the_same_folder_are_refused(model, folder, change):
    run(model)
    if change == "more":
        paint(Path("in/b/new.png"), 20)
    elif change == "fewer":
        Path("in/b/cat.png").unlink()
    else:
        Path("in/d.png").rename("in/dd.png")
    with pytest.raises(OutputError, match="give the same pictures in the same order"):
        run(model)


@pytest.mark.fault("F15")
@pytest.mark.parametrize("data", [b"", b"PAR1 no more"])
def test_a_damaged_file_of_the_store_is_named(model, folder, data):
    run(model)
    Path("out/maps/00000001.parquet").write_bytes(data)
    with pytest.raises(OutputError, match=r"00000001\.parquet.*delete it"):
        run(model)


def test_a_run_without_maps_does_not_bind_the_folder(model, folder):
    with pytest.raises(InputImageError, match="no pictures"):
        run(model, "*.jpg", target=1)
    assert run(model, target=2).pictures == 7


@pytest.mark.fault("F15")
@pytest.mark.parametrize("text", ["{", "[1]", "null", "[" * 10**5])
def test_a_damaged_manifest_is_named(model, folder, text):
    run(model)
    Path("out/run.json").write_text(text)
    with pytest.raises(ManifestError, match=r"cannot read 'out/run\.json'"):
        run(model)


def test_shards_make_the_same_store(model, folder):
    run(model)
    for index in range(3):
        run(model, out="parts", given=settings(shard=batch.Shard(index, 3)))
        assert len(stored("parts")) == index + 1
    assert stored("parts") == stored()


def test_a_shard_must_be_one_of_them():
    with pytest.raises(ArrayInputError, match="I from 0 to N - 1, got 3/3"):
        batch.Shard(3, 3)


def test_the_share_of_a_shard():
    shards = [batch.Shard(index, 3) for index in range(3)]
    assert [one.share(1000, 64) for one in shards] == [6 * 64 - 24, 5 * 64, 5 * 64]


@pytest.mark.fault("F07")
@pytest.mark.parametrize(
    ("held", "wanted"), [((0, 1), (0, 1)), ((1, 2), (1, 2)), ((0, 2), (0, 1)), ((0, 2), (1, 3))]
)
def test_a_second_process_on_the_same_pictures_is_refused(model, folder, held, wanted):
    with (
        batch._store.opened(Path("out"), {}, batch.Shard(*held)),
        pytest.raises(OutputError, match="in use by another process"),
        batch._store.opened(Path("out"), {}, batch.Shard(*wanted)),
    ):
        pass


@pytest.mark.fault("F08")
def test_processes_with_different_shards_run_together(model, folder):
    with (
        batch._store.opened(Path("out"), {}, batch.Shard(0, 2)),
        batch._store.opened(Path("out"), {}, batch.Shard(1, 2)) as store,
    ):
        assert store.maps.is_dir()


@pytest.mark.fault("F09")
def test_the_parts_of_a_killed_process_are_removed(model, folder):
    run(model)
    part = Path("out/maps/.00000001.parquet.0123.part")
    part.write_bytes(b"half")
    run(model, given=settings(shard=batch.Shard(0, 2)))
    assert part.exists(), "another process may write it"
    run(model)
    assert not part.exists()


def test_other_files_in_the_store_are_left_alone(model, folder):
    run(model, "in/a")
    others = [Path("out/maps/mine.parquet"), Path("out/maps/.mine.parquet.0123.part")]
    for other in others:
        other.write_text("of the user's own")
    assert run(model, "in/a").there == 2
    assert len(rows()) == 4
    assert all(other.exists() for other in others)


def test_a_run_without_a_complete_chunk_has_no_rows(model, folder):
    Path("list.txt").write_text("")
    with pytest.raises(InputImageError, match="no pictures in 'list"):
        run(model, "list.txt")
    assert rows() == []
    with pytest.raises(ManifestError, match=r"must be the folder of a run, got no run\.json"):
        batch.read("in")


@pytest.mark.fault("F04")
def test_a_full_disk_is_one_sentence(model, folder, monkeypatch):
    def full(descriptor):
        raise OSError(28, "No space left on device")

    run(model, "in/a")
    before = stored()
    Path("out/maps/00000000.parquet").unlink()
    monkeypatch.setattr(os, "fsync", full)
    with pytest.raises(OutputError, match="No space left"):
        run(model, "in/a")
    assert stored() == {}
    monkeypatch.undo()
    os.chdir(folder)
    run(model, "in/a")
    assert stored() == before


@pytest.mark.fault("O01")
def test_an_output_folder_that_is_a_file_is_refused(model, folder):
    Path("out").write_text("")
    with pytest.raises(OutputError, match="cannot write 'out"):
        run(model)


@pytest.mark.fault("A15")
def test_a_device_out_of_memory_gets_smaller_batches(folder, with_memory_for):
    summary = run(with_memory_for(2), given=settings(batch_size=7, chunk_size=7))
    assert summary.pictures == 7
    assert "for 7 pictures at a time; the later ones ran 3 at a time" in summary.notes[1]
    assert "for 3 pictures at a time; the later ones ran 1 at a time" in summary.notes[2]
    run(with_memory_for(7), out="whole", given=settings(batch_size=7, chunk_size=7))
    for one, two in zip(rows(), rows("whole"), strict=True):
        np.testing.assert_allclose(one["map"], two["map"], rtol=1e-5, atol=1e-7)


def test_a_device_without_memory_for_one_picture_is_one_sentence(folder, with_memory_for):
    with pytest.raises(OutOfMemoryError, match="must suffice for one picture"):
        run(with_memory_for(0))


def test_pictures_are_decoded_no_further_ahead_than_needed(folder):
    begun = []
    found = ahead(lambda i: begun.append(i) or i, range(1000), 2, 6)
    for expected, got in zip(range(10), found, strict=False):
        assert got == expected
        assert len(begun) <= expected + 1 + 3 * 2 + 1
    found.close()
    assert len(begun) < 30


@pytest.fixture
def command(model, monkeypatch):
    """Run the command in this process, with the small network."""
    monkeypatch.setattr(_load, "load", lambda *args, **options: model)

    def run(*words, **more):
        return CliRunner().invoke(cli, ["batch", *map(str, words)], **more)

    return run


def test_the_command_prints_a_summary(command, folder):
    done = command("in", "-o", "out", "--chunk-size", 3)
    assert done.exit_code == 0, done.output
    assert done.output.startswith("out: 7 pictures, 0 failed, 0 were there before\n")
    done = command("in", "-o", "out", "--chunk-size", 3, "--json")
    told = json.loads(done.stdout)
    assert (told["pictures"], told["failed"], told["there"]) == (7, 0, 7)
    assert told["rates"].keys() == {"decoding", "computing", "all"}


def test_the_command_ends_with_1_if_a_picture_failed(command, folder):
    Path("in/bad.png").write_bytes(b"")
    assert command("in", "-o", "out").exit_code == 1


@pytest.mark.fault("F12")
@pytest.mark.parametrize("module", ["filelock", "pyarrow"])
def test_the_command_names_what_to_install(command, folder, monkeypatch, module):
    for name in [name for name in sys.modules if name.split(".")[0] == module]:
        monkeypatch.setitem(sys.modules, name, None)
    monkeypatch.setitem(sys.modules, module, None)
    error = command("in", "-o", "out").exception
    assert isinstance(error, BackendError)
    assert str(error).endswith("which is not installed; pip install 'xaimaps[batch]'")


def test_the_command_ends_if_too_many_fail(command, folder):
    Path("in/bad.png").write_bytes(b"")
    error = command("in", "-o", "out", "--max-errors", 0).exception
    assert isinstance(error, InputImageError)
    assert command("in", "-o", "out").exit_code == 1, "as without the interruption"


def test_the_command_reads_paths_from_stdin(command, folder):
    done = command("-", "-o", "out", input="in/c.png\nin/d.png\n")
    assert done.exit_code == 0, done.output
    assert in_order() == ["in/c.png", "in/d.png"]


@pytest.mark.parametrize("text", ["1", "a/2", "1/2/3", "-1/2", "2/2"])
def test_the_command_refuses_a_wrong_shard(command, folder, text):
    done = command("in", "-o", "out", "--shard", text)
    assert done.exit_code != 0
    assert "I/N" in str(done.output) + str(done.exception)


SLOW = """
import sys, time
sys.path.insert(0, {tests!r})
from test_batch import network
from xaimaps import _cli, _load
from xaimaps.batch import _task

model, results = network(), _task.Task._results
_load.load = lambda *args, **options: model
_task.Task._results = lambda *args: time.sleep({pause}) or results(*args)
sys.argv = ["xaimaps", "batch", "in", "-o", "out", "--chunk-size", "4", "--batch-size", "2"]
print("ready", flush=True)
_cli.main()
"""


def start(pause):
    """Start the command on the folder `in` in a process of its own."""
    code = SLOW.format(tests=str(Path(__file__).parent), pause=pause)
    process = subprocess.Popen(
        [sys.executable, "-c", code], stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True
    )
    assert process.stdout.readline() == "ready\n", process.stderr.read()
    return process


def wait_for_chunks(process, count):
    while len(list(Path("out/maps").glob("*.parquet"))) < count:
        assert process.poll() is None, process.communicate()
        time.sleep(0.002)


@pytest.fixture
def many(folder):
    for seed in range(40):
        paint(Path(f"in/{seed:02}.png"), seed)


@pytest.mark.fault("F01")
def test_a_run_that_is_killed_again_and_again_loses_and_repeats_nothing(model, many):
    draw = random.Random(5)
    for kill in range(3):
        process = start(pause=0.005)
        wait_for_chunks(process, 3 * (kill + 1))
        time.sleep(draw.uniform(0, 0.02))
        process.kill()
        process.communicate()
    process = start(pause=0)
    _, err = process.communicate(timeout=60)
    assert process.returncode == 0, err
    run(model, out="whole", methods=["grad_cam"], given=settings(chunk_size=4))
    assert stored() == stored("whole")
    lines = Path("out/log.jsonl").read_text().splitlines()
    logged = [json.loads(line)["chunk"] for line in lines]
    assert len(logged) == len(set(logged)), "no chunk is stored twice"


@pytest.mark.fault("F10")
@pytest.mark.parametrize(("number", "status"), [(signal.SIGINT, 130), (signal.SIGTERM, 143)])
def test_a_signal_ends_the_run_after_the_chunk_in_flight(many, number, status):
    process = start(pause=0.05)
    wait_for_chunks(process, 1)
    process.send_signal(number)
    out, err = process.communicate(timeout=30)
    assert process.returncode == status, err
    assert "ends after the chunk in flight" in err
    count = len(stored())
    assert f"out: {4 * count} pictures, 0 failed" in out
    assert count < 5


@pytest.mark.fault("F10")
def test_a_second_signal_ends_the_run_at_once(many):
    process = start(pause=2)
    while not Path("out/run.json").exists():
        time.sleep(0.01)
    time.sleep(0.3)
    process.send_signal(signal.SIGINT)
    time.sleep(0.2)
    process.send_signal(signal.SIGINT)
    process.communicate(timeout=1.5)
    assert process.returncode == -signal.SIGINT
    assert stored() == {}


@pytest.mark.fault("F07")
def test_two_processes_do_not_write_to_one_folder(model, many):
    process = start(pause=0.05)
    wait_for_chunks(process, 1)
    with pytest.raises(OutputError, match="in use by another process"):
        run(model, methods=["grad_cam"], given=settings(batch_size=2, chunk_size=4))
    process.kill()
    process.communicate()


@pytest.mark.fault("R16")
def test_a_closed_output_ends_the_command_without_a_traceback(many):
    process = start(pause=0)
    process.stdout.close()
    assert process.wait(timeout=60) in (1, 0, -signal.SIGPIPE)
    assert "Traceback" not in process.stderr.read()
    assert len(stored()) == 12, "the run is complete"
    process.stderr.close()


@pytest.mark.fault("O01")
@pytest.mark.skipif(os.geteuid() == 0, reason="the superuser writes into any folder")
def test_a_folder_that_cannot_be_written_is_refused(model, folder):
    Path("out").mkdir(mode=0o500)
    with pytest.raises(OutputError, match="cannot write"):
        run(model)


@pytest.mark.fault("O01")
@pytest.mark.skipif(not Path("/proc/self").exists(), reason="has no read-only file system")
def test_a_read_only_file_system_is_refused(model, folder):
    with pytest.raises(OutputError, match="cannot write '/proc"):
        run(model, out="/proc/out")


def test_eight_threads_explain_with_one_model_as_one_does(model, folder):
    alone = [xaimaps.explain(model, name, "grad_cam").maps for name in ALL]
    with ThreadPoolExecutor(8) as pool:
        found = list(
            pool.map(lambda i: xaimaps.explain(model, ALL[i % 7], "grad_cam").maps, range(56))
        )
    for i, maps in enumerate(found):
        np.testing.assert_array_equal(maps, alone[i % 7])


@pytest.mark.fault("F12")
@pytest.mark.parametrize(
    "address", ["nowhere.invalid:1", "127.0.0.1:9", "ray://127.0.0.1:9", "a:b"]
)
def test_no_cluster_at_an_address_is_told_at_once(address):
    from types import SimpleNamespace

    from xaimaps.batch._ray import _connect

    ray = SimpleNamespace(init=lambda *_, **__: pytest.fail("Ray would try for most of a minute"))
    with pytest.raises(BackendError, match=f"must be the address of a Ray cluster .* {address!r}"):
        _connect(ray, address)
