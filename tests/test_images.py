"""Rows I01-I46 of the bad-input table: each file gets exact pixels or one sentence."""

import errno
import hashlib
import io
import os
import socket
import struct
import subprocess
import sys
import tempfile
import threading
import time
import warnings
import zlib
from contextlib import suppress
from pathlib import Path

import numpy as np
import pytest
from PIL import Image, ImageCms

from xaimaps._images.find import find_pictures
from xaimaps._images.open import Picture, open_picture
from xaimaps.errors import ArrayInputError, InputImageError

RAMP = np.stack(np.meshgrid(np.arange(40), np.arange(30), np.arange(3)), -1)[:, :, 0].astype("u1")
RAMP = np.ascontiguousarray(np.stack([RAMP[..., 0] * 6, RAMP[..., 1] * 8, RAMP[..., 0] * 3], -1))
NOISE = np.random.default_rng(0).integers(0, 256, (64, 64, 3), np.uint8)


def encoded(image, kind="PNG", **options):
    buffer = io.BytesIO()
    image.save(buffer, kind, **options)
    return buffer.getvalue()


def chunk(kind, data, crc=None):
    crc = zlib.crc32(kind + data) if crc is None else crc
    return struct.pack(">I", len(data)) + kind + data + struct.pack(">I", crc)


def png(width, height, depth=8, colour=2, *chunks):
    header = struct.pack(">IIBBBBB", width, height, depth, colour, 0, 0, 0)
    return b"\x89PNG\r\n\x1a\n" + chunk(b"IHDR", header) + b"".join(chunks)


