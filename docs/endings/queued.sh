#!/bin/bash
# What a close does to answers that are still queued, when there is one thing left to read.
. "$(dirname "$0")/common.sh"

# Room for all of it in the sending kernel, so that the sender has nothing to wait for.
kernel server tcp_wmem="4096 16777216 16777216"
kernel client tcp_wmem="4096 16777216 16777216"

title "close with 1,000 bytes unread and 4,000,000 bytes of answers queued"
play <<'STEPS'
server listen 7000
client connect 7000
server accept
client send 1000 bytes
server send 4000000 bytes
server close
client drain
STEPS

title "the same with shutdown(SHUT_WR) before close"
play <<'STEPS'
server listen 7000
client connect 7000
server accept
client send 1000 bytes
server send 4000000 bytes
server shutdown
server close
client drain
STEPS

title "the orderly close: shutdown(SHUT_WR), recv until 0, close"
play <<'STEPS'
server listen 7000
client connect 7000
server accept
client send 1000 bytes
server send 4000000 bytes
server shutdown
server recv
client drain
client close
server recv
server close
STEPS

title "why small tests do not find it: close with 1,000 bytes unread and 50,000 bytes of answers"
play <<'STEPS'
server listen 7000
client connect 7000
server accept
client send 1000 bytes
server send 50000 bytes
server close
client drain
STEPS

title "our server: 80 frames of 50,000 bytes, a bad header and 1,000,000 more bytes," \
    "read a second later"
serve
frames=$(for _ in {1..80}; do echo client frame 50000 bytes; done)
play <<STEPS | uniq -c | sed -E 's/^ +1 //; s/^ +([0-9]+) (.*)/\2   (\1 times)/'
client connect 9900
$frames
client part 1000000 4294967295
wait 1
client drain
client close
server log
STEPS
stop_server
