#!/bin/bash
# RST by abort: one side closes with SO_LINGER at 0.
. "$(dirname "$0")/common.sh"

title "the calls: recv first"
play <<'STEPS'
server listen 7000
client connect 7000
server accept
client send unread
client abort
server poll
server recv
server recv
server recv
server send late
STEPS

title "the calls: send first"
play <<'STEPS'
server listen 7000
client connect 7000
server accept
client send unread
client abort
server send late
server send later
server recv
server recv
STEPS

title "the calls: getsockopt(SO_ERROR) first"
play <<'STEPS'
server listen 7000
client connect 7000
server accept
client abort
server so_error
server so_error
server recv
server send late
STEPS

title "the calls: a FIN came before the RST"
play <<'STEPS'
server listen 7000
client connect 7000
server accept
client shutdown
client abort
server poll
server recv
server send late
STEPS

title "the client aborts, our server's log"
serve --max-frame 10000000
play <<'STEPS'
client connect 9900
client abort
server log
# with an answer owed that does not fit into the buffers
client connect 9900
client frame 8000000 bytes
client abort
server log
# the same, and a FIN came before the RST
client connect 9900
client frame 8000000 bytes
client shutdown
client abort
server log
STEPS
stop_server

title "the server aborts: echo-client waits for its input, then for an answer"
play <<'STEPS'
server listen 7000
client run echo-client 10.0.2.2 7000
server accept
server abort
client wait
NEW
server listen 7000
client run echo-client 10.0.2.2 7000 hello
server accept
server recv
server abort
client wait
STEPS
