import json

import pytest
from rich.console import Console
from rich.text import Text

from fastkd.cli import console
from fastkd.core.errors import DataError


def rendered(thing):
    wide = Console(width=200)
    with wide.capture() as capture:
        wide.print(thing)
    return capture.get()


def test_an_error_is_one_line_and_keeps_its_brackets(capsys):
    code = console.print_error(DataError("row 3 of [bold]x[/bold]:\n  item 'a' is no integer"))
    shown = capsys.readouterr().err
    assert code == 3
    assert shown == "error: row 3 of [bold]x[/bold]: item 'a' is no integer\n"


def test_a_long_error_stays_one_line(capsys):
    console.print_error(DataError("word " * 200))
    assert capsys.readouterr().err.count("\n") == 1


def test_an_unexpected_error_says_its_type_and_how_to_see_more(capsys):
    assert console.print_error(KeyError("users")) == 1
    shown = capsys.readouterr().err
    assert "KeyError: 'users'" in shown
    assert "FASTKD_TRACEBACK=1" in shown


def test_the_traceback_is_shown_on_request(capsys, monkeypatch):
    monkeypatch.setenv("FASTKD_TRACEBACK", "1")
    try:
        raise DataError("no item 7")
    except DataError as error:
        console.print_error(error)
    shown = capsys.readouterr().err
    assert "Traceback" in shown
    assert "test_console.py" in shown


def test_an_os_error_names_its_file(capsys):
    console.print_error(PermissionError(13, "Permission denied", "/x/last"))
    assert capsys.readouterr().err == "error: /x/last: Permission denied\n"


def test_json_is_json_and_refuses_nan(capsys):
    console.print_json({"a": [1, "[red]é"]})
    assert json.loads(capsys.readouterr().out) == {"a": [1, "[red]é"]}
    with pytest.raises(ValueError, match="not JSON compliant"):
        console.print_json({"a": float("nan")})


def test_tables_take_cells_literally():
    shown = rendered(console.table("t[0]", ["name", "[x]"], [["[red]a", Text("b")]], right=["[x]"]))
    for piece in ("t[0]", "[x]", "[red]a", "b"):
        assert piece in shown


def test_key_values_are_shown():
    assert "users  12" in rendered(console.key_values("Data", {"users": 12}))


@pytest.mark.parametrize(
    ("seconds", "text"),
    [(0.04, "0.0 s"), (9.94, "9.9 s"), (42.4, "42 s"), (59.6, "1 min 00 s"), (185, "3 min 05 s"), (7800, "2 h 10 min")],
)
def test_durations(seconds, text):
    assert console.duration(seconds) == text


@pytest.mark.parametrize(
    ("number", "text"),
    [(0, "0"), (12345, "12 345"), (123456, "123 k"), (2.5e6, "2.5 M"), (3e9, "3 G"), (4e12, "4e+12")],
)
def test_counts(number, text):
    assert console.count(number) == text
