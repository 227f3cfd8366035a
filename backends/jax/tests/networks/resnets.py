"""One small ResNet with the same weights in every library of JAX, in each library's usual style."""

import functools

import equinox as eqx
import haiku as hk
import jax
import jax.numpy as jnp
import numpy as np
from flax import linen, nnx

SHAPE = (32, 32, 3)
CLASSES = 5
BLOCKS = (("blocks_0", 8, 8, 1), ("blocks_1", 8, 16, 2), ("blocks_2", 16, 16, 1))
EPSILON = 1e-5


def weights(seed=0):
    """Return the weights by layer: kernels as HWIO, norms as scale, bias, mean, variance."""
    random = np.random.default_rng(seed)

    def conv(size, ins, outs):
        return random.normal(size=(size, size, ins, outs), scale=(size * size * ins) ** -0.5)

    def norm(n):
        return [random.normal(size=n, loc=m, scale=0.3) for m in (1, 0, 0)] + [
            random.uniform(0.5, 2, n)
        ]

    made = {"stem": conv(3, 3, 8), "norm": norm(8)}
    for name, ins, outs, stride in BLOCKS:
        made[name] = {
            "conv1": conv(3, ins, outs),
            "norm1": norm(outs),
            "conv2": conv(3, outs, outs),
            "norm2": norm(outs),
        }
        if stride > 1:
            made[name] |= {"conv3": conv(1, ins, outs)}
    made |= {"kernel": random.normal(size=(16, CLASSES)), "bias": random.normal(size=CLASSES)}
    return jax.tree.map(lambda x: np.asarray(x, np.float32), made)


def convolved(x, kernel, stride=1):
    dimensions = ("NHWC", "HWIO", "NHWC")
    return jax.lax.conv_general_dilated(
        x, kernel, (stride, stride), "SAME", dimension_numbers=dimensions
    )


def normalised(x, norm):
    scale, bias, mean, variance = norm
    return (x - mean) / jnp.sqrt(variance + EPSILON) * scale + bias


def block(p, x, stride):
    y = jax.nn.relu(normalised(convolved(x, p["conv1"], stride), p["norm1"]))
    y = normalised(convolved(y, p["conv2"]), p["norm2"])
    return jax.nn.relu(y + (convolved(x, p["conv3"], stride) if "conv3" in p else x))


def plain(p, x):
    """The network as a function of its weights, without any library."""
    return head(p, features(p, x))


def features(p, x, until="blocks_2"):
    """Return the result of a block, which the reference differentiates from."""
    x = jax.nn.relu(normalised(convolved(x, p["stem"]), p["norm"]))
    for name, _, _, stride in BLOCKS:
        x = block(p[name], x, stride)
        if name == until:
            return x
    raise ValueError(until)


def head(p, x):
    return x.mean((1, 2)) @ p["kernel"] + p["bias"]


class LinenBlock(linen.Module):
    channels: int
    stride: int

    @linen.compact
    def __call__(self, x, train: bool = True):
        norm = functools.partial(linen.BatchNorm, use_running_average=not train, epsilon=EPSILON)
        conv = functools.partial(linen.Conv, self.channels, use_bias=False)
        strides = (self.stride, self.stride)
        y = linen.relu(norm(name="norm1")(conv((3, 3), strides, name="conv1")(x)))
        y = norm(name="norm2")(conv((3, 3), name="conv2")(y))
        if self.stride > 1:
            x = conv((1, 1), strides, name="conv3")(x)
        return linen.relu(x + y)


class LinenResNet(linen.Module):
    @linen.compact
    def __call__(self, x, train: bool = True):
        x = linen.Conv(8, (3, 3), use_bias=False, name="stem")(x)
        x = linen.BatchNorm(use_running_average=not train, epsilon=EPSILON, name="norm")(x)
        x = linen.relu(x)
        for name, _, channels, stride in BLOCKS:
            x = LinenBlock(channels, stride, name=name)(x, train)
        x = linen.Dropout(0.5, deterministic=not train)(x.mean((1, 2)))
        return linen.Dense(CLASSES, name="head")(x)


