"""Volumes and clips from files: values, overlays, slices, and what is refused."""

import gzip
import io
import json
import sys

import numpy as np
import pytest
from PIL import Image, ImageSequence

import xaimaps
from xaimaps._cli import main
from xaimaps._images.open import open_picture
from xaimaps._images.preprocess import PRESETS, Preprocess
from xaimaps._images.volume import as_nifti
from xaimaps._prepare import prepare
from xaimaps._view.session import Session
from xaimaps.errors import ArrayInputError, InputImageError
from xaimaps.testing import ReferenceBackend
from xaimaps.testing.networks import Conv, Dense, GlobalAveragePool, Network, ReLU

nibabel = pytest.importorskip("nibabel")
pydicom = pytest.importorskip("pydicom")
tifffile = pytest.importorskip("tifffile")

RNG = np.random.default_rng(8)
AFFINE = np.array([[-2.0, 0, 0, 90], [0, 2, 0, -126], [0, 0, 3, -72], [0, 0, 0, 1]])
SIZE = (6, 5, 7)


def nifti(path, values, kind=nibabel.Nifti1Image, slope=None, **header):
    image = kind(values, AFFINE)
    image.header.set_slope_inter(*slope or (None, None))
    for name, value in header.items():
        image.header[name] = value
    nibabel.save(image, path)
    return path


def dicom(path, values, **tags):
    data = pydicom.Dataset()
    data.file_meta = pydicom.dataset.FileMetaDataset()
    data.file_meta.TransferSyntaxUID = pydicom.uid.ExplicitVRLittleEndian
    data.SOPClassUID = data.file_meta.MediaStorageSOPClassUID = "1.2.840.10008.5.1.4.1.1.2"
    data.SOPInstanceUID = data.file_meta.MediaStorageSOPInstanceUID = "1.2.3"
    data.NumberOfFrames, data.Rows, data.Columns = values.shape
    data.SamplesPerPixel, data.PhotometricInterpretation = 1, "MONOCHROME2"
    data.BitsAllocated = data.BitsStored = 8 * values.itemsize
    data.HighBit, data.PixelRepresentation = data.BitsStored - 1, 0
    data.PixelData = values.tobytes()
    for name, value in tags.items():
        setattr(data, name, value)
    data.save_as(path, enforce_file_format=True)
    return path


def clip(path, count=4):
    frames = [Image.fromarray(RNG.integers(0, 255, (5, 7, 3), "u1")) for _ in range(count)]
    frames[0].save(path, save_all=True, append_images=frames[1:], duration=80)
    return path


def array_file(path, values):
    np.save(path, values)
    return path


DEEP = RNG.integers(0, 60_000, SIZE, "u2")
SIGNED = RNG.integers(-1024, 3000, SIZE, "i2")
# How a file is written, and an independent reading of its values, (D, H, W, C).
FILES = {
    "a.nii": (lambda p: nifti(p, SIGNED), SIGNED[..., None]),
    "a.nii.gz": (lambda p: nifti(p, SIGNED), SIGNED[..., None]),
    "rescaled.nii": (
        lambda p: nifti(p, SIGNED, slope=(0.5, -10)),
        (SIGNED * 0.5 - 10)[..., None],
    ),
    "big.nii": (lambda p: nifti(p, SIGNED.astype(">i2")), SIGNED[..., None]),
    "two.nii": (lambda p: nifti(p, SIGNED, nibabel.Nifti2Image), SIGNED[..., None]),
    "channels.nii": (
        lambda p: nifti(p, np.stack([SIGNED, -SIGNED], -1)),
        np.stack([SIGNED, -SIGNED], -1),
    ),
    "a.dcm": (lambda p: dicom(p, DEEP), DEEP[..., None]),
    "rescaled.dcm": (
        lambda p: dicom(p, DEEP, RescaleSlope="2", RescaleIntercept="-1024"),
        (DEEP * 2.0 - 1024)[..., None],
    ),
    "a.tif": (lambda p: tifffile.imwrite(p, DEEP, photometric="minisblack"), DEEP[..., None]),
    "a.npy": (lambda p: array_file(p, DEEP), DEEP[..., None]),
    "colour.npy": (
        lambda p: array_file(p, np.stack([DEEP, DEEP, DEEP], -1)),
        np.stack([DEEP] * 3, -1),
    ),
}


