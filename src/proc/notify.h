/*
 * Messages to the service manager, as sd_notify(3) of systemd sends them; no library is needed. Without NOTIFY_SOCKET
 * nothing is sent.
 */
#ifndef HT_PROC_NOTIFY_H
#define HT_PROC_NOTIFY_H

#include "base/base.h"
#include "base/err.h"

#include <sys/socket.h>
#include <sys/un.h>

struct proc_notify {
    int fd; /* -1: there is no service manager */
    struct sockaddr_un addr;
    socklen_t len;
};

/*
 * Reads NOTIFY_SOCKET: a path, or with a leading '@' an abstract name (unix(7)). 0 also when it is not set. HT_EINVAL
 * or HT_EIO with *err: it is set and cannot be used. After an error `n` can be used too, and sends nothing.
 */
int proc_notify_open(struct proc_notify *n, struct ht_errmsg *err) HT_MUST_USE;
void proc_notify_close(struct proc_notify *n);
bool proc_notify_wanted(const struct proc_notify *n);

/* Sends lines of "NAME=value" as one datagram. Never waits. 0, or HT_EIO: it could not be sent. */
int proc_notify_send(const struct proc_notify *n, const char *fmt, ...) HT_PRINTF(2, 3);

/*
 * The same with a descriptor, of which the manager gets a copy (FDSTORE=1, FDNAME=...). HT_EAGAIN: its queue is full,
 * and nothing was sent.
 */
int proc_notify_send_fd(const struct proc_notify *n, int fd, const char *fmt, ...) HT_PRINTF(3, 4);
/* How many descriptors the manager stores for this service (FDSTORE); 0: none, or it does not say. Managers older than
 * systemd 254 do not say. */
unsigned proc_notify_stores(void);

/* The longest time between two WATCHDOG=1 that the manager accepts, from WATCHDOG_USEC and WATCHDOG_PID. 0: it does not
 * watch. */
uint64_t proc_notify_watchdog_ms(void);

#endif
