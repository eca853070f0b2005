/* Linux only: the congestion control of connections that do not leave this machine. */
#include "io/io_priv.h"

#include <netinet/in.h>
#include <netinet/tcp.h>
#include <stdatomic.h>
#include <sys/socket.h>

/*
 * BBR sends by a timer, at the pace that it believes the way to have. On loopback there is no queue to spare, and the
 * waits cost a fifth of the bytes a second and as much CPU. So where a machine has BBR, connections to a loopback
 * address get one that sends when there is something to send. Who may not have CUBIC (tcp_allowed_congestion_control)
 * gets Reno, which everybody may. What else a machine was set to stays: it does not pace.
 */
enum choice { CHOICE_UNKNOWN, CHOICE_SYSTEM, CHOICE_CUBIC, CHOICE_RENO };
static const char *const names[] = {[CHOICE_CUBIC] = "cubic", [CHOICE_RENO] = "reno"};

static bool set(int fd, enum choice to) {
    return setsockopt(fd, IPPROTO_TCP, TCP_CONGESTION, names[to], (socklen_t)strlen(names[to])) == 0;
}

/* What all sockets get that come after this one, and this one has already. */
static enum choice find(int fd) {
    char now[16] = ""; /* TCP_CA_NAME_MAX */
    socklen_t len = sizeof now - 1;
    if (getsockopt(fd, IPPROTO_TCP, TCP_CONGESTION, now, &len) != 0 || strncmp(now, "bbr", 3) != 0)
        return CHOICE_SYSTEM;
    return set(fd, CHOICE_CUBIC) ? CHOICE_CUBIC : set(fd, CHOICE_RENO) ? CHOICE_RENO : CHOICE_SYSTEM;
}

void io_congestion_local(int fd) {
    static _Atomic int chosen; /* it is the machine's setting, so one look is enough */
    enum choice c = (enum choice)atomic_load_explicit(&chosen, memory_order_relaxed);
    if (c == CHOICE_UNKNOWN)
        atomic_store_explicit(&chosen, find(fd), memory_order_relaxed);
    else if (c != CHOICE_SYSTEM)
        (void)set(fd, c);
}
