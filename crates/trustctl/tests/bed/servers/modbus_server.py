"""Sixteen holding registers: 0x100, 0x101, … The argument is the port."""

import sys

from pymodbus.server import StartTcpServer
from pymodbus.simulator import DataType, SimData, SimDevice

registers = SimData(0, values=list(range(0x100, 0x110)), datatype=DataType.REGISTERS)
StartTcpServer(SimDevice(1, [registers]), address=("127.0.0.1", int(sys.argv[1])))
