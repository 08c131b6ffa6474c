"""The code of rate 1/3: what it sends, and that it corrects errors."""

from __future__ import annotations

import numpy as np

from pipelines.provenance.convolutional_code import code_length, decode, encode


def test_a_single_bit_sends_the_generators() -> None:
    # 557, 663 and 711 (octal) in binary, the lowest digit first: what a 1 adds while it shifts through the register.
    first, second, third = "111101101", "110011011", "100100111"
    sent = "".join(a + b + c for a, b, c in zip(first, second, third, strict=True))
    assert "".join("1" if sign < 0 else "0" for sign in encode(np.array([1]))) == sent
    assert code_length(1) == len(sent)


def test_every_seventh_sign_wrong_or_noise_of_their_own_size_is_corrected() -> None:
    random = np.random.default_rng(1)
    bits = random.integers(0, 2, 64).astype(np.uint8)
    sent = encode(bits).astype(np.float64)
    assert len(sent) == code_length(64) == 216
    wrong = sent.copy()
    wrong[::7] *= -1  # 31 of 216, far apart
    assert decode(wrong).tolist() == bits.tolist()
    assert decode(sent + random.standard_normal(216)).tolist() == bits.tolist()
