/* Commands to HAProxy's runtime sockets. Each line of them is a connection: HAProxy answers and closes it. */
#include "edge/edge_priv.h"

#include "base/mem.h"

#include <stdlib.h>

#define ANSWER_MAX (64u * 1024u * 1024u)
#define READ_PIECE 65536u
#define PATIENCE_MS 5000

struct command {
    struct ht_list node;
    edge_admin_done *done;
    void *ctx;
    bool payload; /* its answer is behind that of `show info` */
    size_t n;
    char text[];
};

struct edge_admin {
    struct io_loop *loop;
    struct ht_list waiting; /* struct command; the first one is being asked */
    struct io_dial *dial;
    struct io_conn *conn;
    struct io_out out;
    struct ht_buf in;
    struct io_timer patience;
    struct io_task next;
    bool master; /* the master's socket: it stays open until we close our side, and has no `show info` */
    char path[EDGE_PATH];
};

static void ask(struct edge_admin *a);

/* ---- an answer ---- */

static const char *find_last(const char *text, const char *what) {
    const char *found = NULL;
    for (const char *p = text; (p = strstr(p, what)); p++)
        found = p;
    return found;
}

/* Each line ends with `show info`, so an answer that lacks it is not whole; one with a payload, which must be at its
 * end, begins with that. */
static int understand(struct ht_buf *in, bool payload, struct edge_answer *out) {
    static const char begin[] = "Name: HAProxy\n";
    if (ht_buf_append(in, "", 1) < 0)
        return HT_ENOMEM;
    const char *text = (const char *)ht_buf_head(in), *info = payload ? strstr(text, begin) : find_last(text, begin);
    const char *pid = info ? strstr(info, "\nPid: ") : NULL, *version = info ? strstr(info, "\nVersion: ") : NULL;
    const char *end = payload && info ? strstr(info, "\n\n") : NULL;
    if (!pid || !version || (payload && !end))
        return HT_EPROTO;
    *out = (struct edge_answer){.text = payload ? ht_slice_str(end + 2) : ht_slice_of(text, (size_t)(info - text)),
                                .pid = strtoull(pid + sizeof "\nPid: " - 1, NULL, 10)};
    version += sizeof "\nVersion: " - 1;
    size_t n = ht_min(strcspn(version, "\n"), sizeof out->version - 1);
    memcpy(out->version, version, n);
    static const char said[] = "\ndescription: revision-";
    const char *revision = strstr(info, said);
    if (revision) {
        revision += sizeof said - 1;
        memcpy(out->revision, revision, ht_min(strcspn(revision, "\n"), sizeof out->revision - 1));
    }
    return HT_OK;
}

static void finish(struct edge_admin *a, int rc) {
    struct command *c = HT_LIST_ENTRY(ht_list_pop_front(&a->waiting), struct command, node);
    struct edge_answer answer;
    io_timer_stop(&a->patience);
    io_dial_cancel(&a->dial);
    io_conn_close(&a->conn);
    io_out_free(&a->out);
    a->out = (struct io_out){.n_iov = 0};
    if (rc == HT_OK && a->master)
        answer = (struct edge_answer){.text = ht_buf_slice(&a->in)};
    else if (rc == HT_OK)
        rc = understand(&a->in, c->payload, &answer);
    io_task_add(a->loop, &a->next);
    c->done(c->ctx, rc, rc == HT_OK ? &answer : NULL);
    if (c->payload)
        explicit_bzero(c->text, c->n); /* keys may be in it */
    ht_free(c);
    if (a->in.cap > 2 * READ_PIECE)
        ht_buf_free(&a->in);
    else
        ht_buf_consume(&a->in, ht_buf_size(&a->in));
}

static void readable(void *ctx) {
    struct edge_admin *a = ctx;
    uint8_t *to = ht_buf_reserve(&a->in, READ_PIECE);
    ssize_t n = to ? io_conn_read(a->conn, to, READ_PIECE) : HT_ENOMEM;
    if (n == HT_EAGAIN)
        return;
    if (n > 0)
        ht_buf_commit(&a->in, (size_t)n);
    else
        finish(a, n == HT_EOF ? HT_OK : (int)n);
    if (n > 0 && ht_buf_size(&a->in) > ANSWER_MAX)
        finish(a, HT_ELIMIT);
    else if (n > 0)
        io_timer_set(&a->patience, PATIENCE_MS);
}

static void writable(void *ctx) {
    struct edge_admin *a = ctx;
    ssize_t n = io_out_flush(&a->out, a->conn);
    if (n >= 0 && a->master && io_out_pending(&a->out) == 0)
        n = io_conn_shutdown(a->conn);
    if (n < 0)
        finish(a, (int)n);
}

