/* Linux only: how much of what was written to a connection has arrived. */
#include "io/io_priv.h"

#include <linux/tcp.h>
#include <netinet/in.h>
#include <sys/socket.h>

uint64_t io_conn_drained(struct io_conn *c, bool *waits) {
    struct tcp_info info = {0};
    socklen_t len = sizeof info;
    *waits = false;
    if (getsockopt(c->io.fd, IPPROTO_TCP, TCP_INFO, &info, &len) != 0)
        return 0;
    *waits = info.tcpi_unacked > 0 || info.tcpi_notsent_bytes > 0;
    return info.tcpi_bytes_acked;
}
