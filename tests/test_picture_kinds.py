"""Every kind of picture file in every kind of model: the values that arrive, to the last bit.

The references are the arrays that were written, what tifffile and pydicom read, and formulas in
numpy. The tables are those of the page on pictures.
"""

import io
import re
import struct
import zlib
from contextlib import suppress
from pathlib import Path
from types import SimpleNamespace

import numpy as np
import pytest
from PIL import Image

from xaimaps._images.open import open_picture
from xaimaps._images.preprocess import PRESETS, Preprocess
from xaimaps._prepare import prepare
from xaimaps.errors import InputImageError

tifffile = pytest.importorskip("tifffile")
pydicom = pytest.importorskip("pydicom")

RANDOM = np.random.default_rng(5)
SIZE = (9, 7)
PAGE = Path(__file__).parents[1] / "docs" / "pictures.md"


def noise(kind, channels, top=None):
    """An array `(H, W, C)` over the whole range of its type, or 0 to `top`."""
    if np.dtype(kind).kind == "f":
        return RANDOM.random((*SIZE, channels)).astype(kind)
    limits = np.iinfo(kind)
    low, high = (0, top) if top else (limits.min, limits.max)
    values = RANDOM.integers(low, high, (*SIZE, channels), kind, endpoint=True)
    values[0, 0], values[0, 1] = low, high
    return values


def plane(values):
    return values[..., 0] if values.shape[2] == 1 else values


# Files


def png(path, values):
    """Write 8 or 16 bits; Pillow writes no colour of 16 bits."""
    channels = values.shape[2]
    big = values.astype(values.dtype.newbyteorder(">"))
    rows = zlib.compress(b"".join(b"\0" + row.tobytes() for row in big))
    colour = {1: 0, 2: 4, 3: 2, 4: 6}[channels]
    header = struct.pack(">IIBBBBB", *SIZE[::-1], 8 * values.itemsize, colour, 0, 0, 0)
    chunks = ((b"IHDR", header), (b"IDAT", rows), (b"IEND", b""))
    body = (
        struct.pack(">I", len(data)) + kind + data + struct.pack(">I", zlib.crc32(kind + data))
        for kind, data in chunks
    )
    path.write_bytes(b"\x89PNG\r\n\x1a\n" + b"".join(body))


def tiff(**options):
    def write(path, values):
        tifffile.imwrite(path, plane(values), **options)

    return write


def planes_tiff(path, values):
    tifffile.imwrite(path, np.moveaxis(values, -1, 0), planarconfig="separate", photometric="rgb")


def npy(path, values):
    np.save(path, plane(values))


GREY, RGB, BANDS = (
    {"photometric": name} | more
    for name, more in (("minisblack", {}), ("rgb", {}), ("minisblack", {"planarconfig": "contig"}))
)
ALPHA = {"extrasamples": ["unassalpha"]}

