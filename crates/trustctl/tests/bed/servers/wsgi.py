"""What a PUT brings is the state, which a GET shows."""

state = b"nothing"


def app(environ, start_response):
    global state
    if environ["REQUEST_METHOD"] == "PUT":
        # No more than a framework does: PEP 3333 says that a read ends early where the body does.
        state = environ["wsgi.input"].read(int(environ.get("CONTENT_LENGTH") or 0))
    answer = state + b"\n"
    start_response("200 OK", [("Content-Length", str(len(answer)))])
    return [answer]
