"""A batch run on a Ray cluster of this machine: the same store, also if a process is killed."""

import os
import shutil
import signal
import sys
import threading
import time
from pathlib import Path

import numpy as np
import pytest
from PIL import Image

from xaimaps.errors import LayerError, ModelLoadError

pytest.importorskip("pyarrow")
from xaimaps import batch
from xaimaps.batch import _ray

with _ray._environment(_ray.STARTED_WITH):
    ray = pytest.importorskip("ray")
    pytest.importorskip("ray.data")

# Ray leaves open files and sockets to the collector.
pytestmark = pytest.mark.filterwarnings("ignore")

SETTINGS = batch.Settings(batch_size=2, chunk_size=2, workers=1)


def network():
    from xaimaps._images.preprocess import PRESETS
    from xaimaps.testing import ReferenceBackend, pooled_network

    backend = ReferenceBackend(pooled_network())
    backend.info.preprocess = PRESETS["unit"]
    return backend


def slow():
    """Explain slowly, and write the number of a process that explains into a file."""
    import os
    import time
    from pathlib import Path

    from xaimaps.batch import _task

    def results(*args, results=_task.Task._results):
        Path(f"pid-{os.getpid()}").touch()
        time.sleep(0.3)
        return results(*args)

    _task.Task._results = results
    return network()


@pytest.fixture(scope="module")
def cluster():
    """A cluster with two processors; its processes have these functions by value."""
    ray.cloudpickle.register_pickle_by_value(sys.modules[__name__])
    with _ray._environment(_ray.STARTED_WITH):
        ray.init("local", num_cpus=2, include_dashboard=False, log_to_driver=False)
    yield
    ray.shutdown()


@pytest.fixture
def folder(tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    Path("in").mkdir()
    for seed in range(24):
        pixels = np.random.default_rng(seed).integers(0, 256, (12, 12, 3), np.uint8)
        Image.fromarray(pixels).save(f"in/{seed:02}.png")
    Path("in/07.png").write_bytes(b"")


def stored(out):
    return {file.name: file.read_bytes() for file in Path(out, "maps").iterdir()}


def kill_one(killed):
    """Kill one of two processes when the store has some chunks."""
    while len(list(Path("out/maps").glob("*.parquet"))) < 5 or len(list(Path().glob("pid-*"))) < 2:
        time.sleep(0.02)
    killed += [int(file.name[4:]) for file in Path().glob("pid-*")]
    os.kill(killed[-1], signal.SIGKILL)


@pytest.mark.fault("F02", "F11")
def test_the_store_is_that_of_a_local_run_though_a_process_is_killed(cluster, folder):
    with pytest.raises(LayerError, match="no such layer"):
        batch.run(network, "in", "out", layer="no such layer", settings=SETTINGS, ray="local")
    batch.run(network(), "in", "whole", settings=SETTINGS)
    Path("out/maps").mkdir(parents=True)
    for name in ("run.json", "maps/00000000.parquet", "maps/00000005.parquet"):
        shutil.copy(Path("whole", name), Path("out", name))
    killed = []
    thread = threading.Thread(target=kill_one, args=[killed], daemon=True)
    thread.start()
    summary = batch.run(slow, "in", "out", settings=SETTINGS, ray="local")
    thread.join()
    assert len(killed) == 2, "so many processes"
    assert (summary.pictures, summary.failed, summary.there) == (24, 1, 4)
    assert stored("out") == stored("whole")
    assert Path("out/run.json").read_bytes() == Path("whole/run.json").read_bytes()


def test_a_model_that_cannot_be_sent_is_refused(folder):
    with pytest.raises(ModelLoadError, match="function without arguments that returns the model"):
        batch.run(network(), "in", "out", settings=SETTINGS, ray="local")
