#!/bin/bash
# Silence: the other host, or the path to it, is gone, and nothing says so.
. "$(dirname "$0")/common.sh"

title "the calls: waiting"
play <<'STEPS'
server listen 7000
client connect 7000
server accept
! cut_path
client recv 3
client poll
client state
client send into the dark
client poll
client recv 3
client so_error
client state
# the path is back, and so is the connection
! heal_path
server recv 5
! cut_path
client abort
STEPS

title "the calls: the kernel gives up (tcp_retries2 = 3 instead of 15)"
kernel client tcp_retries2=3
heal_path
play <<'STEPS'
server listen 7000
client connect 7000
server accept
! cut_path
client send into the dark
client recv 20
client recv
client send late
STEPS
kernel client tcp_retries2=15

title "the calls: TCP_USER_TIMEOUT"
heal_path
play <<'STEPS'
server listen 7000
client connect 7000
server accept
client set TCP_USER_TIMEOUT 2000
! cut_path
client send into the dark
client recv 20
STEPS

title "the calls: keepalive, nothing sent"
heal_path
play <<'STEPS'
server listen 7000
client connect 7000
server accept
client set SO_KEEPALIVE 1
client set TCP_KEEPIDLE 1
client set TCP_KEEPINTVL 1
client set TCP_KEEPCNT 3
! cut_path
client recv 20
client recv
client send late
STEPS

title "the client's host vanishes while it is idle, our server's log"
heal_path
serve --timeout 2
play <<'STEPS'
client connect 9900
client frame hello
client recv
! cut_path
server log 20
STEPS
title "the client's host vanishes while it is owed 180,012 bytes"
heal_path
play <<'STEPS'
client connect 9900
client frame hello
client recv
client frame 60000 bytes
client frame 60000 bytes
client frame 60000 bytes
! cut_path
server log 20
STEPS
stop_server

title "the server's host vanishes while echo-client waits for its input, then for an answer"
heal_path
play <<'STEPS'
server listen 7000
client run echo-client 10.0.2.2 7000 --timeout 2
server accept
! cut_path
wait 3
# three seconds later it is still there, and notices nothing
client type hello
client wait
STEPS

title "echo-client connects"
play <<'STEPS'
client run echo-client 10.0.2.2 7000 hello --timeout 2
client wait
STEPS
