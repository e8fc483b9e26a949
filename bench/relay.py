"""A TCP relay that stands for a far server: it delays bytes both ways and shares one bandwidth among all connections.

Usage: python bench/relay.py TARGET_PORT [--delay-ms N] [--mbit N]

Prints the port it listens on. A new connection costs one round trip more, as a handshake does. Bytes from the target
are sent no faster than the bandwidth, whoever asks; a queue of at most 256 kB waits in the relay for each connection.
"""

import argparse
import asyncio

PART_BYTES = 64 * 1024
QUEUE_PARTS = 4
SHORTEST_WAIT_S = 0.001  # the event loop's clock is no finer


class Link:
    """One way of the link: when a part may arrive."""

    def __init__(self, delay_s, bytes_per_s):
        self.delay_s = delay_s
        self.bytes_per_s = bytes_per_s
        self.free_at = 0.0

    def arrival(self, now, size):
        if self.bytes_per_s:
            self.free_at = max(self.free_at, now) + size / self.bytes_per_s
            return self.free_at + self.delay_s
        return now + self.delay_s


async def carry(reader, writer, link, extra_s):
    loop = asyncio.get_running_loop()
    queue = asyncio.Queue(0 if not link.bytes_per_s else QUEUE_PARTS)

    async def take():
        late_s = extra_s
        while True:
            try:
                part = await reader.read(PART_BYTES)
            except OSError:
                part = b""
            await queue.put((link.arrival(loop.time(), len(part)) + late_s, part))
            late_s = 0
            if not part:
                return

    async def give():
        last = 0.0
        while True:
            due, part = await queue.get()
            last = max(due, last)
            if last > loop.time() + SHORTEST_WAIT_S:
                await asyncio.sleep(last - loop.time())
            if not part:
                writer.close()
                return
            writer.write(part)
            try:
                await writer.drain()
            except OSError:
                return  # whoever listened has gone

    taking = asyncio.create_task(take())
    await give()
    taking.cancel()
    await asyncio.gather(taking, return_exceptions=True)


async def relay(target, delay_s, bytes_per_s):
    down = Link(delay_s, bytes_per_s)
    up = Link(delay_s, 0)

    async def serve(reader, writer):
        try:
            far_reader, far_writer = await asyncio.open_connection("127.0.0.1", target)
        except OSError:
            writer.close()
            return
        await asyncio.gather(
            carry(reader, far_writer, up, 2 * delay_s), carry(far_reader, writer, down, 0)
        )

    server = await asyncio.start_server(serve, "127.0.0.1", 0)
    print(server.sockets[0].getsockname()[1], flush=True)
    await server.serve_forever()


if __name__ == "__main__":
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("target", type=int)
    parser.add_argument("--delay-ms", type=float, default=10.0, help="one way")
    parser.add_argument("--mbit", type=float, default=0.0, help="0: no limit")
    options = parser.parse_args()
    asyncio.run(relay(options.target, options.delay_ms / 1000, options.mbit * 125_000))