/* ---- asking ---- */

static void connected(void *ctx, struct io_conn *conn) {
    static const struct io_conn_ops ops = {.readable = readable, .writable = writable};
    struct edge_admin *a = ctx;
    const struct command *c = HT_LIST_ENTRY(a->waiting.next, struct command, node);
    a->dial = NULL;
    a->conn = conn;
    io_conn_set_ops(conn, &ops, a);
    io_conn_read_on(conn, true);
    a->out.secret = c->payload;
    if (io_out_add(&a->out, c->text, c->n) < 0)
        finish(a, HT_ENOMEM);
    else
        writable(a);
}

static void failed(void *ctx, int err, const char *text) {
    struct edge_admin *a = ctx;
    (void)text;
    a->dial = NULL;
    finish(a, err);
}

static void too_late(struct io_timer *t) { finish(ht_container_of(t, struct edge_admin, patience), HT_ETIMEDOUT); }

static void ask(struct edge_admin *a) {
    static const struct io_dial_ops ops = {.connected = connected, .failed = failed};
    if (ht_list_empty(&a->waiting) || a->dial || a->conn)
        return;
    io_timer_set(&a->patience, PATIENCE_MS);
    a->dial = io_dial_unix(a->loop, a->path, PATIENCE_MS, &ops, a, NULL);
    if (!a->dial)
        finish(a, HT_ENOMEM);
}

static void on_next(struct io_task *t) { ask(ht_container_of(t, struct edge_admin, next)); }

int edge_admin_send(struct edge_admin *a, struct ht_slice commands, edge_admin_done *done, void *ctx) {
    const char *tail = a->master ? "\n" : commands.n ? ";show info\n" : "show info\n";
    size_t n = strlen(tail);
    struct command *c = ht_calloc(1, sizeof *c + commands.n + n);
    if (!c)
        return HT_ENOMEM;
    c->done = done;
    c->ctx = ctx;
    if (commands.n)
        memcpy(c->text, commands.p, commands.n);
    memcpy(c->text + commands.n, tail, n);
    c->n = commands.n + n;
    ht_list_push_back(&a->waiting, &c->node);
    io_task_add(a->loop, &a->next);
    return HT_OK;
}

int edge_admin_send_with(struct edge_admin *a, struct ht_slice commands, struct ht_slice payload, edge_admin_done *done,
                         void *ctx) {
    static const char info[] = "show info;", begin[] = " <<\n", end[] = "\n";
    const struct ht_slice pieces[] = {ht_slice_of(info, sizeof info - 1), commands,
                                      ht_slice_of(begin, sizeof begin - 1), payload, ht_slice_of(end, sizeof end - 1)};
    size_t n = 0;
    for (size_t i = 0; i < HT_ARRAY_LEN(pieces); i++)
        n += pieces[i].n;
    struct command *c = ht_calloc(1, sizeof *c + n);
    if (!c)
        return HT_ENOMEM;
    c->done = done;
    c->ctx = ctx;
    c->payload = true;
    for (size_t i = 0; i < HT_ARRAY_LEN(pieces); i++) {
        memcpy(c->text + c->n, pieces[i].p, pieces[i].n);
        c->n += pieces[i].n;
    }
    ht_list_push_back(&a->waiting, &c->node);
    io_task_add(a->loop, &a->next);
    return HT_OK;
}

struct edge_admin *edge_admin_create(struct io_loop *loop, const char *folder, enum edge_admin_of of) {
    struct edge_admin *a = ht_calloc(1, sizeof *a);
    if (!a)
        return NULL;
    a->loop = loop;
    ht_list_init(&a->waiting);
    io_timer_init(loop, &a->patience, too_late);
    io_task_init(&a->next, on_next);
    a->master = of == EDGE_ADMIN_OF_MASTER;
    edge_path(folder, a->master ? EDGE_MASTER_SOCKET : EDGE_ADMIN_SOCKET, a->path);
    return a;
}

void edge_admin_destroy(struct edge_admin **ap) {
    struct edge_admin *a = *ap;
    struct ht_list *node;
    *ap = NULL;
    if (!a)
        return;
    io_timer_stop(&a->patience);
    io_task_cancel(&a->next);
    io_dial_cancel(&a->dial);
    io_conn_close(&a->conn);
    io_out_free(&a->out);
    ht_buf_free(&a->in);
    while ((node = ht_list_pop_front(&a->waiting))) {
        struct command *c = HT_LIST_ENTRY(node, struct command, node);
        c->done(c->ctx, HT_ECLOSED, NULL);
        if (c->payload)
            explicit_bzero(c->text, c->n);
        ht_free(c);
    }
    ht_free(a);
}
