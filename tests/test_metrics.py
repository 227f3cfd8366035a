"""Metrics against other libraries and closed forms, and the tables of `evaluate`."""

import json
from pathlib import Path

import numpy as np
import pytest
from click.testing import CliRunner
from PIL import Image

import xaimaps
from xaimaps import metrics
from xaimaps._cli import cli
from xaimaps._images.preprocess import PRESETS
from xaimaps._plan import plan_all
from xaimaps.errors import (
    ArrayInputError,
    BackendError,
    InputImageError,
    MethodError,
    TargetError,
    UnsupportedModelError,
    XaimapsError,
)
from xaimaps.methods import Maps, _registry, method
from xaimaps.metrics import METRICS, Evaluation, Scores, evaluate, measure
from xaimaps.metrics._case import Case
from xaimaps.metrics._imputation import imputed
from xaimaps.metrics._order import spearman
from xaimaps.metrics._similarity import similarity_by, ssim
from xaimaps.metrics.correlation import _sums_and_losses, squared_difference
from xaimaps.metrics.mprt import _compared, permuted
from xaimaps.metrics.stability import largest_change, median_ratio
from xaimaps.targets import as_target, several
from xaimaps.testing import ReferenceBackend, pooled_network
from xaimaps.testing.networks import Dense, Flatten, GlobalAveragePool, Network

GIVEN = np.load(Path(__file__).parent / "references" / "metrics.npz")
"""Made by other libraries, and in PyTorch; see make_metrics.py."""

LABELS = ("tench", "goldfish", "great white shark", "tiger shark", "hammerhead")


@pytest.fixture
def model():
    return ReferenceBackend(pooled_network())


def case_of(model, image, values, target=1, **given):
    return Case(model, image, values, as_target(target, 1, None), **given)


def measured(model, name, maps=GIVEN["maps"], **options):
    return measure(model, GIVEN["images"], maps, [name], target=1, **options)[name]


# Other libraries


@pytest.mark.parametrize("name", ["deletion", "insertion"])
def test_curves_and_areas_of_pytorch(model, name):
    expected = GIVEN[f"torch/{name}"]
    found = measured(model, name, steps=81, baseline="zeros")
    np.testing.assert_allclose(found.curves[..., 1], expected, atol=2e-6)
    np.testing.assert_allclose(found.values, np.trapezoid(expected, dx=1 / 81), atol=2e-6)
    unit = measured(model, name, steps=81, baseline="zeros", area="unit")
    np.testing.assert_allclose(unit.values, np.trapezoid(expected[:, 1:]), rtol=1e-5)


def test_the_areas_weigh_steps_of_unequal_width(model):
    by_fraction, by_midpoints = (
        measured(model, "deletion", steps=80, area=area) for area in ("fraction", "midpoints")
    )
    widths = np.diff(by_fraction.curves[0, :, 0])
    assert len(set(widths.round(6))) == 2  # 81 positions in 80 steps
    ends = by_fraction.curves[0, :, 1]
    middles = (ends[1:] + ends[:-1]) / 2
    np.testing.assert_allclose(by_fraction.values[0], widths @ middles, rtol=1e-6)
    np.testing.assert_allclose(by_midpoints.values[0], middles.mean(), rtol=1e-6)


@pytest.mark.parametrize("name", ["average_drop", "average_increase", "average_gain"])
def test_image_times_map_in_pytorch(model, name):
    np.testing.assert_allclose(measured(model, name).values, GIVEN[f"torch/{name}"], atol=1e-5)


@pytest.mark.parametrize("name", ["sparseness", "complexity"])
def test_complexity_of_quantus(model, name):
    np.testing.assert_allclose(measured(model, name).values, GIVEN[f"quantus/{name}"], rtol=1e-5)


@pytest.mark.parametrize(
    "name", ["pointing_game", "energy_pointing_game", "rank_accuracy", "region_auc"]
)
def test_localisation_of_quantus(model, name):
    found = measured(model, name, regions=GIVEN["box"])
    np.testing.assert_allclose(found.values, GIVEN[f"quantus/{name}"], rtol=1e-5)


