#!/bin/bash
# Unreachable: a router answers with ICMP.
. "$(dirname "$0")/common.sh"

title "the calls: an established connection"
play <<'STEPS'
server listen 7000
client connect 7000
server accept
! unreachable server
client recv
client send nobody home
client recv
client poll
client so_error
client so_error
# the path is back, and so is the connection
! reachable server
server recv 10
STEPS

make_network
title "the calls: the kernel gives up (tcp_retries2 = 3 instead of 15)"
kernel client tcp_retries2=3
play <<'STEPS'
server listen 7000
client connect 7000
server accept
! unreachable server
client send nobody home
client recv 20
client recv
client send late
STEPS

make_network
title "the calls: connect"
play <<'STEPS'
! unreachable server
client connect 7000
! reachable server
! on client ip route add unreachable 10.0.2.2
client connect 7000
! on client ip route del unreachable 10.0.2.2
! on client ip route del default
client connect 7000
! on client ip route add default via 10.0.1.1
# and, for comparison, a host that is there and has no listener: RST
client connect 7000
STEPS

make_network
title "the client becomes unreachable while it is idle, our server's log"
serve --timeout 2
play <<'STEPS'
client connect 9900
client frame hello
client recv
! unreachable client
server log 20
STEPS
stop_server
make_network
title "the client becomes unreachable while it is owed an answer"
serve --timeout 2
play <<'STEPS'
client connect 9900
! unreachable client
client frame hello
server log 20
STEPS
stop_server

make_network
title "the server becomes unreachable while echo-client waits for an answer"
play <<'STEPS'
server listen 7000
client run echo-client 10.0.2.2 7000 --timeout 2
server accept
! unreachable server
client type hello
client wait
STEPS

make_network
title "echo-client connects: unreachable, then no listener"
play <<'STEPS'
! unreachable server
client run echo-client 10.0.2.2 7000 hello
client wait
! reachable server
client run echo-client 10.0.2.2 7000 hello
client wait
STEPS
