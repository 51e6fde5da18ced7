"""A line between a client and a server that has a delay, and a bandwidth for each connection.

    slow_line.py PORT TARGET_PORT DELAY_MS MEGABYTES_PER_SECOND

What the client sends arrives later by the delay, so that every request costs it once; what the server answers comes as
fast as the bandwidth allows. Each connection has it for itself, as with S3, whose limit is per connection.
"""

import asyncio
import sys
import time

CHUNK = 64 << 10


class Line:
    def __init__(self, target, delay, bytes_per_second):
        self.target = target
        self.delay = delay
        self.bytes_per_second = bytes_per_second

    async def serve(self, reader, writer):
        try:
            upstream_reader, upstream_writer = await asyncio.open_connection("127.0.0.1", self.target)
            await asyncio.gather(self.requests(reader, upstream_writer), self.answers(upstream_reader, writer))
        except (ConnectionError, asyncio.IncompleteReadError):
            pass
        finally:
            writer.close()

    async def requests(self, reader, writer):
        """Each piece on its own way, so that the delay takes nothing from the bandwidth."""
        queue = asyncio.Queue()
        sender = asyncio.create_task(self.send_late(queue, writer))
        while data := await reader.read(CHUNK):
            queue.put_nowait((time.monotonic() + self.delay, data))
        queue.put_nowait(None)
        await sender

    async def send_late(self, queue, writer):
        while piece := await queue.get():
            due, data = piece
            await asyncio.sleep(max(0, due - time.monotonic()))
            writer.write(data)
            await writer.drain()
        writer.write_eof()

    async def answers(self, reader, writer):
        free_at = 0.0
        while data := await reader.read(CHUNK):
            free_at = max(free_at, time.monotonic()) + len(data) / self.bytes_per_second
            # The clock of the event loop is not finer.
            if (early := free_at - time.monotonic()) > 0.001:
                await asyncio.sleep(early)
            writer.write(data)
            await writer.drain()
        writer.close()


async def main():
    port, target, delay, megabytes = int(sys.argv[1]), int(sys.argv[2]), float(sys.argv[3]), float(sys.argv[4])
    line = Line(target, delay / 1000, megabytes * 1e6)
    server = await asyncio.start_server(line.serve, "127.0.0.1", port)
    async with server:
        await server.serve_forever()


if __name__ == "__main__":
    asyncio.run(main())
