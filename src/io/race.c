/* Happy Eyeballs (RFC 8305): a host may have many addresses, and some of them may be a hole that swallows everything.
 */
#include "base/mem.h"
#include "io/io_priv.h"

#include <errno.h>
#include <stdio.h>
#include <sys/socket.h>
#include <unistd.h>

/* RFC 8305 section 5: how long an attempt has for itself before the next one begins beside it. */
#define ATTEMPT_DELAY_MS 250u
/* Attempts of one loop that run beside the first one of their race: they hold descriptors that nobody has reckoned
 * with. */
#define EXTRAS_MAX 32u

static bool runs(const struct io_race_try *t) { return t->fd >= 0; }

static void forget(struct io_race_try *t) {
    struct io_race *r = t->of;
    io_unwatch(r->loop, &t->io);
    t->fd = -1;
    if (--r->running > 0)
        r->loop->n_extras--;
}

/* One that may stand already, unknown to us, is reset: a service must not take it for a caller who came, said nothing
 * and left in order. */
static void drop(struct io_race_try *t) {
    int fd = t->fd;
    io_set_reset(fd, true);
    forget(t);
    close(fd);
}

void io_race_stop(struct io_race *r) {
    for (unsigned i = 0; i < r->n; i++)
        if (runs(&r->tries[i]))
            drop(&r->tries[i]);
    io_timer_stop(&r->timer);
}

static void go_on(struct io_race *r);

static void ended(struct io_race *r, struct io_race_try *t, int err) {
    t->err = err;
    /* "refused" says more than "unreachable" when a host has both families and we have one. */
    if (r->err == HT_OK || err == HT_EFDS || (err == HT_EREFUSED && (r->err == HT_EUNREACH || r->err == HT_EADDR)))
        r->err = err;
}

static void on_connected(struct ev_loop *ev, ev_io *w, int revents) {
    (void)ev, (void)revents;
    struct io_race_try *t = w->data;
    struct io_race *r = t->of;
    int e = 0, fd = t->fd;
    socklen_t len = sizeof e;
    if (getsockopt(fd, SOL_SOCKET, SO_ERROR, &e, &len) != 0)
        e = errno;
    forget(t);
    if (e == 0) {
        io_race_stop(r);
        r->won(r, fd);
        return;
    }
    close(fd);
    ended(r, t, ht_err_from_errno(e));
    go_on(r);
}

/* A socket that connects, or a negative error. */
static int begin_connect(const struct io_addr *a) {
    int fd = socket(a->ss.ss_family, SOCK_STREAM | SOCK_NONBLOCK | SOCK_CLOEXEC, 0);
    if (fd >= 0 &&
        (connect(fd, (const struct sockaddr *)&a->ss, a->len) == 0 || errno == EINPROGRESS || errno == EINTR))
        return fd;
    int err = ht_err_from_errno(errno);
    if (fd >= 0)
        close(fd);
    return err;
}

/* Starts the next attempt, or the one behind it if that fails at once. */
static void go_on(struct io_race *r) {
    while (r->next < r->n) {
        if (r->running > 0 && r->loop->n_extras >= EXTRAS_MAX)
            break;
        struct io_race_try *t = &r->tries[r->next];
        int fd = begin_connect(&t->to);
        if (fd == HT_EFDS && r->running > 0)
            break; /* those that run may do */
        r->next++;
        if (fd < 0) {
            ended(r, t, fd);
            continue;
        }
        t->fd = fd;
        if (r->running++ > 0)
            r->loop->n_extras++;
        ev_io_init(&t->io, on_connected, fd, EV_WRITE);
        t->io.data = t;
        io_watch(r->loop, &t->io);
        break;
    }
    if (r->running == 0)
        r->lost(r);
    else if (r->next < r->n)
        io_timer_set(&r->timer, r->delay_ms);
}

static void on_delay(struct io_timer *timer) { go_on(ht_container_of(timer, struct io_race, timer)); }

static bool same_host(const struct io_addr *a, const struct io_addr *b) {
    uint8_t x[16], y[16];
    int family = io_addr_bytes(a, x);
    return family && family == io_addr_bytes(b, y) && memcmp(x, y, family == 4 ? 4 : 16) == 0;
}

/* RFC 8305 section 4: the first address is the resolver's (or the one that is preferred), and from there on the
 * families take turns. Within a family the resolver's order stays. */
static void arrange(struct io_race *r, const struct io_resolved *to, const struct io_addr *first) {
    bool taken[IO_RESOLVE_MAX] = {false};
    unsigned at = 0;
    for (unsigned i = 1; first && i < to->n; i++)
        if (same_host(&to->addr[i], first))
            at = i;
    while (r->n < to->n) {
        taken[at] = true;
        r->tries[r->n++] = (struct io_race_try){.of = r, .to = to->addr[at], .fd = -1};
        unsigned next = to->n;
        for (unsigned i = to->n; i-- > 0;)
            if (!taken[i] && (next == to->n || to->addr[i].ss.ss_family != to->addr[at].ss.ss_family ||
                              to->addr[next].ss.ss_family == to->addr[at].ss.ss_family))
                next = i;
        at = next;
    }
}

void io_race_begin(struct io_race *r, const struct io_resolved *to, const struct io_addr *first, uint64_t left_ms) {
    r->n = r->next = r->running = 0;
    r->err = HT_OK;
    arrange(r, to, first);
    /* A short time still reaches the last address. */
    r->delay_ms = ht_min64(ATTEMPT_DELAY_MS, left_ms / (r->n + 1));
    io_timer_init(r->loop, &r->timer, on_delay);
    go_on(r);
}

void io_race_tell(const struct io_race *r, char *out, size_t cap) {
    char one[IO_ADDR_TEXT];
    size_t at = 0;
    bool alike = true;
    *out = '\0';
    for (unsigned i = 0; i < r->next; i++)
        alike = alike && r->tries[i].err == r->tries[0].err;
    for (unsigned i = 0; i < r->next && at < cap; i++) {
        const struct io_race_try *t = &r->tries[i];
        at += (size_t)snprintf(out + at, cap - at, "%s%s", i ? ", " : " (tried ", io_addr_text(&t->to, one));
        if (!alike && at < cap)
            at += (size_t)snprintf(out + at, cap - at, ": %s", t->err ? ht_err_text(t->err) : "no answer");
    }
    if (r->next > 0 && at < cap)
        snprintf(out + at, cap - at, ")");
}
