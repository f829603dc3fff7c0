import os
import signal
import threading
from pathlib import Path

import pytest

from fastkd.core import FastKDError
from fastkd.training import TrainingInterrupted
from fastkd.training.signals import StopSignals, interrupt_on_terminate


@pytest.mark.parametrize("number", StopSignals.SIGNALS)
def test_a_signal_is_noted_and_handlers_come_back(number):
    before = {n: signal.getsignal(n) for n in StopSignals.SIGNALS}
    with StopSignals() as signals:
        assert signals.received is None
        os.kill(os.getpid(), number)
        assert signals.received == number
    assert {n: signal.getsignal(n) for n in StopSignals.SIGNALS} == before


def test_the_second_interrupt_does_not_wait():
    # A process started in the background may be told to ignore interrupts; this one is not.
    before = signal.signal(signal.SIGINT, signal.default_int_handler)
    try:
        with StopSignals(), pytest.raises(KeyboardInterrupt):  # noqa: PT012
            os.kill(os.getpid(), signal.SIGINT)
            os.kill(os.getpid(), signal.SIGINT)
    finally:
        signal.signal(signal.SIGINT, before)


def test_handlers_come_back_after_an_error():
    before = signal.getsignal(signal.SIGTERM)
    with pytest.raises(ValueError, match="inside"), StopSignals():
        raise ValueError("inside")
    assert signal.getsignal(signal.SIGTERM) is before


def test_outside_the_main_thread_nothing_is_installed():
    before, seen = signal.getsignal(signal.SIGTERM), []

    def work():
        with StopSignals() as signals:
            seen.append((signal.getsignal(signal.SIGTERM), signals.received))

    thread = threading.Thread(target=work)
    thread.start()
    thread.join()
    assert seen == [(before, None)]


def test_the_exception_says_where_to_go_on():
    error = TrainingInterrupted(Path("runs/a"), signal.SIGTERM, 12)
    assert isinstance(error, FastKDError)
    assert (error.folder, error.signum, error.step) == (Path("runs/a"), signal.SIGTERM, 12)
    assert str(error) == "SIGTERM after step 12: resume from runs/a"
    assert "no run folder" in str(TrainingInterrupted(None, signal.SIGINT, 3))


def test_sigterm_interrupts_where_asked_to_and_only_there():
    before = signal.getsignal(signal.SIGTERM)
    with pytest.raises(KeyboardInterrupt), interrupt_on_terminate():
        os.kill(os.getpid(), signal.SIGTERM)
    assert signal.getsignal(signal.SIGTERM) is before
