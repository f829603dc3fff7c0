import ast
import inspect
import re
from pathlib import Path

import numpy as np
import pytest

import fastkd
from fastkd.core.philox import philox4x32

native = pytest.importorskip("fastkd._native", reason="fastkd._native is not built")
STUB = Path(fastkd.__file__).parent / "_native.pyi"


def sampler(num_items=6):
    return native.UniformSampler(np.array([0, 1, 3]), np.array([0, 2, 4], dtype=np.int32), num_items)


@pytest.mark.parametrize("portable", [False, True])
@pytest.mark.parametrize("blocks", [0, 1, 3, 4, 9])
def test_philox_equals_the_truth(portable, blocks):
    key, user, first = 0xFEDCBA9876543210, (1 << 39) + 77, (1 << 30) - 3
    words = np.zeros((blocks, 4), dtype=np.uint32)
    native.philox_words(key, user, first, words, portable=portable)
    expected = philox4x32((user & 0xFFFFFFFF, user >> 32, first + np.arange(blocks), 0), key)
    np.testing.assert_array_equal(words, np.stack(expected, axis=-1))


def signatures_of_the_stub():
    found = {}
    for node in ast.parse(STUB.read_text()).body:
        members = [node] if isinstance(node, ast.FunctionDef) else getattr(node, "body", [])
        prefix = f"{node.name}." if isinstance(node, ast.ClassDef) else ""
        for member in members:
            if isinstance(member, ast.FunctionDef):
                defaults = [ast.unparse(d) for d in member.args.defaults]
                names = [a.arg for a in member.args.args]
                required = len(names) - len(defaults)
                values = dict(zip(names[required:], defaults, strict=True))
                found[prefix + member.name] = ([(n, values.get(n)) for n in names], ast.get_docstring(member))
    return found


def signature_of_the_binary(function):
    head, _, text = function.__doc__.partition("\n\n")
    inner = re.fullmatch(r"\w+\((.*)\) -> .*", head).group(1)
    pairs = [re.fullmatch(r"(\w+): [^=]*?(?: = (.+))?", part.strip()) for part in inner.split(", ")]
    return [(p.group(1), p.group(2)) for p in pairs], text.strip()


def test_the_stub_tells_the_binary_as_it_is():
    binary = {}
    for name, member in vars(native).items():
        if name.startswith("_"):
            continue
        if not inspect.isclass(member):
            binary[name] = signature_of_the_binary(member)
            continue
        for inner, method in vars(member).items():
            if isinstance(method, property):
                binary[f"{name}.{inner}"] = ([("self", None)], method.__doc__)
            elif (inner == "__init__" and method.__doc__.startswith("__init__(")) or not inner.startswith("_"):
                binary[f"{name}.{inner}"] = signature_of_the_binary(method)
    assert binary == signatures_of_the_stub()


@pytest.mark.parametrize(
    ("arguments", "error", "message"),
    [
        (([0, 1], np.array([0]), 3), TypeError, "incompatible"),
        ((np.array([0, 1], dtype=np.int32), np.array([0]), 3), TypeError, "indptr must be int64, got int32"),
        ((np.array([0.0, 1.0]), np.array([0]), 3), TypeError, "indptr must be int64, got float64"),
        ((np.array([0, 1]), np.array([0], dtype=np.uint32), 3), TypeError, "indices must be int64, got uint32"),
        ((np.array([0, 1]), np.array([0], dtype=">i4"), 3), TypeError, "indices must be int64, got >i4"),
        ((np.array([[0, 1]]), np.array([0]), 3), TypeError, "indptr must have 1 dimension"),
        ((np.array([0, 9, 1])[::2], np.array([0]), 3), TypeError, r"indptr must be C-contiguous.*strides \(16,\)"),
        ((np.array([0, 1]), np.array([0]), -1), ValueError, "num_items .* got -1"),
        ((np.array([0, 1]), np.array([0]), 2**32), ValueError, f"got {2**32}"),
        ((np.array([], dtype=np.int64), np.array([0]), 3), ValueError, "indptr is empty"),
        ((np.array([1, 1]), np.array([0]), 3), ValueError, "does not start with 0"),
        ((np.array([0, 2, 1]), np.array([0]), 3), ValueError, r"indptr decreases \(row 1\)"),
        ((np.array([0, 2]), np.array([0]), 3), ValueError, "does not end at the number of indices"),
        ((np.array([0, 1]), np.array([3]), 3), ValueError, r"outside \[0, num_items\) \(row 0\)"),
        ((np.array([0, 1]), np.array([-1]), 3), ValueError, r"outside \[0, num_items\)"),
        ((np.array([0, 0, 2]), np.array([2, 1]), 3), ValueError, r"not strictly increasing \(row 1\)"),
        ((np.array([0, 2]), np.array([1, 1]), 3), ValueError, "not strictly increasing"),
    ],
)
def test_a_bad_table_is_refused(arguments, error, message):
    with pytest.raises(error, match=message):
        native.UniformSampler(*arguments)


