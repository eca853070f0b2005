/*
 * Happy Eyeballs: the order of addresses, attempts side by side, and that the others end. getaddrinfo() is this file's
 * own. The hole that swallows everything is a listener of this machine whose queue is full.
 */
#include "io/io_priv.h"
#include "io/net_support.h"
#include "support/ports.h"

#include <arpa/inet.h>
#include <netdb.h>

static const char *found[IO_RESOLVE_MAX + 1]; /* what every name resolves to */

int getaddrinfo(const char *node, const char *service, const struct addrinfo *hints, struct addrinfo **out) {
    (void)node, (void)service, (void)hints;
    struct made {
        struct addrinfo info;
        struct io_addr addr;
    } *made = calloc(IO_RESOLVE_MAX, sizeof *made);
    size_t n = 0;
    if (!made)
        return EAI_MEMORY;
    for (; found[n]; n++) {
        if (io_addr_parse(&made[n].addr, found[n], 0) != HT_OK)
            abort();
        made[n].info.ai_addr = (struct sockaddr *)&made[n].addr.ss;
        made[n].info.ai_addrlen = made[n].addr.len;
        made[n].info.ai_next = found[n + 1] ? &made[n + 1].info : NULL;
    }
    *out = &made[0].info;
    return 0;
}

void freeaddrinfo(struct addrinfo *a) { free(a); }

/* ---- the order ---- */

static void never_won(struct io_race *r, int fd) {
    (void)r;
    close(fd);
}
static void never_lost(struct io_race *r) { (void)r; }

static void families_take_turns(void) {
    static const struct {
        const char *given[IO_RESOLVE_MAX + 1], *first, *want[IO_RESOLVE_MAX + 1];
    } cases[] = {
        {{"::1"}, NULL, {"::1"}},
        {{"2001:db8::1", "2001:db8::2", "192.0.2.1", "192.0.2.2"},
         NULL,
         {"2001:db8::1", "192.0.2.1", "2001:db8::2", "192.0.2.2"}},
        {{"192.0.2.1", "192.0.2.2", "192.0.2.3", "2001:db8::1"},
         NULL,
         {"192.0.2.1", "2001:db8::1", "192.0.2.2", "192.0.2.3"}},
        {{"2001:db8::1", "2001:db8::2", "192.0.2.1", "192.0.2.2"},
         "192.0.2.2",
         {"192.0.2.2", "2001:db8::1", "192.0.2.1", "2001:db8::2"}},
        {{"192.0.2.1", "192.0.2.2"}, "192.0.2.9", {"192.0.2.1", "192.0.2.2"}},
    };
    for (size_t i = 0; i < HT_ARRAY_LEN(cases); i++) {
        struct io_race r = {.loop = loop, .won = never_won, .lost = never_lost};
        struct io_resolved to = {0};
        struct io_addr first;
        char text[IO_ADDR_TEXT];
        for (; cases[i].given[to.n]; to.n++)
            CU_ASSERT_FATAL(io_addr_parse(&to.addr[to.n], cases[i].given[to.n], 9) == HT_OK);
        if (cases[i].first)
            CU_ASSERT_FATAL(io_addr_parse(&first, cases[i].first, 0) == HT_OK);
        io_race_begin(&r, &to, cases[i].first ? &first : NULL, 60000);
        CU_ASSERT_EQUAL_FATAL(r.n, to.n);
        for (unsigned k = 0; k < r.n; k++)
            CU_ASSERT_STRING_EQUAL(io_addr_host(&r.tries[k].to, text), cases[i].want[k]);
        io_race_stop(&r);
        CU_ASSERT(loop->n_extras == 0 && r.running == 0);
    }
}

/* ---- attempts ---- */

struct ends {
    uint16_t port;
    struct io_listener *good; /* at 127.0.0.1 */
    int hole, full[8];        /* at 127.0.0.2 */
    int held;                 /* the port of `good` where it does not listen; -1: it does */
    int n;
    struct io_conn *came[4];
};

static void accepted(void *ctx, struct io_conn *c, const struct io_addr *peer) {
    struct ends *e = ctx;
    (void)peer;
    CU_ASSERT_FATAL(e->n < 4);
    e->came[e->n++] = c;
}

static const struct io_listener_ops listener_ops = {.accepted = accepted};

static bool hole_open(struct ends *e) {
    struct io_addr at;
    if (io_addr_parse(&at, "127.0.0.2", e->port) != HT_OK)
        return false;
    e->hole = socket(AF_INET, SOCK_STREAM, 0);
    if (bind(e->hole, (struct sockaddr *)&at.ss, at.len) != 0 || listen(e->hole, 0) != 0)
        return false;
    for (size_t i = 0; i < HT_ARRAY_LEN(e->full); i++) {
        e->full[i] = socket(AF_INET, SOCK_STREAM | SOCK_NONBLOCK, 0);
        if (connect(e->full[i], (struct sockaddr *)&at.ss, at.len) != 0 && errno != EINPROGRESS)
            return false;
    }
    return true;
}

static void ends_open(struct ends *e, bool good) {
    struct io_addr at;
    struct ht_errmsg err;
    *e = (struct ends){.hole = -1, .held = -1};
    CU_ASSERT_FATAL(io_addr_parse(&at, "127.0.0.1", 0) == HT_OK);
    CU_ASSERT_FATAL(io_listen(loop, &at, &listener_ops, e, &e->good, &err) == HT_OK);
    io_listener_local(e->good, &at);
    e->port = io_addr_port(&at);
    CU_ASSERT_FATAL(hole_open(e));
    if (!good)
        e->held = deafen(&e->good);
}