@pytest.mark.parametrize(("scaled", "key"), [(False, "raw"), (True, "scaled")])
def test_infidelity_of_captum_for_half_the_image(model, scaled, key):
    half = np.full((1, 9, 9), 0.5, np.float32)
    for index, expected in enumerate(GIVEN[f"captum/infidelity_{key}"]):
        case = case_of(model, GIVEN["images"][index], GIVEN["contributions"][index])
        found = squared_difference(*_sums_and_losses(case, half, "zeros", False), scaled)
        np.testing.assert_allclose(found, expected, rtol=1e-3, atol=1e-8)


def test_imputation_of_grad_cam(model):
    removed = 1 - GIVEN["kept"][None]
    found = imputed(model, GIVEN["images"][0], removed, np.zeros(60, np.float32))[0]
    np.testing.assert_allclose(found, GIVEN["grad_cam/imputed"], atol=2e-5)


def test_sensitivity_in_pytorch(model):
    maps = [
        (model.grad(images, as_target(1, 2, None)).gradients * images).sum(-1)
        for images in [GIVEN["images"], *(GIVEN["images"] + GIVEN["shift"])]
    ]
    for index, expected in enumerate(GIVEN["torch/max_sensitivity"]):
        one, *others = (each[index] for each in maps)
        np.testing.assert_allclose(largest_change(one, np.stack(others)), expected, rtol=1e-4)


# Closed forms


@pytest.fixture
def linear():
    """The second class is the sum of weights times values."""
    weights = np.random.default_rng(0).normal(size=(6 * 6 * 3, 2)).astype(np.float32)
    layers = {"flatten": Flatten(), "fc": Dense(weights, np.zeros(2, np.float32))}
    return ReferenceBackend(Network(layers, (6, 6, 3)))


def contributions(linear, images):
    weights = np.moveaxis(linear.chain.layers["fc"].weights[:, 1].reshape(3, 6, 6), 0, -1)
    return (images * weights).sum(-1)


@pytest.mark.parametrize(
    ("name", "expected"),
    [("mu_fidelity", 1), ("faithfulness_correlation", 1), ("infidelity", 0)],
)
def test_the_contributions_of_a_linear_model_are_faithful(linear, name, expected):
    images = np.random.default_rng(1).normal(size=(2, 6, 6, 3)).astype(np.float32)
    maps = contributions(linear, images)
    grid = {"grid": 3} if "grid" in METRICS[name].options else {}
    options = {"samples": 20, "baseline": "zeros", "target": 1, **grid}
    found = measure(linear, images, maps, [name], **options)[name]
    np.testing.assert_allclose(found.values, expected, atol=2e-3)
    wrong = measure(linear, images, -maps, [name], **options)[name]
    if expected:
        np.testing.assert_allclose(wrong.values, -1, atol=2e-3)


def test_infidelity_without_a_factor_depends_on_the_unit(linear):
    images = np.random.default_rng(1).normal(size=(1, 6, 6, 3)).astype(np.float32)
    maps = 2 * contributions(linear, images)
    options = {"samples": 20, "baseline": "zeros", "target": 1, "grid": 3}
    scaled, raw = (
        measure(linear, images, maps, ["infidelity"], scaled=scaled, **options)["infidelity"].mean
        for scaled in (True, False)
    )
    assert scaled < 1e-4 < raw


def test_average_gain_by_hand(model):
    image = np.random.default_rng(5).normal(size=(1, 9, 9, 3)).astype(np.float32)
    spot = np.random.default_rng(6).random((1, 9, 9))
    scaled = (spot - spot.min()) / (spot.max() - spot.min())
    logits = np.concatenate([model.forward(image), model.forward(image * scaled[..., None])])
    odds = np.exp(logits)
    before, after = odds / odds.sum(1, keepdims=True)
    gains = [max(0, b - a) / (1 - a) for a, b in zip(before, after, strict=True)]
    assert max(gains) > 0.01
    for target, expected in enumerate(gains):
        found = measure(model, image, spot, ["average_gain"], target=target)
        np.testing.assert_allclose(found["average_gain"].mean, expected, atol=1e-6)


