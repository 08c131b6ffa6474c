"""Which byte ranges to read in one piece: a request to a store costs more than the bytes between two neighbours."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

_MOST_WASTE = 8  # bytes between ranges, read for nothing, are at most an eighth of those asked for


@dataclass(frozen=True, slots=True)
class Span:
    """Bytes `start` to `end` - 1 of a file."""

    url: str
    start: int
    end: int


def merge_ranges(urls: Sequence[str], starts: Sequence[int], lengths: Sequence[int]) -> tuple[list[Span], list[int]]:
    """Spans that cover all ranges, and for each range the position of its span.

    Ranges that touch are joined; so are the nearest neighbours, as long as all the bytes between them together are at
    most an eighth of the bytes asked for.
    """
    order = sorted(range(len(urls)), key=lambda i: (urls[i], starts[i]))
    gaps: list[tuple[int, int]] = []  # (bytes, position in `order` of the range after the gap)
    ends: list[int] = []  # of the file's ranges so far
    for at, i in enumerate(order):
        end = starts[i] + lengths[i]
        if at and urls[i] == urls[order[at - 1]]:
            gaps.append((max(starts[i] - ends[-1], 0), at))
            end = max(end, ends[-1])
        ends.append(end)
    joined, budget = set(), sum(lengths) // _MOST_WASTE
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
