// Echo server on node:net that pipes each connection into itself.
//
//     node echo_pipe.js
//
// Listens on a free port and prints it.
"use strict";

const net = require("node:net");

const server = net.createServer({ allowHalfOpen: true, noDelay: true }, (socket) => {
  // Without it one client that resets its connection ends the process.
  socket.on("error", () => socket.destroy());
  socket.pipe(socket);
});

server.listen(0, "127.0.0.1", 1024, () => console.log(server.address().port));
