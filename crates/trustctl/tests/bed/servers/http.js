// Answers with the body of the request, or with a greeting if it has none. The argument is the
// port.
"use strict";

const http = require("http");

http
  .createServer((request, response) => {
    const pieces = [];
    request.on("data", (piece) => pieces.push(piece));
    request.on("end", () => response.end(pieces.length ? Buffer.concat(pieces) : "hello\n"));
  })
  .listen(Number(process.argv[2]), "127.0.0.1");