FILES = {  # the writer, the values, and those that are black and white
    "PNG 8 bits grey": (png, noise("u1", 1), (0, 255)),
    "PNG 8 bits RGB": (png, noise("u1", 3), (0, 255)),
    "PNG 16 bits grey": (png, noise("u2", 1), (0, 65535)),
    "PNG 16 bits grey with alpha": (png, noise("u2", 2), (0, 65535)),
    "PNG 16 bits RGB": (png, noise("u2", 3), (0, 65535)),
    "PNG 16 bits RGBA": (png, noise("u2", 4), (0, 65535)),
    "TIFF 8 bits RGB": (tiff(**RGB), noise("u1", 3), (0, 255)),
    "TIFF 8 bits RGBA": (tiff(**RGB, **ALPHA), noise("u1", 4), (0, 255)),
    "TIFF 8 bits of 2 bands": (tiff(**BANDS), noise("u1", 2), (0, 255)),
    "TIFF 8 bits of 4 bands": (tiff(**BANDS), noise("u1", 4), (0, 255)),
    "TIFF 8 bits RGB and infrared": (
        tiff(**RGB, extrasamples=["unspecified"]),
        noise("u1", 4),
        (0, 255),
    ),
    "TIFF 12 bits grey": (tiff(**GREY, bitspersample=12), noise("u2", 1, 4095), (0, 4095)),
    "TIFF 16 bits grey": (tiff(**GREY), noise("u2", 1), (0, 65535)),
    "TIFF 16 bits, white first": (tiff(photometric="miniswhite"), noise("u2", 1), (65535, 0)),
    "TIFF 16 bits grey, big-endian": (tiff(**GREY, byteorder=">"), noise("u2", 1), (0, 65535)),
    "TIFF 16 bits RGB": (tiff(**RGB, compression="zlib"), noise("u2", 3), (0, 65535)),
    "TIFF 16 bits RGB, LZW": (tiff(**RGB, compression="lzw"), noise("u2", 3), (0, 65535)),
    "TIFF 16 bits RGB by planes": (planes_tiff, noise("u2", 3), (0, 65535)),
    "TIFF 16 bits RGBA": (tiff(**RGB, **ALPHA), noise("u2", 4), (0, 65535)),
    "TIFF 16 bits of 8 bands": (tiff(**BANDS), noise("u2", 8), (0, 65535)),
    "TIFF 16 bits with a sign": (tiff(**GREY), noise("i2", 1), None),
    "TIFF 32 bits": (tiff(**GREY), noise("u4", 1), None),
    "TIFF float32": (tiff(**GREY), noise("f4", 1), (0, 1)),
    "TIFF float64": (tiff(**GREY), noise("f8", 1), (0, 1)),
    "TIFF float32 of 8 bands": (tiff(**BANDS), noise("f4", 8) * 9, None),
    "NumPy 8 bits RGB": (npy, noise("u1", 3), (0, 255)),
    "NumPy 16 bits grey": (npy, noise("u2", 1), (0, 65535)),
    "NumPy 16 bits with a sign": (npy, noise("i2", 1), None),
    "NumPy float32 of 8 bands": (npy, noise("f4", 8), (0, 1)),
}
NAMES = {"PNG": "x.png", "TIFF": "x.tif", "NumPy": "x.npy"}


def written(tmp_path, row):
    write, values, ends = FILES[row]
    path = tmp_path / NAMES[row.partition(" ")[0]]
    write(path, values)
    return path, values, ends


def model(channels, preset, size=SIZE):
    """What `prepare` asks of a model."""
    info = SimpleNamespace(preprocess=preset, name="model", input_size=None)
    return SimpleNamespace(info=info, input_shape=(*size, channels))


def arrived(source, channels, preset):
    return prepare(model(channels, preset), source).images[0]


def scaled(values, ends):
    """Black and white as 0 and 255, the other values between, in float32."""
    black, white = ends
    return np.clip((values.astype("f8") - black) * 255 / (white - black), 0, 255).astype("f4")


@pytest.mark.parametrize("row", FILES)
def test_a_model_of_as_many_channels_gets_the_values_of_the_file(tmp_path, row):
    path, values, ends = written(tmp_path, row)
    if path.suffix == ".tif" and "planes" not in row:
        np.testing.assert_array_equal(tifffile.imread(path), plane(values))
    found = arrived(path, values.shape[2], PRESETS["native"])
    np.testing.assert_array_equal(found, values.astype("f4"))
    picture = open_picture(path)
    assert np.can_cast(values.dtype, picture.values.dtype, "safe")
    assert picture.values.dtype.kind == values.dtype.kind
    assert picture.range == ends


@pytest.mark.parametrize("row", [row for row in FILES if FILES[row][2]])
def test_black_and_white_become_0_and_255(tmp_path, row):
    path, values, ends = written(tmp_path, row)
    found = arrived(path, values.shape[2], PRESETS["tf"])
    expected = scaled(values, ends) * np.float32(1 / 127.5) - np.float32(1)
    np.testing.assert_array_equal(found, expected)