@pytest.mark.parametrize(
    ("name", "spot", "flat"),
    [("sparseness", 80 / 81, 0), ("complexity", 0, np.log(81))],
)
def test_complexity_of_one_position_and_of_a_constant(model, name, spot, flat):
    maps = np.zeros((2, 9, 9))
    maps[0, 4, 4], maps[1] = 7, 1
    np.testing.assert_allclose(measured(model, name, maps).values, [spot, flat], atol=1e-6)


def test_localisation_by_hand(model):
    maps = np.zeros((2, 9, 9))
    maps[0, 2, 2], maps[1, 0, 0], maps[1, 0, 1], maps[1, 8, 8] = 1, 1, 0.2, -3
    regions = np.zeros((2, 9, 9), bool)
    regions[:, 2:4, 2:4] = True
    found = {
        name: measured(model, name, maps, regions=regions, **options).values.tolist()
        for name, options in (("pointing_game", {}), ("energy_pointing_game", {}), ("iou", {}))
    }
    assert found["pointing_game"] == found["energy_pointing_game"] == [1, 0]
    # scaled to 0 to 1, all of the second map but the lowest value is above 0.15
    assert found["iou"] == [0.25, 4 / 80]
    near, far = (
        measured(model, "pointing_game", maps, regions=regions, tolerance=tolerance).values[1]
        for tolerance in (3, 2)
    )
    assert (near, far) == (1, 0)


def test_ranks_share_their_mean():
    assert spearman(np.array([1, 1, 2, 3]), np.array([5, 5, 6, 9])) == pytest.approx(1)
    # ranks 1.5, 1.5, 3, 4 and 1, 2, 3, 4
    assert spearman(np.array([1, 1, 2, 3]), np.array([1, 2, 3, 4])) == pytest.approx(
        0.9487, abs=1e-4
    )


def test_relative_stability_of_values_that_change_alike():
    value = np.array([1.0, -2.0, 4.0])
    values = value * np.array([[1.1], [0.8], [1.3]])
    assert median_ratio(10 * value, 10 * values, value, values) == pytest.approx(1)
    assert median_ratio(value, values, value, 2 * values - value) == pytest.approx(0.5)


def test_large_holes_are_imputed_as_by_a_direct_solver(model):
    rng = np.random.default_rng(2)
    image = rng.normal(size=(23, 18, 2)).astype(np.float32)
    removed = np.zeros((23, 18))
    removed[2:20, 3:18] = 1
    found = imputed(model, image, removed[None], np.zeros(60, np.float32))[0]
    np.testing.assert_array_equal(found[removed == 0], image[removed == 0])
    np.testing.assert_allclose(found, solved(image, removed), atol=1e-4)


def solved(image, removed):
    """The linear system as a dense matrix."""
    holes = np.argwhere(removed)
    number = {tuple(place): i for i, place in enumerate(holes)}
    matrix, right = np.zeros((len(holes), len(holes))), np.zeros((len(holes), image.shape[-1]))
    for (y, x), i in number.items():
        for dy, dx in [(a, b) for a in (-1, 0, 1) for b in (-1, 0, 1) if a or b]:
            near, weight = (y + dy, x + dx), 1 / 12 if dy and dx else 1 / 6
            if 0 <= near[0] < image.shape[0] and 0 <= near[1] < image.shape[1]:
                matrix[i, i] += weight
                if near in number:
                    matrix[i, number[near]] -= weight
                else:
                    right[i] += weight * image[near]
    result = image.astype(np.float64)
    result[removed == 1] = np.linalg.solve(matrix, right)
    return result


