"""A convolutional code of rate 1/3 with 256 states, decoded by the Viterbi algorithm from soft values.

The generators 557, 663 and 711 (octal) are those of the largest free distance (Lin and Costello, Error Control Coding,
2nd edition, table 12.1).
"""

from __future__ import annotations

import numpy as np
from jaxtyping import Float64, Int8

_GENERATORS = (0o557, 0o663, 0o711)
_MEMORY = 8
_STATES = 2**_MEMORY


def _sent() -> Float64[np.ndarray, "registers 3"]:
    """Return the signs that each content of the register sends: +1 for a 0."""
    registers = np.arange(2 * _STATES)[:, None] & np.array(_GENERATORS)
    return np.asarray(1.0 - 2.0 * (np.bitwise_count(registers) & 1))


_SENT = _sent()
_NEXT = np.arange(_STATES)


def code_length(num_bits: int) -> int:
    """Return the number of signs that `encode` makes of so many bits: three each, and of those that end the code."""
    return (num_bits + _MEMORY) * len(_GENERATORS)


def encode(bits: np.ndarray) -> Int8[np.ndarray, " signs"]:
    """Return the signs, +1 or -1, of a sequence of bits, each 0 or 1."""
    register, rows = 0, []
    for bit in [*bits.tolist(), *[0] * _MEMORY]:
        register = (register << 1 | bit) & (2 * _STATES - 1)
        rows.append(register)
    return _SENT[rows].astype(np.int8).ravel()


def decode(soft: Float64[np.ndarray, " signs"]) -> np.ndarray:
    """Return the bits whose signs correlate most with `soft`: positive where +1 is likely, by how much it is."""
    metric = np.full(_STATES, -np.inf)
    metric[0] = 0.0
    # Two registers shift into each state: they differ in the bit that is shifted out.
    before, choices = (_NEXT >> 1, (_NEXT + _STATES) >> 1), []
    for step in soft.reshape(-1, len(_GENERATORS)):
        gain = _SENT @ step
        low, high = metric[before[0]] + gain[:_STATES], metric[before[1]] + gain[_STATES:]
        choices.append(high > low)
        metric = np.maximum(low, high)
    state, bits = 0, []
    for chosen in reversed(choices):
        bits.append(state & 1)
        state = (state + _STATES * int(chosen[state])) >> 1
    return np.array(bits[::-1][:-_MEMORY], dtype=np.uint8)
