"""How many inputs a fuzz test makes: 5,000 in `make test`, a million in `make fuzz` (marker `fuzz`)."""

import os
import random
from collections.abc import Iterator, Sequence

INPUTS = int(os.environ.get("IOT_TEST_FUZZ", "5000"))


def broken(seeds: Sequence[bytes], tokens: Sequence[bytes], count: int, seed: int) -> Iterator[bytes]:
    """`count` inputs, the same for the same seed: good inputs with one to four mutations, and a few inputs of noise."""
    chance = random.Random(seed)
    for _ in range(count):
        made = chance.choice(seeds)
        for _ in range(chance.choice((0, 1, 1, 1, 2, 2, 4))):
            made = _mutated(chance, made, seeds, tokens)
        yield made


def _mutated(chance: random.Random, made: bytes, seeds: Sequence[bytes], tokens: Sequence[bytes]) -> bytes:
    at, token = chance.randrange(len(made) + 1), chance.choice(tokens)
    match chance.randrange(9):
        case 0 if made:
            at = chance.randrange(len(made))
            return made[:at] + bytes([made[at] ^ (1 << chance.randrange(8))]) + made[at + 1 :]
        case 1:
            return made[:at]
        case 2:
            return made[:at] + made[at + chance.randrange(1, 8) :]
        case 3:
            return made[:at] + made[at:] + chance.choice(seeds)
        case 4:
            other = chance.choice(tokens)
            return made.replace(token, other, chance.randrange(1, 3))
        case 5 if chance.random() < 0.1:
            return chance.randbytes(chance.randrange(60))
    return made[:at] + token + made[at:]
