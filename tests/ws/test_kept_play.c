/*
 * Two sides that keep, acknowledge at random, and lose their connection after any byte, again and again: each message
 * arrives once, in order, byte for byte. As the mux does it, a receiver remembers how much of a message it had when the
 * connection was lost, and skips that much when the message comes again.
 */
#include "io/tls_server.h"
#include "ws_peer.h"

#include <netinet/in.h>
#include <openssl/ssl.h>

enum { MESSAGES = 300, HEAD = 9, LINES = 200 };

static struct io_loop *loop;
static struct io_tls_server *tls_server; /* NULL: without TLS */
static struct io_tls *tls_client;

struct side {
    struct side *peer;
    enum ws_side role;
    struct ws_kept *kept;
    struct line *line; /* that it sends over now */
    unsigned seed;
    /* sent: length of each message, and of all up to it together */
    size_t len[MESSAGES + 1];
    uint64_t total[MESSAGES + 1];
    uint64_t made, acked;
    /* received: whole messages, and bytes of the next one */
    uint64_t got, told;
    size_t part;
};

/* A connection of one side, which may still be there when the side has another one already. */
struct line {
    struct side *side;
    struct ws_conn *w;
    bool greeted, heard, tell, closed;
    uint64_t at; /* number of the message that is coming; 0: none has come yet */
    size_t off;  /* bytes of a message that were consumed */
    uint8_t kind;
};

/* Between two lines: passes bytes on in pieces of any size, until so many have passed. */
struct pump {
    int fd[2];
    struct {
        uint8_t p[65536];
        size_t at, n;
    } way[2];
    uint64_t left;
};

static unsigned seed;
static struct line lines[LINES];
static unsigned n_lines;

static uint8_t byte_of(const struct side *from, uint64_t number, size_t i) {
    return (uint8_t)(number * 31 + i * 7 + i / 256 + (size_t)from->role);
}

/* ---- sending ---- */

static size_t count_message(struct line *l, uint8_t *out, uint8_t kind) {
    struct side *s = l->side;
    out[0] = kind;
    memcpy(out + 1, &s->got, sizeof s->got);
    s->told = s->got;
    l->tell = false;
    return HEAD;
}

static size_t line_pull(void *ctx, uint8_t *out, size_t cap) {
    struct line *l = ctx;
    struct side *s = l->side;
    if (s->line != l)
        return 0;
    if (!l->greeted) { /* what was received is said first, and neither numbered nor kept */
        l->greeted = true;
        return count_message(l, out, 'H');
    }
    if (!l->heard)
        return 0;
    if (l->tell && rnd(&s->seed) % 2)
        return count_message(l, out, 'A');
    uint64_t kept = s->total[s->made] - s->total[s->acked];
    CU_ASSERT(ws_kept_bytes(s->kept) <= 2 * kept + 3 * IO_BLOCK);
    if (s->made == MESSAGES || ws_kept_bytes(s->kept) >= 6 * IO_BLOCK)
        return l->tell ? count_message(l, out, 'A') : 0;
    static const size_t most[] = {20, 300, 3000, 3000, 30000, 70000, 262144};
    size_t n = HEAD + rnd(&s->seed) % most[rnd(&s->seed) % HT_ARRAY_LEN(most)];
    n = ht_min(n, cap);
    uint64_t number = ++s->made;
    s->len[number] = n;
    s->total[number] = s->total[number - 1] + n;
    out[0] = 'K';
    memcpy(out + 1, &number, sizeof number);
    for (size_t i = HEAD; i < n; i++)
        out[i] = byte_of(s, number, i);
    ws_conn_keep(l->w);
    CU_ASSERT_EQUAL(ws_kept_last(s->kept), number - 1);
    return n;
}

/* ---- receiving ---- */

static void heard_count(struct line *l, uint64_t count) {
    struct side *s = l->side;
    CU_ASSERT(count <= s->made);
    CU_ASSERT(l->kind == 'H' || l->heard);
    /* Now and then the sender does not look at the count, and sends what the other one has. */
    if (l->kind == 'A' || rnd(&s->seed) % 2) {
        CU_ASSERT(count >= s->acked);
        ws_kept_forget(s->kept, count);
        s->acked = count;
    }
    if (l->kind == 'H') {
        ws_conn_resend(l->w);
        l->heard = true;
    }
    ws_conn_want_send(l->w);
}

