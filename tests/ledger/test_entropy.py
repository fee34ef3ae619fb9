"""Random bytes: pieces of a stock, each given out once."""

import os

from ledger.entropy import Entropy


def test_each_piece_is_given_out_once_and_the_stock_is_refilled():
    asked = []

    def source(size):
        asked.append(size)
        return os.urandom(size)

    entropy = Entropy(source, stock=4)
    pieces = [entropy.take() for _ in range(10)]
    assert {len(piece) for piece in pieces} == {16}
    assert len(set(pieces)) == 10
    assert asked == [64, 64, 64]


def test_a_forked_child_does_not_give_out_what_its_parent_does():
    entropy = Entropy(stock=8)
    entropy.take()
    reading, writing = os.pipe()
    child = os.fork()
    if child == 0:
        os.write(writing, entropy.take())
        os._exit(0)
    os.waitpid(child, 0)
    assert os.read(reading, 16) != entropy.take()
    os.close(reading)
    os.close(writing)
