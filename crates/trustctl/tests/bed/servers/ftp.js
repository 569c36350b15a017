// Lets everyone read its directory. The argument is the port.
"use strict";

const FtpSrv = require("ftp-srv");

const server = new FtpSrv({ url: `ftp://127.0.0.1:${process.argv[2]}`, anonymous: true });
server.on("login", (_, resolve) => resolve({ root: __dirname }));
server.listen();
