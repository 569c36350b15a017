"""Echo server on asyncio streams, one task per client; four bytes of length, high byte first.

    python3 echo_asyncio.py MAX_FRAME TIMEOUT_SECONDS [SOCKET]

Listens on a free port, or on a unix socket of that path, and prints it.
"""

import asyncio
import sys

MAX_FRAME = int(sys.argv[1])
TIMEOUT = float(sys.argv[2])


async def within_timeout(awaitable):
    return await asyncio.wait_for(awaitable, TIMEOUT)


async def echo(reader, writer):
    """Echoes until the client is done, idle, or announces too much."""
    while True:
        header = await within_timeout(reader.readexactly(4))
        length = int.from_bytes(header, "big")
        if length > MAX_FRAME:
            return
        payload = await within_timeout(reader.readexactly(length))
        writer.write(header + payload)
        await within_timeout(writer.drain())


async def close_in_order(reader, writer):
    """FIN first, then the client's: closing with unread bytes would reset the connection."""
    writer.write_eof()
    while await within_timeout(reader.read(65536)):
        pass


async def serve(reader, writer):
    try:
        try:
            await echo(reader, writer)
        except (asyncio.IncompleteReadError, asyncio.TimeoutError):
            pass
        await close_in_order(reader, writer)
        writer.close()
    except (OSError, asyncio.TimeoutError):
        # It is gone, or takes nothing: what is still buffered will never leave.
        writer.transport.abort()


async def main():
    if len(sys.argv) > 3:
        server = await asyncio.start_unix_server(serve, sys.argv[3], backlog=1024)
        print(sys.argv[3], flush=True)
    else:
        server = await asyncio.start_server(serve, "127.0.0.1", 0, backlog=1024)
        print(server.sockets[0].getsockname()[1], flush=True)
    await server.serve_forever()


asyncio.run(main())
