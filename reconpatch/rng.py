"""One seed per run; every consumer draws from a stream of its own, so none disturbs another."""

import zlib

import numpy as np


def named_rng(seed: int, name: str) -> np.random.Generator:
    """(run seed, consumer's name) -> generator, independent of every other name's generator.

    The name enters through its CRC-32, which, unlike `hash`, is the same in every process.
    """
    return np.random.default_rng([seed, zlib.crc32(name.encode())])
