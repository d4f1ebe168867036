"""How far two sets of images are apart, by their Inception features: FID and KID.

FID: Heusel et al., "GANs Trained by a Two Time-Scale Update Rule" (NeurIPS 2017). KID: Binkowski
et al., "Demystifying MMD GANs" (ICLR 2018). FID is biased upwards on few images; KID is not.
"""

import numpy as np

# Published FIDs use tens of thousands of images; below this many the bias is not to be ignored.
FEW_IMAGES = 10_000
KID_SUBSETS = 100
KID_SUBSET_SIZE = 1000


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
    return np.linalg.qr(x, mode="r") if len(x) > x.shape[1] else x


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
      b: the same of the other set.
      seed: of the subsets.

    Returns:
      Mean and standard deviation over random subsets of at most `KID_SUBSET_SIZE` images.
    """
    generator = np.random.default_rng(seed)
    size = min(len(a), len(b), KID_SUBSET_SIZE)
    if size == len(a) == len(b):
        return _squared_mmd(a, b), float("nan")
    values = [
        _squared_mmd(*(x[generator.choice(len(x), size, replace=False)] for x in (a, b)))
        for _ in range(KID_SUBSETS)
    ]
    return float(np.mean(values)), float(np.std(values))


def _squared_mmd(a: np.ndarray, b: np.ndarray) -> float:
    a, b = a.astype(np.float64), b.astype(np.float64)
    within = sum(_mean_off_diagonal(_kernel(x, x)) for x in (a, b))
    return within - 2 * float(_kernel(a, b).mean())


def _kernel(a: np.ndarray, b: np.ndarray) -> np.ndarray:
    return (a @ b.T / a.shape[1] + 1) ** 3


def _mean_off_diagonal(matrix: np.ndarray) -> float:
    count = len(matrix)
    return float((matrix.sum() - np.trace(matrix)) / (count * (count - 1)))