static void ends_close(struct ends *e) {
    io_listener_close(&e->good);
    close(e->held);
    for (int i = 0; i < e->n; i++)
        io_conn_close(&e->came[i]);
    for (size_t i = 0; i < HT_ARRAY_LEN(e->full); i++)
        close(e->full[i]);
    close(e->hole);
}

static void resolves_to(const char *a, const char *b, const char *c) {
    found[0] = a;
    found[1] = b;
    found[2] = c;
    found[3] = NULL;
}

static struct io_dial *dial_name(struct dialled *d, const char *name, uint16_t port, uint64_t ms) {
    struct ht_errmsg e;
    *d = (struct dialled){0};
    return io_dial_start(loop, name, port, NULL, ms, &dial_ops, d, &e);
}

static void a_hole_costs_a_quarter_of_a_second(void) {
    struct ends e;
    struct dialled d;
    ends_open(&e, true);
    int fds = io_count_fds();
    resolves_to("127.0.0.2", "127.0.0.1", NULL);
    uint64_t begun = ht_now_ms();
    CU_ASSERT(dial_name(&d, "hole.test", e.port, PATIENCE_MS) != NULL);
    CU_ASSERT(turn_until(&d.done, PATIENCE_MS) && d.err == HT_OK);
    CU_ASSERT(ht_now_ms() - begun >= 240 && ht_now_ms() - begun < 5000);
    CU_ASSERT(turn_until(&e.n, PATIENCE_MS));
    CU_ASSERT_EQUAL(io_count_fds(), fds + 2); /* both ends of the one that stands: the other attempt has ended */
    CU_ASSERT_EQUAL(loop->n_extras, 0);
    io_conn_close(&d.side.c);
    ends_close(&e);
}

static void a_failure_is_not_waited_for(void) {
    struct ends e;
    struct dialled d;
    ends_open(&e, true);
    resolves_to("127.0.0.3", "127.0.0.1", NULL); /* nobody listens at the first one */
    CU_ASSERT(dial_name(&d, "refuses.test", e.port, 200) != NULL);
    CU_ASSERT(turn_until(&d.done, PATIENCE_MS) && d.err == HT_OK);
    io_conn_close(&d.side.c);
    /* A short time still reaches the last address. */
    resolves_to("127.0.0.2", "127.0.0.2", "127.0.0.1");
    CU_ASSERT(dial_name(&d, "short.test", e.port, 150) != NULL);
    CU_ASSERT(turn_until(&d.done, PATIENCE_MS));
    CU_ASSERT_EQUAL(d.err, HT_OK);
    io_conn_close(&d.side.c);
    ends_close(&e);
}

static void each_attempt_is_told(void) {
    struct ends e;
    struct dialled d;
    char want[300];
    ends_open(&e, false);
    resolves_to("127.0.0.3", "127.0.0.1", NULL);
    CU_ASSERT(dial_name(&d, "both.test", e.port, PATIENCE_MS) != NULL);
    CU_ASSERT(turn_until(&d.done, PATIENCE_MS) && d.err == HT_EREFUSED);
    snprintf(want, sizeof want, "cannot connect to both.test:%u: connection refused (tried 127.0.0.3:%u, 127.0.0.1:%u)",
             e.port, e.port, e.port);
    CU_ASSERT_STRING_EQUAL(d.text, want);
    resolves_to("127.0.0.2", "127.0.0.1", NULL);
    CU_ASSERT(dial_name(&d, "one.test", e.port, 300) != NULL);
    CU_ASSERT(turn_until(&d.done, PATIENCE_MS) && d.err == HT_ETIMEDOUT);
    snprintf(want, sizeof want,
             "cannot connect to one.test:%u: no answer within 300 ms (tried 127.0.0.2:%u: no answer, 127.0.0.1:%u: "
             "connection refused)",
             e.port, e.port, e.port);
    CU_ASSERT_STRING_EQUAL(d.text, want);
    ends_close(&e);
}

#define MANY 40

static void attempts_side_by_side_are_bounded(void) {
    struct ends e;
    static struct dialled d[MANY];
    struct io_dial *dials[MANY];
    struct guard g = {.over = false};
    ends_open(&e, false);
    int fds = io_count_fds();
    resolves_to("127.0.0.2", "127.0.0.2", "127.0.0.2");
    for (int i = 0; i < MANY; i++)
        CU_ASSERT_FATAL((dials[i] = dial_name(&d[i], "many.test", e.port, 400)) != NULL);
    io_timer_init(loop, &g.t, guard_fire);
    io_timer_set(&g.t, 350);
    unsigned most = 0;
    while (!g.over) {
        io_loop_turn(loop, true);
        most = loop->n_extras > most ? loop->n_extras : most;
        CU_ASSERT(io_count_fds() <= fds + MANY + 32 + 2);
    }
    CU_ASSERT_EQUAL(most, 32);
    for (int i = 0; i < MANY; i++)
        if (!d[i].done)
            io_dial_cancel(&dials[i]);
    CU_ASSERT_EQUAL(loop->n_extras, 0);
    CU_ASSERT_EQUAL(io_count_fds(), fds);
    ends_close(&e);
}

int main(void) {
    alarm(120);
    io_ignore_sigpipe();
    loop = io_loop_create();
    static const struct tap_test tests[] = {
        {"the families take turns", families_take_turns},
        {"an address that swallows everything costs a quarter of a second", a_hole_costs_a_quarter_of_a_second},
        {"the next address is tried at once when one fails", a_failure_is_not_waited_for},
        {"the message has each attempt", each_attempt_is_told},
        {"attempts side by side are bounded", attempts_side_by_side_are_bounded},
        {NULL, NULL},
    };
    int rc = tap_main("io race", tests);
    turns(2);
    io_loop_destroy(&loop);
    return rc;
}
