"""Decimals and intervals of accuracies, and tests of whether two experiments differ. n test images."""

import math

CONFIDENCE = 0.95


def decimals_of_share(images: int) -> int:
    """The decimals of a share in % of n test images: the fewest that tell one image more from one less, one or two.

    One up to n = 1,000, so that 36 of 37 are 97.3 and 37 of 37 are 100.0. The mean and the deviation over seeds get as many.
    """
    return 1 if images <= 1000 else 2


def wilson(share: float, images: int) -> tuple[float, float]:
    """The score interval at 95 % of a share (0 to 1) of n images, as shares.

    (p + z^2 / 2n -+ z sqrt(p (1 - p) / n + z^2 / 4n^2)) / (1 + z^2 / n): E. B. Wilson, Journal of the American Statistical Association 22
    (1927), 209-212.
    """
    z = 1.959963984540054  # of a normal variable, 97.5 % lie below
    middle = share + z * z / (2 * images)
    half = z * math.sqrt(share * (1 - share) / images + z * z / (4 * images * images))
    scale = 1 + z * z / images
    return max(0.0, (middle - half) / scale), min(1.0, (middle + half) / scale)


def mcnemar(only_first: int, only_second: int) -> float:
    """The exact two-sided p of McNemar's test (Psychometrika 12, 1947, 153-157) of two classifiers on the same images.

    Given are the images that one alone has right: were the classifiers equally good, each would be either's with probability 1/2.
    """
    from scipy.stats import binom

    return min(1.0, 2 * float(binom.cdf(min(only_first, only_second), only_first + only_second, 0.5)))


def welch(ours: list[float], theirs: list[float]) -> tuple[float, float, float, float]:
    """The difference of the means, its 95 % confidence interval, and the two-sided p of Welch's t-test.

    The test takes variances as unequal. NaN for interval and p where a side has one number or neither varies.
    """
    difference = sum(ours) / len(ours) - sum(theirs) / len(theirs)
    if min(len(ours), len(theirs)) < 2 or len(set(ours)) == len(set(theirs)) == 1:
        return difference, math.nan, math.nan, math.nan
    from scipy import stats

    test = stats.ttest_ind(ours, theirs, equal_var=False)
    interval = test.confidence_interval(CONFIDENCE)
    return difference, float(interval.low), float(interval.high), float(test.pvalue)


def holm(p_values: list[float]) -> list[float]:
    """Holm's correction of several tests of one question (Scandinavian Journal of Statistics 6, 1979, 65-70); NaN stays NaN and is
    not counted."""
    order = sorted((p, i) for i, p in enumerate(p_values) if not math.isnan(p))
    corrected, largest = [math.nan] * len(p_values), 0.0
    for smaller, (p, i) in enumerate(order):
        largest = max(largest, min(1.0, p * (len(order) - smaller)))
        corrected[i] = largest
    return corrected