def test_road_is_positive_for_a_faithful_map_and_negative_for_its_opposite(linear):
    images = np.random.default_rng(1).normal(size=(2, 6, 6, 3)).astype(np.float32)
    maps = contributions(linear, images)
    options = {"target": 1, "probability": False, "noise": 0.0}
    found, opposite = (
        measure(linear, images, one, ["road"], **options)["road"].values for one in (maps, -maps)
    )
    assert (found > 0.5).all()
    np.testing.assert_allclose(opposite, -found, atol=1e-4)


# `evaluate`


def picture(seed, shape=(9, 9, 3)):
    return np.random.default_rng(seed).integers(0, 256, shape, np.uint8)


@pytest.fixture
def ready(model):
    model.info.labels, model.info.preprocess = LABELS, PRESETS["unit"]
    return model


def test_every_metric_of_a_method(ready):
    regions = [np.arange(81).reshape(9, 9) > 40] * 2
    found = evaluate(
        ready, [picture(0), picture(1)], ["occlusion"], list(METRICS), regions=regions,
        window=3, stride=3, metric_options={"samples": 4, "classes": 3},
    )  # fmt: skip
    assert found.metrics == tuple(METRICS)
    assert all(one.values.shape == (2,) for one in found.scores)
    assert all(np.isfinite(one.values).all() for one in found.scores), found
    random = [one.metric for one in found.scores if one.method == "random 9x9"]
    assert random == [name for name, row in METRICS.items() if "explanation" not in row.needs]


def test_random_maps_have_the_sizes_of_the_methods_maps(ready):
    found = evaluate(ready, picture(0), ["grad_cam", "saliency", "hires_cam"], ["sparseness"])
    assert found.methods == ("grad_cam", "saliency", "hires_cam", "random 5x5", "random 9x9")


def test_a_map_that_ignores_the_class_fails_the_random_logit(ready):
    found = evaluate(ready, picture(0), ["eigen_cam", "grad_cam"], ["random_logit"])
    assert found["eigen_cam", "random_logit"].mean == pytest.approx(1)
    assert found["grad_cam", "random_logit"].mean < 0.9


def test_the_target_stays_that_of_the_clean_image(ready):
    top = int(ready.forward(picture(0)[None] / np.float32(255)).argmax())
    one, same = (
        evaluate(ready, picture(0), ["saliency"], ["deletion"], target=target)
        for target in (None, top)
    )
    assert one.targets == same.targets == (LABELS[top],)
    assert one["saliency", "deletion"].mean == same["saliency", "deletion"].mean


def test_means_and_intervals(ready):
    found = evaluate(ready, [picture(i) for i in range(5)], ["saliency"], ["sparseness"])
    scores = found["saliency", "sparseness"]
    low, high = scores.interval
    assert scores.values.min() < low < scores.mean < high < scores.values.max()
    assert f"{scores.mean:.3g} [{low:.3g}, {high:.3g}]" in repr(found)


def test_an_evaluation_is_saved(ready, tmp_path):
    found = evaluate(ready, [picture(0), picture(1)], ["saliency"], ["deletion", "iou"],
                     regions=[np.eye(9)] * 2)  # fmt: skip
    files = found.save(tmp_path / "new")
    assert [path.name for path in files] == ["evaluation.json", "curves.png"]
    stored = json.loads(files[0].read_text())
    assert stored["scores"][0]["values"] == found["saliency", "deletion"].values.tolist()
    assert stored["settings"]["metrics"]["deletion"]["steps"] == "32"
    assert np.asarray(Image.open(files[1])).std() > 10
    axes = found.plot("deletion")
    drawn = axes.lines[0].get_ydata()
    np.testing.assert_allclose(drawn, found["saliency", "deletion"].curves[..., 1].mean(0))


def test_a_constant_map_is_judged_by_its_complexity_only(model):
    flat = np.ones((1, 9, 9))
    found = measure(model, GIVEN["images"][:1], flat, ["deletion", "complexity"], target=1)
    assert str(found["deletion"]) == "undefined"
    assert found["complexity"].mean == pytest.approx(np.log(81))


