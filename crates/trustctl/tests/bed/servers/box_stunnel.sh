# Runs both ends of a TLS tunnel. They end with this script.
stunnel4 box_stunnel_server.conf &
exec stunnel4 box_stunnel.conf
