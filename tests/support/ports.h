/* Ports of 127.0.0.1 where nobody listens, and nobody else can. */
#ifndef HT_TEST_PORTS_H
#define HT_TEST_PORTS_H

#include "io/io.h"

#include <netinet/in.h>
#include <stdint.h>
#include <sys/socket.h>
#include <unistd.h>

/* Bound to 127.0.0.1 and deaf: nobody else gets the port there, and who dials is refused. -1: somebody has it. */
static inline int hold_v4_port(uint16_t port) {
    struct sockaddr_in at = {.sin_family = AF_INET, .sin_port = htons(port), .sin_addr.s_addr = htonl(INADDR_LOOPBACK)};
    int fd = socket(AF_INET, SOCK_STREAM | SOCK_CLOEXEC, 0);
    setsockopt(fd, SOL_SOCKET, SO_REUSEADDR, &(int){1}, sizeof(int)); /* beside ends of connections from there */
    if (fd >= 0 && bind(fd, (struct sockaddr *)&at, sizeof at) < 0) {
        close(fd);
        return -1;
    }
    return fd;
}

/* Closes a listener at 127.0.0.1 and holds its port: a descriptor to close when it may be used again. */
static inline int deafen(struct io_listener **l) {
    struct io_addr at;
    io_listener_local(*l, &at);
    io_listener_close(l);
    return hold_v4_port(io_addr_port(&at));
}

#endif
