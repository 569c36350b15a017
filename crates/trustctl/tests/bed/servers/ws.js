// A server of HTTP whose connections can be upgraded to WebSocket. The argument is the port.
"use strict";

const http = require("http");
const { WebSocketServer } = require("ws");

const server = http.createServer((request, response) => response.end("hello\n"));
new WebSocketServer({ server });
server.listen(Number(process.argv[2]), "127.0.0.1");
