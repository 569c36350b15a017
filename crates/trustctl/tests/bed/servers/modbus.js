// Sixteen holding registers: 0x100, 0x101, … The argument is the port.
"use strict";

const net = require("net");
const modbus = require("jsmodbus");

const holding = Buffer.alloc(32);
for (let register = 0; register < 16; register++) {
  holding.writeUInt16BE(0x100 + register, 2 * register);
}
const server = new net.Server();
new modbus.server.TCP(server, { holding });
server.listen(Number(process.argv[2]), "127.0.0.1");
