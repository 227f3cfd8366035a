"""A folder of DICOM slices is one volume, in explain, batch and evaluate."""

import json
import shutil

import numpy as np
import pytest

import xaimaps
from xaimaps._images.find import find_pictures
from xaimaps._images.open import open_picture
from xaimaps._prepare import prepare
from xaimaps.errors import InputImageError

pydicom = pytest.importorskip("pydicom")
nibabel = pytest.importorskip("nibabel")

VALUES = np.random.default_rng(0).integers(0, 4000, (5, 6, 4), "u2")
# An oblique plane, so that no axis of the patient is one of the volume.
ACROSS, DOWN = np.array([0.8, 0.6, 0]), np.array([-0.48, 0.64, -0.6])
NORMAL = np.cross(ACROSS, DOWN)
START, STEP, SPACING = np.array([-10.0, 20, 30]), 2.5, (0.7, 0.9)


def slice_file(path, index, **tags):
    data = pydicom.Dataset()
    data.file_meta = pydicom.dataset.FileMetaDataset()
    data.file_meta.TransferSyntaxUID = pydicom.uid.ExplicitVRLittleEndian
    data.SOPClassUID = data.file_meta.MediaStorageSOPClassUID = "1.2.840.10008.5.1.4.1.1.2"
    data.SOPInstanceUID = data.file_meta.MediaStorageSOPInstanceUID = f"1.2.{index + 1}"
    data.SeriesInstanceUID, data.PixelSpacing = "1.9", list(SPACING)
    data.ImageOrientationPatient = [*ACROSS, *DOWN]
    data.ImagePositionPatient = list(START + index * STEP * NORMAL)
    data.Rows, data.Columns = VALUES.shape[1:]
    data.SamplesPerPixel, data.PhotometricInterpretation = 1, "MONOCHROME2"
    data.BitsAllocated, data.BitsStored, data.HighBit, data.PixelRepresentation = 16, 12, 11, 0
    data.RescaleSlope, data.RescaleIntercept = "1", "-1024"
    data.PixelData = VALUES[index].tobytes()
    for name, value in tags.items():
        setattr(data, name, value)
    data.save_as(path, enforce_file_format=True)


@pytest.fixture
def folder(tmp_path, monkeypatch):
    """Two series, whose file names are in another order than their positions."""
    monkeypatch.chdir(tmp_path)
    for name in ("scans/a", "scans/b"):
        (tmp_path / name).mkdir(parents=True)
        for index in range(5):
            slice_file(tmp_path / name / f"{(index * 3) % 5}.dcm", index)
    (tmp_path / "scans" / "a" / "readme.txt").write_text("no slice")
    return tmp_path / "scans"


def test_slices_are_in_the_order_of_their_positions(folder):
    found = open_picture(folder / "a", rank=3)
    np.testing.assert_array_equal(found.values[..., 0], VALUES - 1024.0)
    assert found.range == (-1024, 4095 - 1024)
    assert found.sha256


def test_a_voxel_has_the_place_that_dicom_says(folder):
    affine = open_picture(folder / "a", rank=3).affine
    for s, r, c in ((0, 0, 0), (4, 5, 3), (2, 1, 3)):
        place = START + s * STEP * NORMAL + r * SPACING[0] * DOWN + c * SPACING[1] * ACROSS
        np.testing.assert_allclose((affine @ [s, r, c, 1])[:3], place * [-1, -1, 1], atol=1e-9)
    sizes = nibabel.affines.voxel_sizes(affine)
    np.testing.assert_allclose(sizes, (STEP, *SPACING), atol=1e-9)


def test_the_widest_window_is_black_and_white(folder):
    slice_file(folder / "a" / "0.dcm", 0, WindowCenter=0.5, WindowWidth=9001)
    assert open_picture(folder / "a", rank=3).range == (-4500, 4500)


@pytest.mark.parametrize(
    ("change", "message"),
    [
        (lambda a: (a / "1.dcm").unlink(), "are 5 mm apart where others are 2.5 mm; add the miss"),
        (lambda a: shutil.copy(a / "1.dcm", a / "9.dcm"), "are 0 mm apart where others are 2.5"),
        (lambda a: slice_file(a / "1.dcm", 2, SeriesInstanceUID="2"), "differ in SeriesInstanceU"),
        (lambda a: slice_file(a / "1.dcm", 2, PixelSpacing=[1, 1]), "differ in PixelSpacing"),
        (lambda a: slice_file(a / "1.dcm", 2, ImagePositionPatient=None), "1.dcm'.* its position"),
        (lambda a: (a / "1.dcm").write_bytes(b"no DICOM"), "'1.dcm', which is no DICOM"),
        (lambda a: (a / "0.dcm").write_bytes(b"no DICOM"), "'0.dcm', which is no DICOM"),
        (lambda a: (a / "9.dcm").symlink_to("/etc/hostname"), "got the link '9.dcm'"),
    ],
)
def test_what_is_no_whole_series_is_refused_in_one_sentence(folder, change, message):
    change(folder / "a")
    with pytest.raises(InputImageError, match=message):
        open_picture(folder / "a", rank=3)


