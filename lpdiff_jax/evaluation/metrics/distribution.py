"""How far two sets of images are apart, by their Inception features: FID and KID.

FID: Heusel et al., "GANs Trained by a Two Time-Scale Update Rule" (NeurIPS 2017). KID: Binkowski
et al., "Demystifying MMD GANs" (ICLR 2018). FID is biased upwards on few images; KID is not.
"""

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

    Image i of both sets shows the same plate, so pairs (i, i) are no independent draws and are
    left out (Gretton et al., "A Kernel Two-Sample Test", JMLR 2012, lemma 6, equal sizes).

    Args:
      a: float [images, features], two images at least.
      b: features of the same plates in the other set, in the same order.
      seed: the seed of the choice of plates, if there are more than `KID_IMAGES`.

    Returns:
      The distance and its standard error (jackknife over plates; NaN for two).
    """
    if len(a) > KID_IMAGES:
        chosen = np.random.default_rng(seed).choice(len(a), KID_IMAGES, replace=False)
        a, b = a[chosen], b[chosen]
    a, b = a.astype(np.float64), b.astype(np.float64)
    count = len(a)
    pairs = _kernel(a, a) + _kernel(b, b) - _kernel(a, b) - _kernel(b, a)
    np.fill_diagonal(pairs, 0)
    total = pairs.sum()
    value = float(total / (count * (count - 1)))
    if count < 3:
        return value, float("nan")
    without = (total - 2 * pairs.sum(axis=0)) / ((count - 1) * (count - 2))
    error = np.sqrt((count - 1) * np.mean((without - without.mean()) ** 2))
    return value, float(error)


def _kernel(a: np.ndarray, b: np.ndarray) -> np.ndarray:
    return np.asarray((a @ b.T / a.shape[1] + 1) ** 3)
