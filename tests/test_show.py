"""Results as they are shown: in a console, a notebook, a figure, and after reading them again."""

import base64
import html
import io
import json
import re
import shutil

import numpy as np
import pytest
from PIL import Image

import xaimaps
from xaimaps.errors import ArrayInputError, ManifestError, MethodError
from xaimaps.targets import several

PICTURES = np.random.default_rng(2).integers(0, 256, (3, 20, 30, 3), np.uint8)


@pytest.fixture
def found(pooled):
    return xaimaps.explain(pooled, PICTURES, target=several(1, 4))


def test_reprs_are_short(pooled, found):
    assert repr(pooled) == "<reference network in reference: 9 x 9 x 3, 5 classes>"
    layer = pooled.default_layer().name
    assert repr(found) == (
        f"<grad_cam of 3 images: reference network in reference, layer {layer}, target 1; 4, "
        "maps (3, 2, 5, 5)>"
    )
    row = xaimaps.METHODS["grad_cam"]
    assert repr(row) == f"<grad_cam: {row.summary.removesuffix('.')}>"
    assert repr(xaimaps.METHODS).splitlines() == list(map(repr, xaimaps.METHODS.values()))


def test_predictions_are_a_table(found):
    found.model.ending = "softmax"
    found.model.labels = ("<b>", *found.model.labels[1:])
    top = found.top(5)
    assert len(repr(top).splitlines()) == 5
    for line, one in zip(repr(top).splitlines(), top, strict=True):
        assert re.split(r"\s{2,}", line.strip()) == [
            str(one.index), one.label, f"{one.score:.3f}", f"{one.probability:.3f}"
        ]  # fmt: skip
    cells = re.findall(r"<td>(.*?)</td>", top._repr_html_())
    assert [html.unescape(cell) for cell in cells[1::4]] == [one.label for one in top]
    assert "<b>" not in top._repr_html_()


def test_one_image_of_a_result_is_a_result(found):
    assert len(list(found)) == 3
    for index, one in enumerate(found):
        assert (len(one), one.notes(), one.top()) == (1, found.notes(index), found.top(index=index))
        assert np.array_equal(one.maps[0], found.maps[index])
        assert np.array_equal(one.overlay(target=1), found.overlay(index, target=1))
    assert np.array_equal(found[-1].maps, found[2].maps)
    with pytest.raises(IndexError, match="from 0 to 2, got 3"):
        found[3]
    with pytest.raises(TypeError):
        found["cat"]


def test_targets_by_image_go_with_their_images(pooled, images):
    found = xaimaps.attribute(pooled, images, target=[0, 1, 2, 3, 4, 0, 1])
    assert [one.target_name() for one in found] == [found.target_name(i) for i in range(7)]
    assert [str(one.target) for one in found][:2] == ["0", "1"]


def shown(found):
    return np.asarray(Image.open(io.BytesIO(found._repr_png_())))


def test_a_notebook_shows_overlays(found):
    figure = shown(found)
    height, width = figure.shape[:2]
    assert width / height == pytest.approx(3 * 2.6 / (3 * 2.9), rel=0.01)  # three rows of three
    assert not np.array_equal(figure, shown(found[0]))
    text = found._repr_html_()
    (data,) = re.findall(r'src="data:image/png;base64,([^"]+)"', text)
    assert base64.b64decode(data) == found._repr_png_()
    assert html.escape(repr(found)) in text
    assert all(f"note: {html.escape(note)}" in text for note in found.notes())


def test_a_notebook_shows_no_markup_of_a_label(pooled):
    pooled.info.labels = ("<script>x</script>",) * 5
    pooled.info.name = '"><img src=x>'
    text = xaimaps.explain(pooled, PICTURES[0])._repr_html_()
    assert "<script" not in text
    assert text.count("<img") == 1


def test_a_notebook_shows_what_can_be_drawn(pooled, images):
    assert len(xaimaps.attribute(pooled, images)._repr_png_()) > 1000  # heat maps, four of seven
    assert "3 more images are not shown" in xaimaps.attribute(pooled, images)._repr_html_()
    channels = xaimaps.attribute(pooled, images, "saliency", reduce=None)
    assert channels._repr_png_() is None
    assert "<img" not in channels._repr_html_()


def test_plot_draws_into_the_users_axes(pooled, images, found):
    from matplotlib.figure import Figure

    axes = Figure().subplots()
    assert found.plot(1, ax=axes, target=1) is axes
    assert np.array_equal(axes.images[0].get_array(), found.overlay(1, target=1))
    assert axes.get_title() == f"grad_cam: {found.target_name(1, 1)}"
    heat = xaimaps.attribute(pooled, images, "eigen_cam")
    heat.plot(ax=axes)
    assert np.array_equal(axes.images[-1].get_array(), heat.heatmap())


