#include "edge/log.h"

#include "base/mem.h"
#include "edge/edge_priv.h"
#include "log_gen.h"

#include <stdio.h>

#define READ_STEP (64u * 1024u)
#define READS_PER_TURN 4
#define FEEDS_MAX 64   /* connections of HAProxy: one for each process that has not ended yet */
#define LAST_READS 512 /* when the agent ends */

/* A connection of HAProxy. */
struct feed {
    struct ht_list node;
    struct edge_log *log;
    struct io_conn *io;
    struct ht_buf in;
};

struct edge_log_ask {
    struct edge_log *log;
    struct edge_logthread_ask *asked;
    struct ht_list node;
    edge_log_done *done;
    void *ctx;
};

struct edge_log {
    struct io_loop *loop;
    struct edge_logthread *thread;
    struct io_watcher watcher;
    struct io_listener *listener;
    struct ht_list feeds, asks, followers;
    unsigned n_feeds;
    int64_t last;
    bool paused, full_said;
    char path[EDGE_PATH];
};

/* ---- lines ---- */

static void feed_close(struct feed *f) {
    ht_list_remove(&f->node);
    f->log->n_feeds--;
    io_conn_close(&f->io);
    ht_buf_free(&f->in);
    ht_free(f);
}

/* Hands over all whole lines. 0, or an error that ends the connection. */
static int hand_over(struct feed *f) {
    struct ht_slice rest = ht_buf_slice(&f->in), line;
    struct ht_buf whole = {0};
    int used, rc = HT_OK;
    while ((used = edge_log_frame(rest, &line)) > 0)
        rest = ht_slice_of(rest.p + used, rest.n - (size_t)used);
    size_t n = ht_buf_size(&f->in) - rest.n;
    if (n)
        rc = ht_buf_append(&whole, ht_buf_head(&f->in), n);
    if (n && rc == HT_OK)
        rc = edge_logthread_lines(f->log->thread, &whole);
    ht_buf_free(&whole);
    if (rc == HT_OK)
        ht_buf_consume(&f->in, n);
    return rc < 0 ? rc : used;
}

/* > 0: bytes have come; HT_EAGAIN; or the connection has ended, for whatever reason. */
static int feed_read(struct feed *f) {
    uint8_t *to = ht_buf_reserve(&f->in, READ_STEP);
    ssize_t n = to ? io_conn_read(f->io, to, READ_STEP) : HT_ENOMEM;
    if (n == HT_EAGAIN)
        return HT_EAGAIN;
    if (n > 0)
        ht_buf_commit(&f->in, (size_t)n);
    int rc = n > 0 ? hand_over(f) : (int)n;
    if (rc < 0 && rc != HT_EOF && rc != HT_ERESET)
        ht_warn("edge", "the log's connection from HAProxy is closed: %s", ht_err_text(rc));
    return rc < 0 ? rc : (int)n;
}

static void pause_feeds(struct edge_log *l, bool pause) {
    l->paused = pause;
    HT_LIST_FOR (it, &l->feeds)
        io_conn_read_on(HT_LIST_ENTRY(it, struct feed, node)->io, !pause);
}

static void on_readable(void *ctx) {
    struct feed *f = ctx;
    struct edge_log *l = f->log;
    int rc = 1;
    for (int i = 0; i < READS_PER_TURN && rc > 0; i++)
        rc = feed_read(f);
    if (rc < 0 && rc != HT_EAGAIN)
        feed_close(f);
    /* What it has no room for waits in HAProxy, which says how much it had to drop. */
    if (!edge_logthread_has_room(l->thread))
        pause_feeds(l, true);
}

