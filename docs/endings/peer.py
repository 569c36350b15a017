"""Plays the conversation on standard input, one step per line, and prints what each call returned.

A step is HOST VERB [ARGUMENT…]. HOST, client or server, is the network namespace in which it
happens. Steps are played one after another, a moment apart, so that what one step sends has arrived
before the next.

    listen PORT, accept
    connect [ADDRESS] PORT  to the server unless an address is given
    send TEXT | N bytes
    frame TEXT | N bytes    sends it with its length in four bytes before it
    part HAVE OF            sends the beginning of a frame: HAVE of the OF bytes of its payload
    recv [SECONDS]
    drain [SECONDS]         calls recv until it returns 0 or an error, and counts the bytes
    shutdown, close, abort  shutdown: SHUT_WR; abort: close with SO_LINGER 0
    so_error, poll, state   getsockopt(SO_ERROR), poll(2), the state of the connection
    set NAME N              sets a socket option, see OPTIONS
    run COMMAND             starts a program
    type TEXT, end          writes to the program's input, or ends it
    signal NAME             sends the program a signal
    wait                    waits for the program to exit
    log [SECONDS]           prints what our server has logged since, up to the next client_close

Other lines: `! COMMAND` runs a shell command, `wait SECONDS` waits, `# TEXT` is printed, and NEW
forgets the sockets.
"""

import ctypes
import errno
import json
import os
import select
import signal
import socket
import struct
import subprocess
import sys
import time

SETTLE_SEC = 0.05  # between two steps; a packet needs far less
PATIENCE_SEC = 3  # of recv and send, unless the step says otherwise
WAIT_SEC = 20  # for the end of a program
SERVER = "10.0.2.2"
STATES = (
    "- ESTABLISHED SYN_SENT SYN_RECV FIN_WAIT1 FIN_WAIT2 "
    "TIME_WAIT CLOSE CLOSE_WAIT LAST_ACK LISTEN CLOSING"
).split()
OPTIONS = {
    "TCP_USER_TIMEOUT": (socket.IPPROTO_TCP, 18),
    "SO_KEEPALIVE": (socket.SOL_SOCKET, socket.SO_KEEPALIVE),
    "TCP_KEEPIDLE": (socket.IPPROTO_TCP, socket.TCP_KEEPIDLE),
    "TCP_KEEPINTVL": (socket.IPPROTO_TCP, socket.TCP_KEEPINTVL),
    "TCP_KEEPCNT": (socket.IPPROTO_TCP, socket.TCP_KEEPCNT),
}
LEFT_OUT = "ts request_id conn client_fd peer mode frames_in frames_out rtt_us".split()

listeners, sockets, programs, received = {}, {}, {}, {}
log_offset = os.path.getsize(os.environ["SERVER_LOG"])  # what is there was printed before


def enter(host):
    namespace = os.open(f"/run/netns/{host}", os.O_RDONLY)
    if ctypes.CDLL(None, use_errno=True).setns(namespace, 0):
        raise OSError(ctypes.get_errno(), "setns")
    os.close(namespace)


def show(host, what, result="", seconds=0):
    after = f"   (after {seconds:.1f} s)" if seconds >= 0.1 else ""
    print(f"{host:7} {what:24} {result}{after}".rstrip(), flush=True)


def measure(host, what, call):
    """Prints what a call returned; its result, or None after an error."""
    begin = time.monotonic()
    try:
        result, failed = call(), None
    except OSError as error:
        result, failed = None, error
    seconds = time.monotonic() - begin
    if failed:
        error = f"{errno.errorcode[failed.errno]} ({os.strerror(failed.errno)})"
        show(host, what, f"= -1 {error}", seconds)
    else:
        number = len(result) if isinstance(result, bytes) else result
        show(host, what, f"= {number}", seconds)
    return result


def patient(sock, seconds):
    for option in socket.SO_RCVTIMEO, socket.SO_SNDTIMEO:
        sock.setsockopt(socket.SOL_SOCKET, option, struct.pack("ll", int(seconds), 0))


def payload(words):
    return bytes(int(words[0])) if words[1:] == ["bytes"] else " ".join(words).encode()


def drain(host, sock):
    count, end = 0, None
    begin = time.monotonic()
    while end is None:
        try:
            got = len(sock.recv(1 << 20))
            count += got
            end = None if got else "0"
        except OSError as error:
            end = f"-1 {errno.errorcode[error.errno]} ({os.strerror(error.errno)})"
    show(host, "recv …", f"= {count} bytes in all, then {end}", time.monotonic() - begin)


def poll(host, sock):
    poller = select.poll()
    poller.register(sock, select.POLLIN | select.POLLRDHUP)
    names = ["POLLIN", "POLLRDHUP", "POLLHUP", "POLLERR"]
    bits = poller.poll(0)[0][1] if poller.poll(0) else 0
    found = " | ".join(n for n in names if bits & getattr(select, n))
    show(host, "poll", f"= {found or 'nothing'}")


