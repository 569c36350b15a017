#!/bin/bash
# Half-close: one side says that it will send nothing more, and goes on reading.
. "$(dirname "$0")/common.sh"

title "the calls"
play <<'STEPS'
server listen 7000
client connect 7000
server accept
client send question
client shutdown
client send more
server poll
server recv
server recv
server send answer
client recv
client state
server state
server close
client recv
STEPS

title "the client half-closes, our server owes 180,012 bytes"
serve
play <<'STEPS'
client connect 9900
client frame 60000 bytes
client frame 60000 bytes
client frame 60000 bytes
client shutdown
client drain
client close
server log
# echo-client --raw half-closes when its input has ended
client run printf 'as it is' | echo-client 10.0.2.2 9900 --raw
client wait
server log
STEPS
stop_server

title "the server half-closes: echo-client waits for its input, then for an answer"
play <<'STEPS'
server listen 7000
client run echo-client 10.0.2.2 7000
server accept
server shutdown
client wait
server close
NEW
server listen 7000
client run echo-client 10.0.2.2 7000 hello
server accept
server shutdown
client wait
server close
STEPS

command -v socat >/dev/null || exit 0
title "through a proxy that gives a half-closed connection 0.5 s (socat -t 0.5, its default)"
on router socat -t 0.5 TCP-LISTEN:7000,fork,reuseaddr TCP:10.0.2.2:7000 2>/dev/null &
sleep 0.3
play <<'STEPS'
server listen 7000
# the answer comes at once
client connect 10.0.1.1 7000
server accept
client send question
client shutdown
server recv
server recv
server send answer
client recv
server close
client recv
NEW
# the answer comes after one second
server listen 7000
client connect 10.0.1.1 7000
server accept
client send question
client shutdown
server recv
server recv
wait 1
server send answer
server send rest of it
client recv
STEPS