@pytest.mark.parametrize("row", [row for row in FILES if not FILES[row][2]])
def test_values_of_no_range_need_a_window(tmp_path, row):
    path, values, _ = written(tmp_path, row)
    with pytest.raises(InputImageError, match=r"x\.(tif|npy).*black and white.*--window"):
        arrived(path, values.shape[2], PRESETS["raw"])
    ends = (float(values.min()), float(np.median(values)))
    preset = Preprocess("mine", 1.0, (0.0,), (1.0,), window=ends)
    found = arrived(path, values.shape[2], preset)
    np.testing.assert_array_equal(found, scaled(values, ends))


@pytest.mark.parametrize("row", ["PNG 16 bits grey", "PNG 8 bits RGB", "TIFF 16 bits, white first"])
def test_a_window_scales_and_clips(tmp_path, row):
    path, values, ends = written(tmp_path, row)
    preset = Preprocess("mine", 1.0, (0.0,), (1.0,), window=(40, 90))
    window = (40, 90) if ends[0] < ends[1] else (90, 40)
    found = arrived(path, values.shape[2], preset)
    np.testing.assert_array_equal(found, scaled(values, window))
    own = Preprocess("mine", 1.0, (0.0,), (1.0,), window=(40, 90), native=True)
    found = arrived(path, values.shape[2], own)
    np.testing.assert_array_equal(found, np.clip(values, 40, 90))


def test_an_interlaced_png_of_16_bits(tmp_path):
    """Pillow reads each pass; the reference is the file that is not interlaced."""
    values = noise("u2", 3)
    starts = ((0, 0, 8, 8), (0, 4, 8, 8), (4, 0, 8, 4), (0, 2, 4, 4), (2, 0, 4, 2), (0, 1, 2, 2))
    passes = [values[y::dy, x::dx] for y, x, dy, dx in (*starts, (1, 0, 2, 1))]
    rows = b"".join(b"\0" + r.astype(">u2").tobytes() for part in passes for r in part if r.size)
    path = tmp_path / "x.png"
    png(path, values)
    data = path.read_bytes()
    header = data[12:28] + b"\x01"
    head = data[:12] + header + struct.pack(">I", zlib.crc32(header))
    body = zlib.compress(rows)
    chunk = struct.pack(">I", len(body)) + b"IDAT" + body
    path.write_bytes(head + chunk + struct.pack(">I", zlib.crc32(b"IDAT" + body)) + data[-12:])
    np.testing.assert_array_equal(open_picture(path).values, values)


# Channels, by the table of the page


def on_white(values):
    top = np.iinfo(values.dtype).max
    colour, alpha = values[..., :-1].astype("f8"), values[..., -1:].astype("f8")
    return np.rint((colour * alpha + top * (top - alpha)) / top).astype(values.dtype)


def grey(values):
    if values.dtype == np.uint8:  # the reference is Pillow's own conversion
        return np.asarray(Image.fromarray(np.ascontiguousarray(values)).convert("L"))[..., None]
    red, green, blue = (values[..., i : i + 1].astype("f8") for i in range(3))
    return 0.299 * red + 0.587 * green + 0.114 * blue


STEPS = {
    "as it is": lambda values: values,
    "repeated": lambda values: np.repeat(values, 3, axis=2),
    "grey": grey,
    "on white": on_white,
}
PICTURES = {"grey": 1, "grey with alpha": 2, "RGB": 3, "RGBA": 4, "8 bands": 8}


def table():
    """Yield the rows of the table of channels: the picture, the model's channels, the cell."""
    lines = PAGE.read_text(encoding="utf-8").split("## Channels")[1].splitlines()
    head, _, *rows = ([c.strip() for c in line.split("|")[1:-1]] for line in lines if "|" in line)
    for name, *cells in rows:
        for title, cell in zip(head[1:], cells, strict=True):
            yield name, int(re.match(r"\d+", title)[0]), cell


@pytest.mark.parametrize("bits", [8, 16])
@pytest.mark.parametrize(("name", "count", "cell"), list(table()))
def test_channels(tmp_path, name, count, cell, bits):
    values = noise(f"u{bits // 8}", PICTURES[name])
    path = tmp_path / ("x.tif" if "bands" in name else "x.png")
    (tiff(**BANDS) if "bands" in name else png)(path, values)
    if cell == "refused":
        with pytest.raises(InputImageError, match=f"{count} channels, as the model takes, got"):
            arrived(path, count, PRESETS["native"])
        return
    expected = values
    for step in cell.split(", "):
        expected = STEPS[step](expected)
    found = arrived(path, count, PRESETS["native"])
    np.testing.assert_array_equal(found, expected.astype("f4"))


