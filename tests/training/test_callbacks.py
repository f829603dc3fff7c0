import pytest

from fastkd.core import ConfigError
from fastkd.training import Callback, EarlyStop
from fastkd.training.callbacks import Callbacks, RunInfo


class Noting(Callback):
    def __init__(self, name="noting"):
        self.calls, self._name = [], name

    @property
    def name(self):
        return self._name

    def on_step(self, step, rows):
        self.calls.append((step, rows))

    def on_evaluate(self, record, *, improved):
        self.calls.append((record["epoch"], improved))

    def state_dict(self):
        return {"calls": len(self.calls)}

    def load_state_dict(self, state):
        self.calls = [None] * state["calls"]


def test_every_hook_does_nothing_by_default():
    callback = Callback()
    info = RunInfo(2, 3, 0, 10, 4, "cpu", None)
    assert info.total_steps == 6
    for hook, args, options in [
        ("on_start", (info,), {}),
        ("on_epoch_start", (0,), {}),
        ("on_step", (1, 4), {}),
        ("on_log", ({},), {}),
        ("on_evaluate", ({},), {"improved": True}),
        ("on_checkpoint", (None,), {"best": True}),
        ("on_end", (None,), {}),
        ("close", (), {}),
        ("stop_reason", (), {}),
        ("load_state_dict", ({},), {}),
    ]:
        assert getattr(callback, hook)(*args, **options) is None
    assert callback.state_dict() == {}


def test_all_are_called_in_order_and_states_travel_by_name():
    first, second = Noting("a"), Noting("b")
    both = Callbacks([first, second])
    both.on_step(1, 32)
    both.each("on_evaluate", {"epoch": 0}, improved=False)
    assert first.calls == second.calls == [(1, 32), (0, False)]
    assert both.state_dict() == {"a": {"calls": 2}, "b": {"calls": 2}}
    fresh = Callbacks([Noting("b"), Noting("new")])
    fresh.load_state_dict(both.state_dict())
    assert [len(m.calls) for m in fresh.members] == [2, 0]


def test_two_of_one_name_are_refused():
    with pytest.raises(ConfigError, match="two callbacks are called 'x'"):
        Callbacks([Noting("x"), Noting("y"), Noting("x")])


def test_early_stop_counts_evaluations_in_a_row():
    stop = EarlyStop(2)
    for improved, reason in [(True, None), (False, None), (True, None), (False, None), (False, "patience")]:
        stop.on_evaluate({}, improved=improved)
        assert stop.stop_reason() == reason
    again = EarlyStop(2)
    again.load_state_dict(stop.state_dict())
    assert Callbacks([Callback(), again]).stop_reason() == "patience"
    assert Callbacks([Callback()]).stop_reason() is None


@pytest.mark.parametrize("patience", [0, -1, True, 1.5])
def test_a_bad_patience_is_named(patience):
    with pytest.raises(ConfigError, match=f"patience must be .* got {patience!r}"):
        EarlyStop(patience)