static void message_begins(struct line *l, const uint8_t *p) {
    struct side *s = l->side;
    uint64_t number;
    memcpy(&number, p + 1, sizeof number);
    l->kind = p[0];
    if (l->kind != 'K')
        return;
    CU_ASSERT(number > l->at && number <= s->peer->made);
    CU_ASSERT(s->line != l || number <= s->got + 1); /* without a gap, beside what is here already */
    l->at = number;
}

static void message_ended(struct line *l) {
    struct side *s = l->side;
    CU_ASSERT(l->kind != 'K' || l->off == s->peer->len[l->at]);
    l->off = 0;
    if (l->kind != 'K' || s->line != l)
        return;
    if (l->at > s->got) {
        s->got++;
        s->part = 0;
    }
    uint64_t untold = s->peer->total[s->got] - s->peer->total[s->told];
    l->tell = l->tell || rnd(&s->seed) % 4 == 0 || l->at == MESSAGES || untold > 300000 || l->at == s->told;
}

static ssize_t line_message(void *ctx, uint8_t *p, size_t n, bool end) {
    struct line *l = ctx;
    struct side *s = l->side;
    size_t take = end ? n : rnd(&s->seed) % 3 ? n : rnd(&s->seed) % (n + 1), wrong = 0, i = 0;
    if (l->off == 0) {
        if (take < HEAD)
            return 0;
        message_begins(l, p);
        i = HEAD;
    }
    for (; i < take && l->kind == 'K'; i++)
        wrong += p[i] != byte_of(s->peer, l->at, l->off + i);
    CU_ASSERT_EQUAL(wrong, 0);
    uint64_t count;
    if (end && l->kind != 'K' && s->line == l) {
        CU_ASSERT_FATAL(n == HEAD); /* such a message is always consumed in one piece */
        memcpy(&count, p + 1, sizeof count);
        heard_count(l, count);
    }
    l->off += take;
    if (s->line == l && l->kind == 'K' && l->at == s->got + 1)
        s->part = ht_max(s->part, l->off); /* before it: skipped */
    if (end)
        message_ended(l);
    return (ssize_t)take;
}

static void line_fed(void *ctx) {
    struct line *l = ctx;
    if (l->tell)
        ws_conn_want_send(l->w);
    if (rnd(&l->side->seed) % 50 == 0)
        ws_conn_ping(l->w);
}

static void line_closed(void *ctx, uint16_t code, struct ht_slice reason, bool local) {
    struct line *l = ctx;
    (void)code;
    (void)reason;
    (void)local;
    l->closed = true;
    if (rnd(&l->side->seed) % 2)
        ws_conn_destroy(&l->w);
}

static const struct ws_ops line_ops = {line_message, line_fed, line_pull, line_closed};

/* ---- connections ---- */

/* Both ends of a connection with TLS, and what lies between. */
struct making {
    struct io_conn *c[2];
    int failed;
};

static void made_server(void *ctx, struct io_conn *c) { ((struct making *)ctx)->c[0] = c; }
static void made_client(void *ctx, struct io_conn *c) { ((struct making *)ctx)->c[1] = c; }
static void not_accepted(void *ctx, enum io_accept_why why, const char *text) {
    (void)why;
    printf("# %s\n", text);
    ((struct making *)ctx)->failed = 1;
}
static void not_dialled(void *ctx, int err, const char *text) {
    (void)err;
    printf("# %s\n", text);
    ((struct making *)ctx)->failed = 1;
}

static void set_small(int fd) {
    int size = (int)(rnd(&seed) % 60000);
    if (rnd(&seed) % 2)
        setsockopt(fd, SOL_SOCKET, SO_SNDBUF, &size, sizeof size);
}

static void pump_step(struct pump *u) {
    for (int i = 0; i < 2; i++) {
        if (u->way[i].n == 0) {
            ssize_t n = recv(u->fd[i], u->way[i].p, rnd(&seed) % (rnd(&seed) % 3 ? sizeof u->way[i].p : 50) + 1, 0);
            u->way[i].at = 0;
            u->way[i].n = n > 0 ? (size_t)n : 0;
        }
        ssize_t n = ht_min(u->way[i].n, u->left)
                        ? send(u->fd[!i], u->way[i].p + u->way[i].at, ht_min(u->way[i].n, u->left), MSG_NOSIGNAL)
                        : 0;
        if (n > 0) {
            u->way[i].at += (size_t)n;
            u->way[i].n -= (size_t)n;
            u->left -= (size_t)n;
        }
    }
}