def test_the_table_of_channels_is_whole():
    assert {name for name, _, _ in table()} == {*PICTURES}
    assert {count for _, count, _ in table()} == {*PICTURES.values()}


def test_premultiplied_alpha_is_divided(tmp_path):
    path = tmp_path / "x.tif"
    values = np.full((*SIZE, 4), (100, 50, 0, 200), np.uint8)
    tifffile.imwrite(
        path, values.astype("u2") * 257, photometric="rgb", extrasamples=["assocalpha"]
    )
    np.testing.assert_array_equal(open_picture(path).values[0, 0], [32768, 16384, 0, 200 * 257])
    tifffile.imwrite(path, values / np.float32(200), photometric="rgb", extrasamples=["assocalpha"])
    np.testing.assert_array_equal(open_picture(path).values[0, 0], [0.5, 0.25, 0, 1])


def test_a_damaged_tag_is_a_note(tmp_path):
    path = tmp_path / "x.tif"
    values = noise("u2", 3)
    tifffile.imwrite(path, values, photometric="rgb", resolution=(3, 3))
    data = path.read_bytes()
    resolution = data.index(struct.pack("<HHI", 282, 5, 1))  # its value lies at an offset
    path.write_bytes(data[: resolution + 8] + b"\1\0\0\0" + data[resolution + 12 :])
    picture = open_picture(path)
    np.testing.assert_array_equal(picture.values, values)
    (note,) = picture.notes
    assert note.startswith("TIFF: ")
    assert "282" in note


# DICOM


def dicom(path, values, interpretation="MONOCHROME2", **tags):
    data = pydicom.Dataset()
    data.file_meta = pydicom.dataset.FileMetaDataset()
    data.file_meta.TransferSyntaxUID = pydicom.uid.ExplicitVRLittleEndian
    data.SOPClassUID = data.file_meta.MediaStorageSOPClassUID = "1.2.840.10008.5.1.4.1.1.2"
    data.SOPInstanceUID = data.file_meta.MediaStorageSOPInstanceUID = "1.2.3"
    data.Rows, data.Columns = values.shape[-2:] if values.ndim == 2 else SIZE
    data.SamplesPerPixel = 3 if values.shape[-1:] == (3,) else 1
    if data.SamplesPerPixel == 3:
        data.PlanarConfiguration = 0
    data.PhotometricInterpretation = interpretation
    data.BitsAllocated = 8 * values.itemsize
    data.BitsStored = tags.pop("BitsStored", data.BitsAllocated)
    data.HighBit = data.BitsStored - 1
    data.PixelRepresentation = int(values.dtype.kind == "i")
    data.PixelData = values.tobytes() + b"\0" * (values.nbytes % 2)
    for name, value in tags.items():
        setattr(data, name, value)
    data.save_as(path, enforce_file_format=True)
    return path


RESCALE = {"RescaleSlope": "2.5", "RescaleIntercept": "-1024"}
WINDOW = {"WindowCenter": [40, 600], "WindowWidth": [400, 2800]}
DICOMS = {  # tags of a 12-bit picture, black and white
    "stored bits": ({}, (0, 4095)),
    "rescaled": (RESCALE, (-1024, 4095 * 2.5 - 1024)),
    "window": (WINDOW, (39.5 - 199.5, 39.5 + 199.5)),
    "exact window": (WINDOW | {"VOILUTFunction": "LINEAR_EXACT"}, (-160, 240)),
    "rescaled, window": (RESCALE | WINDOW, (39.5 - 199.5, 39.5 + 199.5)),
}


