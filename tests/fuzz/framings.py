"""What clients send that do not know HTTP, or know it too well: requests with every kind of framing, right and wrong."""

from __future__ import annotations

import gzip
import random

HOST, AUTH = b"Host: a\r\n", b"Authorization: Bearer @TOKEN@\r\n"
GET = b"GET /v1/health HTTP/1.1\r\n" + HOST
CHUNKED = b"Transfer-Encoding: chunked\r\n"
BODY = b'{"id":"job-@@@@@@@@-0000-4000-8000-00000000000%d"}'
LENGTHS = (
    *(b"", b"Content-Length: %d\r\n" * 2, b"Content-Length: %d\r\nContent-Length: 7\r\n", b"Content-Length: +%d\r\n"),
    *(
        b"Content-Length: -%d\r\n",
        b"Content-Length: 0x%x\r\n",
        b"Content-Length: %d, %d\r\n",
        b"Content-Length: %d 0\r\n",
    ),
    *(
        b"Content-Length: %d \r\n",
        b"Content-Length:\t%d\r\n",
        b"Content-Length : %d\r\n",
        b"Content-Length:\r\n %d\r\n",
    ),
    *(
        b"Content-Length: \r\n",
        b"Content-Length: 184467440737095516%d\r\n",
        b"Content-Length: 99999999999999999999%d\r\n",
    ),
    *(b"Content-Length: 3\r\n", b"Content-Length: 9%d\r\n", b"Content-Length: 1_0\r\n", b"Content_Length: %d\r\n"),
    *(
        b"Content-Length: %d\r\n" + CHUNKED,
        CHUNKED + b"Content-Length: %d\r\n",
        CHUNKED * 2,
        b"Content-Length: 0%d\r\n",
    ),
)
"""What may stand for the length of a body, right or not; ``%d`` is its length."""
CODINGS = (
    *(b"chunked", b"Chunked", b"gzip", b"gzip, chunked", b"chunked, chunked", b"chunked, identity", b"identity", b""),
    *(b",chunked", b"chunked,", b"xchunked", b"chunked;q=1", b"\x0bchunked", b'"chunked"', b"chunked\r\n gzip"),
)
CHUNKS = (
    *(
        b"%x\r\n%s\r\n0\r\n\r\n",
        b"%x;a=b\r\n%s\r\n0;c\r\n\r\n",
        b"00%x\r\n%s\r\n000\r\n\r\n",
        b"%x\r\n%s\r\n0\r\nX-A: b\r\n\r\n",
    ),
    *(
        b"%x\r\n%s\r\n0\r\nX-Request-Id: poison\r\n\r\n",
        b"%x\r\n%s\r\n0\r\n" + AUTH + b"\r\n",
        b"%x\r\n%s\r\n0\r\nHost: b\r\n\r\n",
    ),
    *(
        b"%x\r\n%s\r\n0\r\nContent-Length: 9\r\n\r\n",
        b"%x\r\n%s0\r\n\r\n",
        b"%x \r\n%s\r\n0\r\n\r\n",
        b"+%x\r\n%s\r\n0\r\n\r\n",
    ),
    *(b"0x%x\r\n%s\r\n0\r\n\r\n", b"%x\n%s\n0\n\n", b"%x\r\n%s\r\n0\r\n", b"%x\r\n%s", b"f%x\r\n%s\r\n0\r\n\r\n"),
    *(
        b"%x;a\n%s\r\n0\r\n\r\n",
        b"%x;a\rb\r\n%s\r\n0\r\n\r\n",
        b"fffffffffffffff%x\r\n%s\r\n0\r\n\r\n",
        b"%x\r\n%s\r\n0\r\nbad\r\n\r\n",
    ),
    *(b"zz\r\n%s%x\r\n0\r\n\r\n".replace(b"%s%x", b"%x%s"), b"\r\n%x\r\n%s\r\n0\r\n\r\n", b"-%x\r\n%s\r\n0\r\n\r\n"),
)
"""A body of a size (``%x``) in chunks, right or not; the smuggler's trailers among them."""
LINES = (
    *(
        b"POST /v1/jobs HTTP/1.1",
        b"POST http://b:1/v1/jobs HTTP/1.1",
        b"POST /v1/jobs HTTP/1.0",
        b"POST /v1/jobs HTTP/2.0",
    ),
    *(
        b"POST /v1/jobs HTTP/0.9",
        b"POST /v1/jobs",
        b"POST  /v1/jobs  HTTP/1.1",
        b"POST\t/v1/jobs HTTP/1.1",
        b"post /v1/jobs HTTP/1.1",
    ),
    *(
        b"POST http://[/v1/jobs HTTP/1.1",
        b"POST a:80 HTTP/1.1",
        b"POST * HTTP/1.1",
        b" POST /v1/jobs HTTP/1.1",
        b"POST /v1/jobs HTTP/1.1 ",
    ),
    *(
        b"POST /v1/jobs\x00 HTTP/1.1",
        b"POST /v1/jobs http/1.1",
        b"POST /v1/jobs HTTP/1.1\r",
        b"POST /v1/jobs#a HTTP/1.1",
    ),
)
MORE = (
    *(
        b"Connection: close\r\n",
        b"Connection: keep-alive\r\n",
        b"Expect: 100-continue\r\n",
        b"Expect: 200-ok\r\n",
        b"Host: b\r\n",
    ),
    *(
        b"Connection: Upgrade\r\nUpgrade: h2c\r\n",
        b"Connection: Upgrade\r\nUpgrade: websocket\r\n",
        b"Upgrade: tcp\r\n",
    ),
    *(
        b"X-A: a\x01b\r\n",
        b"X-A: a\x00b\r\n",
        b"X\x7fA: b\r\n",
        b"X-\xff: b\r\n",
        b"X-A: \xff\r\n",
        b": b\r\n",
        b"X-A\r\n",
        b"X A: b\r\n",
    ),
    *(
        b"X-A: b\r\n c\r\n",
        b"X-A: b\n",
        b"X-A: b\r",
        b"X-A: b\rX-B: c\r\n",
        b"\r\n",
        b"X-A: " + b"a" * 9000 + b"\r\n",
        b"X-A: b\r\n" * 101,
    ),
    *(
        b"Content-Encoding: gzip\r\n",
        b"Content-Encoding: br\r\n",
        b"Content-Type: a\r\nContent-Type: b\r\n",
        b"Sec-WebSocket-Key1: a\r\n",
    ),
)
WHOLE = (
    *(
        GET + b"\r\n",
        GET.replace(b"GET", b"HEAD") + b"\r\n",
        GET + b"Content-Length: 3\r\n\r\nabc",
        b"GET /v1/jobs HTTP/1.1\r\n" + HOST + b"\r\n",
    ),
    *(
        GET + CHUNKED + b"\r\n3\r\nabc\r\n0\r\n\r\n",
        b"OPTIONS * HTTP/1.1\r\n" + HOST + b"\r\n",
        b"CONNECT b:80 HTTP/1.1\r\n" + HOST + b"\r\n",
    ),
    *(
        b"GET /v1/jobs?limit=1 HTTP/1.1\r\n" + HOST + AUTH + b"\r\n",
        b"GET /v1/none HTTP/1.1\r\n" + HOST + b"\r\n",
        b"\r\n",
        b"\r\n\r\n",
    ),
    *(
        b"GET /v1/health HTTP/1.0\r\n\r\n",
        b"GET /v1/health HTTP/1.0\r\nConnection: keep-alive\r\n\r\n",
        b"GET /v1/health HTTP/1.1\r\n\r\n",
    ),
    *(
        b"PRI * HTTP/2.0\r\n\r\nSM\r\n\r\n",
        b"\x16\x03\x01\x02\x00\x01\x00\x01\xfc\x03\x03" + b"a" * 500,
        b"GARBAGE\r\n\r\n",
        b"\x00" * 9,
    ),
    *(
        GET + b"Content-Encoding: gzip\r\nContent-Length: 4\r\n\r\nnone",
        b"BREW /v1/health HTTP/1.1\r\n" + HOST + b"\r\n",
    ),
)
BITS = (
    b"\r",
    b"\n",
    b"\r\n",
    b"\0",
    b" ",
    b"\t",
    b":",
    b",",
    b";",
    b"0",
    b"\x7f",
    b"\x80",
    b"\xff",
    b"\r\n\r\n",
    b"0\r\n\r\n",
    b"chunked",
)
SIZE_MAX = 1 << 20


