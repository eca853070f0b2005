/*
 * What a service manager is told: sd_notify(3) of systemd, written from its description of the datagrams, so that no
 * library is needed. Whoever does not set NOTIFY_SOCKET hears nothing and costs nothing.
 */
#ifndef HT_KIT_NOTIFY_H
#define HT_KIT_NOTIFY_H

#include "base/base.h"
#include "base/err.h"

#include <sys/socket.h>
#include <sys/un.h>

struct notify {
    int fd; /* -1: nobody listens */
    struct sockaddr_un addr;
    socklen_t len;
};

/*
 * Looks for NOTIFY_SOCKET: a path, or with a leading '@' an abstract name (unix(7)). HT_EINVAL or HT_EIO with *err: it
 * is set and cannot be used; `n` may be used all the same and sends nothing.
 */
int notify_open(struct notify *n, struct ht_errmsg *err) HT_MUST_USE;
void notify_close(struct notify *n);
bool notify_wanted(const struct notify *n);

/* Sends lines of "NAME=value" as one datagram. Never waits; 0, or HT_EIO when it could not be sent. */
int notify_send(const struct notify *n, const char *fmt, ...) HT_PRINTF(2, 3);

/* How often the manager wants to hear WATCHDOG=1 at the least, from WATCHDOG_USEC and WATCHDOG_PID. 0: never. */
uint64_t notify_watchdog_ms(void);

#endif