def test_undefined_values_are_told(ready):
    black = np.zeros((9, 9, 3), np.uint8)  # input x gradient is zero
    found = evaluate(ready, [picture(0), black], ["input_x_gradient"], ["deletion"])
    assert found["input_x_gradient", "deletion"].undefined == 1
    assert any("not defined for 1 of 2 maps of input_x_gradient" in note for note in found.notes)
    assert found.to_dict()["scores"][0]["values"][1] is None


def test_one_picture_is_told(ready):
    assert "one picture says little" in evaluate(ready, picture(0), ["saliency"]).notes[-1]


# Regions


def write_regions(folder, shape, box):
    mask = np.zeros(shape, np.uint8)
    mask[box] = 255
    folder.mkdir()
    Image.fromarray(mask).save(folder / "cat.png")


def test_a_mask_is_cropped_as_its_picture(ready, tmp_path):
    # 20 x 40: the centred square is seen, 20 x 20 pixels become 9 x 9
    Image.fromarray(picture(0, (20, 40, 3))).save(tmp_path / "cat.jpg")
    write_regions(tmp_path / "masks", (20, 40), np.s_[:, 20:])
    spots = {"right": np.s_[4, 6], "left": np.s_[4, 2]}
    for side, spot in spots.items():

        def pointing(backend, images, target, spot=spot):
            maps = np.zeros(images.shape[:-1], np.float32)
            maps[(slice(None), *spot)] = 1
            return xaimaps.methods.Maps(maps, backend.forward(images))

        found = evaluate(
            ready, tmp_path / "cat.jpg", [pointing], ["pointing_game"], regions=tmp_path / "masks"
        )
        assert found["pointing", "pointing_game"].mean == (side == "right")


def test_boxes_of_coco(ready, tmp_path):
    Image.fromarray(picture(0, (18, 18, 3))).save(tmp_path / "cat.png")
    boxes = {
        "images": [{"id": 7, "file_name": "train/cat.png"}],
        "annotations": [{"image_id": 7, "bbox": [0, 0, 18, 9]}],
    }
    path = tmp_path / "boxes.json"
    path.write_text(json.dumps(boxes))
    mask = np.zeros((18, 18), bool)
    mask[:9] = True
    found, expected = (
        evaluate(ready, tmp_path / "cat.png", ["saliency"], ["region_auc"], regions=regions)
        for regions in (path, [mask])
    )
    assert found["saliency", "region_auc"].mean == expected["saliency", "region_auc"].mean


@pytest.mark.parametrize(
    ("regions", "error", "message"),
    [
        ("nothing", InputImageError, "must be a folder of masks, or a JSON file"),
        ("masks", InputImageError, "must have one mask named 'cat', got 0"),
        (
            [np.ones((3, 3))],
            ArrayInputError,
            r"must have the picture's size \(9, 9\), got \(3, 3\)",
        ),
        ([np.ones((9, 9))] * 2, ArrayInputError, "one mask for each of the 1 pictures, got 2"),
        ([np.zeros((9, 9))], ArrayInputError, "is outside of what the model sees"),
    ],
)
def test_wrong_regions(ready, tmp_path, monkeypatch, regions, error, message):
    monkeypatch.chdir(tmp_path)
    Image.fromarray(picture(0)).save("cat.png")
    Path("masks").mkdir()
    with pytest.raises(error, match=message):
        evaluate(ready, "cat.png", ["saliency"], ["iou"], regions=regions)


# Wrong use