static void on_accepted(void *ctx, struct io_conn *c, const struct io_addr *peer) {
    static const struct io_conn_ops ops = {.readable = on_readable};
    struct edge_log *l = ctx;
    struct feed *f = l->n_feeds < FEEDS_MAX ? ht_calloc(1, sizeof *f) : NULL;
    (void)peer;
    if (!f) {
        io_conn_close(&c);
        return;
    }
    f->log = l;
    f->io = c;
    ht_list_init(&f->node);
    ht_list_push_back(&l->feeds, &f->node);
    l->n_feeds++;
    io_conn_set_ops(c, &ops, f);
    io_conn_read_on(c, !l->paused);
}

/* ---- what comes back from the thread ---- */

static void ask_free(struct edge_log_ask *a) {
    ht_list_remove(&a->node);
    ht_free(a);
}

static struct edge_log_ask *asker_of(struct edge_log *l, const struct edge_logthread_ask *asked) {
    HT_LIST_FOR (it, &l->asks)
        if (HT_LIST_ENTRY(it, struct edge_log_ask, node)->asked == asked)
            return HT_LIST_ENTRY(it, struct edge_log_ask, node);
    return NULL; /* it was cancelled */
}

static void give_answers(struct edge_log *l, struct ht_list *answered) {
    for (struct ht_list *node; (node = ht_list_pop_front(answered));) {
        struct edge_logthread_ask *t = HT_LIST_ENTRY(node, struct edge_logthread_ask, node);
        struct edge_log_ask *a = asker_of(l, t);
        if (a) {
            edge_log_done *done = a->done;
            void *ctx = a->ctx;
            ask_free(a);
            done(
                ctx,
                &(struct edge_log_answer){
                    .rc = t->rc, .err = &t->err, .text = ht_buf_slice(&t->out), .seen = t->seen, .totals = &t->totals});
        }
        edge_logthread_ask_free(&t);
    }
}

static void tell_followers(struct edge_log *l) {
    struct ht_list now;
    ht_list_init(&now);
    ht_list_splice(&now, &l->followers);
    for (struct ht_list *node; (node = ht_list_pop_front(&now));) {
        ht_list_push_back(&l->followers, node); /* it may leave while it is called, and so may others */
        struct edge_log_follower *f = HT_LIST_ENTRY(node, struct edge_log_follower, node);
        f->more(f);
    }
}

static void on_thread(struct io_watcher *w) {
    struct edge_log *l = ht_container_of(w, struct edge_log, watcher);
    struct edge_log_counts c;
    struct ht_list answered, notes;
    ht_list_init(&answered);
    ht_list_init(&notes);
    edge_logthread_take(l->thread, &answered, &notes);
    for (struct ht_list *node; (node = ht_list_pop_front(&notes));) {
        struct edge_logthread_note *n = HT_LIST_ENTRY(node, struct edge_logthread_note, node);
        ht_log(n->level, "edge", "%s", n->text.text);
        ht_free(n);
    }
    if (l->paused && edge_logthread_has_room(l->thread))
        pause_feeds(l, false);
    edge_logthread_count(l->thread, &c);
    if (c.lost_before && !l->full_said)
        ht_warn("edge", "HAProxy had no room for lines of the log, as they were not taken fast enough");
    l->full_said = c.lost_before > 0;
    bool more = c.last != l->last;
    l->last = c.last;
    give_answers(l, &answered);
    if (more)
        tell_followers(l);
}

/* ---- questions ---- */

static struct edge_log_ask *ask(struct edge_log *l, struct edge_logthread_ask *t, edge_log_done *done, void *ctx) {
    struct edge_log_ask *a = t ? ht_calloc(1, sizeof *a) : NULL;
    if (!a) {
        edge_logthread_ask_free(&t);
        return NULL;
    }
    *a = (struct edge_log_ask){.log = l, .asked = t, .done = done, .ctx = ctx};
    ht_list_init(&a->node);
    ht_list_push_back(&l->asks, &a->node);
    edge_logthread_ask(l->thread, t);
    return a;
}

