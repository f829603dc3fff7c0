import pytest

from fastkd.cli.exits import EXIT_CODES, Interrupted, exit_code_of
from fastkd.core.errors import BackendError, CheckpointError, ConfigError, DataError, TeacherError, TrainingError


@pytest.mark.parametrize(
    ("error", "code"),
    [
        (ConfigError("x"), 2),
        (BackendError("x"), 2),
        (DataError("x"), 3),
        (TeacherError("x"), 3),
        (CheckpointError("x"), 4),
        (OSError(28, "No space left on device"), 4),
        (PermissionError(13, "Permission denied"), 4),
        (TrainingError("loss is nan"), 1),
        (ZeroDivisionError(), 1),
        (KeyboardInterrupt(), 130),
        (Interrupted("fastkd distill"), 130),
    ],
)
def test_every_kind_of_failure_has_its_code(error, code):
    assert exit_code_of(error) == code
    assert code in EXIT_CODES


def test_an_interruption_says_how_to_go_on():
    assert "fastkd distill --folder runs/x" in str(Interrupted("fastkd distill --folder runs/x"))