def log(host, seconds):
    """Prints what the server logged and has not been printed, up to the end of one connection."""
    global log_offset
    give_up = time.monotonic() + seconds
    while True:
        with open(os.environ["SERVER_LOG"], "rb") as file:
            file.seek(log_offset)
            line = file.readline()
        if not line.endswith(b"\n"):
            if time.monotonic() > give_up:
                return show(host, "log", f"nothing more for {seconds:g} s")
            time.sleep(0.02)
            continue
        log_offset += len(line)
        event = json.loads(line)
        name = event["event"]
        if name.startswith(("cmd", "server", "client_connect")):
            continue
        kept = {key: value for key, value in event.items() if key not in LEFT_OUT}
        print(f"{host:7} log {json.dumps(kept, separators=(',', ':'))}", flush=True)
        if name == "client_close":
            return None


def run(host, command):
    show(host, f"$ {command}")
    pipe = subprocess.PIPE
    programs[host] = subprocess.Popen(
        command, shell=True, executable="/bin/bash", stdin=pipe, stdout=pipe,
        stderr=subprocess.STDOUT, preexec_fn=lambda: enter(host), start_new_session=True,
    )
    time.sleep(0.3)


def wait(host):
    program = programs.pop(host)
    begin = time.monotonic()
    timer = None
    try:
        code = program.wait(WAIT_SEC)
    except subprocess.TimeoutExpired:
        os.killpg(program.pid, signal.SIGKILL)
        code = program.wait()
        timer = f"was still running after {WAIT_SEC} s, and was killed"
    for line in program.stdout.read().decode(errors="replace").splitlines():
        print(f"{host:7} | {line}")
    by_signal = f"was ended by {signal.Signals(-code).name}" if code < 0 else f"exit code {code}"
    show(host, timer or by_signal, "", time.monotonic() - begin)


def step(host, verb, words):
    seconds = float(words[0]) if words and words[0].isdigit() else PATIENCE_SEC
    sock = sockets.get(host)
    text = " ".join(words)
    match verb:
        case "listen":
            listeners[host] = socket.create_server((SERVER, int(words[0])))
        case "connect":
            sockets[host] = sock = socket.socket()
            patient(sock, 10)
            address = (SERVER, *words)[-2], int(words[-1])
            measure(host, "connect", lambda: sock.connect(address) or 0)
            patient(sock, PATIENCE_SEC)
        case "accept":
            sockets[host], _ = listeners[host].accept()
            patient(sockets[host], PATIENCE_SEC)
        case "send":
            data = payload(words)
            measure(host, f"send({len(data)} bytes)", lambda: sock.send(data))
        case "frame":
            data = payload(words)
            data = struct.pack(">I", len(data)) + data
            measure(host, f"send({len(data)} bytes)", lambda: sock.send(data))
        case "part":
            data = struct.pack(">I", int(words[1])) + bytes(int(words[0]))
            measure(host, f"send({len(data)} bytes)", lambda: sock.send(data))
        case "recv":
            patient(sock, seconds)
            measure(host, "recv", lambda: sock.recv(65536))
        case "drain":
            patient(sock, seconds)
            drain(host, sock)
        case "shutdown":
            measure(host, "shutdown(SHUT_WR)", lambda: sock.shutdown(socket.SHUT_WR) or 0)
        case "close":
            measure(host, "close", lambda: sock.close() or 0)
        case "abort":
            sock.setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, struct.pack("ii", 1, 0))
            measure(host, "close (SO_LINGER 0)", lambda: sock.close() or 0)
        case "so_error":
            number = sock.getsockopt(socket.SOL_SOCKET, socket.SO_ERROR)
            show(host, "getsockopt(SO_ERROR)", f"= 0, {errno.errorcode.get(number, 0)}")
        case "poll":
            poll(host, sock)
        case "state":
            info = sock.getsockopt(socket.IPPROTO_TCP, socket.TCP_INFO, 1)
            show(host, "state", "= " + STATES[info[0]])
        case "set":
            sock.setsockopt(*OPTIONS[words[0]], int(words[1]))
            show(host, f"{words[0]} {words[1]}")
        case "run":
            run(host, text)
        case "type":
            show(host, f"types {text}")
            programs[host].stdin.write(text.encode() + b"\n")
            programs[host].stdin.flush()
        case "end":
            programs[host].stdin.close()
        case "signal":
            show(host, f"kill -{text}")
            os.killpg(programs[host].pid, signal.Signals[f"SIG{text}"])
        case "wait":
            wait(host)
        case "log":
            log(host, seconds)
        case _:
            sys.exit(f"peer.py: no step is called {verb}")


def main():
    for line in sys.stdin:
        words = line.split()
        match words:
            case []:
                continue
            case ["#", *rest]:
                print("   --", " ".join(rest), flush=True)
            case ["!", *rest]:
                show("", " ".join(rest))
                subprocess.run(["bash", "-c", " ".join(rest)], check=True, stdin=subprocess.DEVNULL)
            case ["wait", seconds]:
                time.sleep(float(seconds))
            case ["NEW"]:
                sockets.clear()
                listeners.clear()
            case [host, verb, *rest]:
                enter(host)
                step(host, verb, rest)
        time.sleep(SETTLE_SEC)


main()
