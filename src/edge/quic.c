/* Whether a server of QUIC answers: it says which versions it speaks, and no handshake is needed for that. */
#include "edge/look.h"

#include <errno.h>
#include <netinet/in.h>
#include <string.h>
#include <sys/socket.h>
#include <unistd.h>

#define FIRST_PACKET 1200 /* bytes that a first packet has at least (RFC 9000 14.1) */
#define ID 8              /* bytes of a connection's id */

/* Long header, a version that is reserved for this (RFC 9000 15), the server's id and ours. */
static const uint8_t head[] = {0xc0, 0x1a, 0x2a, 0x3a, 0x4a, ID,  'h', 'o', 'o', 'd', 'y', 't',
                               'u',  'n',  ID,   'e',  'd',  'g', 'e', 'h', 't', 't', 'p'};

int edge_quic_ask(uint16_t port) {
    uint8_t packet[FIRST_PACKET] = {0};
    struct sockaddr_in to = {.sin_family = AF_INET, .sin_port = htons(port), .sin_addr = {htonl(INADDR_LOOPBACK)}};
    int fd = socket(AF_INET, SOCK_DGRAM | SOCK_CLOEXEC | SOCK_NONBLOCK, 0);
    memcpy(packet, head, sizeof head);
    if (fd < 0)
        return -1;
    if (connect(fd, (const struct sockaddr *)&to, sizeof to) == 0 && send(fd, packet, sizeof packet, 0) > 0)
        return fd;
    int why = errno;
    close(fd);
    errno = why;
    return -1;
}

/* Version negotiation (RFC 9000 17.2.1): version 0, and the ids the other way round. */
bool edge_quic_answered(int fd) {
    uint8_t got[2048];
    const uint8_t *server = head + 6, *ours = head + 6 + ID + 1;
    ssize_t n = recv(fd, got, sizeof got, 0);
    return n >= 6 + ID + 1 + ID + 4 && (got[0] & 0x80) && memcmp(got + 1, "\0\0\0\0", 4) == 0 && got[5] == ID &&
           memcmp(got + 6, ours, ID) == 0 && got[6 + ID] == ID && memcmp(got + 6 + ID + 1, server, ID) == 0;
}
