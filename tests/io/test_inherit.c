/* Listening sockets that two loops share, as an old kit and a new one do, and watchers of other descriptors. */
#include "net_support.h"

#include <fcntl.h>
#include <netinet/in.h>
#include <sys/socket.h>

struct host {
    struct io_listener *l;
    int n;
};

static void accepted(void *ctx, struct io_conn *c, const struct io_addr *peer) {
    struct host *h = ctx;
    (void)peer;
    h->n++;
    io_conn_close(&c);
}

static const struct io_listener_ops host_ops = {.accepted = accepted};

static struct io_addr open_host(struct io_loop *of, struct host *h, const char *ip) {
    struct io_addr a;
    struct ht_errmsg err = {""};
    *h = (struct host){.n = 0};
    CU_ASSERT_EQUAL_FATAL(io_addr_parse(&a, ip, 0), HT_OK);
    CU_ASSERT_EQUAL_FATAL(io_listen(of, &a, &host_ops, h, &h->l, &err), HT_OK);
    io_listener_local(h->l, &a);
    return a;
}

static int visit(const struct io_addr *a) {
    int fd = socket(a->ss.ss_family, SOCK_STREAM | SOCK_CLOEXEC, 0);
    CU_ASSERT_EQUAL(connect(fd, (const struct sockaddr *)&a->ss, a->len), 0);
    return fd;
}

static bool wait_for(struct io_loop *of, const int *n, int least) {
    uint64_t until = ht_now_ms() + PATIENCE_MS;
    while (*n < least && ht_now_ms() < until)
        io_loop_turn(of, false);
    return *n >= least;
}

static void some_turns(struct io_loop *of) {
    for (int i = 0; i < 20; i++)
        io_loop_turn(of, false);
}

static void one_socket_two_processes(void) {
    struct host old, new = {.n = 0};
    struct ht_errmsg err = {""};
    struct io_loop *other = io_loop_create();
    static const char *const addresses[] = {"127.0.0.1", "::1"};
    for (size_t i = 0; i < HT_ARRAY_LEN(addresses); i++) {
        struct io_addr a = open_host(loop, &old, addresses[i]), near, from_table;
        new.n = 0;
        close(visit(&a));
        CU_ASSERT(wait_for(loop, &old.n, 1));
        CU_ASSERT_EQUAL(io_inherit(other, fcntl(io_listener_share(old.l), F_DUPFD, 3), "listen", &err), HT_OK);
        CU_ASSERT(io_inherited(other, &a));
        CU_ASSERT_EQUAL(io_addr_parse(&near, addresses[i], 0), HT_OK);
        io_inherited_port(other, "proxy", &near);
        CU_ASSERT_EQUAL(io_addr_port(&near), 0);
        io_inherited_port(other, "listen", &near);
        CU_ASSERT(io_addr_same(&near, &a));
        near = a;
        if (near.ss.ss_family == AF_INET)
            ((struct sockaddr_in *)(void *)&near.ss)->sin_port ^= 1;
        else
            ((struct sockaddr_in6 *)(void *)&near.ss)->sin6_port ^= 1;
        CU_ASSERT_FALSE(io_inherited(other, &near));
        CU_ASSERT_EQUAL_FATAL(io_listen(other, &a, &host_ops, &new, &new.l, &err), HT_OK);
        CU_ASSERT_FALSE(io_inherited(other, &a)); /* taken */
        io_listener_local(new.l, &from_table);
        CU_ASSERT(io_addr_same(&from_table, &a));
        /* Who pauses takes nothing, and a visitor waits for the other one. */
        io_listener_pause(new.l, true);
        close(visit(&a));
        some_turns(other);
        CU_ASSERT(wait_for(loop, &old.n, 2));
        CU_ASSERT_EQUAL(new.n, 0);
        io_listener_pause(old.l, true);
        close(visit(&a));
        some_turns(loop);
        some_turns(other);
        CU_ASSERT_EQUAL(old.n + new.n, 2);
        /* Who closes does not disturb the other one, which finds those who waited. */
        io_listener_close(&old.l);
        io_listener_pause(new.l, false);
        CU_ASSERT(wait_for(other, &new.n, 1));
        close(visit(&a));
        some_turns(loop); /* has no events of a socket that it closed */
        CU_ASSERT(wait_for(other, &new.n, 2));
        io_listener_close(&new.l);
        int fd = socket(a.ss.ss_family, SOCK_STREAM | SOCK_CLOEXEC, 0);
        CU_ASSERT(connect(fd, (const struct sockaddr *)&a.ss, a.len) < 0); /* closed everywhere */
        close(fd);
    }
    io_loop_destroy(&other);
}

static int dropped;
static void told(void *ctx, const struct io_addr *a) {
    (void)ctx, (void)a;
    dropped++;
}

