"""The protocol under connections to receivers: a flood of interim answers costs the loop one slice, not the flood."""

import asyncio

from server.callbacks.protocol import INTERIM_MAX, SLICE_SIZE, BoundedHandler

INTERIM = b"HTTP/1.1 102 Processing\r\n\r\n"


class Counted(BoundedHandler):
    parsed = 0

    def feed_data(self, data, size=0):
        self.parsed += 1
        super().feed_data(data, size)


class Line(asyncio.Transport):
    """A transport that only knows whether it is open."""

    is_open = True

    def is_closing(self):
        return not self.is_open

    def close(self):
        self.is_open = False


def handler():
    made = Counted(asyncio.get_running_loop())
    made.connection_made(Line())
    made.set_response_params()
    return made


async def test_of_a_flood_of_interim_answers_only_one_slice_is_parsed():
    made = handler()
    made.data_received(INTERIM * 10_000)
    assert INTERIM_MAX < made.parsed <= SLICE_SIZE / len(INTERIM)
    assert len(made) == INTERIM_MAX
    assert not made.is_connected()


async def test_a_few_interim_answers_lead_to_the_final_one():
    made = handler()
    for _ in range(3):
        made.data_received(INTERIM * INTERIM_MAX + b"HTTP/1.1 200 OK\r\nContent-Length: 0\r\n\r\n")
        codes = [(await made.read())[0].code for _ in range(len(made))]
        assert codes == [102] * INTERIM_MAX + [200]
        assert made.is_connected()
        made.set_response_params()
