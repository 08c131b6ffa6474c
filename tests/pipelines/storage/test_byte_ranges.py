import numpy as np

from pipelines.storage.byte_ranges import Span, merge_ranges


def test_touching_and_overlapping_ranges_are_one() -> None:
    spans, places = merge_ranges(["f", "f", "g", "f"], [10, 0, 0, 15], [10, 10, 5, 20])
    assert spans == [Span("f", 0, 35), Span("g", 0, 5)]
    assert places == [0, 0, 1, 0]


def test_the_nearest_neighbours_are_joined_within_an_eighth_of_the_bytes() -> None:
    # 800 bytes asked for: 100 may be wasted. The gaps are 60, 50 and 40 bytes; only the last two fit.
    spans, places = merge_ranges(["f"] * 4, [0, 260, 510, 750], [200] * 4)
    assert spans == [Span("f", 0, 200), Span("f", 260, 950)]
    assert places == [0, 1, 1, 1]


def test_far_ranges_stay_apart() -> None:
    spans, _ = merge_ranges(["f", "f"], [0, 1000], [100, 100])
    assert spans == [Span("f", 0, 100), Span("f", 1000, 1100)]


def test_spans_cover_every_range_and_never_cost_more_than_an_eighth() -> None:
    rng = np.random.default_rng(0)
    for _ in range(50):
        starts, lengths = rng.integers(0, 5000, 40).tolist(), rng.integers(1, 80, 40).tolist()
        urls = rng.choice(["a", "b"], 40).tolist()
        spans, places = merge_ranges(urls, starts, lengths)
        for url, start, length, place in zip(urls, starts, lengths, places, strict=True):
            span = spans[place]
            assert (span.url, span.start <= start, start + length <= span.end) == (url, True, True)
        assert sum(span.end - span.start for span in spans) <= sum(lengths) * 9 / 8
