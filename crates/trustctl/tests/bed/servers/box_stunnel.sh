# Runs both ends of a TLS tunnel, until one of them ends.
stunnel4 box_stunnel_server.conf &
stunnel4 box_stunnel.conf &
trap 'kill %1 %2' TERM INT
wait
