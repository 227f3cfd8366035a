"""Valid Keras files, and all the ways in which the tests damage them."""

import base64
import io
import json
import marshal
import os
import shutil
import warnings
import zipfile
from pathlib import Path

import numpy as np
import pytest

SHAPE = (8, 8, 3)


@pytest.fixture(scope="session")
def sound(tmp_path_factory):
    """Return a folder with one network in every format."""
    folder = tmp_path_factory.mktemp("sound")
    model = tiny()
    for name in ("sound.keras", "sound.h5"):
        model.save(folder / name)
    model.save_weights(folder / "sound.weights.h5")
    return folder


@pytest.fixture
def spoiler(sound, tmp_path):
    """Return the maker of damaged files."""
    return Spoiler(sound, tmp_path)


def tiny():
    """Return a network of two layers with weights."""
    import keras
    from xaimaps_tensorflow.testing.models import seeded

    layers = [keras.layers.Conv2D(2, 3, name="conv"), keras.layers.GlobalAveragePooling2D()]
    layers = [keras.Input(SHAPE), *layers, keras.layers.Dense(3, name="dense")]
    return seeded(keras.Sequential(layers))  # so that the fuzzed bytes are the same in every run


class Spoiler:
    """The maker of damaged files from the valid files of a folder."""

    def __init__(self, sound, folder):
        self.sound = sound
        self.folder = folder

    def bytes(self, content, name="model.keras"):
        path = self.folder / name
        path.write_bytes(content)
        return path

    def cut(self, name, fraction):
        content = (self.sound / name).read_bytes()
        return self.bytes(content[: int(len(content) * fraction)], f"cut{Path(name).suffix}")

    def flip(self, name, place):
        content = bytearray((self.sound / name).read_bytes())
        content[int(len(content) * place)] ^= 0xFF
        return self.bytes(content, f"flipped{Path(name).suffix}")

    def zip(self, *, without=(), compression=zipfile.ZIP_STORED, also=(), **members):
        """Write the valid .keras file with other members; the key `config_json` is config.json."""
        path = self.folder / "model.keras"
        new = {key.replace("_json", ".json"): value for key, value in members.items()}
        with zipfile.ZipFile(self.sound / "sound.keras") as old:
            kept = {name: old.read(name) for name in old.namelist() if name not in without}
        with warnings.catch_warnings(), zipfile.ZipFile(path, "w", compression) as archive:
            warnings.simplefilter("ignore")  # zipfile warns of a duplicate member
            for name, content in [*{**kept, **new}.items(), *also]:
                archive.writestr(name, content)
        return path

    def config(self, change, suffix=".keras"):
        """Write a file with a changed configuration."""
        if suffix == ".keras":
            with zipfile.ZipFile(self.sound / "sound.keras") as archive:
                config = json.loads(archive.read("config.json"))
            change(config)
            return self.zip(config_json=json.dumps(config))
        with self.edited() as file:
            config = json.loads(file.attrs["model_config"])
            change(config)
            file.attrs["model_config"] = json.dumps(config)
        return self.folder / "model.h5"

    def edited(self):
        import h5py

        path = self.folder / "model.h5"
        shutil.copyfile(self.sound / "sound.h5", path)
        return h5py.File(path, "r+")

    def hdf5(self, change, *values):
        """Write the .h5 file with its tree changed by one of `CHANGES`."""
        with self.edited() as file:
            CHANGES[change](file["model_weights"], *values)
        return self.folder / "model.h5"

    def weights(self, change, *values):
        """Write the .keras file with its weights changed by one of `CHANGES`."""
        import h5py

        with zipfile.ZipFile(self.sound / "sound.keras") as archive:
            buffer = io.BytesIO(archive.read("model.weights.h5"))
        with h5py.File(buffer, "r+") as file:
            CHANGES[change](file, *values)
        return self.zip(**{"model.weights.h5": buffer.getvalue()})

    def layer(self, index=1, suffix=".keras", **parts):
        """Write a file in which a layer's configuration has other entries."""
        return self.config(lambda c: c["config"]["layers"][index].update(parts), suffix)

    def function(self, module, name):
        """Write a file that names a function as a layer's activation."""
        part = {"module": module, "class_name": "function", "config": name}

        def change(config):
            layer = config["config"]["layers"][1]["config"]
            layer["activation"] = {**part, "registered_name": name}

        return self.config(change)

    def code(self, suffix=".keras"):
        """Write a file with a `Lambda` that creates the marker, in the form of Keras 3 or 2."""
        code = compile(f"lambda x: [open({str(self.marker)!r}, 'w'), x][1]", "model", "eval")
        text = base64.b64encode(marshal.dumps(code.co_consts[0])).decode()
        value = {"code": text, "defaults": None, "closure": None}
        new = {"class_name": "__lambda__", "config": value}
        options = {"name": "harm", "arguments": {}, "function": new}
        if suffix == ".keras":
            where = {"module": "keras.layers", "registered_name": None}
            return self.layer(2, class_name="Lambda", config=options, **where)
        options |= {"function": [text, None, None], "function_type": "lambda"}
        return self.layer(2, suffix, class_name="Lambda", config=options)

    @property
    def marker(self):
        """A file that only code inside a model would create."""
        return self.folder / "marker"

    def fifo(self):
        path = self.folder / "model.keras"
        os.mkfifo(path)
        return path

    def saved_model(self):
        path = self.folder / "saved"
        path.mkdir()
        (path / "saved_model.pb").write_bytes(b"\x08\x01")
        return path


def datasets(weights):
    """Return the variables by name."""
    found = {}
    weights.visititems(lambda name, item: found.update({name: item}))
    return {name: item for name, item in found.items() if hasattr(item, "shape")}


def numbers(weights, value):
    """Set every bias to a value."""
    for item in datasets(weights).values():
        if item.ndim == 1:
            item[...] = value


def bomb(weights):
    """Add four terabytes of which nothing is stored."""
    weights.create_dataset("bomb", (10**6, 10**6), "f4", chunks=(1000, 1000))


def squeezed(weights):
    """Add zeros that compress to a thousandth of their size."""
    weights.create_dataset("bomb", data=np.zeros(2**24, "f4"), compression="gzip")


def external_link(weights):
    import h5py

    weights["elsewhere"] = h5py.ExternalLink("/etc/hostname", "/")


def soft_link(weights):
    import h5py

    weights["elsewhere"] = h5py.SoftLink("/model_weights")


def virtual(weights):
    import h5py

    layout = h5py.VirtualLayout((3,), "f4")
    layout[:] = h5py.VirtualSource("elsewhere.h5", "data", (3,))
    weights.create_virtual_dataset("virtual", layout)


def stored_elsewhere(weights):
    weights.create_dataset("outside", (3,), "f4", external=[("/etc/hostname", 0, 12)])


def circle(weights):
    weights["again"] = weights


def text(weights):
    weights["words"] = "not a number"


def fewer(weights):
    """Remove one variable, or in a file of Keras 2 one layer."""
    if "layer_names" in weights.attrs:
        weights.attrs["layer_names"] = [n for n in weights.attrs["layer_names"] if "conv" not in n]
    else:
        del weights[next(iter(datasets(weights)))]


def reshaped(weights):
    """Replace a kernel by one of another size."""
    name = next(name for name, item in datasets(weights).items() if item.ndim == 4)
    del weights[name]
    weights[name] = np.zeros((5, 5, 3, 2), np.float32)


CHANGES = {
    change.__name__: change
    for change in (
        *(bomb, circle, external_link, fewer, numbers, reshaped, soft_link, squeezed),
        *(stored_elsewhere, text, virtual),
    )
}
