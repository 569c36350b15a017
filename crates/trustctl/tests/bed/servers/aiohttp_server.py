"""Answers with the body of the request, or with a greeting if it has none. The argument is the
port."""

import sys

from aiohttp import web


async def answer(request):
    return web.Response(body=await request.read() or b"hello\n")


app = web.Application()
app.router.add_route("*", "/{path:.*}", answer)
web.run_app(app, host="127.0.0.1", port=int(sys.argv[1]))