def model(shape, preset=PRESETS["native"]):
    draw = np.random.default_rng(0).normal
    layers = {
        "conv": Conv(draw(size=(2, 2, 2, shape[-1], 4)).astype("f4"), np.full(4, 0.1, "f4")),
        "relu": ReLU(),
        "pool": GlobalAveragePool(),
        "fc": Dense(draw(size=(4, 2)).astype("f4"), np.zeros(2, "f4")),
    }
    backend = ReferenceBackend(Network(layers, shape))
    backend.info.preprocess = preset
    return backend


@pytest.mark.parametrize("name", FILES)
def test_values_of_a_file_arrive_to_the_last_bit(tmp_path, name):
    write, expected = FILES[name]
    write(tmp_path / name)
    found = prepare(model(expected.shape), tmp_path / name)
    np.testing.assert_array_equal(found.images, expected[None].astype("f4"))
    assert found.views[0].shape == (*SIZE, 3)


def test_frames_of_an_animation_are_those_of_pillow(tmp_path):
    path = clip(tmp_path / "a.gif")
    with Image.open(path) as file:
        frames = [np.asarray(frame.convert("RGB")) for frame in ImageSequence.Iterator(file)]
    found = open_picture(path, rank=3)
    np.testing.assert_array_equal(found.values, frames)
    assert found.duration == 80
    np.testing.assert_array_equal(
        prepare(model((4, 5, 7, 1), PRESETS["raw"]), path).images[0, 2, ..., 0],
        np.asarray(Image.fromarray(frames[2]).convert("L")),
    )


def test_the_display_range_of_a_nifti_file_is_black_and_white(tmp_path):
    path = nifti(tmp_path / "a.nii", SIGNED, cal_min=-100, cal_max=300)
    found = prepare(model((*SIZE, 1), PRESETS["unit"]), path).images[0, ..., 0]
    np.testing.assert_allclose(found, np.clip((SIGNED + 100) / 400, 0, 1), atol=1e-6)


@pytest.mark.parametrize(("filter", "method"), [("bilinear", "linear"), ("bicubic", "cubic")])
def test_resizing_is_that_of_jax(filter, method):
    jax = pytest.importorskip("jax")
    volume = RNG.normal(size=(9, 4, 6, 2)).astype("f4")
    preset = Preprocess("own", 1, (0,), (1,), interpolation=filter, native=True)
    expected = jax.image.resize(volume, (5, 8, 6, 2), method, antialias=True)
    np.testing.assert_allclose(preset(volume, (5, 8, 6)), expected, atol=1e-5)


@pytest.fixture(scope="module")
def deep():
    return model((5, 5, 5, 3), PRESETS["unit"])


@pytest.fixture
def scan(tmp_path):
    return nifti(tmp_path / "scan.nii.gz", RNG.integers(0, 255, (10, 6, 8), "u1"))


def linear(values, size):
    """Resize along each axis with `numpy.interp`."""
    for axis, count in enumerate(size):
        step = values.shape[axis] / count
        centres = (np.arange(count) + 0.5) * step - 0.5
        at = np.arange(values.shape[axis])
        values = np.apply_along_axis(
            lambda line, c=centres, a=at: np.interp(c, a, line), axis, values
        )
    return values


def test_the_map_of_a_nifti_file_is_one_of_the_same_grid(deep, scan, tmp_path):
    result = xaimaps.explain(deep, scan, "saliency", target=1)
    files = {path.name: path for path in result.save(tmp_path / "out")}
    stored = nibabel.load(files["scan.nii-saliency-class 1-map.nii.gz"])
    np.testing.assert_array_equal(stored.affine, AFFINE)
    np.testing.assert_allclose(
        stored.get_fdata(), linear(result.maps[0], (10, 6, 8)), atol=1e-6 * result.maps.max()
    )
    assert as_nifti(result.maps[0], AFFINE) == as_nifti(result.maps[0], AFFINE)
    assert "resized to 5 x 5 x 5" in " ".join(result.notes())