@pytest.mark.parametrize(
    ("arguments", "error", "message"),
    [
        ({"metrics": ["deltion"]}, MethodError, "got 'deltion'; nearest: 'deletion'"),
        ({"metrics": ["iou"]}, MethodError, "'iou' needs the regions"),
        ({"metric_options": {"stepz": 3}}, MethodError, "has no option 'stepz'"),
        ({"metric_options": {"steps": 0}}, MethodError, "`steps` must be an integer"),
        ({"metric_options": {"probability": 1}}, MethodError, "`probability` must be True or"),
        ({"metric_options": {"area": "x"}}, MethodError, "`area` must be"),
        ({"metric_options": {"baseline": "grey"}}, MethodError, "`baseline` must be"),
        ({"metrics": ["road"], "metric_options": {"percentiles": (0,)}}, MethodError, "between 0"),
        ({"metrics": ["infidelity"], "metric_options": {"fraction": 2}}, MethodError, "`fraction`"),
        ({"metrics": ["max_sensitivity"], "metric_options": {"radius": 0}}, MethodError, "radius"),
        ({"target": several(1, 2)}, TargetError, "must be one for each picture"),
        ({"target": "output:1", "metrics": ["random_logit"]}, TargetError, "needs a class"),
        ({"methods": ["saliency"], "reduce": None}, ArrayInputError, "choose a `reduce`"),
    ],
)  # fmt: skip
def test_wrong_use(ready, arguments, error, message):
    settings = {"methods": ["saliency"], "metrics": ["deletion"], **arguments}
    with pytest.raises(error, match=message):
        evaluate(ready, picture(0), **settings)


@pytest.mark.parametrize(
    ("maps", "name", "message"),
    [
        (np.ones((2, 9, 9)), "deletion", "one .* for each of the 1 images"),
        (np.full((1, 9, 9), np.nan), "deletion", "must be finite"),
        (np.ones((1, 9, 9, 3)), "deletion", "must have the axes"),
        (np.ones((1, 9, 9)), "max_sensitivity", "use `evaluate`"),
    ],
)
def test_wrong_maps(model, maps, name, message):
    with pytest.raises(XaimapsError, match=message):
        measure(model, GIVEN["images"][:1], maps, [name], target=1)


def test_the_names_for_type_checkers_are_the_registered_ones():
    source = Path(metrics.__file__).read_text()
    named = {line.split()[-1] for line in source.splitlines() if line.count(" as ") == 1}
    assert set(METRICS) <= named
    assert all(getattr(metrics, name) is row.fn for name, row in METRICS.items())


def test_planning_a_method_twice_is_harmless(ready):
    assert len(plan_all(ready, ["saliency", "saliency"], None, {})) == 2
    found = evaluate(ready, picture(0), ["saliency", "saliency"], ["sparseness"])
    assert found["saliency", "sparseness"].values.shape == (1,)


# The command line


def run(*arguments):
    return CliRunner().invoke(cli, list(map(str, arguments)))


def test_the_embedded_network_on_the_command_line(tmp_path):
    cat = xaimaps.zoo.PICTURES["chelsea"]
    done = run("evaluate", cat, "-M", "grad_cam", "-e", "deletion,sparseness", "-E", "steps=8",
               "-o", tmp_path, "--json")  # fmt: skip
    assert done.exit_code == 0, done.output
    found = json.loads(done.stdout)
    assert found["targets"] == ["Egyptian cat"]
    assert [one["method"] for one in found["scores"][::2]] == ["grad_cam", "random 7x7"]
    assert sorted(path.name for path in tmp_path.iterdir()) == ["curves.png", "evaluation.json"]


def test_the_list_of_metrics():
    rows = json.loads(run("metrics", "--json").stdout)
    assert [row["name"] for row in rows] == list(METRICS)
    assert "deletion" in run("metrics").stdout


@pytest.fixture
def small(ready, monkeypatch):
    monkeypatch.setattr("xaimaps._load.load", lambda model, **_: ready)
    return ready


def told_targets(*arguments):
    done = run("evaluate", *arguments, "-M", "saliency", "-e", "sparseness", "--json")
    assert done.exit_code == 0, done.output
    return json.loads(done.stdout)["targets"]


def test_the_classes_of_pictures_by_folder_and_by_table(small, tmp_path):
    for name in ("goldfish", "tench"):
        (tmp_path / name).mkdir()
        Image.fromarray(picture(0)).save(tmp_path / name / "1.png")
    assert told_targets(tmp_path, "--by-folder") == ["goldfish", "tench"]
    table = tmp_path / "table.csv"
    paths = [tmp_path / name / "1.png" for name in ("goldfish", "tench")]
    table.write_text(f"path,target\n{paths[0]},tiger shark\n{paths[1]},2\n")
    assert told_targets(table) == ["tiger shark", "great white shark"]
    table.write_text(f"path,target\n{paths[0]},tiger shark\n{paths[1]},\n")
    done = run("evaluate", table)
    assert isinstance(done.exception, TargetError)
    assert "target for every picture or none" in str(done.exception)