def empty(*shape, dtype=np.int64):
    return np.empty(shape, dtype=dtype)


def read_only(array):
    array.flags.writeable = False
    return array


def unaligned(count):
    return np.frombuffer(bytearray(8 * count + 1), dtype=np.uint8)[1:].view(np.int64)


@pytest.mark.parametrize(
    ("users", "out", "lists", "error", "message"),
    [
        (np.array([0], dtype=np.int32), empty(1, 2), None, TypeError, "users must be int64, got int32"),
        (unaligned(1), empty(1, 2), None, TypeError, "users must be C-contiguous and aligned"),
        (np.array([0]), empty(1, 2, dtype=np.float32), None, TypeError, "out must be int64, got float32"),
        (np.array([0]), empty(2), None, TypeError, "out must have 2 dimension"),
        (np.array([0, 1]), empty(3, 2).T, None, TypeError, "out must be C-contiguous"),
        (np.array([0]), read_only(empty(1, 2)), None, TypeError, "out must be writeable"),
        (np.array([0]), empty(2, 2), None, ValueError, "out has 2 rows for 1 users"),
        (np.array([2]), empty(1, 2), None, ValueError, r"user 2 is out of range \[0, 2\)"),
        (np.array([-1]), empty(1, 2), None, ValueError, "user -1"),
        (np.array([0]), empty(1, 2), [[1]], TypeError, "exclude_lists must be a numpy array or None"),
        (np.array([0]), empty(1, 2), np.array([[1.0]]), TypeError, "exclude_lists must be int64, got float64"),
        (np.array([0]), empty(1, 2), np.array([[1], [2]]), ValueError, "exclude_lists has 2 rows for 1 users"),
        (np.array([0]), empty(1, 2), np.array([[6]]), ValueError, r"outside \[-1, 6\) in row 0"),
        (np.array([0]), empty(1, 2), np.array([[-2]], dtype=np.int32), ValueError, "in row 0"),
    ],
)
def test_bad_rows_are_refused(users, out, lists, error, message):
    with pytest.raises(error, match=message):
        sampler().sample(users, 1, out, lists)


def test_bad_epochs_are_refused():
    with pytest.raises(TypeError, match="out must be int64, got uint32"):
        sampler().sample_epoch(1, empty(3, 2, dtype=np.uint32))
    for indptr, error, message in [
        (np.array([0, 3]), ValueError, "indptr has 1 rows for 2 users"),
        (np.array([0, 4, 3]), ValueError, r"indptr decreases \(row 1\)"),
        (np.array([0, 1, 2]), ValueError, "out has 3 rows for 2 interactions"),
        (np.array([0.0, 1.0, 3.0]), TypeError, "indptr must be int64, got float64"),
        ([0, 1, 3], TypeError, "indptr must be a numpy array or None"),
    ]:
        with pytest.raises(error, match=message):
            sampler().sample_epoch(1, empty(3, 2), indptr=indptr)
    with pytest.raises(ValueError, match="out has 2 rows for 3 interactions"):
        sampler().sample_epoch(1, empty(2, 2, dtype=np.int32))
    with pytest.raises(TypeError, match="incompatible"):
        sampler().sample_epoch(-1, empty(3, 2, dtype=np.int32))