@pytest.mark.parametrize("interpretation", ["MONOCHROME1", "MONOCHROME2"])
@pytest.mark.parametrize("row", DICOMS)
def test_dicom(tmp_path, row, interpretation):
    tags, ends = DICOMS[row]
    stored = plane(noise("u2", 1, 4095))
    path = dicom(tmp_path / "x.dcm", stored, interpretation, BitsStored=12, **tags)
    dataset = pydicom.dcmread(path)
    values = pydicom.pixels.apply_modality_lut(dataset.pixel_array, dataset)
    own = arrived(path, 1, PRESETS["native"])
    np.testing.assert_array_equal(own[..., 0], values.astype("f4"))
    ends = ends[::-1] if interpretation == "MONOCHROME1" else ends
    found = arrived(path, 1, PRESETS["raw"])[..., 0]
    np.testing.assert_array_equal(found, scaled(values, ends))
    if "WindowCenter" in tags:
        low, high = DICOMS["rescaled" if "RescaleSlope" in tags else "stored bits"][1]
        shown = (pydicom.pixels.apply_voi_lut(values, dataset) - low) * 255 / (high - low)
        turned = 255 - shown if interpretation == "MONOCHROME1" else shown
        np.testing.assert_allclose(found, turned, atol=1e-4)


def test_dicom_of_8_bits_with_white_first(tmp_path):
    stored = plane(noise("u1", 1))
    path = dicom(tmp_path / "x.dcm", stored, "MONOCHROME1")
    np.testing.assert_array_equal(arrived(path, 1, PRESETS["raw"])[..., 0], 255 - stored)
    np.testing.assert_array_equal(open_picture(path).pixels[..., 1], 255 - stored)


def test_dicom_with_a_sign(tmp_path):
    stored = plane(noise("i2", 1))
    path = dicom(tmp_path / "x.dcm", stored, **RESCALE)
    assert open_picture(path).range == (-32768 * 2.5 - 1024, 32767 * 2.5 - 1024)


def test_dicom_in_colour(tmp_path):
    values = noise("u1", 3)
    path = dicom(tmp_path / "x.dcm", values, "RGB")
    np.testing.assert_array_equal(arrived(path, 3, PRESETS["raw"]), values)
    converted = pydicom.pixels.convert_color_space(values, "YBR_FULL", "RGB")
    path = dicom(tmp_path / "x.dcm", values, "YBR_FULL")
    np.testing.assert_array_equal(arrived(path, 3, PRESETS["raw"]), converted)


def test_the_first_frame_of_several(tmp_path):
    frames = RANDOM.integers(0, 4096, (3, *SIZE), np.uint16)
    path = dicom(tmp_path / "x.dcm", frames, NumberOfFrames=3)
    tifffile.imwrite(tmp_path / "x.tif", frames, photometric="minisblack")
    for picture in (open_picture(path), open_picture(tmp_path / "x.tif")):
        np.testing.assert_array_equal(picture.values[..., 0], frames[0])
        assert picture.notes == ("frame 1 of 3",)


WRONG = {
    "without pixels": (lambda path: dicom_without(path, "PixelData"), "without pixels"),
    "of a window that is not linear": (
        lambda path: dicom(path, noise("u2", 1)[..., 0], **WINDOW, VOILUTFunction="SIGMOID"),
        "black and white",
    ),
    "without rows": (lambda path: dicom_without(path, "Rows"), "cannot be decoded"),
    "cut off": (lambda path: path.write_bytes(cut(path)), "x.dcm"),
}


def dicom_without(path, name):
    data = pydicom.dcmread(dicom(path, plane(noise("u2", 1))))
    del data[name]
    data.save_as(path)


def cut(path):
    return dicom(path, plane(noise("u2", 1))).read_bytes()[:-60]


@pytest.mark.parametrize("row", WRONG)
def test_a_wrong_dicom_gets_one_sentence(tmp_path, row):
    write, word = WRONG[row]
    path = tmp_path / "x.dcm"
    write(path)
    with pytest.raises(InputImageError, match=word):
        arrived(path, 1, PRESETS["raw"])


# What is missing, too large or wrong