static struct edge_logthread_ask *new_ask(void) {
    struct edge_logthread_ask *t = ht_calloc(1, sizeof *t);
    if (t)
        ht_list_init(&t->node);
    return t;
}

struct edge_log_ask *edge_log_ask(struct edge_log *l, const struct edge_log_query *q, edge_log_done *done, void *ctx) {
    struct edge_logthread_ask *t = new_ask();
    if (t)
        t->query = *q;
    return ask(l, t, done, ctx);
}

struct edge_log_ask *edge_log_ask_stats(struct edge_log *l, unsigned hours, edge_log_done *done, void *ctx) {
    struct edge_logthread_ask *t = new_ask();
    if (t) {
        t->stats = true;
        t->hours = hours;
    }
    return ask(l, t, done, ctx);
}

void edge_log_cancel(struct edge_log_ask **ap) {
    struct edge_log_ask *a = *ap;
    *ap = NULL;
    if (!a)
        return;
    edge_logthread_cancel(a->log->thread, a->asked);
    ask_free(a);
}

/* ---- following ---- */

void edge_log_follow(struct edge_log *l, struct edge_log_follower *f) {
    ht_list_init(&f->node);
    ht_list_push_back(&l->followers, &f->node);
}

void edge_log_unfollow(struct edge_log_follower *f) {
    if (f->node.next)
        ht_list_remove(&f->node);
}

unsigned edge_log_followers(const struct edge_log *l) {
    unsigned n = 0;
    HT_LIST_FOR (it, &l->followers)
        n++;
    return n;
}

int edge_log_secrets(struct edge_log *l, const char *const *names, size_t n) {
    return edge_logthread_secrets(l->thread, names, n);
}

void edge_log_count(struct edge_log *l, struct edge_log_counts *out) { edge_logthread_count(l->thread, out); }

/* ---- beginning and end ---- */

int edge_log_start(struct edge_log **out, const struct edge_log_config *cfg, struct ht_errmsg *err) {
    static const struct io_listener_ops ops = {.accepted = on_accepted};
    struct edge_log *l = ht_calloc(1, sizeof *l);
    *out = NULL;
    if (!l)
        return ht_fail(err, HT_ENOMEM, "out of memory");
    l->loop = cfg->loop;
    ht_list_init(&l->feeds);
    ht_list_init(&l->asks);
    ht_list_init(&l->followers);
    edge_path(cfg->folder, EDGE_LOG_FILE, l->path);
    int rc = edge_logthread_start(&l->thread,
                                  &(struct edge_logthread_config){.path = l->path,
                                                                  .max_bytes = cfg->max_bytes,
                                                                  .max_age_ms = cfg->max_age_ms,
                                                                  .mask_addresses = cfg->mask_addresses},
                                  err);
    if (rc == HT_OK)
        io_watcher_start(cfg->loop, &l->watcher, edge_logthread_fd(l->thread), on_thread);
    if (rc == HT_OK)
        rc = edge_socket_listen(cfg->loop, cfg->folder, EDGE_LOG_SOCKET, EDGE_SOCKET_FOR_ENGINE, &ops, l, &l->listener,
                                err);
    if (rc < 0)
        edge_log_stop(&l);
    *out = l;
    return rc;
}

void edge_log_stop(struct edge_log **lp) {
    struct edge_log *l = *lp;
    *lp = NULL;
    if (!l)
        return;
    HT_LIST_FOR_SAFE (it, &l->feeds) {
        struct feed *f = HT_LIST_ENTRY(it, struct feed, node);
        for (int i = 0; i < LAST_READS && feed_read(f) > 0; i++)
            continue;
        feed_close(f);
    }
    io_listener_close(&l->listener);
    io_watcher_stop(&l->watcher);
    edge_logthread_stop(&l->thread);
    HT_LIST_FOR_SAFE (it, &l->asks)
        ask_free(HT_LIST_ENTRY(it, struct edge_log_ask, node));
    ht_free(l);
}
