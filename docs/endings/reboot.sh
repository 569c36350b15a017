#!/bin/bash
# RST from a rebooted host: it no longer knows the connection, and says so when a segment arrives.
. "$(dirname "$0")/common.sh"

# Crash and reboot of a host: the path is cut, the host forgets, the path is there again.
reboot() {
    cut_path
    forget_connections "$1" "$2"
    heal_path
}
export -f reboot

title "the calls"
play <<'STEPS'
server listen 7000
client connect 7000
server accept
client send before
server recv
! reboot server client
client recv
client send after
client poll
client recv
client recv
client send later
STEPS

title "the calls: with keepalive (first probe after 1 s)"
play <<'STEPS'
server listen 7000
client connect 7000
server accept
client set SO_KEEPALIVE 1
client set TCP_KEEPIDLE 1
! reboot server client
client recv
client recv
STEPS

title "the client's host reboots while it is idle, our server's log"
serve --timeout 2
play <<'STEPS'
client connect 9900
client frame hello
client recv
! reboot client server
server log 10
STEPS
title "the client's host reboots while it is owed 180,012 bytes"
play <<'STEPS'
client connect 9900
client frame hello
client recv
client frame 60000 bytes
client frame 60000 bytes
client frame 60000 bytes
! reboot client server
server log 10
STEPS
stop_server

title "the server's host reboots while echo-client waits for its input"
play <<'STEPS'
server listen 7000
client run echo-client 10.0.2.2 7000
server accept
! reboot server client
wait 1
client type hello
client wait
STEPS
title "the server's host reboots while echo-client waits for an answer"
play <<'STEPS'
server listen 7000
client run echo-client 10.0.2.2 7000 hello
server accept
server recv
! reboot server client
client wait
STEPS
title "the server's host reboots before the question of echo-client has arrived"
play <<'STEPS'
server listen 7000
client run echo-client 10.0.2.2 7000
server accept
! cut_path
client type hello
! forget_connections server client
! heal_path
client wait
STEPS