static void pump_close(struct pump *u) {
    for (int i = 0; i < 2; i++)
        if (u->fd[i] >= 0)
            close(u->fd[i]);
    u->fd[0] = u->fd[1] = -1;
}

/* What the driver dials is accepted here, so that the pump has it. */
static void open_tls(struct making *m, struct pump *u) {
    static const struct io_dial_ops dial_ops = {.connected = made_client, .failed = not_dialled};
    static const struct io_accept_ops accept_ops = {made_server, not_accepted};
    struct sockaddr_in a = {.sin_family = AF_INET, .sin_addr = {htonl(INADDR_LOOPBACK)}};
    socklen_t len = sizeof a;
    struct ht_errmsg err;
    int fd[2], l = socket(AF_INET, SOCK_STREAM | SOCK_CLOEXEC, 0);
    CU_ASSERT_FATAL(bind(l, (struct sockaddr *)&a, len) == 0 && listen(l, 1) == 0 &&
                    getsockname(l, (struct sockaddr *)&a, &len) == 0);
    struct io_dial *d =
        io_dial_start(loop, "127.0.0.1", ntohs(a.sin_port), tls_client, PATIENCE_MS, &dial_ops, m, &err);
    CU_ASSERT_PTR_NOT_NULL_FATAL(d);
    u->fd[1] = accept4(l, NULL, NULL, SOCK_NONBLOCK | SOCK_CLOEXEC);
    close(l);
    nonblocking_pair(fd);
    u->fd[0] = fd[1];
    struct io_conn *c = io_conn_adopt(loop, fd[0], NULL, NULL);
    CU_ASSERT_PTR_NOT_NULL_FATAL(io_accept_server(loop, c, tls_server, PATIENCE_MS, &accept_ops, m, &err));
    while (!m->failed && (!m->c[0] || !m->c[1])) {
        pump_step(u);
        io_loop_turn(loop, false);
    }
    CU_ASSERT_FATAL(!m->failed);
}

static void open_plain(struct making *m, struct pump *u) {
    for (int i = 0; i < 2; i++) {
        int fd[2];
        nonblocking_pair(fd);
        m->c[i] = io_conn_adopt(loop, fd[0], NULL, NULL);
        u->fd[i] = fd[1];
        CU_ASSERT_PTR_NOT_NULL_FATAL(m->c[i]);
    }
}

/* A new connection for both sides, which take it in place of the one they may have. */
static void connect_sides(struct side s[2], struct pump *u) {
    struct making m = {.failed = 0};
    *u = (struct pump){.left = UINT64_MAX};
    if (tls_server)
        open_tls(&m, u);
    else
        open_plain(&m, u);
    for (int i = 0; i < 2; i++) {
        CU_ASSERT_FATAL(n_lines < LINES);
        struct line *l = &lines[n_lines++];
        set_small(io_conn_fd(m.c[i]));
        set_small(u->fd[i]);
        *l = (struct line){.side = &s[i]};
        l->w = ws_conn_create(loop, m.c[i], s[i].role, &usual_limits, ht_slice_str(""), &line_ops, l);
        CU_ASSERT_PTR_NOT_NULL_FATAL(l->w);
        s[i].line = l;
        ws_conn_set_kept(l->w, s[i].kept);
        ws_conn_want_send(l->w);
    }
}

/* The sides lose their connection in one of the ways in which that happens. `old` is left of it, if anything is. */
static void lose(struct side s[2], struct pump *u, struct pump *old) {
    switch (rnd(&seed) % 4) {
    case 0: /* both hear of it */
        pump_close(u);
        while (!s[0].line->closed || !s[1].line->closed)
            io_loop_turn(loop, true);
        break;
    case 1: /* one is done with it before the other hears of it */
        ws_conn_destroy(&s[rnd(&seed) % 2].line->w);
        pump_close(u);
        break;
    case 2: /* it is there for a while, beside the next one */
        pump_close(old);
        *old = *u;
        u->fd[0] = u->fd[1] = -1;
        old->left = UINT64_MAX;
        for (int i = 0; i < 2; i++)
            if (rnd(&seed) % 2)
                ws_conn_close(s[i].line->w, 1001, "old");
        return;
    default: /* it is half-open */
        close(u->fd[0]);
        u->fd[0] = -1;
        pump_close(old);
        *old = *u;
        u->fd[1] = -1;
        return;
    }
}

