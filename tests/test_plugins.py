"""Finding backends: none, two of one name, broken ones, and what the message tells to do."""

from importlib.metadata import EntryPoint

import pytest

import xaimaps
from xaimaps import _registry as plugins
from xaimaps.backend import Backend
from xaimaps.errors import BackendError, ModelLoadError
from xaimaps.testing import ReferenceBackend, pooled_network

REFERENCE = "xaimaps.testing:ReferenceBackend"


@pytest.fixture
def install(monkeypatch):
    """Pretend that the given backends, and no others, are installed."""

    def pretend(*pairs, scheme=""):
        entries = [EntryPoint(name, value, plugins.GROUP) for name, value in pairs]
        schemes = [EntryPoint(scheme, REFERENCE, plugins.SCHEMES)] if scheme else []
        found = {plugins.GROUP: entries, plugins.SCHEMES: schemes}
        monkeypatch.setattr(plugins, "entry_points", lambda group: found[group])
        plugins.refresh()

    yield pretend
    monkeypatch.undo()
    plugins.refresh()


def test_our_own_backend_is_found():
    assert plugins.get_backend("jax").__name__ == "JaxBackend"
    assert plugins.installed()["jax"].dist.name == "xaimaps-jax"


def test_the_first_that_accepts_the_model_loads_it(install):
    install(("jax", "xaimaps_jax:JaxBackend"), ("mine", REFERENCE))
    assert isinstance(xaimaps.load(pooled_network()), ReferenceBackend)
    assert list(plugins.installed()) == ["jax", "mine"]


def test_a_backend_may_be_named(install):
    install(("mine", REFERENCE))
    loaded = xaimaps.load(pooled_network(), backend="mine", labels=["a", "b"], preprocess="tf")
    assert loaded.info.labels == ("a", "b")
    assert loaded.info.preprocess.name == "tf"


@pytest.mark.parametrize("model", ["default", "efficientnet-lite0"])
def test_without_the_backend_of_a_file_the_message_says_how_to_get_it(install, model):
    install()
    with pytest.raises(BackendError, match=r"\(none is installed\); pip .* jax, onnx"):
        xaimaps.load(model)
    with pytest.raises(BackendError, match=r"got 'jax'; pip install 'xaimaps\[jax\]'$"):
        xaimaps.load(model, backend="jax")


def test_without_any_backend_a_live_model_says_so(install):
    install()
    with pytest.raises(BackendError, match=r"model Network \(none is installed\); pip"):
        xaimaps.load(pooled_network())
    with pytest.raises(BackendError, match=r"installed one \(none\), got 'mine'; pip install"):
        plugins.get_backend("mine")


def test_an_unknown_name_offers_the_nearest(install):
    install(("mine", REFERENCE), ("other", REFERENCE))
    with pytest.raises(BackendError, match=r"\(mine, other\), got 'mime'; nearest: 'mine'"):
        plugins.get_backend("mime")


def test_of_two_with_one_name_the_first_counts_with_a_warning(install):
    install(("mine", REFERENCE), ("mine", "elsewhere:Backend"))
    with pytest.warns(RuntimeWarning, match=f"{REFERENCE} is used, elsewhere:Backend is ignored"):
        assert list(plugins.installed()) == ["mine"]
    assert plugins.get_backend("mine") is ReferenceBackend


BROKEN = [
    ("no_such_module_of_ours:Backend", "cannot be imported.*ModuleNotFoundError.*reinstall"),
    ("xaimaps.testing:NoSuchBackend", "cannot be imported.*AttributeError"),
    ("xaimaps.testing:pooled_network", "must be a Backend class, got xaimaps.testing:pooled_n"),
    ("xaimaps.testing:Network", "must be a Backend class"),
]


@pytest.mark.parametrize(("value", "message"), BROKEN)
def test_a_broken_backend_says_what_is_wrong(install, value, message):
    install(("mine", value))
    with pytest.raises(BackendError, match=message):
        plugins.get_backend("mine")


@pytest.mark.parametrize("value", [value for value, _ in BROKEN])
def test_a_broken_backend_does_not_hide_the_others(install, value):
    install(("a", value), ("b", REFERENCE))
    assert plugins.find_backend(pooled_network()) is ReferenceBackend


def test_when_no_backend_takes_it_the_broken_ones_are_told(install, tmp_path):
    install(("broken", BROKEN[0][0]), ("mine", REFERENCE))
    model = tmp_path / "net.pt"
    model.touch()
    message = r"no backend takes the model '.*net\.pt' \(broken, mine\); .*'broken' is installed"
    with pytest.raises(BackendError, match=message):
        xaimaps.load(model)


@pytest.mark.parametrize("model", ["resnet.onnx", "folder/net.keras", "defualt"])
def test_a_missing_file_comes_before_the_question_which_backend(install, model):
    install(("mine", REFERENCE))
    with pytest.raises(ModelLoadError, match=f"no model file {model!r}"):
        xaimaps.load(model, backend="mine")


class Picky(ReferenceBackend):
    """Takes other files than those that it is given here."""

    takes = "files of numbers"

    @classmethod
    def accepts(cls, model):
        return str(model).endswith(".num")

    @classmethod
    def load(cls, model, **_options):
        raise ModelLoadError(f"{model.name} has no numbers")