def test_overlays_are_slices_through_the_hottest_voxel(deep, scan):
    from dataclasses import replace

    result = xaimaps.explain(deep, scan, "saliency", target=1)
    maps = np.zeros((1, 5, 5, 5), "f4")
    maps[0, 3, 1, 2] = 1
    result = replace(result, maps=maps)
    # At the size of the volume, (10, 6, 8), the largest voxel is the first of the equal ones.
    voxel = np.unravel_index(linear(maps[0], (10, 6, 8)).argmax(), (10, 6, 8))
    drawn = np.asarray(result.overlay(alpha=0))
    view = result.views[0]
    assert drawn.shape == (10, 8 + 8 + 6, 3)
    np.testing.assert_array_equal(drawn[:6, :8], view[voxel[0]])
    np.testing.assert_array_equal(drawn[:, 8:16], view[:, voxel[1]])
    np.testing.assert_array_equal(drawn[:, 16:], view[:, :, voxel[2]])
    hot = np.asarray(result.heatmap()).sum(axis=2)
    assert hot.max() == hot[voxel[1], voxel[2]] == hot[voxel[0], 8 + voxel[2]]


def test_a_montage_and_an_animation_show_every_slice(deep, tmp_path):
    path = clip(tmp_path / "a.gif", count=6)
    result = xaimaps.explain(deep, path, "grad_cam", target=1)
    files = {file.name: file for file in result.save(tmp_path / "out", alpha=0)}
    frames = open_picture(path).values.shape[:2]
    montage = np.asarray(Image.open(files["a-grad_cam-class 1-montage.png"]))
    assert montage.shape == (2 * frames[0], 4 * frames[1], 3)
    np.testing.assert_array_equal(montage[5:10, :7], result.views[0][4])
    assert not montage[5:, 14:].any()
    with Image.open(files["a-grad_cam-class 1-overlay.gif"]) as moving:
        assert (moving.n_frames, moving.info["duration"]) == (6, 80)
    listed = json.loads(files["a-grad_cam-class 1-manifest.json"].read_text())["files"]
    assert {"a-grad_cam-class 1-montage.png", "a-grad_cam-class 1-overlay.gif"} <= set(listed)
    again = xaimaps.read(files["a-grad_cam-class 1-manifest.json"])[0]
    assert again.overlay() == result.overlay()


def test_arrays_are_volumes_and_batches_of_them(deep):
    volumes = RNG.integers(0, 255, (2, 5, 5, 5, 3), "u1")
    both = xaimaps.explain(deep, volumes, "saliency", target=1)
    one = xaimaps.explain(deep, volumes[1], "saliency", target=1)
    direct = xaimaps.attribute(
        deep, volumes[1:] / np.float32(255), "saliency", target=1, pictures=[volumes[1]]
    )
    np.testing.assert_allclose(both.maps[1:], one.maps, atol=1e-6)
    np.testing.assert_allclose(direct.maps, one.maps, atol=1e-6)
    assert direct.overlay() == one.overlay()


