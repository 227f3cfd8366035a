"""Small vision transformers with a class token, in the usual style of each library of JAX."""

import equinox as eqx
import jax
import jax.numpy as jnp
from flax import linen, nnx

SHAPE = (16, 16, 3)
PATCH, WIDTH, HEADS, DEPTH, CLASSES = 4, 8, 2, 3, 5
TOKENS = 1 + (SHAPE[0] // PATCH) ** 2


class LinenBlock(linen.Module):
    @linen.compact
    def __call__(self, x, deterministic=True):
        y = linen.LayerNorm(name="norm1")(x)
        attention = linen.MultiHeadDotProductAttention(HEADS, name="attention")
        x = x + attention(y, y, deterministic=deterministic)
        y = linen.Dense(2 * WIDTH, name="up")(linen.LayerNorm(name="norm2")(x))
        return x + linen.Dense(WIDTH, name="down")(linen.gelu(y))


class Step(linen.Module):
    """A block as the body of a scan."""

    @linen.compact
    def __call__(self, x, _):
        return LinenBlock(name="block")(x), None


class LinenViT(linen.Module):
    scanned: bool = False

    @linen.compact
    def __call__(self, x, train=True):
        x = linen.Conv(WIDTH, (PATCH, PATCH), (PATCH, PATCH), "VALID", name="patches")(x)
        x = x.reshape(len(x), -1, WIDTH)
        token = self.param("token", linen.initializers.normal(), (1, 1, WIDTH))
        x = jnp.concatenate([jnp.tile(token, (len(x), 1, 1)), x], axis=1)
        x = x + self.param("positions", linen.initializers.normal(), (1, TOKENS, WIDTH))
        if self.scanned:
            axes, split = {"params": 0}, {"params": True}
            blocks = linen.scan(linen.remat(Step), axes, split_rngs=split, length=DEPTH)
            x, _ = blocks(name="blocks")(x, None)
        else:
            for index in range(DEPTH):
                x = LinenBlock(name=f"blocks_{index}")(x, not train)
        return linen.Dense(CLASSES, name="head")(linen.LayerNorm(name="norm")(x)[:, 0])


class NnxBlock(nnx.Module):
    def __init__(self, rngs):
        self.norm1 = nnx.LayerNorm(WIDTH, rngs=rngs)
        self.attention = nnx.MultiHeadAttention(HEADS, WIDTH, decode=False, rngs=rngs)
        self.norm2 = nnx.LayerNorm(WIDTH, rngs=rngs)
        self.up = nnx.Linear(WIDTH, 2 * WIDTH, rngs=rngs)
        self.down = nnx.Linear(2 * WIDTH, WIDTH, rngs=rngs)

    def __call__(self, x):
        x = x + self.attention(self.norm1(x))
        return x + self.down(nnx.gelu(self.up(self.norm2(x))))


class NnxViT(nnx.Module):
    def __init__(self, rngs, *, scanned=False):
        self.patches = nnx.Conv(3, WIDTH, (PATCH, PATCH), PATCH, padding="VALID", rngs=rngs)
        self.token = nnx.Param(jax.random.normal(rngs.params(), (1, 1, WIDTH)))
        self.positions = nnx.Param(jax.random.normal(rngs.params(), (1, TOKENS, WIDTH)))
        self.scanned = scanned
        if scanned:
            make = nnx.vmap(NnxBlock, in_axes=0, out_axes=0)
            self.blocks = make(rngs.split(DEPTH))
        else:
            self.blocks = nnx.List([NnxBlock(rngs) for _ in range(DEPTH)])
        self.norm = nnx.LayerNorm(WIDTH, rngs=rngs)
        self.head = nnx.Linear(WIDTH, CLASSES, rngs=rngs)

    def __call__(self, x):
        x = self.patches(x).reshape(len(x), -1, WIDTH)
        token = jnp.broadcast_to(self.token[...], (len(x), 1, WIDTH))
        x = jnp.concatenate([token, x], axis=1) + self.positions[...]
        if self.scanned:
            run = nnx.scan(lambda x, block: block(x), in_axes=(nnx.Carry, 0), out_axes=nnx.Carry)
            x = run(x, self.blocks)
        else:
            for block in self.blocks:
                x = block(x)
        return self.head(self.norm(x)[:, 0])


class EqxBlock(eqx.Module):
    norm1: eqx.nn.LayerNorm
    attention: eqx.nn.MultiheadAttention
    norm2: eqx.nn.LayerNorm
    mlp: eqx.nn.MLP

    def __init__(self, key):
        one, two = jax.random.split(key)
        self.norm1, self.norm2 = eqx.nn.LayerNorm(WIDTH), eqx.nn.LayerNorm(WIDTH)
        self.attention = eqx.nn.MultiheadAttention(HEADS, WIDTH, key=one)
        self.mlp = eqx.nn.MLP(WIDTH, WIDTH, 2 * WIDTH, 1, jax.nn.gelu, key=two)

    def __call__(self, x):
        y = jax.vmap(self.norm1)(x)
        x = x + self.attention(y, y, y)
        return x + jax.vmap(self.mlp)(jax.vmap(self.norm2)(x))


class EqxViT(eqx.Module):
    patches: eqx.nn.Conv2d
    token: jax.Array
    positions: jax.Array
    blocks: list[EqxBlock] | EqxBlock
    norm: eqx.nn.LayerNorm
    head: eqx.nn.Linear

    def __init__(self, key, *, scanned=False):
        keys = jax.random.split(key, 5)
        self.patches = eqx.nn.Conv2d(3, WIDTH, PATCH, PATCH, key=keys[0])
        self.token = jax.random.normal(keys[1], (1, WIDTH))
        self.positions = jax.random.normal(keys[2], (TOKENS, WIDTH))
        each = jax.random.split(keys[3], DEPTH)
        self.blocks = eqx.filter_vmap(EqxBlock)(each) if scanned else [*map(EqxBlock, each)]
        self.norm = eqx.nn.LayerNorm(WIDTH)
        self.head = eqx.nn.Linear(WIDTH, CLASSES, key=keys[4])

    def __call__(self, x):
        x = self.patches(x).reshape(WIDTH, -1).T
        x = jnp.concatenate([self.token, x]) + self.positions
        if isinstance(self.blocks, EqxBlock):
            arrays, static = eqx.partition(self.blocks, eqx.is_array)
            x, _ = jax.lax.scan(lambda x, one: (eqx.combine(one, static)(x), None), x, arrays)
        else:
            for block in self.blocks:
                x = block(x)
        return self.head(self.norm(x[0]))
