"""Whether an interrupt is the user's, or a callback's wish that training ends here.

skorch's callbacks end a training by raising KeyboardInterrupt, which is also what the
interrupt key raises, wherever the program is at that moment.
"""

from __future__ import annotations

import signal
import threading
import traceback


class InterruptKey:
    """Context that notices whether the interrupt key was pressed.

    Only the main thread is interrupted by it, and only there can it be noticed.

    Attributes
    ----------
    was_pressed : bool
    """

    def __init__(self):
        self.was_pressed = False
        self._before = None

    def __enter__(self):
        handler = signal.getsignal(signal.SIGINT)
        if threading.current_thread() is threading.main_thread() and callable(handler):
            self._before = handler
            signal.signal(signal.SIGINT, self._handle)
        return self

    def __exit__(self, *_):
        if self._before is not None and signal.getsignal(signal.SIGINT) == self._handle:
            signal.signal(signal.SIGINT, self._before)

    def _handle(self, *arguments):
        self.was_pressed = True
        return self._before(*arguments)


def is_within_own(interrupt):
    """Whether one of this package's callbacks was at work, none of which asks for the end.

    Parameters
    ----------
    interrupt : KeyboardInterrupt

    Returns
    -------
    bool
    """
    own = {f"{__package__}._callbacks", f"{__package__}._checkpoint"}
    frames = (frame for frame, _ in traceback.walk_tb(interrupt.__traceback__))
    return any(frame.f_globals.get("__name__") in own for frame in frames)