@pytest.mark.parametrize(("package", "row"), [("tifffile", 0), ("pydicom", 1)])
def test_without_the_extra_its_name_is_in_the_error(tmp_path, monkeypatch, package, row):
    path = tmp_path / "x"
    (tiff(**BANDS) if row == 0 else lambda p, v: dicom(p, plane(v[..., :1])))(path, noise("u2", 8))
    monkeypatch.setitem(__import__("sys").modules, package, None)
    with pytest.raises(InputImageError, match=rf"needs {package}.*xaimaps\[pictures\]"):
        open_picture(path)


@pytest.mark.parametrize("row", ["TIFF 16 bits of 8 bands", "NumPy 16 bits grey"])
def test_the_limit_of_pixels_holds_for_all_readers(tmp_path, row):
    path, *_ = written(tmp_path, row)
    with pytest.raises(InputImageError, match=r"6.3e-05 \(7 x 9\)"):
        open_picture(path, max_pixels=62)
    path = dicom(tmp_path / "x.dcm", plane(noise("u2", 1)))
    with pytest.raises(InputImageError, match="megapixels"):
        open_picture(path, max_pixels=62)


def npy_bytes(array):
    buffer = io.BytesIO()
    np.save(buffer, array, allow_pickle=True)
    return buffer.getvalue()


@pytest.mark.parametrize(
    ("array", "word"),
    [
        (np.zeros((2, 2), object), "cannot be decoded"),
        (np.zeros((3, 20, 20), "u2"), "move the channels last"),
        (np.zeros((2, 2), complex), "real numbers"),
        (np.full((2, 2), np.nan), "NaN"),
    ],
)
def test_a_wrong_npy_file_gets_one_sentence(tmp_path, array, word):
    path = tmp_path / "x.npy"
    path.write_bytes(npy_bytes(array))
    with pytest.raises(InputImageError, match=rf"x\.npy.*{word}"):
        open_picture(path)


def test_a_tiff_that_is_neither_grey_nor_rgb_is_refused(tmp_path):
    path = tmp_path / "x.tif"
    tifffile.imwrite(path, noise("u2", 4), photometric="separated")
    with pytest.raises(InputImageError, match="a TIFF of SEPARATED"):
        open_picture(path)


def test_fuzzed_files_never_leak_another_error(tmp_path, capfd):
    seeds = [tmp_path / name for name in ("a.tif", "b.tif", "c.dcm", "d.npy")]
    tifffile.imwrite(seeds[0], noise("u2", 3), photometric="rgb", compression="lzw")
    tifffile.imwrite(seeds[1], noise("f4", 8), photometric="minisblack", planarconfig="contig")
    dicom(seeds[2], plane(noise("u2", 1)), **RESCALE, **WINDOW)
    np.save(seeds[3], noise("u2", 3))
    whole = [path.read_bytes() for path in seeds]
    for turn in range(400):
        data = bytearray(whole[turn % len(whole)])
        for where in RANDOM.integers(0, min(len(data), 500), 3):
            data[where] = RANDOM.integers(256)
        with suppress(InputImageError):
            open_picture(bytes(data), max_pixels=1_000_000)
    assert capfd.readouterr().err == ""


# What is shown


def test_bands_are_shown_by_the_first_three_stretched():
    values = noise("u2", 8) // 8
    low, high = np.percentile(values[..., :3], (2, 98), axis=(0, 1))
    shown = np.rint(np.clip((values[..., :3] - low) * 255 / (high - low), 0, 255))
    np.testing.assert_array_equal(open_picture(values).pixels, shown)
    pair = open_picture(values[..., :2]).pixels
    np.testing.assert_array_equal(pair, np.repeat(shown[..., :1], 3, axis=2))


def test_a_picture_with_a_range_is_shown_by_it():
    values = noise("u2", 1)
    shown = np.repeat(np.rint(scaled(values, (0, 65535))), 3, axis=2)
    np.testing.assert_array_equal(open_picture(values).pixels, shown)
    window = np.repeat(np.rint(scaled(values, (9, 9000))), 3, axis=2)
    np.testing.assert_array_equal(open_picture(values).windowed((9, 9000)).pixels, window)


def test_one_level_is_shown_as_black():
    assert not open_picture(np.full((4, 4), 7, np.int16)).pixels.any()
