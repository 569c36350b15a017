#!/bin/bash
# FIN: one side closes, with nothing unread.
. "$(dirname "$0")/common.sh"

title "the calls"
play <<'STEPS'
server listen 7000
client connect 7000
server accept
client send last words
client close
server poll
server recv
server recv
server state
server send late
server send later
server recv
server so_error
STEPS

title "the client closes, our server's log"
serve
play <<'STEPS'
client connect 9900
client frame hello
client recv
client close
server log
# in the middle of a frame: the header says 100 bytes, 6 have come
client connect 9900
client part 6 100
client close
server log
STEPS
stop_server

title "the server closes, echo-client waits for its input"
play <<'STEPS'
server listen 7000
client run echo-client 10.0.2.2 7000
server accept
server close
client wait
STEPS

title "the server closes, echo-client waits for an answer"
play <<'STEPS'
server listen 7000
client run echo-client 10.0.2.2 7000 hello
server accept
server recv
server close
client wait
STEPS
