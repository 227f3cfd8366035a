"""Keras files, sound, old, damaged and hostile: a model, or one sentence that says why not."""

import importlib
import json
import subprocess
import sys
import zipfile
from pathlib import Path

import numpy as np
import pytest
from click.testing import CliRunner

pytest.importorskip("tensorflow")

import keras
from xaimaps_keras.read import read_model
from xaimaps_keras.weights import WeightsFile

import xaimaps
from xaimaps._cli import cli
from xaimaps.errors import BackendError, ModelLoadError, UnsupportedModelError

REFERENCES = Path(__file__).parents[1] / "references"
DAMAGED = "damaged or truncated"
CODE = "runs code or reads files when it is loaded; .* allow_unsafe=True"
LINK = "is a link to another place"
STORED = "declares .* bytes, but the file has"
WIDE = 31_622
"""The units of two layers of which neither by itself asks for too much."""

MEMBER = {"class_name": "Dense", "module": "mine.layers", "registered_name": "mine>Gate"}


def widened(config):
    """Two wide dense layers behind each other, in place of what the network ends in."""
    layers = config["config"]["layers"]
    for layer in (layers[0], *layers[3:]):
        layer.pop("build_config", None)
    dense = layers.pop()
    for name in "ab":
        own = {**dense["config"], "name": name, "units": WIDE}
        layers.append({**dense, "config": own})


def resized(config, shape):
    """Another size of the images."""
    for part in (config, config["config"], *config["config"]["layers"]):
        part.pop("build_config", None)
    config["config"].pop("build_input_shape", None)
    config["config"]["layers"][0]["config"]["batch_shape"] = shape


def inserted(config, layer, options):
    """A further layer in front of the others."""
    part = {"module": "keras.layers", "class_name": layer, "registered_name": None}
    config["config"]["layers"].insert(1, {**part, "config": {"name": "odd", **options}})


def nested(config):
    """An activation in an activation, four hundred deep."""
    part = {}
    for _ in range(400):
        part = {"class_name": "ReLU", "module": "keras.layers", "config": part}
    config["config"]["layers"][1]["config"]["activation"] = part