def test_the_table_outlives_its_names():
    indptr, indices = np.array([0, 2]), np.array([1, 2])
    held = native.UniformSampler(indptr, indices, 4)
    del indptr, indices
    junk = [np.full(2, 77) for _ in range(100)]
    out = empty(1, 50)
    assert held.sample(np.array([0]), 3, out) == -1
    assert set(out[0].tolist()) == {0, 3}
    assert (held.num_users, held.num_items, len(junk)) == (1, 4, 100)


def test_every_slot_is_written():
    out = np.full((2, 40), -77)
    sampler().sample(np.array([0, 1]), 3, out, replacement=False, threads=3)
    for row, left in zip(out, ({1, 2, 3, 4, 5}, {0, 1, 3, 5}), strict=True):
        assert set(row[: len(left)].tolist()) == left
        assert (row[len(left) :] == -1).all()


MASSES = np.full(6, 2**32, dtype=np.uint64)
TABLE = (np.array([0, 1, 3]), np.array([0, 2, 4], dtype=np.int32), 6)


@pytest.mark.parametrize(
    ("name", "arguments", "error", "message"),
    [
        ("PopularitySampler", (MASSES.astype(np.int64),), TypeError, "masses must be uint64, got int64"),
        ("PopularitySampler", (MASSES[:5],), ValueError, "masses has 5 entries for 6 items"),
        ("PopularitySampler", (MASSES + MASSES,), ValueError, r"masses must sum to num_items \* 2\*\*32"),
        ("PopularitySampler", (np.full(6, 2**64 - 1, dtype=np.uint64),), ValueError, "masses must sum"),
        ("MixedSampler", (MASSES, 2**32 + 1), ValueError, r"share must be in \[0, 2\*\*32\]"),
        ("StratifiedSampler", (np.zeros(6, np.int64), MASSES[:1]), TypeError, "stratum_of must be uint8"),
        ("StratifiedSampler", (np.zeros(5, np.uint8), MASSES[:1]), ValueError, "stratum_of has 5 entries"),
        ("StratifiedSampler", (np.ones(6, np.uint8), MASSES[:1]), ValueError, r"stratum 1 is out of range \[0, 1\)"),
        ("StratifiedSampler", (np.zeros(6, np.uint8), MASSES[:2]), ValueError, r"shares must sum to 2\*\*32"),
        ("HardSampler", (np.zeros((2, 3)), np.zeros((6, 3), np.float32), 2), TypeError, "user_vectors must be float32"),
        ("HardSampler", (*[np.zeros((2, 3), np.float32)] * 2, 2), ValueError, r"\[2, 3\] and \[2, 3\]"),
        ("HardSampler", (np.zeros((2, 3), np.float32), np.zeros((6, 3), np.float32), 0), ValueError, "got 0"),
    ],
)
def test_bad_weights_are_refused(name, arguments, error, message):
    with pytest.raises(error, match=message):
        getattr(native, name)(*TABLE, *arguments)


def test_what_a_sampler_cannot_do_is_refused():
    strata = native.StratifiedSampler(*TABLE, np.zeros(6, np.uint8), MASSES[:1])
    with pytest.raises(ValueError, match="only uniform and popularity"):
        strata.sample(np.array([0]), 1, empty(1, 2), replacement=False)
    hard = native.HardSampler(*TABLE, np.zeros((2, 1), np.float32), np.zeros((6, 1), np.float32), 4)
    with pytest.raises(ValueError, match="probability"):
        hard.sample(np.array([0]), 1, empty(1, 2), log_prob=empty(1, 2, dtype=np.float32))
    with pytest.raises(ValueError, match="first slot 1073741823 is out of range"):
        hard.sample(np.array([0]), 1, empty(1, 2), first_slots=np.array([2**30 - 1]))
    with pytest.raises(ValueError, match="first_slots are for draws with replacement"):
        sampler().sample(np.array([0]), 1, empty(1, 2), replacement=False, first_slots=np.array([0]))
    with pytest.raises(ValueError, match="log_prob must have the shape of out"):
        sampler().sample(np.array([0]), 1, empty(1, 2), log_prob=empty(1, 3, dtype=np.float32))
    with pytest.raises(TypeError, match="out must be int64 for 2147483649 items, got int32"):
        sampler(2**31 + 1).sample(np.array([0]), 1, empty(1, 2, dtype=np.int32))
