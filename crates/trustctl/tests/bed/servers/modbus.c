/* A Modbus/TCP server on libmodbus, with a process per client. Sixteen holding registers: 0x100,
 * 0x101, … The argument is the port, or --version. */
#include <modbus.h>
#include <signal.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/prctl.h>
#include <sys/socket.h>
#include <unistd.h>

#define REGISTERS 16

static void serve(modbus_t *context, modbus_mapping_t *mapping)
{
    uint8_t query[MODBUS_TCP_MAX_ADU_LENGTH];
    int length;

    while ((length = modbus_receive(context, query)) != -1) {
        if (length > 0 && modbus_reply(context, query, length, mapping) == -1) {
            break;
        }
    }
    modbus_close(context);
}

int main(int argc, char **argv)
{
    if (argc != 2) {
        return 64;
    }
    if (strcmp(argv[1], "--version") == 0) {
        printf("libmodbus %u.%u.%u\n", libmodbus_version_major, libmodbus_version_minor,
               libmodbus_version_micro);
        return 0;
    }
    modbus_t *context = modbus_new_tcp("127.0.0.1", atoi(argv[1]));
    modbus_mapping_t *mapping = modbus_mapping_new(0, 0, REGISTERS, 0);
    /* A client may take its time in the middle of a request. */
    if (context == NULL || mapping == NULL || modbus_set_byte_timeout(context, 0, 0) == -1) {
        return 1;
    }
    for (int i = 0; i < REGISTERS; i++) {
        mapping->tab_registers[i] = 0x100 + i;
    }
    int listening = modbus_tcp_listen(context, 128);
    if (listening == -1) {
        return 1;
    }
    /* Children need not be reaped. */
    signal(SIGCHLD, SIG_IGN);
    for (;;) {
        int client = accept(listening, NULL, NULL);
        if (client != -1 && fork() == 0) {
            prctl(PR_SET_PDEATHSIG, SIGTERM);
            close(listening);
            modbus_set_socket(context, client);
            serve(context, mapping);
            _exit(0);
        }
        close(client);
    }
}
