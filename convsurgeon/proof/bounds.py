r"""How far two correct evaluations of one sum of products can lie apart.

Let y = b + sum of n products w_i x_i, computed in floating point with unit roundoff u, in any order
of summation, fused or not. Then the computed y^ satisfies

    |y^ - y|  <=  gamma(n + 1) * (|b| + sum |w_i| |x_i|),     gamma(m) = m u / (1 - m u)

(N. J. Higham, *Accuracy and Stability of Numerical Algorithms*, 2nd ed., SIAM 2002, section 3.1,
equations (3.4) and (3.5), with the bias as one more term). Two evaluations of the same y in two
orders therefore differ by at most twice that. The sum of magnitudes is itself computed in floating
point, low by at most a factor 1 - gamma(n + 1); dividing by it makes the bound rigorous.

That is without underflow. A product that underflows is wrong by at most half the smallest
positive number, 2**-1074 (ibid., section 2.1), in either evaluation; sums of such numbers are
exact. `underflow` adds that; overflow is kept away by scaling the weights.

It does not hold for algorithms that are no sums of these products (Winograd, FFT); torch's float64
convolutions on the CPU use none.
"""

from __future__ import annotations

UNIT_ROUNDOFF_FLOAT64 = 2.0**-53
SMALLEST_FLOAT64 = 2.0**-1074


def gamma(terms: int) -> float:
    """Return m u / (1 - m u) for float64.

    Raises:
        ValueError: if m u is not small; no layer has 2**52 inputs.
    """
    product = terms * UNIT_ROUNDOFF_FLOAT64
    if not 0 <= product < 0.5:
        raise ValueError(f"{terms} terms are too many for the bound")
    return product / (1 - product)


def underflow(products: int) -> float:
    """Return what underflowing products add to the difference of two evaluations."""
    return (products + 1) * SMALLEST_FLOAT64


def factor(products: int) -> float:
    """Return what the computed sum of magnitudes is multiplied with to bound the difference.

    Args:
        products: number of products in the sum, the bias not counted.
    """
    g = gamma(products + 1)
    return 2 * g / (1 - g)
