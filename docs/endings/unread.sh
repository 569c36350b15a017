#!/bin/bash
# RST by unread data: an ordinary close, with unread bytes in the receive queue.
. "$(dirname "$0")/common.sh"

title "the calls: close"
play <<'STEPS'
server listen 7000
client connect 7000
server accept
client send a question that nobody reads
server send an answer
server close
client poll
client recv
client recv
client recv
client send late
STEPS

title "the calls: shutdown(SHUT_WR), then close"
play <<'STEPS'
server listen 7000
client connect 7000
server accept
client send a question that nobody reads
server send an answer
server shutdown
server close
client poll
client recv
client recv
client so_error
client send late
STEPS

title "the calls: the question comes after the close"
play <<'STEPS'
server listen 7000
client connect 7000
server accept
server close
client recv
client send a question that nobody reads
client recv
client send late
STEPS

title "the client closes and has not read its answer, our server's log"
serve
play <<'STEPS'
client connect 9900
client frame hello
client close
server log
STEPS
stop_server

title "the server closes and has not read the question of echo-client"
play <<'STEPS'
server listen 7000
client run echo-client 10.0.2.2 7000 hello
server accept
server close
client wait
STEPS
