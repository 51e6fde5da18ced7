"""A line between a client and an HTTP server that counts the requests and the bytes of their bodies."""

import asyncio
import collections
import threading

CHUNK = 64 << 10


class CountingLine:
    """Forwards a port to `target` on threads of its own, until the program ends. `requests` counts by method, GETs of a
    bucket as LIST; `sent` and `received` are bytes of the client's, heads included."""

    def __init__(self, port, target):
        self.port, self.target = port, target
        self.requests = collections.Counter()
        self.sent = self.received = 0
        listening = threading.Event()
        threading.Thread(target=lambda: asyncio.run(self._serve(listening)), daemon=True).start()
        listening.wait(10)

    def reset(self):
        self.requests.clear()
        self.sent = self.received = 0

    async def _serve(self, listening):
        server = await asyncio.start_server(self._connection, "127.0.0.1", self.port, limit=1 << 20)
        listening.set()
        async with server:
            await server.serve_forever()

    async def _connection(self, reader, writer):
        try:
            upstream_reader, upstream_writer = await asyncio.open_connection("127.0.0.1", self.target)
            await asyncio.gather(self._requests(reader, upstream_writer), self._answers(upstream_reader, writer))
        except (ConnectionError, asyncio.IncompleteReadError):
            pass
        finally:
            writer.close()

    async def _requests(self, reader, writer):
        try:
            while True:
                head = await reader.readuntil(b"\r\n\r\n")
                self._count(head)
                writer.write(head)
                self.sent += len(head)
                await self._body(reader, writer, length_of(head))
                await writer.drain()
        except asyncio.IncompleteReadError:
            writer.close()

    async def _body(self, reader, writer, left):
        while left:
            data = await reader.read(min(left, CHUNK))
            if not data:
                raise ConnectionError("the client went away")
            left -= len(data)
            self.sent += len(data)
            writer.write(data)
            await writer.drain()

    def _count(self, head):
        method, path, _ = head.split(b"\r\n", 1)[0].decode().split(" ", 2)
        is_list = method == "GET" and ("list-type=" in path or "prefix=" in path)
        self.requests["LIST" if is_list else method] += 1

    async def _answers(self, reader, writer):
        while data := await reader.read(CHUNK):
            self.received += len(data)
            writer.write(data)
            await writer.drain()
        writer.close()


def length_of(head):
    for line in head.lower().split(b"\r\n"):
        if line.startswith(b"content-length:"):
            return int(line.split(b":")[1])
        if line.startswith(b"transfer-encoding:"):
            raise SystemExit("a request without a length: it cannot be counted here")
    return 0