def test_compare_draws_every_method(pooled):
    figure = xaimaps.compare(pooled, PICTURES[0], ["grad_cam", "saliency"], target=1)
    assert figure.width / figure.height == pytest.approx(3 * 2.6 / 2.9, rel=0.01)
    others = xaimaps.compare(pooled, PICTURES[0], ["grad_cam", "saliency"], target=4)
    assert not np.array_equal(figure, others)
    with pytest.raises(MethodError, match="'grad_camm'"):
        xaimaps.compare(pooled, PICTURES[0], ["grad_camm"])
    with pytest.raises(MethodError, match="'strid'"):
        xaimaps.compare(pooled, PICTURES[0], ["grad_cam", "occlusion"], strid=3)


def test_progress_changes_no_map(pooled, images, capsys):
    expected = xaimaps.attribute(pooled, images, "rise", n_masks=64)
    found = xaimaps.attribute(pooled, images, "rise", n_masks=64, batch_size=2, progress=True)
    np.testing.assert_allclose(found.maps, expected.maps, rtol=1e-5, atol=1e-7)
    assert capsys.readouterr().out == ""


def test_progress_counts_images(pooled, images):
    done = []
    with pooled.watch.by(lambda *steps: None, lambda k, n: done.append((k, n))):
        xaimaps.attribute(pooled, images, "saliency", batch_size=3)
    assert done == [(3, 7), (6, 7), (7, 7)]


@pytest.fixture
def saved(pooled, tmp_path):
    file = tmp_path / "cat.png"
    Image.fromarray(PICTURES[0]).save(file)
    results = [
        xaimaps.explain(pooled, file, name, target=target)
        for name, target in (("grad_cam", several(1, 4)), ("saliency", None), ("eigen_cam", None))
    ]
    for one in results:
        one.save(tmp_path / "out")
    return tmp_path, sorted(results, key=lambda one: one.method)


def test_what_was_saved_is_read(saved):
    folder, results = saved
    for one, expected in zip(xaimaps.read(folder / "out"), results, strict=True):
        assert repr(one) == repr(expected)
        assert np.array_equal(one.maps, expected.maps)
        assert np.array_equal(one.scores, expected.scores)
        for name in ("classes", "target_scores"):
            assert np.array_equal(getattr(one, name), getattr(expected, name)), name
        assert one.options == expected.options
        assert (one.notes(), one.top()) == (expected.notes(), expected.top())
        for k in range(expected.count):
            assert one.target_name(0, k) == expected.target_name(0, k)
            assert np.array_equal(one.overlay(target=k), expected.overlay(target=k))


def test_a_picture_that_is_missing_is_a_note(saved):
    folder, results = saved
    (folder / "cat.png").unlink()
    one, *_ = xaimaps.read(folder / "out")
    assert any("cat.png' is missing" in note for note in one.notes())
    assert one.heatmap().size == one.maps.shape[:0:-1]
    with pytest.raises(ArrayInputError, match="needs a picture"):
        one.overlay()
    assert one.top() == results[0].top()


def test_manifests_that_cannot_be_read(saved):
    folder, _ = saved
    with pytest.raises(ManifestError, match=r"no -manifest.json in"):
        xaimaps.read(folder)
    file = next((folder / "out").glob("cat-saliency-*-manifest.json"))
    told = json.loads(file.read_text())
    for change in ({"maps": {}}, {"display": {"a": 1}}, {"top": 3}, {"input_size": None}):
        file.write_text(json.dumps({**told, **change}))
        with pytest.raises(ManifestError, match="not a manifest of this version"):
            xaimaps.read(file)
    file.write_text(json.dumps(told))
    shutil.move(next((folder / "out").glob("cat-saliency-*-maps.npz")), folder / "away.npz")
    with pytest.raises(ManifestError, match="cannot read the maps"):
        xaimaps.read(file)


def test_maps_with_named_axes(found):
    pytest.importorskip("xarray")
    array = found.to_xarray()
    assert array.dims == ("image", "target", "y", "x")
    assert np.array_equal(array, found.maps)
    assert array.explained.values[2].tolist() == [found.target_name(2, k) for k in (0, 1)]
    assert array.attrs["method"] == "grad_cam"


def test_a_notebook_shows_mistakes_without_a_traceback(pooled, images):
    with pytest.raises(MethodError) as caught:
        xaimaps.attribute(pooled, images, "grad_camm")
    (line,) = caught.value._render_traceback_()
    assert line == f"MethodError: {caught.value}"
