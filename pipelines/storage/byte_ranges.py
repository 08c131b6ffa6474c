"""Merge byte ranges into fewer requests: a request to a store costs more than reading a small gap between two ranges.

Hand-written: `fsspec.utils.merge_offset_ranges` merges by a fixed gap per pair and by block size, which does not bound
the bytes read in vain; here they are at most an eighth of those asked for.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

_WASTE_DIVISOR = 8  # the bytes of all gaps that are read are at most an eighth of those asked for


@dataclass(frozen=True, slots=True)
class Span:
    """Bytes `start` to `end` - 1 of a file."""

    url: str
    start: int
    end: int


def merge_ranges(urls: Sequence[str], starts: Sequence[int], lengths: Sequence[int]) -> tuple[list[Span], list[int]]:
    """Return spans that cover all ranges, and for each range the position of its span.

    Ranges that touch or overlap are joined. So are neighbours, those with the smallest gaps first, as long as the gaps
    add up to at most an eighth of the bytes asked for.
    """
    order = sorted(range(len(urls)), key=lambda i: (urls[i], starts[i]))
    gaps: list[tuple[int, int]] = []  # (bytes, position in `order` of the range after the gap)
    ends: list[int] = []  # largest end of the file's ranges so far
    for at, i in enumerate(order):
        end = starts[i] + lengths[i]
        if at and urls[i] == urls[order[at - 1]]:
            gaps.append((max(starts[i] - ends[-1], 0), at))
            end = max(end, ends[-1])
        ends.append(end)
    joined, budget = set(), sum(lengths) // _WASTE_DIVISOR
    for gap, at in sorted(gaps):
        budget -= gap
        if budget < 0:
            break
        joined.add(at)
    spans: list[Span] = []
    places = [0] * len(urls)
    for at, i in enumerate(order):
        if at in joined:
            spans[-1] = Span(urls[i], spans[-1].start, ends[at])
        else:
            spans.append(Span(urls[i], starts[i], starts[i] + lengths[i]))
        places[i] = len(spans) - 1
    return spans, places
