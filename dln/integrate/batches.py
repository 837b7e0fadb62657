"""The samples of each mini-batch and the noise on its labels, drawn outside of the kernels."""

import numpy as np

SAMPLINGS = ("replacement", "distinct", "epochs")

_BLOCK = 4096  # steps drawn at once, unless that are too many numbers
_NUMBERS = 2**19


class Batches:
    """A stream of batches.  What step k sees depends on the seed and on k alone, however the run is cut into pieces.

    Parameters
    ----------
    n_samples : int
    batch_size : int or None
        None is the full batch.
    sampling : {"replacement", "distinct", "epochs"}
        Independent uniform samples; samples distinct within a batch, batches independent; or one permutation of the data
        after another, cut into batches.
    label_noise : float
        Standard deviation of the noise.
    rng : numpy.random.Generator
    """

    def __init__(self, n_samples, batch_size, sampling, label_noise, rng):
        self.n_samples, self.batch_size, self.sampling, self.label_noise = n_samples, batch_size, sampling, label_noise
        size = n_samples if batch_size is None else batch_size
        widest = n_samples if sampling == "distinct" else size
        self.block = max(1, min(_BLOCK, _NUMBERS // widest))
        self.choices, self.noises = rng.spawn(2)
        self.drawn = -1
        self.indices = np.empty((0, 0), dtype=np.int64)
        self.noise = np.empty((0, 0))
        self.rest = np.empty(0, dtype=np.int64)

    def _choose(self):
        n, size = self.n_samples, self.batch_size
        if self.sampling == "replacement":
            return self.choices.integers(0, n, (self.block, size))
        if self.sampling == "distinct":
            return np.argpartition(self.choices.random((self.block, n)), size - 1, axis=1)[:, :size]
        wanted = self.block * size
        epochs = -(-max(0, wanted - self.rest.size) // n)
        stream = self.choices.permuted(np.tile(np.arange(n), (epochs, 1)), axis=1).ravel()
        stream = np.concatenate([self.rest, stream])
        self.rest = stream[wanted:]
        return stream[:wanted].reshape(self.block, size)

    def draw(self, first, count):
        """Return the indices (count, B) and noise (count, B) of steps from `first` on; go forward, within blocks.

        Without mini-batches the indices are (0, 0) and the noise is (count, N); without noise that is (0, 0).
        """
        number, start = divmod(first, self.block)
        while self.drawn < number:
            self.drawn += 1
            if self.batch_size is not None:
                self.indices = np.ascontiguousarray(self._choose(), dtype=np.int64)
                self.indices.flags.writeable = False
            if self.label_noise:
                size = self.n_samples if self.batch_size is None else self.batch_size
                self.noise = self.noises.standard_normal((self.block, size)) * self.label_noise
                self.noise.flags.writeable = False
        return (self.indices[start:start + count] if self.batch_size is not None else self.indices,
                self.noise[start:start + count] if self.label_noise else self.noise)
