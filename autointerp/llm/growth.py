"""How many requests an endpoint is given at once, learnt from its answers alone.

What became of each request and when flows in; a number flows out. It grows while answers come the faster for it, and
shrinks where the endpoint says that it limits the rate, has no room, or does not answer in time (additive increase,
multiplicative decrease: Chiu and Jain 1989, with the doubling start of TCP). Servers that queue without a word show it
by latency alone: where twice the requests take nearly twice as long each, the number goes back (as Vegas does: Brakmo
and Peterson 1995), and it never grows to where an answer could take half the time that there is for one. Knows no
request and no clock.
"""

import math
from collections import deque
from dataclasses import dataclass, field
from typing import NamedTuple

FIRST_IN_FLIGHT = 16
FIRST_NEAR = 4
"""On this machine or network, where servers have a few slots, after one answer alone has shown how long it takes."""
SHRINK = 0.8
"""What a rejection leaves of the number in flight: near to 1, as pauses keep the peace and slots keep the pace."""
COOL_S = 1.0
"""After a cut, in seconds: the bucket that ran dry is still low, and its next rejections say nothing new."""
NO_GROWTH_S = 1.0
"""After a server's own failure, in seconds."""
FEWEST_ANSWERS = 3
"""Of one level, before anything is concluded from how long they took."""
STEP = 1.5
"""Levels that are compared lie so far apart at least; what single steps change is noise."""
GAIN = 0.35
"""Growing brings nothing where answers a second grow by less than this share of what the requests in flight do."""
SLOW_S = 0.02
"""Answers that take less show nothing: there is no queue worth a thought."""
HOLD_ROUNDS = 8
"""Rounds of answers for which a level stays after growing beyond it brought nothing."""
ROOM = 0.5
"""Share of the time for one answer that a longer queue may be expected to take."""
ROOM_FOR_ONE = 0.75
"""The same where it is longer by one request."""
REMEMBERED = 4096


class _Level(NamedTuple):
    """How long answers took at one number in flight."""

    limit: int
    mean_s: float


@dataclass
class Limit:
    """The number of requests in flight that one endpoint takes."""

    most: int
    timeout_s: float = math.inf
    """What one answer may take."""
    near: bool = False
    """Whether the endpoint is a server of one's own, which starts low and whose queue is foreseen."""
    value: float = field(init=False)
    """Requests that may be in flight now."""
    _starting: bool = True
    _no_growth_until: float = -math.inf
    _last_cut: float = -math.inf
    _level_since: float = -math.inf
    _took: list[float] = field(default_factory=list)
    """Seconds of the answers to requests that were sent at this level."""
    _before: _Level | None = None
    """The level that the next one is compared with."""
    _hold: int = 0
    """Answers until the next growth."""
    _answered: deque[float] = field(default_factory=lambda: deque(maxlen=REMEMBERED), repr=False)

    def __post_init__(self) -> None:
        self.value = float(min(self.most, 1 if self.near else FIRST_IN_FLIGHT))

    def answered(self, began: float, now: float, *, wanted: bool) -> None:
        """An answer came; `wanted` says whether anybody waits for a slot, without which nothing is learnt of more."""
        self._answered.append(now)
        if began >= self._level_since:
            self._took.append(now - began)
        self._hold -= 1
        level = int(self.value)
        if not wanted or now < self._no_growth_until or self._hold > 0:
            return
        if self.near and level == 1 and self._before is None:
            self._rise(min(FIRST_NEAR, self._foreseen()), now)
        elif len(self._took) >= max(level if self._starting else 2 * level, FEWEST_ANSWERS):
            self._judge(level, now)

    def limited(self, began: float, now: float, in_flight: int) -> None:
        """The endpoint rejected a request for the rate; once for all that were sent before the last cut shows."""
        if began > self._last_cut + COOL_S:
            self._cut(SHRINK * min(self.value, in_flight), now)

    def timed_out(self, began: float, now: float) -> float | None:
        """No answer came in time: what was answered meanwhile is what fits into it.

        Returns:
            How long the endpoint works on one request, in seconds; None where it answered none meanwhile.
        """
        meanwhile = sum(began <= moment <= now for moment in self._answered)
        if began > self._last_cut:
            self._cut(min(SHRINK * self.value, ROOM * meanwhile), now)
            self.near = True
        return (now - began) / meanwhile if meanwhile else None

    def full(self, began: float, now: float, in_flight: int) -> None:
        """The endpoint had no room for a request beside the others: it is not given as many again."""
        if began > self._last_cut:
            self.most = max(1, min(self.most, in_flight - 1))
            self._cut(in_flight / 2, now)

    def failed(self, now: float) -> None:
        """The server failed by itself: fewer requests do not help it, more do not either."""
        self._no_growth_until = now + NO_GROWTH_S

    def cap(self, slots: int) -> None:
        """The server says how many it works on at once."""
        self.most = max(1, min(self.most, slots))
        self.value = float(self.most)
        self._starting = False

    def _cut(self, value: float, now: float) -> None:
        self.value = max(1.0, value)
        self._last_cut = self._level_since = now
        self._starting, self._before = False, None
        self._took.clear()

    def _judge(self, level: int, now: float) -> None:
        """The level is known: back where it brought nothing, else further up."""
        mean = sum(self._took) / len(self._took)
        before = self._before
        if before is not None and level >= STEP * before.limit:
            ratio = level / before.limit
            if mean >= SLOW_S and mean / before.mean_s > ratio / (1 + GAIN * (ratio - 1)):
                self._starting, self._before = False, None
                self._rise(before.limit, now)
                self._hold = HOLD_ROUNDS * before.limit
                return
        if before is None or level >= STEP * before.limit:
            self._before = _Level(level, mean)
        self._rise(min(2 * level if self._starting else level + 1, self._foreseen()), now)

    def _foreseen(self) -> int:
        """The most in flight at which an answer is expected within its time, if all that is added only queues."""
        level = int(self.value)
        slowest = max(self._took, default=0.0)
        if not self.near or not slowest or math.isinf(self.timeout_s):
            return self.most
        one_more = level + (slowest * (level + 1) / level <= ROOM_FOR_ONE * self.timeout_s)
        return max(one_more, int(level * ROOM * self.timeout_s / slowest))

    def _rise(self, limit: int, now: float) -> None:
        limit = min(limit, self.most)
        if limit != int(self.value):
            self.value, self._level_since = float(limit), now
            self._took.clear()
        else:
            del self._took[: -max(2 * limit, FEWEST_ANSWERS)]