# Randomised weights


@pytest.fixture
def products():
    """Two matrix products, whose saliency is the magnitude of their product."""
    draw = np.random.default_rng(4).normal
    layers = {
        "flatten": Flatten(),
        "first": Dense(draw(size=(16, 6)), draw(size=6)),
        "second": Dense(draw(size=(6, 3)), draw(size=3)),
    }
    made = ReferenceBackend(Network(layers, (4, 4, 1)))
    made.info.preprocess = PRESETS["unit"]
    return made


def saliency_by_hand(first, second):
    return np.abs(first @ second[:, 1])


def shuffled(values, number):
    random = np.random.Generator(np.random.Philox(np.random.SeedSequence((5, number))))
    return random.permuted(values)


GREY = np.random.default_rng(2).integers(0, 255, (4, 4), dtype=np.uint8)


def test_mprt_of_two_products_by_hand(products):
    stats = pytest.importorskip("scipy.stats")
    first, second = (products.chain.layers[name].weights for name in ("first", "second"))
    own = saliency_by_hand(first, second)
    top = saliency_by_hand(first, shuffled(second, 0))
    both = saliency_by_hand(shuffled(first, 1), shuffled(second, 0))
    found = evaluate(
        products, GREY, ["saliency"], ["mprt", "smooth_mprt", "efficient_mprt"], target=1,
        metric_options={"seed": 5},
    )  # fmt: skip
    expected = [(0, 1), *((s, stats.spearmanr(own, one)[0]) for s, one in [(0.5, top), (1, both)])]
    # the gradient of a linear model is the same for noisy images
    for name in ("mprt", "smooth_mprt"):
        np.testing.assert_allclose(found["saliency", name].curves[0], expected, atol=1e-6)
        assert found["saliency", name].mean == pytest.approx(np.mean(expected[1:], axis=0)[1])
    before, after = (stats.entropy(np.histogram(one, 100)[0]) for one in (own, both))
    assert found["saliency", "efficient_mprt"].mean == pytest.approx((after - before) / before)
    np.testing.assert_array_equal(saliency_by_hand(first, second), own)  # the model is unchanged


@pytest.fixture
def edges(monkeypatch):
    """A method that looks for edges and never at the model."""

    def edge_detector(backend, images, target=None):
        """The difference of each pixel from the one above it."""
        xp = backend.xp
        grey = xp.sum(images, axis=-1)
        return Maps(xp.abs(grey - xp.roll(grey, 1, axis=1)), backend.forward(images))

    monkeypatch.setattr(_registry, "ROWS", dict(_registry.ROWS))
    method(family="custom", needs={"forward"}, paper="none", cost="1 F")(edge_detector)
    return "edge_detector"


def test_an_edge_detector_fails_mprt_and_gradients_pass(edges, ready):
    found = evaluate(ready, picture(0), [edges, "saliency"], ["mprt"])
    assert found[edges, "mprt"].mean == pytest.approx(1)
    assert found["saliency", "mprt"].mean < 0.7
    assert ("random 9x9", "mprt") not in {(one.method, one.metric) for one in found.scores}


SSIM = {"data_range": 1, "gaussian_weights": True, "use_sample_covariance": False}


def ssim_of_scikit_image(one, other):
    def scaled(x):
        return (x - x.min()) / np.ptp(x)

    metrics = pytest.importorskip("skimage.metrics")
    return metrics.structural_similarity(*(scaled(x.astype(float)) for x in (one, other)), **SSIM)