ROWS = {
    "K01 missing": ("No such file", lambda s: s.folder / "none.keras"),
    "K01 empty": ("is empty", lambda s: s.bytes(b"")),
    "K01 text": ("begins with b'not a mo'", lambda s: s.bytes(b"not a model\n")),
    "K01 tflite": ("tf2onnx.convert --tflite", lambda s: s.bytes(b"TFL3", "net.tflite")),
    "K01 null byte": ("null byte", lambda s: s.folder / "a\0b.keras"),
    "K01 long name": ("name too long", lambda s: s.folder / ("x" * 300)),
    "K01 folder": ("is a folder", lambda s: s.folder),
    "K01 pipe": ("not a regular file", lambda s: s.fifo()),
    "K01 keras cut": (DAMAGED, lambda s: s.cut("sound.keras", 0.5)),
    "K01 only a signature": (DAMAGED, lambda s: s.bytes(b"PK\3\4")),
    "K02 no config": ("without 'config.json'", lambda s: s.zip(without=["config.json"])),
    "K02 no weights": ("has no weights", lambda s: s.zip(without=["model.weights.h5"])),
    "K02 weights as npz": (
        "weights as .npz",
        lambda s: s.zip(without=["model.weights.h5"], also=[("model.weights.npz", b"")]),
    ),
    "K02 bad JSON": ("not valid JSON", lambda s: s.zip(config_json=b"{")),
    "K02 not UTF-8": ("not valid JSON", lambda s: s.zip(config_json=b'{"\xff": 1}')),
    "K02 bad metadata": ("metadata .* not valid JSON", lambda s: s.zip(metadata_json=b"{")),
    "K02 deep JSON": ("not valid JSON", lambda s: s.zip(config_json=b"[" * 10**5)),
    "K02 no model": ("is no model", lambda s: s.zip(config_json=b"[1]")),
    "K02 unknown layer": (
        r"'Fancy' of the module 'keras.layers'.*custom_objects=\{'Fancy'",
        lambda s: s.layer(class_name="Fancy"),
    ),
    "K02 own layer": (r"'Dense' of the module 'mine.layers'", lambda s: s.layer(**MEMBER)),
    "K02 unknown layer in h5": ("needs 'Fancy'", lambda s: s.layer(1, ".h5", class_name="Fancy")),
    "K02 an optimizer": (
        "cannot load|holds a Adam",
        lambda s: s.config(lambda c: c.update(module="keras.optimizers", class_name="Adam")),
    ),
    "K02 a layer": (
        "holds a ReLU, which is no model",
        lambda s: s.config(
            lambda c: c.update(module="keras.layers", class_name="ReLU", config={}, build_config={})
        ),
    ),
    "K02 no layer's name": ("part without a name", lambda s: s.layer(class_name=["Dense"])),
    "K03 code in keras": (CODE, lambda s: s.code()),
    "K04 code in h5": (CODE, lambda s: s.code(".h5")),
    "K05 code in h5 by a custom name": (
        CODE,
        lambda s: s.layer(1, ".h5", class_name="Custom>Lambda"),
    ),
    "K06 os.system": ("'system' of the module 'os'", lambda s: s.function("os", "system")),
    "K06 eval": ("'eval' of the module 'builtins'", lambda s: s.function("builtins", "eval")),
    "K06 unsafe": (
        "'enable_unsafe_deserialization' of the module 'keras.config'",
        lambda s: s.function("keras.config", "enable_unsafe_deserialization"),
    ),
    "K06 get_file": ("'get_file'", lambda s: s.layer(class_name="get_file", module="keras.utils")),
    "K06 a module as a layer": (
        "'canary' of the module 'keras.src.canary'",
        lambda s: s.layer(class_name="canary", module="keras.src.canary"),
    ),
    "K06 a dunder": (
        "'__class__' of the module 'keras.layers'",
        lambda s: s.layer(class_name="__class__", module="keras.layers"),
    ),
    "K06 SavedModel layer": (
        f"{CODE}.*or convert the SavedModel in it by .*--saved-model exported --output model.onnx",
        lambda s: s.layer(class_name="TFSMLayer", config={"filepath": "exported"}),
    ),
    "K06 torch layer": (CODE, lambda s: s.layer(class_name="TorchModuleWrapper")),
    "K06 vocabulary": (
        CODE,
        lambda s: s.layer(class_name="StringLookup", config={"vocabulary": "/etc/passwd"}),
    ),
    "K07 zip bomb": (
        "above the ratio of 100",
        lambda s: s.zip(config_json=b" " * 2**28, compression=zipfile.ZIP_DEFLATED),
    ),
    "K07 huge config": ("above the limit", lambda s: s.zip(config_json=b" " * (2**26 + 1))),
    "K08 zip slip": ("leads out of", lambda s: s.zip(also=[("../evil.txt", b"x")])),
    "K08 absolute": ("leads out of", lambda s: s.zip(also=[("/tmp/evil.txt", b"x")])),
    "K08 Windows": ("leads out of", lambda s: s.zip(also=[("C:\\evil.txt", b"x")])),
    "K09 twice": ("'config.json' twice", lambda s: s.zip(also=[("config.json", b"{}")])),
    "K10 shape bomb": (STORED, lambda s: s.hdf5("bomb")),
    "K10 shape bomb in keras": (STORED, lambda s: s.weights("bomb")),
    "K10 units": (
        "has the Dense layer .* with units=2000000000, more than the whole file can hold",
        lambda s: s.layer(class_name="Dense", config={"name": "wide", "units": 2 * 10**9}),
    ),
    "K10 kernel": (
        "more than the whole file can hold",
        lambda s: s.layer(1, ".h5", config={"name": "wide", "kernel_size": [10**5, 10**5]}),
    ),
    **{
        f"K10 two wide layers in {suffix}": (
            "asks for 1,000,077,428 weights, but the file holds 65",
            lambda s, suffix=suffix: s.config(widened, suffix),
        )
        for suffix in (".keras", ".h5")
    },
    **{
        f"K20 input of {sizes}": (
            "has a result of shape .* more than 2,147,483,648 elements",
            lambda s, sizes=sizes: s.config(lambda c: resized(c, [None, *sizes, 3])),
        )
        for sizes in ((10**9, 10**9), (60_000, 60_000), (2**63, 8))
    },
    **{
        f"K20 input of {sizes}": (
            "cannot load|cannot be",
            lambda s, sizes=sizes: s.config(lambda c: resized(c, [None, *sizes, 3])),
        )
        for sizes in ((-8, 8), ("8", 8), (8.5, 8), ([8], 8), (None, "x"))
    },
    **{
        f"K20 {layer} {next(iter(options.values()))}": (
            expected,
            lambda s, layer=layer, options=options: s.config(lambda c: inserted(c, layer, options)),
        )
        for layer, options, expected in (
            ("UpSampling2D", {"size": [10**6, 10**6]}, "more than 2,147,483,648 elements"),
            ("UpSampling2D", {"size": "x"}, "cannot load"),
            ("UpSampling2D", {"size": [-2, -2]}, "cannot load"),
            ("ZeroPadding2D", {"padding": [[10**6, 10**6]] * 2}, "more than 2,147,483,648"),
            ("ZeroPadding2D", {"padding": [[-9, 0], [0, 0]]}, "cannot load"),
            ("Cropping2D", {"cropping": [[9, 9], [9, 9]]}, "cannot load"),
            ("Reshape", {"target_shape": [10**9, -1, 7]}, "cannot load"),
            ("Resizing", {"height": 10**6, "width": 10**6}, "more than 2,147,483,648"),
        )
    },
    **{
        f"K20 filters {value}": (
            "cannot load",
            lambda s, value=value: s.config(
                lambda c: c["config"]["layers"][1]["config"].update(filters=value)
            ),
        )
        for value in (-3, "9", 0, [2], {}, 2.5)
    },
    "K20 nested configuration": ("cannot load|not valid|nested", lambda s: s.config(nested)),
    "K10 squeezed": (STORED, lambda s: s.hdf5("squeezed")),
    "K11 external link": (LINK, lambda s: s.hdf5("external_link")),
    "K11 external link in keras": (LINK, lambda s: s.weights("external_link")),
    "K11 soft link": (LINK, lambda s: s.hdf5("soft_link")),
    "K11 circle": ("has several paths", lambda s: s.hdf5("circle")),
    "K11 virtual": ("values in another file", lambda s: s.hdf5("virtual")),
    "K11 external values": ("values in another file", lambda s: s.hdf5("stored_elsewhere")),
    "K11 text": ("holds no numbers", lambda s: s.hdf5("text")),
    "K12 flipped header": (DAMAGED, lambda s: s.flip("sound.h5", 0.001)),
    "K12 flipped member": (DAMAGED, lambda s: s.flip("sound.keras", 0.5)),
    "K13 truncated h5": (DAMAGED, lambda s: s.cut("sound.h5", 0.5)),
    "K14 weights only": (
        "weights only, and no model: pass the architecture",
        lambda s: s.sound / "sound.weights.h5",
    ),
    "K14 weights of Keras 2": ("weights only", lambda s: REFERENCES / "functional-weights.h5"),
    "K15 SavedModel": ("a SavedModel folder is not supported", lambda s: s.saved_model()),
    **{
        f"K15 {suffix}": (
            rf"\.{suffix} is not supported, because such formats run code when they are loaded",
            lambda s, suffix=suffix: s.bytes(b"\x80\x04.", f"model.{suffix}"),
        )
        for suffix in ("pt", "pkl", "joblib", "npy")
    },
    "K16 fewer in keras": ("cannot load", lambda s: s.weights("fewer")),
    "K16 fewer in h5": ("cannot load .* 1 saved layers", lambda s: s.hdf5("fewer")),
    "K16 shape in keras": ("cannot load", lambda s: s.weights("reshaped")),
    "K16 shape in h5": ("cannot load", lambda s: s.hdf5("reshaped")),
    "K16 NaN": ("have NaN or infinity", lambda s: s.hdf5("numbers", np.nan)),
    "K16 infinity in keras": ("have NaN or infinity", lambda s: s.weights("numbers", np.inf)),
}


