"""How sure a mean over queries is, and how likely chance alone explains a difference."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

_RESAMPLES = 9999
_SEED = 0
_NUMBERS_AT_ONCE = 2_000_000  # resampled at a time, so that memory stays constant


@dataclass(frozen=True, slots=True)
class Estimate:
    """A measure of a ranking.

    Attributes:
        values: One for each query, in the collection's order.
        mean: Over the queries.
        interval: The mean's 95% confidence interval; None for fewer than two queries.
        p_value: Of the difference to the first stage, two-sided; None for the first stage itself,
            and for fewer than two queries.

    Example:
        >>> estimate = Estimate.of([0.5, 1.0, 0.75], baseline=[0.5, 1.0, 0.75])
        >>> estimate.mean, estimate.p_value
        (0.75, 1.0)
    """

    values: tuple[float, ...]
    mean: float
    interval: tuple[float, float] | None
    p_value: float | None

    @classmethod
    def of(cls, values: Sequence[float], baseline: Sequence[float] | None = None) -> Estimate:
        """Estimate the mean of some values.

        Args:
            values: One for each query.
            baseline: The first stage's, in the same order; None for the first stage itself.

        Raises:
            ValueError: There are no values, or not as many as in ``baseline``.

        Example:
            >>> Estimate.of([0.5, 1.0]).interval
            (0.5, 1.0)
        """
        if not values:
            raise ValueError("values is empty, expected one for each query.")
        mean = sum(values) / len(values)
        p_value = None if baseline is None else paired_p_value(values, baseline)
        return cls(tuple(values), mean, confidence_interval(values), p_value)


def confidence_interval(values: Sequence[float]) -> tuple[float, float] | None:
    """The 95% confidence interval of a mean, by the percentiles of a bootstrap over queries.

    Args:
        values: One for each query.

    Returns:
        Its ends; None for fewer than two values, which say nothing about the others.

    Example:
        >>> low, high = confidence_interval([0.0, 0.5, 0.5, 1.0])
        >>> 0 < low < 0.5 < high < 1
        True
    """
    if len(values) < 2:
        return None
    import numpy as np
    from scipy import stats

    interval = stats.bootstrap(
        (np.array(values),), np.mean, method="percentile", n_resamples=_RESAMPLES, batch=_batch(values), rng=_SEED
    ).confidence_interval
    return float(interval.low), float(interval.high)


def paired_p_value(values: Sequence[float], baseline: Sequence[float]) -> float | None:
    """The two-sided p-value of a mean difference, by a permutation test on each query's difference.

    This is Fisher's randomization test, which Smucker, Allan and Carterette recommend for comparing rankings
    ("A comparison of statistical significance tests for information retrieval evaluation", CIKM 2007), as
    ``scipy.stats.permutation_test`` computes it.

    Args:
        values: One for each query.
        baseline: What they are compared with, in the same order.

    Returns:
        A number in (0, 1]; None for fewer than two values.

    Raises:
        ValueError: ``values`` and ``baseline`` are not of one length.

    Example:
        >>> paired_p_value([0.9, 0.8, 0.7, 0.9, 0.8, 0.9], [0.4, 0.5, 0.1, 0.3, 0.2, 0.6])  # 2 of 2**6 sign patterns
        0.03125
    """
    if len(values) != len(baseline):
        raise ValueError(f"baseline has {len(baseline)} values, expected one for each of {len(values)} queries.")
    if len(values) < 2:
        return None
    import numpy as np
    from scipy import stats

    # Under the null hypothesis each query's difference could as well have the other sign.
    test = stats.permutation_test(
        (np.array(values) - np.array(baseline),),
        np.mean,
        permutation_type="samples",
        vectorized=True,
        n_resamples=_RESAMPLES,
        batch=_batch(values),
        rng=_SEED,
    )
    return float(test.pvalue)


def _batch(values: Sequence[float]) -> int:
    return max(1, _NUMBERS_AT_ONCE // len(values))
