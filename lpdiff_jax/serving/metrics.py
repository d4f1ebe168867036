"""Counters, in the text format that Prometheus reads."""

import threading
from collections import Counter, defaultdict

_BOUNDS = (0.1, 0.3, 1.0, 3.0, 10.0, 30.0, 100.0)


class Metrics:
    """What a server has done since it started; safe to use from several threads."""

    def __init__(self) -> None:
        self._lock = threading.Lock()
        self._counts: Counter[tuple[str, str]] = Counter()
        self._seconds: dict[str, list[float]] = defaultdict(lambda: [0.0, 0.0])
        self._buckets: Counter[tuple[str, float]] = Counter()

    def count(self, name: str, label: str = "", amount: int = 1) -> None:
        """Adds to a counter; `label` is 'name="value"'."""
        with self._lock:
            self._counts[name, label] += amount

    def time(self, name: str, seconds: float) -> None:
        """Adds a duration to a histogram."""
        with self._lock:
            self._seconds[name][0] += seconds
            self._seconds[name][1] += 1
            for bound in _BOUNDS:
                if seconds <= bound:
                    self._buckets[name, bound] += 1

    def text(self, **gauges: float) -> str:
        """All of it."""
        with self._lock:
            lines = [f"lpdiff_{name} {value:g}" for name, value in gauges.items()]
            for (name, label), value in sorted(self._counts.items()):
                lines.append(f"lpdiff_{name}_total{{{label}}} {value}".replace("{}", ""))
            for name, (total, number) in sorted(self._seconds.items()):
                for bound in _BOUNDS:
                    count = self._buckets[name, bound]
                    lines.append(f'lpdiff_{name}_seconds_bucket{{le="{bound:g}"}} {count}')
                lines.append(f'lpdiff_{name}_seconds_bucket{{le="+Inf"}} {number:g}')
                lines.append(f"lpdiff_{name}_seconds_sum {total:.6f}")
                lines.append(f"lpdiff_{name}_seconds_count {number:g}")
        return "\n".join(lines) + "\n"