@pytest.mark.parametrize("shape", [(17,), (11, 11), (13, 20), (12, 11, 14)])
def test_structural_similarity_is_that_of_scikit_image(shape):
    one, noise = np.random.default_rng(3).normal(size=(2, *shape)).astype(np.float32)
    assert ssim(one, one) == pytest.approx(1)
    for other in (one + noise, -one, 100 * one + 5, noise):
        assert ssim(one, other) == pytest.approx(ssim_of_scikit_image(one, other), abs=1e-6)


def test_structural_similarity_of_randomised_weights_and_other_classes():
    model = ReferenceBackend(pooled_network(size=12))
    model.info.preprocess = PRESETS["unit"]
    pixels = np.random.default_rng(4).integers(0, 255, (12, 12, 3), np.uint8)
    options = {"target": 1, "metric_options": {"similarity": "ssim", "steps": 1}}
    names = ["mprt", "smooth_mprt", "random_logit"]
    found = evaluate(model, pixels, ["saliency", "guided_backprop"], names, **options)
    maps = xaimaps.explain(model, pixels, "saliency", target="1; 0; 2; 3; 4").maps[0]
    expected = np.mean([ssim_of_scikit_image(maps[0], one) for one in maps[1:]])
    assert found["saliency", "random_logit"].mean == pytest.approx(expected, abs=1e-5)
    changed = model.replica()
    for number, weights in enumerate(list(changed.layers.values())[::-1]):
        changed.assign(permuted(weights, 0, number))
    other = xaimaps.explain(changed.backend, pixels, "saliency", target=1).maps[0]
    expected = ssim_of_scikit_image(maps[0], other)
    assert found["saliency", "mprt"].mean == pytest.approx(expected, abs=1e-5)
    assert -1 < found["saliency", "smooth_mprt"].mean < 1


def test_similarity_has_limits():
    flat, ramp = np.zeros((12, 12)), np.arange(144.0).reshape(12, 12)
    for name in ("spearman", "ssim"):
        assert np.isnan(similarity_by(name)(ramp, flat))
        assert np.isnan(similarity_by(name)(flat, ramp))
    with pytest.raises(MethodError, match="fewer than 11 positions along an axis, got 'ssim' for"):
        ssim(ramp[:10], ramp[:10])
    with pytest.raises(MethodError, match="`similarity` must be one of spearman, ssim, got 'hog'"):
        similarity_by("hog")


def test_weights_that_overflow_are_undefined_and_told(products, tmp_path):
    products.chain.layers["second"] = Dense(np.full((6, 3), 1e300), np.zeros(3))
    products.chain.layers["first"] = Dense(np.diag(np.arange(16.0))[:, :6] * 1e300, np.zeros(6))
    with np.errstate(all="ignore"), pytest.raises(ArrayInputError, match="must be finite"):
        evaluate(products, GREY, ["saliency"], ["mprt"], target=1)
    own = np.arange(4.0)
    value, curve = _compared(own, iter([(0.5, own), (1.0, own * np.nan)]), "spearman")
    assert np.isnan(value)
    scores = Scores("saliency", "mprt", np.array([value]), curve[None])
    found = Evaluation((scores,), ("a.png",), ("tabby",))
    path, figure = found.save(tmp_path)
    assert json.loads(path.read_text())["scores"][0]["curves"] == [[[0, 1], [0.5, 1], [1, None]]]
    assert figure.stat().st_size


def test_a_model_without_weights_has_no_mprt():
    made = ReferenceBackend(Network({"pool": GlobalAveragePool()}, (4, 4, 3)))
    made.info.preprocess = PRESETS["unit"]
    with pytest.raises(UnsupportedModelError, match="'mprt' needs layers with weights of floats"):
        evaluate(made, GREY[..., None].repeat(3, -1), ["saliency"], ["mprt"], target=1)


def test_a_backend_without_other_weights_is_refused(ready, monkeypatch):
    monkeypatch.setattr(ReferenceBackend, "capabilities", frozenset({"forward", "activations"}))
    with pytest.raises(BackendError, match="the metric 'mprt' needs a backend that can do weights"):
        evaluate(ready, picture(0), ["occlusion"], ["mprt"], window=3, stride=3)
