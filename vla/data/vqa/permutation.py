"""An order of any number of things, one place at a time: nothing of the size of the dataset is ever held."""

from vla.data.loader import mix_seed

_ROUNDS = 6


class Permutation:
    """
    A shuffled order of 0, 1, ..., size - 1; the same for the same seed and epoch.

    A Feistel cipher over the least even number of bits that hold `size`; what falls outside is enciphered again.

    Args:
        size: at least 1.
        seed, epoch: of the order.
    """

    def __init__(self, size: int, seed: int, epoch: int) -> None:
        if size < 1:
            raise ValueError(f"an order needs at least one place, got {size}")
        self.size = size
        self._half = max(1, ((size - 1).bit_length() + 1) // 2)
        self._mask = (1 << self._half) - 1
        self._keys = [mix_seed(seed, epoch, turn) for turn in range(_ROUNDS)]

    def __getitem__(self, place: int) -> int:
        """What comes at `place`, in [0, size)."""
        if not 0 <= place < self.size:
            raise IndexError(f"no place {place} of {self.size}")
        value = self._encipher(place)
        while value >= self.size:
            value = self._encipher(value)
        return value

    def _encipher(self, value: int) -> int:
        left, right = value >> self._half, value & self._mask
        for key in self._keys:
            scrambled = ((right ^ key) * 0x9E3779B97F4A7C15 + (key >> 7)) & 0xFFFFFFFFFFFFFFFF
            left, right = right, left ^ ((scrambled >> 32) & self._mask)
        return left << self._half | right
