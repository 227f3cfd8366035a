"""Programs that no memory holds end in one sentence."""

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from xaimaps_jax._compilation import _options
from xaimaps_jax._oom import within_memory

import xaimaps
from xaimaps.errors import OutOfMemoryError

IMPOSSIBLE = 2**48
"""Numbers of four bytes, more than a process can even name."""


def greedy(params, images):
    """Two scores, by way of a value that XLA has to hold because a loop changes it."""
    start = jnp.full((IMPOSSIBLE,), images.mean())
    held = jax.lax.fori_loop(0, 2, lambda _, value: value * 2 + images.min(), start)
    return jnp.broadcast_to(held[:2], (len(images), 2))


@pytest.mark.filterwarnings("ignore:Explicitly requested dtype")
def test_a_program_that_asks_for_too_much():
    model = xaimaps.load(greedy, params={}, input_shape=(4, 4, 3))
    images = np.ones((1, 4, 4, 3), np.float32)
    device = jax.default_backend().upper()
    with pytest.raises(
        OutOfMemoryError, match=rf"the {device} .*\([\d,]{{20,}} bytes were asked for\); explain"
    ):
        xaimaps.attribute(model, images, method="occlusion", target=0)


@pytest.mark.parametrize(
    ("message", "said"),
    [
        ("Out of memory while trying to allocate 7406166528 bytes.", r"\(7,406,166,528 bytes were"),
        ("Attempting to allocate 15.65G. That was not possible.", r"\(15.65G were"),
        ("Ran out of memory in memory space hbm. Used 21.95G of 15.48G hbm.", r"\(21.95G were"),
        ("", "memory;"),
    ],
)
def test_what_xla_says_on_any_device(message, said):
    with pytest.raises(OutOfMemoryError, match=said), within_memory():
        raise jax.errors.JaxRuntimeError(f"RESOURCE_EXHAUSTED: {message}")


def test_other_errors_of_xla_pass():
    with pytest.raises(jax.errors.JaxRuntimeError, match="INTERNAL"), within_memory():
        raise jax.errors.JaxRuntimeError("INTERNAL: a bug")


@pytest.fixture
def no_cache_on_disk():
    """Programs that are not cached on disk may have several blocks of intermediate values."""
    before = jax.config.jax_compilation_cache_dir
    jax.config.update("jax_compilation_cache_dir", None)
    yield
    jax.config.update("jax_compilation_cache_dir", before)


@pytest.mark.usefixtures("no_cache_on_disk")
def test_xla_does_not_warn_of_values_larger_than_a_block(capfd):
    def network(params, images):
        wide = jax.lax.cumsum(jnp.tile(images, (1, 1, 1, 40)), axis=3)
        return jax.lax.cumsum(wide, axis=1).max((1, 2))

    model = xaimaps.load(network, params={}, input_shape=(512, 512, 1))
    xaimaps.attribute(model, np.ones((2, 512, 512, 1), np.float32), method="saliency", target=0)
    assert capfd.readouterr().err == ""


@pytest.mark.skipif(
    jax.default_backend() != "cpu", reason="only programs for CPU have these blocks"
)
@pytest.mark.parametrize(
    ("folder", "is_on"), [(None, True), ("programs", True), ("programs", False)]
)
def test_programs_have_one_block_only_if_they_are_written_to_disk(folder, is_on):
    names = ("jax_compilation_cache_dir", "jax_enable_compilation_cache")
    before = [getattr(jax.config, name) for name in names]
    body = jax.make_jaxpr(jnp.sin)(np.ones(3, np.float32))
    try:
        for name, value in zip(names, (folder, is_on), strict=True):
            jax.config.update(name, value)
        options = _options(body)
    finally:
        for name, value in zip(names, before, strict=True):
            jax.config.update(name, value)
    has_blocks = "xla_multiheap_size_constraint_per_heap" in options
    assert has_blocks == (folder is None or not is_on)
