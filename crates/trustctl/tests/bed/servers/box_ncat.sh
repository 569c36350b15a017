# A relay of two programs: one listens, and starts the other for each client.
exec ncat --listen --keep-open --max-conns 1000 127.0.0.1 "$1" --sh-exec "ncat 127.0.0.1 $2"