def test_a_folder_of_pictures_is_no_volume(folder):
    (folder / "c").mkdir()
    with pytest.raises(InputImageError, match="a folder without a series of DICOM slices"):
        open_picture(folder / "c", rank=3)
    with pytest.raises(InputImageError, match="a folder"):
        open_picture(folder / "a")


def test_each_series_of_a_folder_is_one_volume(folder):
    shutil.copy(folder / "a" / "0.dcm", folder / "single.dcm")
    (folder / "one.nii.gz").write_bytes(b"")
    names = [str(path.relative_to(folder)) for path in find_pictures([folder], rank=3)]
    assert names == ["one.nii.gz", "single.dcm", "a", "b"]
    assert len(find_pictures([folder])) == 11, "slices are pictures for models of images"


# The commands


@pytest.fixture
def model():
    from xaimaps._images.preprocess import PRESETS
    from xaimaps.testing import ReferenceBackend
    from xaimaps.testing.networks import Conv, Dense, GlobalAveragePool, Network, ReLU

    draw = np.random.default_rng(0).normal
    layers = {
        "conv": Conv(draw(size=(2, 2, 2, 1, 4)).astype("f4"), np.full(4, 0.1, "f4")),
        "relu": ReLU(),
        "pool": GlobalAveragePool(),
        "fc": Dense(draw(size=(4, 2)).astype("f4"), np.zeros(2, "f4")),
    }
    backend = ReferenceBackend(Network(layers, (*VALUES.shape, 1)))
    backend.info.preprocess = PRESETS["unit"]
    return backend


def test_a_series_is_explained_saved_and_reproduced_on_its_grid(model, folder, tmp_path):
    result = xaimaps.explain(model, "scans", "saliency", target=1)
    assert [one.source for one in result.pictures] == ["scans/a", "scans/b"]
    np.testing.assert_allclose(
        prepare(model, "scans/a").images[0, ..., 0], VALUES / 4095, atol=1e-6
    )
    files = {path.name: path for path in result.save(tmp_path / "out")}
    stored = nibabel.load(files["a-saliency-class 1-map.nii.gz"])
    np.testing.assert_allclose(stored.affine, result.pictures[0].affine, atol=1e-5)
    np.testing.assert_allclose(stored.get_fdata(), result.maps[0], rtol=1e-6)
    told = json.loads(files["a-saliency-class 1-manifest.json"].read_text())
    assert told["picture"]["source"] == "scans/a"
    read = xaimaps.read(files["a-saliency-class 1-manifest.json"])[0]
    assert not [note for note in read.notes() if "changed" in note or "missing" in note]
    assert read.overlay() == result[0].overlay()


def test_a_data_set_of_volumes(model, folder, tmp_path):
    pytest.importorskip("pyarrow")
    from xaimaps.batch import Settings, read, run

    (folder / "b" / "1.dcm").unlink()
    np.save(folder / "c.npy", np.zeros(VALUES.shape, "u1"))
    summary = run(model, "scans", tmp_path / "out", "saliency", settings=Settings(overlays=True))
    assert (summary.pictures, summary.failed) == (3, 1)
    rows = read(tmp_path / "out").to_table().to_pylist()
    by_name = {row["picture"]: row for row in rows}
    expected = xaimaps.explain(model, "scans/a", "saliency").maps
    np.testing.assert_allclose(
        np.reshape(by_name["scans/a"]["map"], by_name["scans/a"]["shape"]), expected[0], rtol=1e-5
    )
    assert "2.5 mm" in by_name["scans/b"]["error"]
    assert len(list((tmp_path / "out").rglob("*.png"))) == 2


def test_methods_are_judged_on_volumes(model, folder):
    metrics = ["deletion", "insertion", "average_drop", "mu_fidelity", "sparseness"]
    metrics.append("max_sensitivity")
    found = xaimaps.metrics.evaluate(model, "scans", ["saliency", "grad_cam"], metrics, target=1)
    assert found.pictures == ("scans/a", "scans/b")
    assert all(np.isfinite(one.values).all() for one in found.scores)