@pytest.mark.parametrize(("expected", "spoil"), ROWS.values(), ids=ROWS)
def test_spoiled_files_get_one_sentence(spoiler, expected, spoil):
    path = spoil(spoiler)
    with pytest.raises((ModelLoadError, UnsupportedModelError), match=expected) as caught:
        read_model(path)
    assert "\n" not in str(caught.value)
    assert len(str(caught.value)) < 1000
    assert not spoiler.marker.exists()


def answer(model, shape=(8, 8, 3)):
    images = np.random.default_rng(0).uniform(0, 1, (2, *shape)).astype(np.float32)
    return np.asarray(model(images, training=False))


@pytest.mark.parametrize("name", ["sound.keras", "sound.h5"])
def test_sound_files_load(sound, name):
    model = read_model(sound / name)
    np.testing.assert_array_equal(answer(model), answer(keras.models.load_model(sound / name)))
    assert not model.compiled


@pytest.mark.parametrize(("name", "wrong"), [("sound.keras", "a.h5"), ("sound.h5", "a.keras")])
def test_the_bytes_tell_the_format(sound, tmp_path, name, wrong):
    """Keras 2 wrote HDF5 under the suffix .keras, too."""
    (tmp_path / wrong).write_bytes((sound / name).read_bytes())
    np.testing.assert_array_equal(
        answer(read_model(tmp_path / wrong)), answer(read_model(sound / name))
    )