static void destroy_lines(bool all) {
    for (unsigned i = 0; i < n_lines; i++)
        if (all || (lines[i].closed && lines[i].side->line != &lines[i]))
            ws_conn_destroy(&lines[i].w);
}

static bool finished(const struct side *s) {
    return s->got == MESSAGES && s->acked == MESSAGES && s->peer->got == MESSAGES && s->peer->acked == MESSAGES;
}

static uint64_t budget(void) { return rnd(&seed) % (1u << (rnd(&seed) % 22)) + 1; }

static void play(unsigned with, unsigned losses) {
    static struct side s[2];
    static struct pump u, old;
    seed = with;
    n_lines = 0;
    old.fd[0] = old.fd[1] = -1;
    for (int i = 0; i < 2; i++)
        s[i] = (struct side){.peer = &s[!i],
                             .role = i ? WS_CLIENT : WS_SERVER,
                             .kept = ws_kept_create(loop),
                             .seed = with * 7 + (unsigned)i};
    connect_sides(s, &u);
    u.left = budget();
    uint64_t stop = ht_now_ms() + 3 * PATIENCE_MS;
    while (!finished(s) && ht_now_ms() < stop) {
        pump_step(&u);
        if (old.fd[0] >= 0 || old.fd[1] >= 0)
            pump_step(&old);
        io_loop_turn(loop, false);
        CU_ASSERT(!s[0].line->closed && !s[1].line->closed);
        if (u.left > 0)
            continue;
        lose(s, &u, &old);
        connect_sides(s, &u);
        destroy_lines(false);
        u.left = losses && --losses ? budget() : UINT64_MAX;
    }
    CU_ASSERT(finished(s));
    CU_ASSERT_EQUAL(losses, 0);
    for (int i = 0; i < 2; i++)
        CU_ASSERT_EQUAL(ws_kept_bytes(s[i].kept), 0);
    if (!finished(s))
        printf("# seed %u: %lu and %lu came\n", with, (unsigned long)s[0].got, (unsigned long)s[1].got);
    if (rnd(&seed) % 2)
        destroy_lines(true);
    for (int i = 0; i < 2; i++)
        ws_kept_destroy(&s[i].kept);
    destroy_lines(true);
    pump_close(&u);
    pump_close(&old);
    CU_ASSERT_EQUAL(io_loop_blocks(loop)->live, 0);
}

#ifdef HT_SANITIZED
enum { PLAYS = 8, TLS_PLAYS = 3 };
#else
enum { PLAYS = 25, TLS_PLAYS = 8 };
#endif

static unsigned first = 1, plays = PLAYS, tls_plays = TLS_PLAYS;

static void over_plain_connections(void) {
    for (unsigned i = first; i < first + plays; i++)
        play(i, 10 + i % 20);
}

static int open_nothing(void *ctx, const char *path, bool is_key, struct ht_errmsg *err) {
    (void)ctx;
    (void)is_key;
    return ht_fail(err, HT_EIO, "no file %s here", path);
}

static void over_tls(void) {
    static const char *const names[] = {"127.0.0.1"};
    struct ht_errmsg err;
    tls_server = io_tls_server_create(
        &(struct io_tls_server_config){.self_signed = names, .n_self_signed = 1, .open = open_nothing}, &err);
    tls_client = io_tls_create_with(&(struct io_tls_config){.insecure = true}, &err);
    CU_ASSERT_FATAL(tls_server != NULL && tls_client != NULL);
    for (unsigned i = first; i < first + tls_plays; i++)
        play(i, 10 + i % 10);
    loop_turns(loop, 5);
    io_tls_server_destroy(&tls_server);
    io_tls_destroy(&tls_client);
}

int main(int argc, char **argv) {
    alarm(200);
    io_ignore_sigpipe();
    loop = io_loop_create();
    if (argc > 2) { /* others: FIRST NUMBER */
        alarm(0);
        first = (unsigned)atoi(argv[1]);
        plays = tls_plays = (unsigned)atoi(argv[2]);
    }
    static const struct tap_test tests[] = {
        {"each message arrives once, in order, over plain connections", over_plain_connections},
        {"each message arrives once, in order, over TLS", over_tls},
        {NULL, NULL},
    };
    int rc = tap_main("ws kept play", tests);
    io_loop_destroy(&loop);
    if (ht_mem_live() != 0) {
        printf("Bail out! %zu blocks left\n", ht_mem_live());
        return 1;
    }
    return rc;
}
