"""Echo server on socketserver, one thread per client; four bytes of length, high byte first.

    python3 echo_socketserver.py MAX_FRAME TIMEOUT_SECONDS [SOCKET]

Listens on a free port, or on a unix socket of that path, with socketserver's own accept queue of
five, and prints it.
"""

import socket
import socketserver
import sys

MAX_FRAME = int(sys.argv[1])
SOCKET = sys.argv[3] if len(sys.argv) > 3 else None


class Echo(socketserver.StreamRequestHandler):
    timeout = float(sys.argv[2])
    disable_nagle_algorithm = SOCKET is None

    def handle(self):
        try:
            self.echo()
            # FIN first, then the client's: closing with unread bytes would reset the connection.
            self.request.shutdown(socket.SHUT_WR)
            while self.rfile.read1(65536):
                pass
        except OSError:
            pass

    def echo(self):
        try:
            while len(header := self.rfile.read(4)) == 4:
                length = int.from_bytes(header, "big")
                if length > MAX_FRAME:
                    return
                payload = self.rfile.read(length)
                if len(payload) < length:
                    return
                self.wfile.write(header + payload)
        except TimeoutError:
            pass


class Server(socketserver.ThreadingTCPServer):
    daemon_threads = True


class UnixServer(socketserver.ThreadingUnixStreamServer):
    daemon_threads = True


with UnixServer(SOCKET, Echo) if SOCKET else Server(("127.0.0.1", 0), Echo) as server:
    print(SOCKET or server.server_address[1], flush=True)
    server.serve_forever()
