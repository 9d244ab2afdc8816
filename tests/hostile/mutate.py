"""Seeded damage to good files: bits, bytes, cuts, splices, length fields."""

from __future__ import annotations

import random

INTERESTING = [0, 1, 0x7F, 0x80, 0xFF, 0x7FFF, 0xFFFF, 0x7FFFFFFF, 0x80000000, 0xFFFFFFFF, 2**40, 2**63 - 1, 2**63, 2**64 - 1]


def mutate(data: bytes, seed: int) -> bytes:
    """One to four kinds of damage, the same for the same seed."""
    rng = random.Random(seed)
    out = bytearray(data)
    for _ in range(rng.choice((1, 1, 1, 2, 2, 4))):
        if not out:
            break
        # headers and tables lie at both ends of these formats: two in three go there
        span = len(out) if rng.random() < 0.35 else min(len(out), 600)
        at = rng.randrange(span)
        if rng.random() < 0.3:
            at = len(out) - 1 - at
        kind = rng.randrange(9)
        if kind == 0:
            out[at] ^= 1 << rng.randrange(8)
        elif kind == 1:
            out[at] = rng.randrange(256)
        elif kind == 2:
            del out[at : at + rng.choice((1, 2, 4, 8, 64, 512))]
        elif kind == 3:
            out[at:at] = bytes(rng.randrange(256) for _ in range(rng.choice((1, 2, 4, 8, 64))))
        elif kind == 4:  # a length or an offset
            width = rng.choice((1, 2, 4, 8))
            out[at : at + width] = (rng.choice(INTERESTING) & (1 << 8 * width) - 1).to_bytes(width, "little")
        elif kind == 5:  # a piece again, elsewhere
            other = rng.randrange(len(out))
            piece = out[other : other + rng.choice((4, 16, 64, 256))]
            out[at : at + len(piece)] = piece
        elif kind == 6:
            del out[at:]
        elif kind == 7:
            width = rng.choice((4, 32, 256))
            out[at : at + width] = bytes([rng.choice((0, 255))]) * width
        else:  # a digit in a text
            digits = [i for i in range(at, min(len(out), at + 400)) if 48 <= out[i] <= 57]
            if digits:
                out[rng.choice(digits)] = rng.choice(b'0123456789-.e"]')
    return bytes(out)