BAD = {
    "a still picture": (lambda p: Image.new("RGB", (4, 4)).save(p, "PNG"), "a volume or a clip"),
    "one slice of TIFF": (lambda p: tifffile.imwrite(p, DEEP[0]), "a volume or a clip"),
    "one frame of DICOM": (lambda p: dicom(p, DEEP[:1]), "a volume or a clip"),
    "pages of two sizes": (
        lambda p: [tifffile.imwrite(p, DEEP[0, :n, :n], append=n == 3) for n in (4, 3)],
        "pages differ",
    ),
    "NaN": (lambda p: nifti(p, np.full(SIZE, np.nan, "f4")), "NaN or infinity"),
    "five axes": (lambda p: nifti(p, np.zeros((2, 2, 2, 2, 2), "f4")), r"shape \(2, 2, 2, 2, 2\)"),
    "colours as records": (
        lambda p: nifti(p, np.zeros(SIZE, [("R", "u1"), ("G", "u1"), ("B", "u1")])),
        "one number for each",
    ),
    "complex": (lambda p: nifti(p, np.zeros(SIZE, "c8")), "one number for each"),
    "too large": (lambda p: nifti(p, np.zeros((40, 40, 40), "u1")), "at most 0.05 megapixels"),
    "an archive of text": (lambda p: p.write_bytes(gzip.compress(b"text" * 99)), "gzip archive"),
    "cut": (lambda p: cut(p, nifti(p.with_suffix(".nii"), SIGNED)), "NIfTI|decoded|damaged"),
    "a picture in .npy": (
        lambda p: array_file(p.with_suffix(".npy"), DEEP[0]).replace(p),
        r"\(D, H, W\)",
    ),
}


def cut(path, whole):
    path.write_bytes(whole.read_bytes()[:-100])


@pytest.mark.parametrize("name", BAD)
def test_a_wrong_file_gets_one_sentence(tmp_path, name):
    write, words = BAD[name]
    path = tmp_path / "file.nii"
    write(path)
    with pytest.raises(InputImageError, match=words) as error:
        prepare(model((*SIZE, 1)), path, max_pixels=50_000)
    assert "\n" not in str(error.value)


def test_an_archive_is_not_unpacked_beyond_the_limit(tmp_path):
    header = nibabel.Nifti1Image(np.zeros((300, 300, 300), "u1"), AFFINE).to_bytes()[:352]
    bomb = gzip.compress(header + bytes(200_000_000), 1)
    with pytest.raises(InputImageError, match=r"at most 0\.1 megapixels"):
        open_picture(io.BytesIO(bomb), rank=3, max_pixels=100_000)


def test_what_volumes_cannot_have_is_refused(deep, scan, tmp_path):
    pad = model((5, 5, 5, 3), Preprocess("own", 1, (0,), (1,), fit="pad"))
    with pytest.raises(ArrayInputError, match="`fit` must be stretch for volumes"):
        prepare(pad, scan)
    with pytest.raises(InputImageError, match="got a NIfTI file; save one slice"):
        open_picture(scan)
    with pytest.raises(ArrayInputError, match=r"channels last, with numpy\.moveaxis"):
        prepare(deep, np.zeros((3, 5, 5, 5), "u1"))
    with pytest.raises(InputImageError, match="of 3 channels"):
        prepare(deep, np.zeros((5, 5, 5, 2), "u1"))
    with pytest.raises(ArrayInputError, match="pictures are for models of images"):
        Session({"deep": deep}, [scan], 1000)


def test_without_nibabel_its_name_is_in_the_error(deep, scan, monkeypatch):
    monkeypatch.setitem(__import__("sys").modules, "nibabel", None)
    with pytest.raises(InputImageError, match=r"needs nibabel.*xaimaps\[pictures\]"):
        prepare(deep, scan)


@pytest.fixture(scope="module")
def onnx_file(tmp_path_factory):
    """A file that scores a volume by its mean and by the mean of its first half."""
    onnx = pytest.importorskip("onnx")
    pytest.importorskip("onnxruntime")
    pytest.importorskip("xaimaps_jax")
    from onnx import TensorProto, helper, numpy_helper

    kernel = np.random.default_rng(0).normal(size=(4, 1, 3, 3, 3)).astype("f4")
    weights = np.random.default_rng(1).normal(size=(4, 2)).astype("f4")
    nodes = [
        helper.make_node("Conv", ["x", "k"], ["conv"], pads=[1] * 6),
        helper.make_node("Relu", ["conv"], ["relu"]),
        helper.make_node("GlobalAveragePool", ["relu"], ["pool"]),
        helper.make_node("Flatten", ["pool"], ["flat"]),
        helper.make_node("MatMul", ["flat", "w"], ["y"]),
    ]
    shape = ["N", 1, 10, 6, 8]
    graph = helper.make_graph(
        nodes,
        "volumes",
        [helper.make_tensor_value_info("x", TensorProto.FLOAT, shape)],
        [helper.make_tensor_value_info("y", TensorProto.FLOAT, ["N", 2])],
        [numpy_helper.from_array(kernel, "k"), numpy_helper.from_array(weights, "w")],
    )
    path = tmp_path_factory.mktemp("model") / "volumes.onnx"
    onnx.save(helper.make_model(graph, opset_imports=[helper.make_opsetid("", 17)]), path)
    return path


