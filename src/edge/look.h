/*
 * What a person wants to know before and while an edge runs: `edge doctor` asks. Nothing here needs a running edge, and
 * nothing is changed.
 */
#ifndef HT_EDGE_LOOK_H
#define HT_EDGE_LOOK_H

#include "base/base.h"

#include <sys/types.h>

/* Looks for a program in PATH, then in the folders for programs of the system. Writes its path. False: there is none.
 */
#define EDGE_PROGRAM 256
bool edge_look_program(const char *name, char out[EDGE_PROGRAM]);

struct edge_folder_facts {
    bool there, is_folder;
    bool busy;   /* an edge works in it */
    bool served; /* a HAProxy takes connections at its socket there */
    uid_t owner;
    mode_t mode; /* its permissions */
};
/* Symbolic links at the end of the path are no folders. */
void edge_look_folder(const char *folder, struct edge_folder_facts *out);

/* Whether this user may listen on a port of all addresses of a family, AF_INET or AF_INET6: 0, or a positive errno.
 * EAFNOSUPPORT: the machine has no such family. `type` is SOCK_STREAM or SOCK_DGRAM. */
int edge_look_port(int family, int type, uint16_t port);

/* True when an address, of 4 or 16 bytes, is one of this machine's. */
bool edge_look_is_own(int family, const uint8_t *addr);

/* ---- whether QUIC answers ---- */

/*
 * Sends a first packet of a version that nobody speaks to a UDP port of 127.0.0.1; a server answers which ones it does
 * (RFC 9000 6.1). Returns a socket that does not block, for edge_quic_answered() and close(), or -1 with errno.
 */
int edge_quic_ask(uint16_t port);
/* Whether the answer is there. */
bool edge_quic_answered(int fd);

#endif