def noise_with_flip():
    data = bytearray(encoded(Image.fromarray(NOISE)))
    data[len(data) // 2] ^= 255
    return bytes(data)


def deep_png(values, colour):
    """A 16-bit PNG, which Pillow writes in grey only."""
    rows = values.astype(">u2").reshape(len(values), -1)
    raw = b"".join(b"\0" + row.tobytes() for row in rows)
    height, width = values.shape[:2]
    return png(width, height, 16, colour, chunk(b"IDAT", zlib.compress(raw)), chunk(b"IEND", b""))


def frames(kind, count=3):
    images = [Image.new("RGB", (8, 6), (80 * i, 10, 10)) for i in range(count)]
    lossless = {"lossless": True} if kind == "WEBP" else {}
    return encoded(images[0], kind, save_all=True, append_images=images[1:], **lossless)


def exif(value):
    tags = Image.Exif()
    tags[0x0112] = value
    return tags.tobytes()


def opened(tmp_path, data, name="x.png", **options):
    path = tmp_path / name
    path.write_bytes(data)
    return open_picture(path, **options)


def refusal(call, *words, error=InputImageError):
    with pytest.raises(error) as caught:
        call()
    message = str(caught.value)
    assert "\n" not in message
    assert "; " in message, "a remedy follows what came"
    for word in words:
        assert word in message
    return message


NOISE_PNG = encoded(Image.fromarray(NOISE))
NOISE_JPEG = encoded(Image.fromarray(NOISE), "JPEG")
HEADER_ONLY = png(32, 32)
BOMB = png(60_000, 60_000, 8, 2, chunk(b"IDAT", zlib.compress(b"")))

REFUSED = {
    "I01 empty": (b"", "empty file"),
    "I02 text": (b"hello, world\n" * 9, "detected: text"),
    "I02 svg": (b'<?xml version="1.0"?><svg xmlns="..."/>', "detected: SVG"),
    "I02 pdf": (b"%PDF-1.7\n", "detected: PDF"),
    "I02 binary": (bytes(range(64)), "detected: unknown bytes"),
    "I02 heic": (b"\0\0\0\x18ftypheic" + bytes(20), "HEIC"),
    "I03 half png": (NOISE_PNG[: len(NOISE_PNG) // 2], "truncated"),
    "I04 half jpeg": (NOISE_JPEG[: len(NOISE_JPEG) // 2], "truncated"),
    "I05 jpeg without end": (NOISE_JPEG[:-2], "truncated"),
    "I06 flipped byte": (noise_with_flip(), "x.png"),
    "I08 header only": (HEADER_ONLY, "truncated"),
    "I08 end at once": (HEADER_ONLY + chunk(b"IEND", b""), "x.png"),
    "I09 zero width": (png(0, 5), "x.png"),
    "I09 zero height": (
        png(5, 0, 8, 2, chunk(b"IDAT", zlib.compress(b"")), chunk(b"IEND", b"")),
        "cannot be decoded",
    ),
    "I09 broken header checksum": (b"\x89PNG\r\n\x1a\n" + chunk(b"IHDR", b"x" * 13, 7), "x.png"),
    "I10 header bomb": (BOMB, "3600 (60000 x 60000)", "--max-pixels", "64 mega"),
    "I10 webp bomb": (
        b"RIFF\x1a\0\0\0WEBPVP8L\x0d\0\0\0\x2f" + struct.pack("<I", 0x0FFFFFFF) + bytes(8),
        "x.png' must be a picture, got one",  # whose reason depends on the version of Pillow
    ),
    "I32 eps": (b"%!PS-Adobe-3.0 EPSF-3.0\n%%BoundingBox: 0 0 9 9\n", "detected: PostScript"),
    "I32 wmf": (b"\xd7\xcd\xc6\x9a" + bytes(40), "detected: WMF"),
    "half gif": (frames("GIF")[:40], "x.png"),
    "half webp": (encoded(Image.fromarray(NOISE), "WEBP")[:300], "x.png"),
    "half bmp": (encoded(Image.fromarray(NOISE), "BMP")[:300], "truncated"),
    "half tiff": (encoded(Image.fromarray(NOISE), "TIFF")[:300], "x.png"),
    "half lzw tiff": (encoded(Image.fromarray(NOISE), "TIFF", compression="tiff_lzw")[:900], "x"),
}


@pytest.mark.parametrize("row", REFUSED)
def test_damaged_or_foreign_files_get_one_sentence(tmp_path, row):
    data, *words = REFUSED[row]
    refusal(lambda: opened(tmp_path, data), *words)


@pytest.mark.fault("I10")
def test_header_bomb_is_refused_at_once_and_limit_is_ours(tmp_path):
    before = Image.MAX_IMAGE_PIXELS
    start = time.perf_counter()
    refusal(lambda: opened(tmp_path, BOMB), "megapixels")
    assert time.perf_counter() - start < 0.5
    refusal(lambda: opened(tmp_path, NOISE_PNG, max_pixels=64 * 64 - 1), "0.004096 (64 x 64)")
    assert opened(tmp_path, NOISE_PNG, max_pixels=64 * 64).pixels.shape == (64, 64, 3)
    assert before == Image.MAX_IMAGE_PIXELS


def test_limit_above_pillows_own_one_is_kept_without_warning(tmp_path, monkeypatch):
    monkeypatch.setattr(Image, "MAX_IMAGE_PIXELS", 100)  # Image.open would refuse 64 x 64
    np.testing.assert_array_equal(opened(tmp_path, NOISE_PNG).pixels, NOISE)


@pytest.mark.fault("I11")
def test_real_bomb_of_121_megapixels_is_not_decoded(tmp_path):
    bits = zlib.compress(bytes(11_000 * 1_376))
    data = png(11_000, 11_000, 1, 0, chunk(b"IDAT", bits), chunk(b"IEND", b""))
    assert len(data) < 100_000
    refusal(lambda: opened(tmp_path, data), "121 (11000 x 11000)")


@pytest.mark.fault("I12")
def test_200_000_text_chunks_end_soon(tmp_path):
    body = encoded(Image.fromarray(RAMP))
    data = body[:33] + chunk(b"tEXt", b"k\0v") * 200_000 + body[33:]
    start = time.perf_counter()
    np.testing.assert_array_equal(opened(tmp_path, data).pixels, RAMP)
    assert time.perf_counter() - start < 10


@pytest.mark.fault("I12")
def test_tiff_with_a_cycle_of_pages_ends(tmp_path):
    data = bytearray(encoded(Image.fromarray(RAMP), "TIFF"))
    (directory,) = struct.unpack_from("<I", data, 4)
    (count,) = struct.unpack_from("<H", data, directory)
    struct.pack_into("<I", data, directory + 2 + 12 * count, directory)
    picture = opened(tmp_path, bytes(data), "x.tif")
    np.testing.assert_array_equal(picture.pixels, RAMP)
    assert picture.notes == ()


@pytest.mark.fault("I07")
def test_flipped_byte_in_a_jpeg_is_recorded_by_the_hash(tmp_path):
    data = bytearray(NOISE_JPEG)
    data[-400] ^= 1
    picture = opened(tmp_path, bytes(data), "x.jpg")
    assert picture.sha256 == hashlib.sha256(data).hexdigest()


@pytest.mark.parametrize(("kind", "suffix"), [("PNG", "png"), ("BMP", "bmp"), ("TIFF", "tif")])
def test_lossless_formats_give_the_exact_pixels(tmp_path, kind, suffix):
    data = encoded(Image.fromarray(NOISE), kind)
    picture = opened(tmp_path, data, f"x.{suffix}")
    np.testing.assert_array_equal(picture.pixels, NOISE)
    assert picture.pixels.dtype == np.uint8
    assert picture.pixels.flags.c_contiguous
    assert picture.pixels.flags.writeable
    assert (picture.mode, picture.notes) == ("RGB", ())
    assert picture.source == str(tmp_path / f"x.{suffix}")
    assert picture.sha256 == hashlib.sha256(data).hexdigest()


def flat(mode, colour, size=(4, 3), kind="PNG", **options):
    return encoded(Image.new(mode, size, colour), kind, **options)


def palette(transparency=None):
    image = Image.new("P", (4, 3), 1)
    image.putpalette([9, 9, 9, 200, 100, 50])
    return encoded(image, **({} if transparency is None else {"transparency": transparency}))


ALPHA = ("alpha composited on white",)
MODES = {  # data, the file's mode, the colour of every pixel, notes
    "I14 palette": (palette(), "P", (200, 100, 50), ()),
    "I15 palette, clear entry": (palette(1), "P", (255, 255, 255), ALPHA),
    "I15 palette, table": (palette(b"\xff\x80"), "P", (227, 177, 152), ALPHA),
    "I16 rgba clear": (flat("RGBA", (9, 9, 9, 0)), "RGBA", (255, 255, 255), ALPHA),
    "I16 rgba half": (flat("RGBA", (200, 100, 50, 128)), "RGBA", (227, 177, 152), ALPHA),
    "I16 rgba opaque": (flat("RGBA", (200, 100, 50, 255)), "RGBA", (200, 100, 50), ()),
    "I17 la": (flat("LA", (100, 128)), "LA", (177, 177, 177), ALPHA),
    "I18 l": (flat("L", 77), "L", (77, 77, 77), ()),
    "I18 l clear": (flat("L", 77, transparency=77), "L", (255, 255, 255), ALPHA),
    "rgb clear": (flat("RGB", (1, 2, 3), transparency=(1, 2, 3)), "RGB", (255,) * 3, ALPHA),
    "I19 1-bit": (flat("1", 1), "1", (255, 255, 255), ()),
    "I21 i;16": (flat("I;16", 257 * 50), "I;16", (50, 50, 50), ()),
    "I21 i;16b": (flat("I;16B", 257 * 50, kind="TIFF"), "I;16B", (50, 50, 50), ()),
    "I23 f": (flat("F", 0.2, kind="TIFF"), "MINISBLACK 1 x float32", (51, 51, 51), ()),
    "cmyk tiff": (flat("CMYK", (0, 255, 255, 0), kind="TIFF"), "CMYK", (255, 0, 0), ()),
    "I46 black": (flat("RGB", 0), "RGB", (0, 0, 0), ()),
}


@pytest.mark.parametrize("row", MODES)
def test_every_mode_becomes_rgb(tmp_path, row):
    data, mode, colour, notes = MODES[row]
    picture = opened(tmp_path, data).with_channels(3)
    np.testing.assert_array_equal(picture.pixels, np.full((3, 4, 3), colour))
    assert (picture.mode, picture.notes) == (mode, notes)


@pytest.mark.fault("I13", "I29", "I30")
@pytest.mark.parametrize("profile", [None, b"broken", "srgb"])
def test_cmyk_jpeg_and_its_profile(tmp_path, profile):
    """I13, I29, I30: the profile is not applied, broken or not."""
    if profile == "srgb":
        profile = ImageCms.ImageCmsProfile(ImageCms.createProfile("sRGB")).tobytes()
    data = flat("CMYK", (0, 255, 255, 0), kind="JPEG", quality=95, icc_profile=profile)
    picture = opened(tmp_path, data)
    assert picture.mode == "CMYK"
    assert np.abs(picture.pixels.astype(int) - (255, 0, 0)).max() <= 3


@pytest.mark.fault("I20")
def test_lab_tiff(tmp_path):
    picture = opened(tmp_path, flat("LAB", (255, 128, 128), kind="TIFF"))
    assert picture.mode == "LAB"
    assert picture.pixels.min() > 245, "L 100, a 0, b 0 is white"


@pytest.mark.fault("I21")
def test_16_bit_grey_is_scaled_not_clipped(tmp_path):
    values = np.arange(0, 61_440, 20, np.uint16).reshape(48, 64)
    picture = opened(tmp_path, encoded(Image.fromarray(values)))
    np.testing.assert_array_equal(picture.pixels[..., 0], np.rint(values / 257))
    assert (picture.pixels.min(), picture.pixels.max()) == (0, 239)
    assert abs(picture.pixels.mean() - values.mean() / 257) < 0.01
    assert (picture.pixels[..., 0] == picture.pixels[..., 2]).all()


@pytest.mark.fault("I22")
def test_a_pillow_image_of_16_bit_colour_has_a_note(tmp_path):
    data = deep_png(np.full((9, 7, 3), 257 * 40), 2)
    picture = open_picture(Image.open(io.BytesIO(data)))
    assert (picture.pixels == 40).all()
    assert picture.notes == ("16-bit channels read as 8 bits; give the file",)


@pytest.mark.fault("I22")
@pytest.mark.parametrize(("channels", "colour"), [(1, 0), (3, 2)])
def test_16_bit_values_that_are_clear_become_white(tmp_path, channels, colour):
    values = np.full((5, 6, channels), 257 * 9)
    values[0] = 257
    body = deep_png(values, colour)
    clear = struct.pack(">H", 257 * 9) * channels
    picture = opened(tmp_path, body[:33] + chunk(b"tRNS", clear) + body[33:])
    assert (picture.values[0] == 257).all()
    assert (picture.values[1:] == 65_535).all()


@pytest.mark.fault("I24")
@pytest.mark.parametrize("value", ["nan", "inf"])
def test_values_that_are_not_finite_are_refused(tmp_path, value):
    image = Image.new("F", (3, 3), float(value))
    refusal(lambda: opened(tmp_path, encoded(image, "TIFF"), "x.tif"), "NaN", "x.tif")
    refusal(lambda: open_picture(image), "NaN", "<image>")


@pytest.mark.fault("I23")
@pytest.mark.parametrize(("mode", "value"), [("F", 2.0), ("F", -0.125), ("I", 65_536), ("I", -1)])
def test_values_of_an_unknown_range_need_a_window(tmp_path, mode, value):
    image = Image.new(mode, (3, 3), value)
    for picture in (opened(tmp_path, encoded(image, "TIFF"), "x.tif"), open_picture(image)):
        refusal(picture.levels, f"{value:g}", picture.source, "--window")
        whole = picture.windowed((value - 1, value + 1)).levels()
        assert (whole == 127.5).all()


@pytest.mark.fault("I25")
@pytest.mark.parametrize("kind", ["GIF", "WEBP", "PNG", "TIFF"])
def test_first_frame_of_many(tmp_path, kind):
    picture = opened(tmp_path, frames(kind))
    assert picture.notes == ("frame 1 of 3",)
    np.testing.assert_array_equal(picture.pixels, np.full((6, 8, 3), (0, 10, 10)))


def test_jpeg_of_two_pictures(tmp_path):
    images = [Image.new("RGB", (8, 8), grey) for grey in ("white", "black")]
    picture = opened(tmp_path, encoded(images[0], "MPO", save_all=True, append_images=images[1:]))
    assert picture.notes == ("frame 1 of 2",)
    assert picture.pixels.min() == 255


def test_damaged_later_frame_does_not_matter(tmp_path):
    data = frames("GIF")
    picture = opened(tmp_path, data[:-12])
    assert picture.pixels.shape == (6, 8, 3)


def stored(displayed, orientation):
    """The pixels a camera stores so that the orientation displays them as they are."""
    methods = Image.Transpose
    undo = {
        2: methods.FLIP_LEFT_RIGHT,
        3: methods.ROTATE_180,
        4: methods.FLIP_TOP_BOTTOM,
        5: methods.TRANSPOSE,
        6: methods.ROTATE_90,
        7: methods.TRANSVERSE,
        8: methods.ROTATE_270,
    }
    image = Image.fromarray(displayed)
    return image.transpose(undo[orientation]) if orientation in undo else image


@pytest.mark.fault("I26")
@pytest.mark.parametrize("kind", ["PNG", "TIFF", "WEBP", "JPEG"])
@pytest.mark.parametrize("orientation", range(1, 9))
def test_all_orientations_display_the_same(tmp_path, kind, orientation):
    best = {"WEBP": {"lossless": True}, "JPEG": {"quality": 100, "subsampling": 0}}
    image = stored(RAMP, orientation)
    data = encoded(image, kind, exif=exif(orientation), **best.get(kind, {}))
    picture = opened(tmp_path, data)
    np.testing.assert_allclose(picture.pixels, RAMP.astype(int), atol=3 * (kind == "JPEG"))
    assert picture.notes == ()
    with Image.open(io.BytesIO(data)) as again:
        np.testing.assert_array_equal(open_picture(again).pixels, picture.pixels)


@pytest.mark.fault("I27", "I28")
@pytest.mark.parametrize(
    ("kind", "tags", "note"),
    [
        ("JPEG", exif(99), "EXIF orientation 99 ignored"),
        ("PNG", exif(0), "EXIF orientation 0 ignored"),
        ("PNG", b"Exif\0\0no", "unreadable EXIF ignored"),
        ("JPEG", b"Exif\0\0no", ""),  # Pillow itself is silent
        ("JPEG", b"Exif\0\0II*\0\xff\xff\xff\x7f", ""),
    ],
)
def test_bad_exif_is_ignored(tmp_path, kind, tags, note):
    picture = opened(tmp_path, encoded(Image.fromarray(RAMP), kind, exif=tags))
    assert picture.pixels.shape == RAMP.shape
    assert " ".join(picture.notes) == note


@pytest.mark.fault("I29", "I31")
def test_broken_profile_wrong_suffix_and_trailing_bytes(tmp_path):
    data = encoded(Image.fromarray(RAMP), icc_profile=b"not a profile") + b"trailing" * 50
    np.testing.assert_array_equal(opened(tmp_path, data, "x.jpg").pixels, RAMP)


@pytest.mark.fault("I32")
def test_postscript_starts_no_process(tmp_path, monkeypatch):
    def started(*args, **kwargs):
        raise AssertionError("a program was started")

    monkeypatch.setattr(subprocess, "Popen", started)
    monkeypatch.setattr(os, "system", started)
    data = encoded(Image.fromarray(RAMP), "EPS")
    refusal(lambda: opened(tmp_path, data, "x.jpg"), "PostScript", "PNG")


@pytest.mark.fault("I33", "I34")
@pytest.mark.parametrize("size", [(1, 1), (1, 65_000), (65_000, 1), (3, 2)])
def test_extreme_shapes(tmp_path, size):
    assert opened(tmp_path, flat("RGB", 5, size)).pixels.shape == (size[1], size[0], 3)


def special(tmp_path, kind):
    path = tmp_path / "x.png"
    if kind == "loop":
        path.symlink_to(path)
    elif kind == "dangling":
        path.symlink_to(tmp_path / "gone.png")
    elif kind == "folder":
        path.mkdir()
    elif kind == "pipe":
        os.mkfifo(path)
    elif kind == "device":
        path = Path("/dev/zero")
    elif kind == "under a file":
        path.write_bytes(b"x")
        path = path / "y.png"
    elif kind == "long":
        path = tmp_path / ("n" * 300)
    return path


@pytest.mark.fault("I36", "I37", "I38", "I39")
@pytest.mark.parametrize(
    ("kind", "word"),
    [
        ("loop", "loop"),
        ("dangling", "dangling link"),
        ("folder", "a folder"),
        ("pipe", "named pipe"),
        ("device", "device"),
        ("missing", "no such file"),
        ("under a file", "Not a directory"),
        ("long", "too long"),
    ],
)
def test_what_is_no_file_is_named_and_never_opened(tmp_path, kind, word):
    path = special(tmp_path, kind)
    refusal(lambda: open_picture(path), word)
    refusal(lambda: open_picture(str(path)), word)


@pytest.mark.fault("I39")
def test_socket_and_nul(tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)  # a socket's path may have 107 bytes only
    with socket.socket(socket.AF_UNIX) as server:
        server.bind("x.png")
        refusal(lambda: open_picture("x.png"), "socket")
    refusal(lambda: open_picture("a\0b"), "null")


@pytest.mark.fault("I40")
@pytest.mark.skipif(os.geteuid() == 0, reason="root may read everything; see the next test")
def test_unreadable_file(tmp_path):
    path = tmp_path / "x.png"
    path.write_bytes(NOISE_PNG)
    path.chmod(0)
    refusal(lambda: open_picture(path), "permission denied")


@pytest.mark.fault("I40")
def test_permission_error_in_words(tmp_path, monkeypatch):
    def denied(path):
        raise PermissionError(errno.EACCES, "Permission denied")

    path = tmp_path / "x.png"
    path.write_bytes(NOISE_PNG)
    monkeypatch.setattr(Path, "read_bytes", denied)
    refusal(lambda: open_picture(path), "permission denied")


@pytest.mark.fault("I42")
@pytest.mark.parametrize("name", [b"\xff\xfe.png", b"a\nb.png", b"-x.png", "🐱.png".encode()])
def test_strange_names(tmp_path, name):
    path = tmp_path / os.fsdecode(name)
    path.write_bytes(NOISE_PNG)
    assert open_picture(path).source == str(path)
    path.write_bytes(b"")
    refusal(lambda: open_picture(path), "empty").encode()  # printable


@pytest.mark.fault("I44", "F13")
def test_file_replaced_later_does_not_matter(tmp_path):
    picture = opened(tmp_path, NOISE_PNG)
    (tmp_path / "x.png").write_bytes(b"")
    assert picture.sha256 == hashlib.sha256(NOISE_PNG).hexdigest()
    np.testing.assert_array_equal(picture.pixels, NOISE)


def test_pillow_runs_out_of_memory(tmp_path, monkeypatch):
    def exhausted(self):
        raise MemoryError

    monkeypatch.setattr("PIL.ImageFile.ImageFile.load", exhausted)
    refusal(lambda: opened(tmp_path, NOISE_PNG), "MemoryError")


def test_threads_leave_the_warning_filters_as_they_were(tmp_path):
    path = tmp_path / "x.jpg"
    path.write_bytes(encoded(Image.fromarray(RAMP), "JPEG", exif=b"Exif\0\0II*\0\xff\xff\xff\x7f"))
    before, shapes = list(warnings.filters), []
    threads = [
        threading.Thread(target=lambda: shapes.append(open_picture(path).pixels.shape))
        for _ in range(8)
    ]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert shapes == [RAMP.shape] * 8
    assert warnings.filters == before


def test_fuzzed_files_never_leak_another_error(tmp_path):
    random = np.random.default_rng(7)
    kinds = ["PNG", "JPEG", "WEBP", "BMP", "TIFF", "GIF"]
    seeds = [encoded(Image.fromarray(RAMP), kind, exif=exif(6)) for kind in kinds]
    path = tmp_path / "x"
    for turn in range(600):
        data = bytearray(seeds[turn % len(seeds)])
        for where in random.integers(0, min(len(data), 400), 4):
            data[where] = random.integers(256)
        path.write_bytes(data)
        with suppress(InputImageError):
            assert isinstance(open_picture(path, max_pixels=1_000_000), Picture)


# Arrays and Pillow images


@pytest.mark.parametrize(
    ("array", "expected"),
    [
        (NOISE, NOISE),
        (NOISE[::-1, ::2], NOISE[::-1, ::2]),
        (NOISE[..., 0], np.repeat(NOISE[..., :1], 3, 2)),
        (NOISE[..., :1], np.repeat(NOISE[..., :1], 3, 2)),
        (NOISE / 255, NOISE),
        ((NOISE / 255).astype(">f4"), NOISE),
        ((NOISE / 255).astype("f2"), NOISE),
        (NOISE > 99, (NOISE > 99) * np.uint8(255)),
        (np.zeros((2, 2, 4), "u1"), np.full((2, 2, 3), 255)),
        (np.zeros((3, 2)), np.zeros((3, 2, 3))),
    ],
)
def test_arrays(array, expected):
    picture = open_picture(array)
    np.testing.assert_array_equal(picture.pixels, expected)
    assert picture.pixels.dtype == np.uint8
    assert (picture.source, picture.sha256, picture.mode) == ("<array>", "", str(array.dtype))
    assert not np.shares_memory(picture.pixels, array)


@pytest.mark.parametrize(
    ("array", "words"),
    [
        (np.full((2, 2, 3), np.nan), ["NaN"]),
        (np.full((2, 2, 3), np.inf), ["infinity"]),
        (np.zeros((2, 2, 3), object), ["object"]),
        (np.zeros((2, 2, 3), complex), ["complex128"]),
        (np.zeros((2, 2, 3), "U3"), ["<U3"]),
        (np.zeros((3, 8, 9), np.uint8), ["(3, 8, 9)", "moveaxis"]),
        (np.zeros((1, 8, 9, 3), np.uint8), ["(1, 8, 9, 3)", "one picture"]),
        (np.zeros((0, 9, 3), np.uint8), ["(0, 9, 3)"]),
        (np.zeros(5, np.uint8), ["(5,)"]),
        (np.uint8(3), ["()"]),
    ],
)
def test_arrays_refused(array, words):
    refusal(lambda: open_picture(array), *words, error=ArrayInputError)


def test_bytes_and_open_files(tmp_path):
    path = tmp_path / "x.png"
    path.write_bytes(NOISE_PNG)
    with path.open("rb") as file:
        pictures = [open_picture(one) for one in (NOISE_PNG, io.BytesIO(NOISE_PNG), file)]
    pictures += map(open_picture, (bytearray(NOISE_PNG), memoryview(NOISE_PNG)))
    with tempfile.TemporaryFile() as nameless:
        nameless.write(NOISE_PNG)
        nameless.seek(0)
        pictures.append(open_picture(nameless))
    named = ["<bytes>", "<file>", str(path), "<bytes>", "<bytes>", "<file>"]
    assert [one.source for one in pictures] == named
    for picture in pictures:
        np.testing.assert_array_equal(picture.pixels, NOISE)
        assert picture.sha256 == "", "so that a manifest says that it names no file"
    refusal(lambda: open_picture(b""), "empty")
    refusal(lambda: open_picture(io.BytesIO(b"no picture")), "detected: text", "<file>")


def test_files_open_as_text_or_closed(tmp_path):
    path = tmp_path / "x.png"
    path.write_bytes(NOISE_PNG)
    with path.open() as file:
        refusal(lambda: open_picture(file), str(path), "mode 'rb'")
    refusal(lambda: open_picture(file), "closed file", "mode 'rb'")
    refusal(lambda: open_picture(io.StringIO("text")), "a file of text", "mode 'rb'")


class Tensor:
    """What a PyTorch tensor offers; one that requires gradients is no array before `detach`."""

    def __init__(self, array, is_detached=False):
        self.array, self.is_detached, self.ndim = array, is_detached, array.ndim

    def __iter__(self):
        return (Tensor(one) for one in self.array)

    def detach(self):
        return Tensor(self.array, True)

    def cpu(self):
        return self

    def __array__(self, dtype=None, copy=None):
        assert self.is_detached
        return self.array


@pytest.mark.parametrize("channels", [1, 3])
def test_tensors_have_channels_first_or_last(channels):
    array = NOISE[:, :40, :channels] / np.float32(255)
    for one in (np.moveaxis(array, -1, 0), array):
        np.testing.assert_array_equal(open_picture(Tensor(one)).values, array)


def test_what_is_neither_is_refused():
    refusal(lambda: open_picture([[1, 2]]), "list")
    refusal(lambda: open_picture(None), "NoneType")


def test_pillow_image_takes_the_same_path():
    image = Image.new("RGBA", (4, 3), (200, 100, 50, 128))
    picture = open_picture(image)
    assert (picture.source, picture.sha256, picture.mode) == ("<image>", "", "RGBA")
    assert (picture.pixels == (227, 177, 152)).all()
    assert image.mode == "RGBA"
    refusal(lambda: open_picture(image, max_pixels=11), "megapixels", "(4 x 3)")


def test_pillow_image_keeps_its_frame():
    with Image.open(io.BytesIO(frames("GIF"))) as image:
        image.seek(1)
        picture = open_picture(image)
        assert image.tell() == 1
    assert picture.notes == ("frame 2 of 3",)
    assert (picture.pixels == (80, 10, 10)).all()


def test_closed_pillow_image(tmp_path):
    path = tmp_path / "x.png"
    path.write_bytes(NOISE_PNG)
    image = Image.open(path)
    image.close()
    refusal(lambda: open_picture(image), "<image>")


# Folders


def names(paths):
    return [path.name for path in paths]


def test_a_folder_is_read_with_its_subfolders(tmp_path):
    for name in ("b.PNG", "a.jpg", "notes.txt", ".hidden.png", "c.webp"):
        (tmp_path / name).write_bytes(b"")
    (tmp_path / "sub.png").mkdir()
    (tmp_path / "sub.png" / "deep.png").write_bytes(b"")
    (tmp_path / ".hidden").mkdir()
    (tmp_path / ".hidden" / "e.png").write_bytes(b"")
    assert names(find_pictures([tmp_path])) == ["a.jpg", "b.PNG", "c.webp", "deep.png"]
    first = [tmp_path / "c.webp", tmp_path]
    assert names(find_pictures(first)) == ["c.webp", "a.jpg", "b.PNG", "deep.png"]
    without = find_pictures([tmp_path], output=tmp_path / "x" / ".." / "sub.png")
    assert names(without) == ["a.jpg", "b.PNG", "c.webp"]
    missing = tmp_path / "missing.txt"
    assert find_pictures([missing]) == [missing]


def test_patterns_expand_sorted_and_deep(tmp_path):
    (tmp_path / "sub").mkdir()
    for name in ("b.png", "a.png", "c.jpg", "sub/d.png", "[ab].png"):
        (tmp_path / name).write_bytes(b"")
    assert names(find_pictures([tmp_path / "[!c].png"])) == ["a.png", "b.png"]
    assert names(find_pictures([tmp_path / "**" / "?.png"])) == ["a.png", "b.png", "d.png"]
    assert names(find_pictures([tmp_path / "[ab].png"])) == ["[ab].png"], "there is such a file"
    refusal(lambda: find_pictures([tmp_path / "*.gif"]), "no pictures match", "*.gif")


@pytest.mark.fault("I45")
@pytest.mark.parametrize("files", [(), ("readme.txt",)])
def test_folder_without_pictures(tmp_path, files):
    for name in files:
        (tmp_path / name).write_bytes(b"")
    refusal(lambda: find_pictures([tmp_path]), "no pictures in", str(tmp_path), ".jpeg")


@pytest.mark.fault("I41")
def test_links_out_of_the_folder(tmp_path):
    folder = tmp_path / "in"
    folder.mkdir()
    (folder / "a.png").write_bytes(b"")
    (tmp_path / "out.png").write_bytes(b"")
    (folder / "b.png").symlink_to("a.png")
    (folder / "loop.png").symlink_to("loop.png")
    assert names(find_pictures([folder])) == ["a.png", "b.png", "loop.png"]
    (folder / "c.png").symlink_to(tmp_path / "out.png")
    refusal(lambda: find_pictures([folder]), "c.png", "--follow-symlinks")
    assert len(find_pictures([folder], follow_symlinks=True)) == 4


def test_import_is_light():
    code = "import sys, xaimaps._images.open, xaimaps._results.render, xaimaps._images.preprocess; "
    code += "assert not {'PIL', 'matplotlib'} & set(sys.modules)"
    subprocess.run([sys.executable, "-c", code], check=True)
