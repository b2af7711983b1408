"""When a class is there: spans of time, from its scores at single moments."""

from collections.abc import Iterable
from dataclasses import dataclass

#: How far under its threshold a score may fall without ending the span.
SLACK = 0.1
#: Seconds that it may be lower still.
GAP = 1.0


@dataclass(frozen=True)
class Span:
    """From ``start`` to ``end``, in seconds; ``score`` is the highest in it."""

    start: float
    end: float
    score: float


def find_spans(scores: Iterable[tuple[float, float]], threshold: float, step: float) -> list[Span]:
    """The spans in which a class is there, with hysteresis.

    A span begins at a frame whose score reaches the threshold. It goes on over frames whose score is at most 0.1 lower
    than the threshold, and over lower ones for one second at most. It ends a step after its last frame.

    Args:
        scores: times in seconds, ascending, and the class's score there.
        threshold: of its presence.
        step: seconds from one frame to the next.
    """
    spans: list[Span] = []
    start = last = best = 0.0
    inside = False
    for seconds, score in scores:
        if inside and seconds - last > GAP + step:
            spans.append(Span(start, last + step, best))
            inside = False
        if inside and score >= threshold - SLACK:
            last, best = seconds, max(best, score)
        elif not inside and score >= threshold:
            start, last, best, inside = seconds, seconds, score, True
    return [*spans, Span(start, last + step, best)] if inside else spans
