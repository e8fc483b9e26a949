"""How many background requests at once pay: now and then more or fewer are tried, and kept to if that is worth it.

Pure; `lanes.py` tells it what was done and holds to what it says.
"""

from __future__ import annotations

from dataclasses import dataclass, replace

START = 4
REQUEST_WORTH_BYTES = (
    8192  # what a request costs besides its bytes: a rate of requests is a rate of bytes, too
)

_EPOCH_S = 0.1
_PAUSE_S = 2.0
_STEP = 1.5
_MORE_PAYS = 1.15  # of the 1.5 that half as many again could bring
_FEWER_DO = 0.9
_HOLD_EPOCHS = 5


@dataclass(frozen=True, slots=True)
class Window:
    """The number of lanes that has proved itself, and what is being tried beside it.

    Units: `rate` in bytes per second at the proved number, requests counted at their worth; `trial` is the factor that
    is being tried, 1 for none; the rest is of the epoch under way.
    """

    most: int
    lanes: float = START
    rate: float = 0.0
    trial: float = _STEP
    last_trial: float = _STEP
    hold_epochs: int = 0
    started_s: float = 0.0
    worth_bytes: int = 0
    was_full: bool = False

    @property
    def limit(self) -> int:
        """How many may be under way now."""
        return max(1, min(self.most, round(self.lanes * self.trial if self.rate else self.lanes)))

    def finished(self, size_bytes: int, *, under_way: int, now_s: float) -> Window:
        """After one more background request has brought `size_bytes`, while `under_way` were."""
        elapsed_s = now_s - self.started_s
        if elapsed_s > _PAUSE_S:
            return self._begun(now_s)
        worth = self.worth_bytes + size_bytes + REQUEST_WORTH_BYTES
        was_full = self.was_full or under_way >= self.limit
        if elapsed_s < _EPOCH_S or worth < 2 * self.limit * REQUEST_WORTH_BYTES:
            return replace(self, worth_bytes=worth, was_full=was_full)
        judged = self._judged(worth / elapsed_s) if was_full else self
        return judged._begun(now_s)  # noqa: SLF001

    def _judged(self, rate: float) -> Window:
        """After an epoch in which all lanes were in use."""
        if not self.rate:
            return replace(self, rate=rate)
        if self.trial == 1.0:
            followed = replace(
                self, rate=0.7 * self.rate + 0.3 * rate, hold_epochs=self.hold_epochs - 1
            )
            return followed if followed.hold_epochs > 0 else followed._try_next()  # noqa: SLF001
        is_better = rate > self.rate * (_MORE_PAYS if self.trial > 1 else _FEWER_DO)
        if not is_better:
            return replace(self, trial=1.0, last_trial=self.trial, hold_epochs=_HOLD_EPOCHS)
        lanes = max(1.0, min(self.lanes * self.trial, float(self.most)))
        if lanes == self.lanes:
            return replace(self, trial=1.0, last_trial=self.trial, hold_epochs=_HOLD_EPOCHS)
        return replace(self, lanes=lanes, rate=rate)

    def _try_next(self) -> Window:
        return replace(self, trial=1 / _STEP if self.last_trial > 1 else _STEP)

    def _begun(self, now_s: float) -> Window:
        return replace(self, started_s=now_s, worth_bytes=0, was_full=False)