@pytest.mark.parametrize(
    "name",
    [
        *("functional.h5", "keras-2.2.h5", "nested.h5", "operations.h5", "separable.h5"),
        "transfer.h5",
    ],
)
def test_files_of_keras_2_answer_as_they_did(name):
    with np.load(REFERENCES / "legacy.npz") as answers:
        image, expected = answers["image"], answers[name]
    model = read_model(REFERENCES / name)
    np.testing.assert_allclose(model(image, training=False), expected, rtol=1e-5, atol=1e-6)


def test_weights_of_keras_2_load_into_their_network():
    with np.load(REFERENCES / "legacy.npz") as answers:
        image, expected = answers["image"], answers["functional.h5"]
    model = read_model(REFERENCES / "functional.h5")
    model.set_weights([np.zeros_like(value) for value in model.get_weights()])
    WeightsFile.check(REFERENCES / "functional-weights.h5").load_into(model, "small")
    np.testing.assert_allclose(model(image, training=False), expected, rtol=1e-5, atol=1e-6)


@pytest.mark.parametrize(
    ("expected", "spoil"),
    [
        (LINK, lambda s: s.hdf5("external_link")),
        (STORED, lambda s: s.weights("bomb")),
        (DAMAGED, lambda s: s.cut("sound.weights.h5", 0.5)),
        ("begins with", lambda s: s.bytes(b"not a model", "own.weights.h5")),
    ],
    ids=["link", "bomb", "cut", "text"],
)
def test_spoiled_weights_get_one_sentence(spoiler, expected, spoil):
    with pytest.raises(ModelLoadError, match=expected):
        WeightsFile.check(spoil(spoiler))


def test_keras_file_of_keras_2_needs_keras_2(monkeypatch):
    monkeypatch.setattr("importlib.util.find_spec", lambda _name: None)
    with pytest.raises(UnsupportedModelError, match=r"pip install tf_keras.*or save .* as \.h5"):
        read_model(REFERENCES / "functional.keras")


def test_keras_file_of_keras_2_is_read_by_keras_2():
    pytest.importorskip("tf_keras")
    with np.load(REFERENCES / "legacy.npz") as answers:
        image, expected = answers["image"], answers["functional.keras"]
    model = read_model(REFERENCES / "functional.keras")
    np.testing.assert_allclose(model(image, training=False), expected, rtol=1e-5, atol=1e-6)


def test_unknown_operations_of_keras_2_are_named(tmp_path):
    import h5py

    path = tmp_path / "model.h5"
    path.write_bytes((REFERENCES / "operations.h5").read_bytes())
    with h5py.File(path, "r+") as file:
        text = file.attrs["model_config"].replace('"nn.relu6"', '"io.write_file"')
        file.attrs["model_config"] = text
    with pytest.raises(UnsupportedModelError, match=r"operation 'io\.write_file' of Keras 2"):
        read_model(path)


