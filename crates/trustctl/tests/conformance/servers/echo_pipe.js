// Echo server on node:net that pipes each connection into itself.
//
//     node echo_pipe.js [SOCKET]
//
// Listens on a free port, or on a unix socket of that path, and prints it.
"use strict";

const net = require("node:net");

const server = net.createServer({ allowHalfOpen: true, noDelay: true }, (socket) => {
  // Without it one client that resets its connection ends the process.
  socket.on("error", () => socket.destroy());
  socket.pipe(socket);
});

const path = process.argv[2];
const place = path ? { path } : { port: 0, host: "127.0.0.1" };
server.listen({ ...place, backlog: 1024 }, () => console.log(path || server.address().port));