def linen_variables(p):
    """Return the variables of `LinenResNet`."""

    def norm(values):
        scale, bias, mean, variance = values
        return {"scale": scale, "bias": bias}, {"mean": mean, "var": variance}

    def branch(values):
        both = {name: norm(v) for name, v in values.items() if name.startswith("norm")}
        kernels = {n: {"kernel": v} for n, v in values.items() if n.startswith("conv")}
        return kernels | {n: v[0] for n, v in both.items()}, {n: v[1] for n, v in both.items()}

    scale, statistics = norm(p["norm"])
    branches = {name: branch(p[name]) for name, *_ in BLOCKS}
    params = {"stem": {"kernel": p["stem"]}, "norm": scale}
    params |= {name: b[0] for name, b in branches.items()}
    params["head"] = {"kernel": p["kernel"], "bias": p["bias"]}
    return {
        "params": params,
        "batch_stats": {"norm": statistics} | {name: b[1] for name, b in branches.items()},
    }


def zeros(leaf):
    """Return an array, or the key of a random generator, of a shape."""
    if jnp.issubdtype(leaf.dtype, jax.dtypes.prng_key):
        return jax.random.key(0)
    return jnp.zeros(leaf.shape, leaf.dtype)


class NnxBlock(nnx.Module):
    def __init__(self, ins, outs, stride, *, rngs):
        conv = functools.partial(nnx.Conv, use_bias=False, rngs=rngs)
        self.conv1 = conv(ins, outs, (3, 3), (stride, stride))
        self.norm1 = nnx.BatchNorm(outs, epsilon=EPSILON, rngs=rngs)
        self.conv2 = conv(outs, outs, (3, 3))
        self.norm2 = nnx.BatchNorm(outs, epsilon=EPSILON, rngs=rngs)
        self.conv3 = conv(ins, outs, (1, 1), (stride, stride)) if stride > 1 else None

    def __call__(self, x):
        y = nnx.relu(self.norm1(self.conv1(x)))
        y = self.norm2(self.conv2(y))
        return nnx.relu(y + (x if self.conv3 is None else self.conv3(x)))


class NnxResNet(nnx.Module):
    def __init__(self, *, rngs):
        self.stem = nnx.Conv(3, 8, (3, 3), use_bias=False, rngs=rngs)
        self.norm = nnx.BatchNorm(8, epsilon=EPSILON, rngs=rngs)
        self.blocks = nnx.List([NnxBlock(*sizes, rngs=rngs) for _, *sizes in BLOCKS])
        self.dropout = nnx.Dropout(0.5, rngs=rngs)
        self.head = nnx.Linear(16, CLASSES, rngs=rngs)

    def __call__(self, x):
        x = nnx.relu(self.norm(self.stem(x)))
        for one in self.blocks:
            x = one(x)
        return self.head(self.dropout(x.mean((1, 2))))


def nnx_model(p):
    """Return an `NnxResNet`, which is in training mode as all new ones are."""
    # without random initial values, whose programs take ten seconds to compile
    definition, shapes = nnx.split(nnx.eval_shape(lambda: NnxResNet(rngs=nnx.Rngs(0))))
    model = nnx.merge(definition, jax.tree.map(zeros, shapes))

    def set_norm(norm, values):
        for variable, value in zip(
            (norm.scale, norm.bias, norm.mean, norm.var), values, strict=True
        ):
            variable[...] = jnp.asarray(value)

    model.stem.kernel[...] = jnp.asarray(p["stem"])
    set_norm(model.norm, p["norm"])
    for one, (name, *_) in zip(model.blocks, BLOCKS, strict=True):
        for key, value in p[name].items():
            if key.startswith("norm"):
                set_norm(getattr(one, key), value)
            else:
                getattr(one, key).kernel[...] = jnp.asarray(value)
    model.head.kernel[...], model.head.bias[...] = jnp.asarray(p["kernel"]), jnp.asarray(p["bias"])
    return model


class EqxNorm(eqx.Module):
    """A frozen normalisation; Equinox's own holds its statistics in an `eqx.nn.State`."""

    scale: jax.Array
    bias: jax.Array
    mean: jax.Array
    variance: jax.Array

    def __call__(self, x):
        scale, bias, mean, variance = (v[:, None, None] for v in vars(self).values())
        return (x - mean) / jnp.sqrt(variance + EPSILON) * scale + bias