@pytest.mark.parametrize("suffix", [".keras", ".h5"])
def test_operators_on_tensors(tmp_path, suffix):
    """Keras 3 writes them into .h5 files, and cannot read them again."""
    x = keras.Input((8, 8, 3))
    y = keras.ops.relu6(keras.layers.Conv2D(2, 3)(x / 2 + 1) * 3 - 1.0)
    model = keras.Model(x, keras.ops.mean(keras.layers.Add()([y, y])[:, 1:], (1, 2)))
    model.save(tmp_path / f"model{suffix}")
    np.testing.assert_allclose(answer(read_model(tmp_path / f"model{suffix}")), answer(model))


def test_axes_are_not_lost(tmp_path):
    """Keras 3 reads no `axis` of several from a .h5 file, and then normalises by the last one."""
    x = keras.Input((8, 8, 3))
    y = keras.layers.UnitNormalization(axis=[1, 2])(x)
    model = keras.Model(x, keras.layers.Softmax(axis=[1, 2])(y))
    model.save(tmp_path / "model.h5")
    np.testing.assert_array_equal(answer(read_model(tmp_path / "model.h5")), answer(model))


@pytest.mark.parametrize("suffix", [".keras", ".h5"])
def test_code_runs_only_where_it_is_allowed(spoiler, suffix):
    path = spoiler.code(suffix)
    with pytest.raises(ModelLoadError, match=CODE):
        read_model(path, allow_unsafe=False)
    assert not spoiler.marker.exists()


def test_allowed_code(tmp_path):
    layers = [keras.Input((8, 8, 3)), keras.layers.Lambda(lambda x: x * 2, output_shape=(8, 8, 3))]
    model = keras.Sequential(layers)
    model.save(tmp_path / "model.keras")
    np.testing.assert_array_equal(
        answer(read_model(tmp_path / "model.keras", allow_unsafe=True)), answer(model)
    )


class Gate(keras.layers.Layer):
    def call(self, x):
        return x * 0.5


class Scale(keras.layers.Layer):
    """Makes its variable of a value, which Keras allows nowhere but in earnest."""

    def build(self, shape):
        self.scale = keras.Variable(np.ones(3, np.float32))

    def call(self, x):
        return x * self.scale


def test_custom_objects(tmp_path):
    model = keras.Sequential([keras.Input((8, 8, 3)), Gate()])
    for name in ("model.keras", "model.h5"):
        model.save(tmp_path / name)
        with pytest.raises(ModelLoadError, match=r"needs 'Gate'.*custom_objects=\{'Gate': ...\}"):
            read_model(tmp_path / name)
        loaded = read_model(tmp_path / name, custom_objects={"Gate": Gate})
        np.testing.assert_array_equal(answer(loaded), answer(model))


def test_custom_objects_on_the_command_line(tmp_path, monkeypatch):
    lines = ["import keras", "class Own(keras.layers.Layer):", "    def call(self, x):"]
    code = "\n".join([*lines, "        return x * 2"])
    (tmp_path / "own_layers.py").write_text(code)
    monkeypatch.chdir(tmp_path)
    monkeypatch.syspath_prepend(tmp_path)
    own = importlib.import_module("own_layers").Own
    keras.Sequential([keras.Input((8, 8, 3)), keras.layers.Conv2D(2, 3), own()]).save("model.keras")
    monkeypatch.delitem(sys.modules, "own_layers")
    command = ["layers", "-m", "model.keras", "--custom", "own_layers:Own"]
    ended = CliRunner().invoke(cli, command)
    assert ended.exit_code == 0, ended.output
    assert "own" in ended.output


def test_every_layer_of_keras_is_known(tmp_path):
    """A model of many kinds of parts passes the allow-list."""
    L = keras.layers
    x = keras.Input((16, 16, 3))
    y = L.Rescaling(1 / 255)(x)
    y = L.Conv2D(4, 3, activation="gelu", kernel_regularizer="l2", kernel_constraint="max_norm")(y)
    y = L.BatchNormalization()(L.SeparableConv2D(4, 3, dtype="mixed_float16")(y))
    y = L.LeakyReLU()(L.GroupNormalization(2)(L.PReLU(shared_axes=(1, 2))(y)))
    y = L.MaxPooling2D()(L.SpatialDropout2D(0.1)(L.Activation(keras.activations.silu)(y)))
    y = L.MultiHeadAttention(2, 4)(y, y)
    y = L.Softmax()(L.Dense(3, kernel_initializer=keras.initializers.HeNormal())(L.Flatten()(y)))
    model = keras.Model(x, y)
    model.compile("adam", "mse", metrics=["accuracy"])
    for name in ("model.keras", "model.h5"):
        model.save(tmp_path / name)
        loaded = read_model(tmp_path / name)
        np.testing.assert_array_equal(answer(loaded, (16, 16, 3)), answer(model, (16, 16, 3)))