def test_a_named_backend_leaves_to_others_what_they_take(install, monkeypatch, tmp_path):
    monkeypatch.setattr("xaimaps.testing.Picky", Picky, raising=False)
    install(("mine", REFERENCE), ("picky", "xaimaps.testing:Picky"))
    expected = "'picky' takes files of numbers, got Network; choose 'mine', which takes it"
    with pytest.raises(BackendError, match=expected):
        xaimaps.load(pooled_network(), backend="picky")
    with pytest.raises(BackendError, match="got list; give it one of those"):
        xaimaps.load([], backend="picky")
    (tmp_path / "model.any").touch()
    with pytest.raises(ModelLoadError, match=r"model\.any has no numbers"):
        xaimaps.load(tmp_path / "model.any", backend="picky")


def test_a_backend_that_is_no_name():
    with pytest.raises(BackendError, match=r"name of a backend, got \['jax'\]"):
        xaimaps.load("default", backend=["jax"])


def test_a_misspelt_embedded_model_offers_the_nearest():
    with pytest.raises(ModelLoadError, match="nearest: 'default'"):
        xaimaps.load("defualt")


@pytest.mark.fault("R13")
def test_labels_come_from_lists_files_and_names(install, tmp_path):
    install(("mine", REFERENCE))
    (tmp_path / "labels.txt").write_text("Katze\nHund\nBär\n", encoding="utf-8")
    load = lambda labels: xaimaps.load(pooled_network(), labels=labels).info.labels  # noqa: E731
    assert load(tmp_path / "labels.txt") == ("Katze", "Hund", "Bär")
    assert load("imagenet-1k")[285] == "Egyptian cat"
    assert load(["a"]) == ("a",)
    for text, name in (
        ("\ufeffKatze\nHund\nBär\n", "marked.txt"),
        ("0 Katze\n1 Hund\n2 Bär\n", "counted.txt"),
        ('["Katze", "Hund", "Bär"]', "list.json"),
        ('{"2": "Bär", "0": "Katze", "1": "Hund"}', "object.json"),
        ('{"0": ["n1", "Katze"], "1": ["n2", "Hund"], "2": ["n3", "Bär"]}', "keras.JSON"),
    ):
        (tmp_path / name).write_text(text, encoding="utf-8")
        assert load(tmp_path / name) == ("Katze", "Hund", "Bär")
    for text, labels in (
        ("0 Katze\n7 Hund\n", ("0 Katze", "7 Hund")),
        ("Kat\fze\r\nHu\x85nd", ("Kat\fze", "Hu\x85nd")),
    ):
        (tmp_path / "own.txt").write_text(text, encoding="utf-8")
        assert load(tmp_path / "own.txt") == labels
    for text in ('{"1": "a"}', '"a"', "[1]", "[", "[[]]"):
        (tmp_path / "wrong.json").write_text(text)
        with pytest.raises(ModelLoadError, match="which cannot be read"):
            load(tmp_path / "wrong.json")
    (tmp_path / "labels.bin").write_bytes(b"\xff\xfe\x00")
    for path in (tmp_path / "labels.bin", tmp_path / "none.txt", tmp_path):
        with pytest.raises(ModelLoadError, match="`labels` must be a text file"):
            load(path)
    for labels in (5, [1, 2]):
        with pytest.raises(ModelLoadError, match=r"`labels` must be a list of names, .* got"):
            load(labels)


class Named(ReferenceBackend):
    """Knows models by name, and reads files of numbers."""

    suffixes = (".num",)
    schemes = ("toys",)
    accepts = classmethod(Backend.accepts.__func__)

    @classmethod
    def load(cls, model, **options):
        return cls(pooled_network(channels=int(str(model).partition(":")[2])))


def test_a_plugin_brings_a_scheme(install, monkeypatch):
    monkeypatch.setattr("xaimaps.testing.Named", Named, raising=False)
    install(("mine", REFERENCE), ("named", "xaimaps.testing:Named"), scheme="toys")
    assert xaimaps.load("toys:8").layers()[0].shape[-1] == 8
    with pytest.raises(ModelLoadError, match="path of a file or toys:NAME"):
        xaimaps.load("toy:8")


@pytest.mark.parametrize(
    ("model", "expected"),
    [
        ("a.num", True),
        ("A.NUM", True),
        ("toys:8", True),
        ("toys", False),
        ("a.nu", False),
        (3, False),
    ],
)
def test_suffixes_and_schemes_say_what_is_accepted(model, expected):
    assert Named.accepts(model) is expected


@pytest.mark.parametrize(
    ("package", "remedy"),
    [
        ("torch.nn.modules.module", "torch.onnx.export"),
        ("flax.nnx.module", r"pip install 'xaimaps\[jax\]'"),
        ("equinox._module", r"pip install 'xaimaps\[jax\]'"),
        ("tensorflow.python.saved_model.load", "convert the SavedModel to ONNX"),
    ],
)
def test_live_models_of_other_frameworks_have_a_remedy(monkeypatch, package, remedy):
    monkeypatch.setattr(plugins, "installed", dict)
    base = type("Module", (), {"__module__": package})
    mine = type("Mine", (base,), {"__module__": "__main__"})
    with pytest.raises(BackendError, match=f"no backend takes the model Mine .*{remedy}"):
        xaimaps.load(mine())


@pytest.mark.parametrize(
    ("suffix", "remedy"),
    [
        ("tflite", "tf2onnx.convert --tflite"),
        ("pt2", "torch.onnx.export"),
        ("torchscript", "torch.onnx.export"),
    ],
)
def test_files_of_other_frameworks_have_a_remedy(tmp_path, suffix, remedy):
    path = tmp_path / f"net.{suffix}"
    path.write_bytes(b"1234")
    with pytest.raises(BackendError, match=f"no backend takes .*{remedy}"):
        xaimaps.load(path)