@pytest.fixture
def command(monkeypatch, capsys):
    """Run `main` as the shell would, and return its exit status and its output."""

    def run(*words):
        monkeypatch.setattr(sys, "argv", ["xaimaps", *map(str, words)])
        with pytest.raises(SystemExit) as end:
            main()
        return end.value.code or 0, "".join(capsys.readouterr())

    return run


def test_the_commands_explain_compare_and_reproduce(command, onnx_file, scan, tmp_path):
    loading = ("-m", onnx_file, "-p", "unit")
    ran = command(
        "explain", scan, *loading, "-M", "saliency,grad_cam", "-t", "1", "-o", tmp_path / "out"
    )
    assert ran[0] == 0, ran
    written = {path.name.partition("-")[2] for path in (tmp_path / "out").iterdir()}
    assert {
        "class 1-figure.png",
        "saliency-class 1-montage.png",
        "grad_cam-class 1-map.nii.gz",
    } <= written
    figure = command("compare", scan, *loading, "-M", "saliency", "-o", tmp_path / "f.png")
    assert figure[0] == 0, figure
    again = command("reproduce", tmp_path / "out" / "scan.nii-saliency-class 1-manifest.json")
    assert again[0] == 0, again
    status, said = command("explain", xaimaps.zoo.PICTURES["chelsea"], *loading)
    assert (status, "must be a volume or a clip" in said) == (2, True)
    status, said = command("targets", onnx_file, scan, "-p", "unit")
    assert (status, "class 1" in said) == (0, True), said


def test_the_depth_is_given_beside_the_size(command, onnx_file, scan, tmp_path):
    onnx = pytest.importorskip("onnx")
    model, path = onnx.load(onnx_file), tmp_path / "free.onnx"
    for axis, name in enumerate(("depth", "height", "width"), 2):
        model.graph.input[0].type.tensor_type.shape.dim[axis].dim_param = name
    onnx.save(model, path)
    out = ("-M", "saliency", "-o", tmp_path / "out")
    status, said = command("explain", scan, "-m", path, "-p", "unit", "--input-depth", 5, *out)
    assert (status, "--input-depth needs --input-size" in said) == (2, True), said
    size = ("--input-depth", 5, "--input-size", 6, 7)
    assert command("describe", path, "-p", "unit", *size)[0] == 0
    assert command("explain", scan, "-m", path, *out)[0] == 0
    (maps,) = (tmp_path / "out").glob("*-maps.npz")
    assert np.load(maps)["maps"].shape == (5, 6, 7)


def test_the_commands_on_data_sets(command, onnx_file, scan, tmp_path):
    loading, place = ("-m", onnx_file, "-p", "unit"), tmp_path / "run"
    status, said = command("batch", scan.parent, *loading, "-M", "saliency", "-o", place)
    assert (status, "1 pictures, 0 failed" in said) == (0, True), said
    status, said = command("evaluate", scan.parent, *loading, "-M", "saliency", "-e", "sparseness")
    assert (status, "1 picture;" in said) == (0, True), said
    masks = ("-e", "pointing_game", "--regions", tmp_path)
    status, said = command("evaluate", scan, *loading, "-M", "saliency", *masks)
    assert (status, "`regions` are for pictures" in said) == (2, True), said
    status, said = command("evaluate", scan, *loading, "-M", "saliency", "-e", "road")
    assert (status, "needs images of two spatial axes" in said) == (2, True), said
