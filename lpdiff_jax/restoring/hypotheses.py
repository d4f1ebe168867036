"""The likeliest texts of a plate, with their probabilities, from a reading head's slots."""

import functools
import math
from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np

from data_pipeline.synthetic.styles import load_style, style_names
from data_pipeline.synthetic.texts import CLASSES

# How a state ends where no text of the syntax goes on.
_DEAD = -1


@dataclass(frozen=True)
class Hypotheses:
    """The N best texts of a plate.

    Attributes:
      texts: best first.
      probabilities: of each, given that the plate's text keeps the syntax.
      allowed: the probability that the head gives to all texts of the syntax together.
    """

    texts: tuple[str, ...]
    probabilities: tuple[float, ...]
    allowed: float

    @property
    def total(self) -> float:
        """Probability that the text is among them."""
        return math.fsum(self.probabilities)


@dataclass(frozen=True, eq=False)
class Syntax:
    """Which texts there are: a deterministic automaton over a head's classes.

    Attributes:
      charset: the character of class 1, 2, ...; class 0 is an empty slot, behind the text.
      moves: int [states, C]: the state after each class, or -1; it begins in state 0.
      ends: bool [states]: whether a text may end there.
    """

    charset: str
    moves: np.ndarray
    ends: np.ndarray

    @classmethod
    def any_text(cls, charset: str) -> "Syntax":
        """Every text."""
        moves = np.zeros((2, len(charset) + 1), int)
        moves[:, 0] = 1
        moves[1, 1:] = _DEAD
        return cls(charset, moves, np.array([True, True]))

    @classmethod
    def of_plates(cls, charset: str) -> "Syntax":
        """The texts of all plate styles that come with the package (`data_pipeline.synthetic`)."""
        return _of_patterns(charset, _patterns())

    def best(self, slots: np.ndarray, count: int) -> Hypotheses:
        """The likeliest texts of one plate: k-best Viterbi over the automaton.

        Args:
          slots: probabilities [S, C] of the slots' classes, independent of each other.
          count: N.
        """
        states = len(self.moves)
        # Of every state the N best ways to it: their probabilities, and their classes so far.
        chances = [np.ones(1) if s == 0 else np.zeros(0) for s in range(states)]
        ways = [np.zeros((len(c), 0), int) for c in chances]
        for slot in np.asarray(slots, np.float64):
            into: list[list[tuple[np.ndarray, np.ndarray]]] = [[] for _ in range(states)]
            for state in range(states):
                if len(chances[state]):
                    self._spread(state, chances[state], ways[state], slot, into)
            chances, ways = zip(*(_top(entries, count) for entries in into), strict=True)
        ended = [(chances[s], ways[s]) for s in np.flatnonzero(self.ends) if len(chances[s])]
        chance, way = _top(ended, count)
        allowed = self.mass(slots)
        texts = tuple("".join(self.charset[k - 1] for k in row if k) for row in way)
        shares = chance / allowed if allowed > 0 else np.zeros_like(chance)
        return Hypotheses(texts, tuple(map(float, np.minimum(shares, 1.0))), allowed)

    def mass(self, slots: np.ndarray) -> float:
        """The probability of all texts of the syntax together."""
        weight = np.zeros(len(self.moves))
        weight[0] = 1.0
        for slot in np.asarray(slots, np.float64):
            after = np.zeros_like(weight)
            for state in np.flatnonzero(weight):
                go = self.moves[state] != _DEAD
                np.add.at(after, self.moves[state, go], weight[state] * slot[go])
            weight = after
        return float(weight[self.ends].sum())

    def _spread(
        self,
        state: int,
        chance: np.ndarray,
        way: np.ndarray,
        slot: np.ndarray,
        into: list[list[tuple[np.ndarray, np.ndarray]]],
    ) -> None:
        """Adds the ways on from a state to those into the states behind it."""
        for after in np.unique(self.moves[state][self.moves[state] != _DEAD]):
            kinds = np.flatnonzero(self.moves[state] == after)
            chances = chance[:, None] * slot[kinds]
            ways = np.concatenate(
                [np.repeat(way, len(kinds), axis=0), np.tile(kinds, len(way))[:, None]], axis=1
            )
            into[after].append((chances.reshape(-1), ways))


@functools.cache
def syntax_of(charset: str, plates: bool) -> Syntax:
    """The syntax of plates, or of any text, over a charset; made once."""
    return Syntax.of_plates(charset) if plates else Syntax.any_text(charset)


def _top(
    entries: Sequence[tuple[np.ndarray, np.ndarray]], count: int
) -> tuple[np.ndarray, np.ndarray]:
    if not entries:
        return np.zeros(0), np.zeros((0, 0), int)
    chances = np.concatenate([chance for chance, _ in entries])
    ways = np.concatenate([way for _, way in entries])
    order = np.argsort(-chances, kind="stable")[:count]
    return chances[order], ways[order]


def _patterns() -> list[tuple[frozenset[str], ...]]:
    """Every pattern of every style, as the characters of its places."""
    patterns = set()
    for name in style_names():
        style = load_style(name)
        for pattern in style.patterns:
            places = (style.classes.get(s) or CLASSES.get(s, {s: 1.0}) for s in pattern)
            patterns.add(tuple(frozenset(place) for place in places))
    return sorted(patterns, key=lambda p: [sorted(place) for place in p])


def _of_patterns(charset: str, patterns: Sequence[tuple[frozenset[str], ...]]) -> Syntax:
    """Subset construction: a state is the place, and the patterns that still fit."""
    start = (0, frozenset(range(len(patterns))))
    known: dict[tuple[int, frozenset[int]], int] = {start: 0}
    moves: list[np.ndarray] = []
    ends: list[bool] = []
    waiting = [start]
    while waiting:
        place, fitting = waiting.pop(0)
        row = np.full(len(charset) + 1, _DEAD)
        done = any(len(patterns[p]) == place for p in fitting)
        for number, character in enumerate(charset, 1):
            still = frozenset(
                p for p in fitting if len(patterns[p]) > place and character in patterns[p][place]
            )
            if still:
                after = (place + 1, still)
                if after not in known:
                    known[after] = len(known)
                    waiting.append(after)
                row[number] = known[after]
        moves.append(row)
        ends.append(done)
    # Behind a text that has ended only empty slots come.
    over = len(moves)
    for row, end in zip(moves, ends, strict=True):
        if end:
            row[0] = over
    last = np.full(len(charset) + 1, _DEAD)
    last[0] = over
    return Syntax(charset, np.stack([*moves, last]), np.array([*ends, True]))
