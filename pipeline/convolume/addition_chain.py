"""The order in which a box is summed: an addition chain, so that sums of neighbours make longer ones."""

from __future__ import annotations

from functools import cache
from itertools import pairwise

__all__ = ["addition_chain", "additions", "completed_sums"]

# Beyond, a chain is that of half the size, doubled: the tree has as many branches as it has numbers.
_MOST_OF_TREE = 1024


@cache
def addition_chain(size: int) -> tuple[int, ...]:
    """Return the lengths of the sums that one of `size` neighbours is made of, from 1 up.

    Each length is the one before it and one of those before: a path of Knuth's power tree (The Art of Computer
    Programming, 4.6.3), which is as short as a chain can be up to 76 and hardly longer beyond.

    Parameters
    ----------
    size : int
        Neighbours, 1 or more.

    Examples
    --------
    >>> addition_chain(8), addition_chain(15)
    ((1, 2, 4, 8), (1, 2, 3, 5, 10, 15))
    """
    if size > _MOST_OF_TREE:
        half = addition_chain(size // 2)
        doubled = (*half, 2 * half[-1])
        return doubled if doubled[-1] == size else (*doubled, size)
    before = _power_tree()
    chain = [size]
    while chain[-1] > 1:
        chain.append(before[chain[-1]])
    return tuple(reversed(chain))


@cache
def additions(size: int) -> tuple[tuple[int, int], ...]:
    """Return what each sum of the chain is added up from: lengths of the earlier neighbours and of the later ones.

    With ``S_1 = in``, a pair of a and b means ``S_{a+b}[i] = S_a[i] + S_b[i + a]``.

    Examples
    --------
    >>> additions(15)
    ((1, 1), (2, 1), (3, 2), (5, 5), (10, 5))
    """
    chain = addition_chain(size)
    return tuple((first, both - first) for first, both in pairwise(chain))


def completed_sums(size: int) -> tuple[int, ...]:
    """Return how many sums each of so many neighbours completes where they come one by one.

    Examples
    --------
    >>> completed_sums(5)
    (0, 1, 1, 0, 2)
    """
    completed: dict[int, tuple[int, ...]] = {1: (0,)}
    for first, second in additions(size):
        *others, last = completed[first] + completed[second]
        completed[first + second] = (*others, last + 1)
    return completed[size]


@cache
def _power_tree() -> dict[int, int]:
    """Return for each number the one that it grows from: level by level, by what stands on the way to it, 1 first."""
    before, level = {1: 0}, [1]
    while level:
        grown = []
        for number in level:
            way, place = [], number
            while place:
                way.append(place)
                place = before[place]
            for step in reversed(way):
                if number + step <= _MOST_OF_TREE and number + step not in before:
                    before[number + step] = number
                    grown.append(number + step)
        level = grown
    return before
