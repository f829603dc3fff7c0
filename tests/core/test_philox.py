import numpy as np

from fastkd.core.philox import philox4x32, uniform_open

ALL = 0xFFFFFFFF


def words(counter, key):
    return [int(w) for w in philox4x32(counter, key)]


def test_known_answers_of_the_original_authors():
    """The three philox4x32-10 vectors that the Random123 distribution publishes."""
    assert words((0, 0, 0, 0), 0) == [0x6627E8D5, 0xE169C58D, 0xBC57AC4C, 0x9B00DBD8]
    assert words((ALL, ALL, ALL, ALL), 2**64 - 1) == [0x408F276D, 0x41C83B0E, 0xA20BC7C6, 0x6D5451FD]
    pi = (0x243F6A88, 0x85A308D3, 0x13198A2E, 0x03707344)
    assert words(pi, 0x299F31D0A4093822) == [0xD16CFE09, 0x94FDCCEB, 0x5001E420, 0x24126EA1]


def test_arrays_broadcast_to_the_same_words():
    many = philox4x32((np.arange(5), 0, 7, 0), 42)
    assert [int(w[3]) for w in many] == words((3, 0, 7, 0), 42)


def test_uniforms_stay_inside_the_open_interval():
    edges = uniform_open(np.array([0, ALL], dtype=np.uint32))
    assert 0 < edges[0] < edges[1] < 1
