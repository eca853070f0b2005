/*
 * What a service manager is told: sd_notify(3) of systemd, written from its description of the datagrams, so that no
 * library is needed. Whoever does not set NOTIFY_SOCKET hears nothing and costs nothing.
 */
#ifndef HT_PROC_NOTIFY_H
#define HT_PROC_NOTIFY_H

#include "base/base.h"
#include "base/err.h"

#include <sys/socket.h>
#include <sys/un.h>

struct proc_notify {
    int fd; /* -1: nobody listens */
    struct sockaddr_un addr;
    socklen_t len;
};

/*
 * Looks for NOTIFY_SOCKET: a path, or with a leading '@' an abstract name (unix(7)). HT_EINVAL or HT_EIO with *err: it
 * is set and cannot be used; `n` may be used all the same and sends nothing.
 */
int proc_notify_open(struct proc_notify *n, struct ht_errmsg *err) HT_MUST_USE;
void proc_notify_close(struct proc_notify *n);
bool proc_notify_wanted(const struct proc_notify *n);

/* Sends lines of "NAME=value" as one datagram. Never waits; 0, or HT_EIO when it could not be sent. */
int proc_notify_send(const struct proc_notify *n, const char *fmt, ...) HT_PRINTF(2, 3);

/* How often the manager wants to hear WATCHDOG=1 at the least, from WATCHDOG_USEC and WATCHDOG_PID. 0: never. */
uint64_t proc_notify_watchdog_ms(void);

#endif
