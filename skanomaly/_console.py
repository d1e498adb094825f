"""What a program must stand at a terminal, in a pipe and under a service manager."""

from __future__ import annotations

import os
import signal
import sys
from contextlib import ExitStack, contextmanager, redirect_stderr, redirect_stdout, suppress
from threading import Timer, current_thread, main_thread

_SIGNALS = ("SIGINT", "SIGTERM", "SIGHUP")


@contextmanager
def stopping_on_signals():
    """Have SIGTERM and SIGHUP clean up as Ctrl-C does; a second one ends the process at once.

    Yields
    ------
    list of int
        Signals that have come. Each raises KeyboardInterrupt.
    """
    received, before, hook = [], {}, sys.unraisablehook

    def stop(number, frame):
        received.append(number)
        signal.signal(number, signal.SIG_DFL)
        sys.unraisablehook = stop_after_all
        raise KeyboardInterrupt

    def stop_after_all(unraisable):
        """Raise anew what came to nothing in a destructor.

        Else silent, as what was being built then, such as a progress bar, complains when dropped.
        """
        if isinstance(unraisable.exc_value, KeyboardInterrupt):
            number = received.pop()
            signal.signal(number, stop)
            Timer(0.01, _send_to_main_thread, (number,)).start()  # here it would be lost again

    if current_thread() is main_thread():
        for name in _SIGNALS:
            number = getattr(signal, name, None)
            # What the parent has had ignored, as nohup does, stays so.
            if number is not None and signal.getsignal(number) not in (signal.SIG_IGN, None):
                before[number] = signal.signal(number, stop)
    try:
        yield received
    finally:
        sys.unraisablehook = hook
        for number, handler in before.items():
            signal.signal(number, handler)


def _send_to_main_thread(number):
    if hasattr(signal, "pthread_kill"):  # wakes it from what it waits for
        signal.pthread_kill(main_thread().ident, number)
    else:
        signal.raise_signal(number)


@contextmanager
def lasting_streams():
    """Have messages go nowhere, rather than end the work, once nobody reads them."""
    with ExitStack() as stack:
        for redirect, stream in ((redirect_stdout, sys.stdout), (redirect_stderr, sys.stderr)):
            if stream is None:  # the process was started with it closed
                stream = stack.enter_context(open(os.devnull, "w", encoding="utf-8"))
            lasting = _LastingStream(stream)
            stack.callback(lasting.flush)
            stack.enter_context(redirect(lasting))
        yield


class _LastingStream:
    def __init__(self, stream):
        self._stream = stream

    def write(self, text):
        encoding = getattr(self._stream, "encoding", None) or "utf-8"
        text = text.encode(encoding, "backslashreplace").decode(encoding)  # names may be odd
        try:
            return self._stream.write(text)
        except BrokenPipeError:
            self._forget()
            return len(text)

    def flush(self):
        try:
            self._stream.flush()
        except BrokenPipeError:
            self._forget()

    def _forget(self):
        """Let what is still to come, the flush at the interpreter's end too, go nowhere."""
        with suppress(OSError):
            nowhere = os.open(os.devnull, os.O_WRONLY)
            os.dup2(nowhere, self._stream.fileno())
            os.close(nowhere)

    def __getattr__(self, name):
        return getattr(self._stream, name)
