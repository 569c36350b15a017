#!/bin/bash
# Process killed: SIGKILL, which no program can handle. The kernel closes its sockets for it.
. "$(dirname "$0")/common.sh"

title "the calls: our server is killed while nothing is unread"
serve
play <<STEPS
client connect 9900
! kill -KILL $SERVER_PID
client poll
client recv
client send late
client send later
client recv
STEPS
stop_server

title "the calls: our server is killed with a question unread" \
    "(stopped first, so that it cannot read)"
serve
play <<STEPS
client connect 9900
! kill -STOP $SERVER_PID
client frame hello
! kill -KILL $SERVER_PID
client poll
client recv
client recv
client send late
STEPS
stop_server

title "a client is killed with nothing unread, our server's log"
serve
play <<'STEPS'
client run echo-client 10.0.2.2 9900
client signal KILL
client wait
server log
# with its answer unread
client run exec 3<>/dev/tcp/10.0.2.2/9900; echo hello >&3; read
client signal KILL
client wait
server log
STEPS

title "our server is killed: echo-client waits for its input"
play <<STEPS
client run echo-client 10.0.2.2 9900
! kill -KILL $SERVER_PID
client wait
STEPS
stop_server

title "our server is killed: echo-client waits for an answer, its question read, then unread"
play <<STEPS
server run python3 -c 'import socket; s = socket.create_server(("10.0.2.2", 7000)); \
c = s.accept()[0]; c.recv(99); s.accept()'
client run echo-client 10.0.2.2 7000 hello
server signal KILL
client wait
STEPS
serve
play <<STEPS
! kill -STOP $SERVER_PID
client run echo-client 10.0.2.2 9900 hello
! kill -KILL $SERVER_PID
client wait
STEPS
stop_server
