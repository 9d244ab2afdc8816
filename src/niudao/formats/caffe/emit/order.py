"""Other orders of axes: Permute in forks; plain Caffe gets the same by cutting along one block of axes and joining along another."""

from __future__ import annotations

import heapq
from collections.abc import Iterator, Sequence
from itertools import pairwise
from math import prod

from niudao.formats.caffe.emit.graph import Dim, Net, Top, refuse
from niudao.formats.caffe.emit.view import reshaped

_MOST = 300
"""A transposition that needs more pieces than this is refused: nobody wants such a prototxt."""
_DIRECT = 64
"""Up to this many pieces an axis is cut at once; a longer one goes factor by factor (64 * 81 = 8 * 8 * 9 * 9)."""


def permuted(net: Net, x: Top, order: Sequence[int]) -> Top:
    """x.transpose(order), exact.

    Args:
        net: The network.
        x: The blob.
        order: For each axis of the result the axis of `x` it was; the free batch stays first.

    Raises:
        Refused: The free batch moves, or far too many pieces are needed.
    """
    order = [int(i) for i in order]
    shape = tuple(x.shape[i] for i in order)
    if order == sorted(order):
        return x
    if x.shape[0] is None and order[0] != 0:
        refuse("it moves the batch to another axis", "perm", "fix the batch (--batch)")
    kept = [i for i in range(x.rank) if x.shape[i] != 1]
    wanted = [i for i in order if x.shape[i] != 1]
    if kept == wanted:  # only axes of size 1 move
        return reshaped(net, x, shape)
    if net.knows("Permute"):
        return net.layer("Permute", x, {"permute_param": {"order": order}}, shape=shape)
    groups = _groups(wanted, kept, keep_first=x.shape[0] is None)
    sizes: list[Dim] = [None if x.shape[g[0]] is None else prod(x.shape[i] or 1 for i in g) for g in groups]
    start = tuple(sorted(range(len(groups)), key=lambda k: groups[k][0]))
    steps = _plan(start, tuple(range(len(groups))), sizes)
    if steps is None:
        refuse(f"plain Caffe has no transposition, and this one would need more than {_MOST} pieces", "perm", "name the fork: Permute")
    net.note("another order of axes by cutting along one axis and joining along the other")
    at = list(start)
    for i, j, k in steps:
        before, a, b, after = at[:i], at[i:j], at[j:k], at[k:]
        x = _swapped(net, x, *([sizes[g] for g in part] for part in (before, a, b, after)))
        at = before + b + a + after
    return reshaped(net, x, shape)


def _groups(wanted: list[int], kept: list[int], keep_first: bool) -> list[list[int]]:
    """Runs of axes that stay side by side, in the order of the result; the free batch is a run of its own."""
    follows = dict(pairwise(kept))
    groups: list[list[int]] = []
    for i in wanted:
        if groups and follows.get(groups[-1][-1]) == i and not (keep_first and groups[-1][-1] == 0):
            groups[-1].append(i)
        else:
            groups.append([i])
    return groups


def _plan(start: tuple[int, ...], goal: tuple[int, ...], sizes: list[Dim]) -> list[tuple[int, int, int]] | None:
    """The swaps of neighbouring blocks [i:j] and [j:k] that need the fewest pieces, or None."""
    queue: list[tuple[int, tuple[int, ...], list[tuple[int, int, int]]]] = [(0, start, [])]
    done: set[tuple[int, ...]] = set()
    while queue:
        cost, at, steps = heapq.heappop(queue)
        if at == goal:
            return steps
        if at in done or len(done) > 5000:
            continue
        done.add(at)
        for i, j, k, price in _moves(at, sizes):
            if cost + price <= _MOST:
                heapq.heappush(queue, (cost + price, at[:i] + at[j:k] + at[i:j] + at[k:], [*steps, (i, j, k)]))
    return None


def _moves(at: tuple[int, ...], sizes: list[Dim]) -> Iterator[tuple[int, int, int, int]]:
    first = 1 if any(sizes[g] is None for g in at) else 0
    for i in range(first, len(at)):
        for j in range(i + 1, len(at)):
            for k in range(j + 1, len(at) + 1):
                a, b = prod(sizes[g] or 1 for g in at[i:j]), prod(sizes[g] or 1 for g in at[j:k])
                pieces = min(sum(_factors(a)), sum(_factors(b)))
                yield i, j, k, pieces + 4


def _factors(size: int) -> list[int]:
    """Sizes whose product is `size`, each no more than can be cut at once where that is possible."""
    if size <= _DIRECT:
        return [size]
    primes = []
    left, p = size, 2
    while p * p <= left:
        while left % p == 0:
            primes.append(p)
            left //= p
        p += 1
    if left > 1:
        primes.append(left)
    found: list[int] = []
    for q in sorted(primes, reverse=True):
        k = next((k for k, f in enumerate(found) if f * q <= 16), None)
        if k is None:
            found.append(q)
        else:
            found[k] *= q
    return found


def _swapped(net: Net, x: Top, before: list[Dim], a: list[Dim], b: list[Dim], after: list[Dim]) -> Top:
    """(before, a, b, after) -> (before, b, a, after), each block of axes one axis of the result."""
    left: list[Dim] = [None] if None in before else []
    rest = prod(d for d in before if d is not None)
    left = left + ([rest] if rest > 1 or not left else [])
    right = prod(d or 1 for d in after)
    size_a, size_b = prod(d or 1 for d in a), prod(d or 1 for d in b)
    behind = sum(_factors(size_a)) <= sum(_factors(size_b))  # a moves behind b, its last factor first
    p = len(left)
    if behind:
        done = 1
        factors = _factors(size_a)
        todo = size_a
        for f in reversed(factors):  # (left * todo/f, f, b, done * right) -> (left * todo/f, b, f, done * right)
            todo //= f
            x = reshaped(net, x, (*left, todo, f, size_b, 1, done * right))
            x = net.concat(net.slices(x, p + 1, range(1, f), "_slice"), p + 3, "_concat")
            done *= f
    else:
        done = 1
        factors = _factors(size_b)
        todo = size_b
        for f in factors:  # (left * done, a, f, todo/f * right) -> (left * done, f, a, todo/f * right)
            todo //= f
            x = reshaped(net, x, (*left, done, 1, size_a, f, todo * right))
            x = net.concat(net.slices(x, p + 3, range(1, f), "_slice"), p + 1, "_concat")
            done *= f
    return reshaped(net, x, (*left, size_b, size_a, right))
