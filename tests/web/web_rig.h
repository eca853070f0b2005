/* One loop, and a peer whose end of a socket pair a test writes to and reads from by hand. */
#ifndef HT_TESTS_WEB_RIG_H
#define HT_TESTS_WEB_RIG_H

#include "base/mem.h"
#include "io/io.h"
#include "support/guard.h"
#include "support/tap.h"
#include "web/web.h"

#include <errno.h>
#include <stdio.h>
#include <sys/socket.h>
#include <unistd.h>

static struct io_loop *loop;

/* What has come from the other end of `fd` so far, behind `at` bytes that are in `text` already; `*ended` when it has
 * closed. Returns how many there are now. */
static inline size_t peer_read(int fd, char *text, size_t cap, size_t at, int *ended) {
    ssize_t n;
    while (at + 1 < cap && (n = recv(fd, text + at, cap - 1 - at, MSG_DONTWAIT)) > 0)
        at += (size_t)n;
    if (at + 1 < cap && (n == 0 || (errno != EAGAIN && errno != EWOULDBLOCK)))
        *ended = 1;
    text[at] = '\0';
    return at;
}

static inline void peer_write(int fd, const char *p, size_t n) {
    CU_ASSERT_EQUAL(send(fd, p, n, MSG_NOSIGNAL | MSG_DONTWAIT), (ssize_t)n);
}

#endif
