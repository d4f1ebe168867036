"""How far two sets of images are apart, by their Inception features: FID and KID.

FID: Heusel et al., "GANs Trained by a Two Time-Scale Update Rule" (NeurIPS 2017). KID: Binkowski
et al., "Demystifying MMD GANs" (ICLR 2018). FID is biased upwards on few images; KID is not.
"""

from dataclasses import dataclass

import numpy as np

# Published FIDs use tens of thousands of images; below this many the bias is not to be ignored.
FEW_IMAGES = 10_000
# More would narrow KID's interval little, and take memory by their square.
KID_IMAGES = 4096


def fid(a: np.ndarray, b: np.ndarray) -> float:
    """Frechet distance of the Gaussians fitted to two sets of features.

    Args:
      a: float [images, features], two images at least.
      b: the same of the other set.
    """
    a, b = a.astype(np.float64), b.astype(np.float64)
    centred = [(x - x.mean(axis=0)) / np.sqrt(len(x) - 1) for x in (a, b)]
    # The covariances are X^T X and Y^T Y, so the square roots of the eigenvalues of their
    # product are the singular values of X Y^T: exact, never complex, and small for few images.
    cross = np.linalg.svd(_small(centred[0]) @ _small(centred[1]).T, compute_uv=False).sum()
    spread = sum(float(np.sum(x**2)) for x in centred)
    return float(np.sum((a.mean(axis=0) - b.mean(axis=0)) ** 2) + spread - 2 * cross)


def _small(x: np.ndarray) -> np.ndarray:
    """Returns R with R^T R = x^T x and as few rows as that takes."""
    return np.asarray(np.linalg.qr(x, mode="r")) if len(x) > x.shape[1] else x


def frechet_distance(
    mean_a: np.ndarray, covariance_a: np.ndarray, mean_b: np.ndarray, covariance_b: np.ndarray
) -> float:
    """Frechet distance of two Gaussians of given means [d] and covariances [d, d]."""
    roots = [_factor(covariance) for covariance in (covariance_a, covariance_b)]
    cross = np.linalg.svd(roots[0] @ roots[1].T, compute_uv=False).sum()
    distance = np.sum((mean_a - mean_b) ** 2)
    return float(distance + np.trace(covariance_a) + np.trace(covariance_b) - 2 * cross)


def _factor(covariance: np.ndarray) -> np.ndarray:
    """Returns R with R^T R = covariance, which may be singular."""
    values, vectors = np.linalg.eigh(covariance)
    return np.sqrt(np.maximum(values, 0))[:, None] * vectors.T


def kid(a: np.ndarray, b: np.ndarray, seed: int = 0) -> tuple[float, float]:
    """Kernel distance of two sets of features: unbiased squared MMD, cubic kernel.

    Args:
      a: float [images, features], two images at least.
      b: features of as many images, image i that of the same plate as in `a`.
      seed: of the choice of images, where there are more than `KID_IMAGES`.

    Returns:
      The distance and its standard error (jackknife over plates).
    """
    if len(a) > KID_IMAGES:
        chosen = np.random.default_rng(seed).choice(len(a), KID_IMAGES, replace=False)
        a, b = a[chosen], b[chosen]
    a, b = a.astype(np.float64), b.astype(np.float64)
    within = [_Kernel.within(x) for x in (a, b)]
    between = _Kernel.between(a, b)
    value = sum(kernel.mean() for kernel in within) - 2 * between.mean()
    count = len(a)
    if count < 3:
        return float(value), float("nan")
    without = sum(kernel.means_without() for kernel in within) - 2 * between.means_without()
    error = np.sqrt((count - 1) * np.mean((without - without.mean()) ** 2))
    return float(value), float(error)


@dataclass(frozen=True)
class _Kernel:
    """Sums over pairs of images: what the means need, all together and without any one plate."""

    total: float
    of_plate: np.ndarray  # what each plate adds to the total
    pairs: int
    pairs_without: int

    @classmethod
    def within(cls, x: np.ndarray) -> "_Kernel":
        """Pairs of two different images of one set."""
        matrix = _kernel(x, x)
        np.fill_diagonal(matrix, 0)
        n = len(x)
        of_plate = 2 * matrix.sum(axis=0)
        return cls(float(matrix.sum()), of_plate, n * (n - 1), (n - 1) * (n - 2))

    @classmethod
    def between(cls, a: np.ndarray, b: np.ndarray) -> "_Kernel":
        """Pairs of an image of one set and one of the other."""
        matrix = _kernel(a, b)
        n = len(a)
        of_plate = matrix.sum(axis=0) + matrix.sum(axis=1) - np.diagonal(matrix)
        return cls(float(matrix.sum()), of_plate, n * n, (n - 1) ** 2)

    def mean(self) -> float:
        """The mean over all pairs."""
        return self.total / self.pairs

    def means_without(self) -> np.ndarray:
        """The mean over the pairs that are left without each plate, [plates]."""
        return (self.total - self.of_plate) / self.pairs_without


def _kernel(a: np.ndarray, b: np.ndarray) -> np.ndarray:
    return np.asarray((a @ b.T / a.shape[1] + 1) ** 3)