static void what_is_no_listener(void) {
    struct ht_errmsg err = {""};
    struct host h;
    int pair[2];
    CU_ASSERT_EQUAL(io_inherit(loop, -1, "", &err), HT_EINVAL);
    CU_ASSERT_EQUAL(io_inherit(loop, open("/dev/null", O_RDONLY), "", &err), HT_EINVAL);
    CU_ASSERT_EQUAL(socketpair(AF_UNIX, SOCK_STREAM, 0, pair), 0);
    CU_ASSERT_EQUAL(io_inherit(loop, pair[0], "", &err), HT_EINVAL);
    CU_ASSERT(fcntl(pair[0], F_GETFD) < 0); /* closed in any case */
    close(pair[1]);
    CU_ASSERT_EQUAL(io_inherit(loop, socket(AF_INET, SOCK_STREAM, 0), "", &err), HT_EINVAL);
    CU_ASSERT_EQUAL(io_inherit(loop, socket(AF_INET, SOCK_DGRAM, 0), "", &err), HT_EINVAL);
    struct io_addr a = open_host(loop, &h, "127.0.0.1");
    ht_mem_fail_at(0);
    CU_ASSERT_EQUAL(io_inherit(loop, dup(io_listener_share(h.l)), "", &err), HT_ENOMEM);
    CU_ASSERT_EQUAL(io_inherit(loop, dup(io_listener_share(h.l)), "", &err), HT_OK);
    CU_ASSERT_EQUAL(io_inherit(loop, dup(io_listener_share(h.l)), "", &err), HT_OK);
    dropped = 0;
    io_inherit_drop(loop, told, NULL);
    CU_ASSERT_EQUAL(dropped, 2);
    CU_ASSERT_FALSE(io_inherited(loop, &a));
    close(visit(&a));
    CU_ASSERT(wait_for(loop, &h.n, 1));
    io_listener_close(&h.l);
}

static void same_addresses(void) {
    static const struct {
        const char *a, *b;
        bool same;
    } rows[] = {{"127.0.0.1:1", "127.0.0.1:1", true},  {"127.0.0.1:1", "127.0.0.1:2", false},
                {"127.0.0.1:1", "127.0.0.2:1", false}, {"[::1]:1", "[::1]:1", true},
                {"[::1]:1", "[::2]:1", false},         {"[::ffff:127.0.0.1]:1", "127.0.0.1:1", false}};
    for (size_t i = 0; i < HT_ARRAY_LEN(rows); i++) {
        struct io_addr a, b;
        struct ht_errmsg err;
        CU_ASSERT_EQUAL(io_addr_parse_hostport(&a, rows[i].a, &err), HT_OK);
        CU_ASSERT_EQUAL(io_addr_parse_hostport(&b, rows[i].b, &err), HT_OK);
        CU_ASSERT_EQUAL(io_addr_same(&a, &b), rows[i].same);
    }
    struct io_addr path = io_addr_of_path("/x");
    CU_ASSERT_FALSE(io_addr_same(&path, &path));
}

/* ---- watchers ---- */

static int calls;
static void ready(struct io_watcher *w) {
    (void)w;
    calls++;
}

static void a_watched_descriptor(void) {
    struct io_watcher w = {.loop = NULL};
    int pair[2];
    io_watcher_stop(&w);
    CU_ASSERT_EQUAL(socketpair(AF_UNIX, SOCK_SEQPACKET, 0, pair), 0);
    io_watcher_start(loop, &w, pair[0], ready);
    some_turns(loop);
    CU_ASSERT_EQUAL(calls, 0);
    CU_ASSERT_EQUAL(send(pair[1], "x", 1, 0), 1);
    CU_ASSERT(wait_for(loop, &calls, 1));
    char x;
    CU_ASSERT_EQUAL(recv(pair[0], &x, 1, 0), 1);
    calls = 0;
    io_watcher_writes(&w, true);
    CU_ASSERT(wait_for(loop, &calls, 2));
    io_watcher_writes(&w, false);
    some_turns(loop);
    calls = 0;
    some_turns(loop);
    CU_ASSERT_EQUAL(calls, 0);
    close(pair[1]);
    CU_ASSERT(wait_for(loop, &calls, 1));
    io_watcher_stop(&w);
    calls = 0;
    some_turns(loop);
    CU_ASSERT_EQUAL(calls, 0);
    close(pair[0]);
}

int main(void) {
    static const struct tap_test tests[] = {
        {"one socket, two processes", one_socket_two_processes},
        {"what is no listener", what_is_no_listener},
        {"same addresses", same_addresses},
        {"a watched descriptor", a_watched_descriptor},
        {NULL, NULL},
    };
    loop = io_loop_create();
    int rc = tap_main("inherited sockets", tests);
    io_loop_destroy(&loop);
    return rc;
}