def test_global_state_is_left_as_it_was(sound, spoiler):
    from keras.src.backend.common import global_state

    keras.config.enable_unsafe_deserialization()
    try:
        path = spoiler.code()
        with pytest.raises(ModelLoadError, match=CODE):
            read_model(path)
        assert in_safe_mode() is False
    finally:
        global_state.set_global_attribute("safe_mode_saving", None)
    before = dict(keras.saving.get_custom_objects())
    for file in ("sound.keras", "sound.h5"):
        read_model(sound / file)
    assert in_safe_mode() is None
    assert keras.saving.get_custom_objects() == before


def test_weights_that_were_counted_are_never_made(spoiler):
    from keras.src.backend.common import global_state

    with pytest.raises(ModelLoadError, match="asks for"):
        read_model(spoiler.config(widened))
    assert not global_state.get_global_attribute("uninitialized_variables")
    with keras.StatelessScope():  # which makes what is left
        pass


def test_a_layer_of_the_users_that_cannot_be_counted_is_loaded(tmp_path):
    model = keras.Sequential([keras.Input((8, 8, 3)), Scale()])
    model.save(tmp_path / "model.keras")
    loaded = read_model(tmp_path / "model.keras", custom_objects={"Scale": Scale})
    np.testing.assert_array_equal(answer(loaded), answer(model))


def in_safe_mode():
    from keras.src.saving.serialization_lib import in_safe_mode

    return in_safe_mode()


AUDITED = """
import json, os, sys
sys.path.insert(0, {folder!r})
import xaimaps_keras.read as files
files.read_model({sound!r})
seen, watching = [], [False]
WATCHED = {{"import", "exec", "os.system", "subprocess.Popen", "socket.connect", "marshal.loads"}}
def hook(event, arguments):
    if watching[0] and event in WATCHED | {{"open", "pickle.find_class"}}:
        seen.append((event, str(arguments[0])))
sys.addaudithook(hook)
for path in {paths!r}:
    watching[0] = True
    try:
        files.read_model(path)
    except files.ModelLoadError:
        pass
    finally:
        watching[0] = False
print(json.dumps(seen))
"""


def test_nothing_is_imported_or_run(spoiler, sound, tmp_path):
    """In a process with an audit hook: no canary, no code, no file but the model's own."""
    (tmp_path / "canary.py").write_text(f"open({str(spoiler.marker)!r}, 'w')")
    paths = []
    for number, name in enumerate(["canary", "keras.canary", "keras.src.canary"]):
        found = spoiler.layer(class_name="Canary", module=name)
        paths.append(str(found.rename(tmp_path / f"{number}.keras")))
    for number, (module, name) in enumerate([("os", "system"), ("canary", "harm")]):
        found = spoiler.function(module, name)
        paths.append(str(found.rename(tmp_path / f"f{number}.keras")))
    paths += [str(spoiler.code()), str(spoiler.code(".h5"))]
    script = AUDITED.format(folder=str(tmp_path), sound=str(sound / "sound.keras"), paths=paths)
    command = [sys.executable, "-c", script]
    done = subprocess.run(command, capture_output=True, text=True, timeout=300, check=True)
    seen = [tuple(row) for row in json.loads(done.stdout.splitlines()[-1])]
    assert {target for event, target in seen if event == "open"} <= set(paths)
    assert [row for row in seen if row[0] != "open"] == []
    assert not spoiler.marker.exists()


@pytest.mark.parametrize("name", ["model.pt", "model.pkl"])
def test_load_says_why_a_format_is_refused(tmp_path, name):
    (tmp_path / name).write_bytes(b"\x80\x04.")
    with pytest.raises(BackendError, match="run code when they are loaded"):
        xaimaps.load(tmp_path / name)