class EqxBlock(eqx.Module):
    conv1: eqx.nn.Conv2d
    norm1: EqxNorm
    conv2: eqx.nn.Conv2d
    norm2: EqxNorm
    conv3: eqx.nn.Conv2d | None

    def __call__(self, x):
        y = jax.nn.relu(self.norm1(self.conv1(x)))
        y = self.norm2(self.conv2(y))
        return jax.nn.relu(y + (x if self.conv3 is None else self.conv3(x)))


class EqxResNet(eqx.Module):
    stem: eqx.nn.Conv2d
    norm: EqxNorm
    blocks: list[EqxBlock]
    dropout: eqx.nn.Dropout
    head: eqx.nn.Linear

    def __call__(self, x, *, key=None):
        x = jax.nn.relu(self.norm(self.stem(x)))
        for one in self.blocks:
            x = one(x)
        return self.head(self.dropout(x.mean((1, 2)), key=key))


@eqx.filter_jit
def eqx_model(p):
    """Return an `EqxResNet`; its convolutions take kernels as OIHW and pad as XLA's "SAME" does."""

    def conv(kernel, stride=1):
        size, _, ins, outs = kernel.shape
        made = eqx.nn.Conv2d(ins, outs, size, stride, "SAME", use_bias=False, key=jax.random.key(0))
        return eqx.tree_at(lambda one: one.weight, made, jnp.asarray(kernel.transpose(3, 2, 0, 1)))

    def norm(values):
        return EqxNorm(*map(jnp.asarray, values))

    def one(name, stride):
        q = p[name]
        shortcut = conv(q["conv3"], stride) if "conv3" in q else None
        return EqxBlock(
            conv(q["conv1"], stride), norm(q["norm1"]), conv(q["conv2"]), norm(q["norm2"]), shortcut
        )

    head = eqx.nn.Linear(16, CLASSES, key=jax.random.key(0))
    head = eqx.tree_at(
        lambda h: (h.weight, h.bias), head, (jnp.asarray(p["kernel"].T), jnp.asarray(p["bias"]))
    )
    blocks = [one(name, stride) for name, _, _, stride in BLOCKS]
    return EqxResNet(conv(p["stem"]), norm(p["norm"]), blocks, eqx.nn.Dropout(0.5), head)


class HaikuBlock(hk.Module):
    def __init__(self, channels, stride, name=None):
        super().__init__(name=name)
        self.channels, self.stride = channels, stride

    def __call__(self, x, is_training):
        conv = functools.partial(hk.Conv2D, self.channels, with_bias=False)
        norm = functools.partial(hk.BatchNorm, True, True, 0.9, eps=EPSILON)
        y = jax.nn.relu(norm(name="norm1")(conv(3, self.stride, name="conv1")(x), is_training))
        y = norm(name="norm2")(conv(3, name="conv2")(y), is_training)
        if self.stride > 1:
            x = conv(1, self.stride, name="conv3")(x)
        return jax.nn.relu(x + y)


def haiku_network(x, is_training):
    x = hk.Conv2D(8, 3, with_bias=False, name="stem")(x)
    x = jax.nn.relu(hk.BatchNorm(True, True, 0.9, eps=EPSILON, name="norm")(x, is_training))
    for name, _, channels, stride in BLOCKS:
        x = HaikuBlock(channels, stride, name=name)(x, is_training)
    return hk.Linear(CLASSES, name="head")(x.mean((1, 2)))


def haiku_variables(p):
    """Return the parameters and the state of `haiku_network`."""
    params, state = {"head": {"w": p["kernel"], "b": p["bias"]}, "stem": {"w": p["stem"]}}, {}

    def add_norm(path, values):
        scale, bias, mean, variance = values
        params[path] = {"scale": scale[None, None, None], "offset": bias[None, None, None]}
        for statistic, value in (("mean", mean), ("var", variance)):
            value = value[None, None, None]
            state[f"{path}/~/{statistic}_ema"] = {
                "average": value,
                "hidden": value,
                "counter": jnp.zeros((), jnp.int32),
            }

    add_norm("norm", p["norm"])
    for name, *_ in BLOCKS:
        for key, value in p[name].items():
            if key.startswith("norm"):
                add_norm(f"{name}/{key}", value)
            else:
                params[f"{name}/{key}"] = {"w": value}
    return params, state