def conversation(chance: random.Random) -> bytes:
    """Return what one client sends: some requests one after the other, spoiled or cut off more often than not."""
    raw = b"".join(_piece(chance, number) for number in range(chance.choice([1, 1, 2, 2, 3, 5])))
    for _ in range(chance.choice([0, 0, 0, 0, 0, 1, 1, 3])):
        at = chance.randrange(len(raw) + 1)
        raw = raw[:at] + chance.choice(BITS) + raw[at + chance.choice([0, 1, 1, 2]) :]
    if chance.random() < 0.15:
        raw = raw[: chance.randrange(len(raw) + 1)]
    if chance.random() < 0.005:
        raw = chance.choice([b"a", b"X-A: b\r\n", b"\r\n", b"GET "]) * (SIZE_MAX // 2) + raw
    return raw[-SIZE_MAX:]


def _piece(chance: random.Random, number: int) -> bytes:
    if chance.random() < 0.35:
        return chance.choice(WHOLE)
    body = BODY % number
    line = chance.choice(LINES) if chance.random() < 0.1 else LINES[0]
    more = b"".join(chance.sample(MORE, chance.choice([0, 0, 0, 0, 1, 2])))
    if b"Encoding: gzip" in more and chance.random() < 0.5:
        body = gzip.compress(body, mtime=0)
    kind = chance.random()
    if kind < 0.6:
        length, sent = b"Content-Length: %d\r\n" % len(body), body
    elif kind < 0.75:
        length, sent = chance.choice(LENGTHS), body
        length = length % ((len(body),) * (length.count(b"%d") + length.count(b"%x")))
    else:
        coding = chance.choice(CODINGS) if kind < 0.8 else b"chunked"
        length, sent = b"Transfer-Encoding: %s\r\n" % coding, chance.choice(CHUNKS) % (len(body), body)
    name = b"X-Request-Id: wire-%d\r\n" % chance.randrange(10**6) if chance.random() < 0.5 else b""
    return line + b"\r\n" + HOST + AUTH + name + more + length + b"\r\n" + sent
