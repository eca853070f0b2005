/*
 * Server-sent events. What happens within a tick is written once and sent to all readers. A reader that does not keep
 * up misses events, and gets a snapshot when it has read what is there.
 */
#include "inspect/server_priv.h"

#include "base/mem.h"

#define TICK_MS 50u
#define RUNNING_MS 250u /* between two events of a running exchange */
#define BATCH_MAX (1024u * 1024u)
#define READER_MAX (4u * 1024u * 1024u) /* bytes that wait for one reader, besides a snapshot */

static struct inspect_server *server_of(struct inspect_observer *o) {
    return ht_container_of(o, struct inspect_server, feed.observer);
}

static void due(struct inspect_server *s) {
    if (s->feed.n_readers && !io_timer_active(&s->feed.tick))
        io_timer_set(&s->feed.tick, TICK_MS);
}

/* ---- what the store tells ---- */

static struct feed_mark *mark_of(struct feed *f, uint64_t id, bool *fresh) {
    struct feed_mark *m = &f->marks[id % FEED_MARKS];
    *fresh = m->id != id;
    if (*fresh)
        *m = (struct feed_mark){.id = id};
    return m;
}

static void touch(struct inspect_server *s, const struct inspect_exchange *x, bool added) {
    struct feed *f = &s->feed;
    bool fresh;
    if (!f->n_readers)
        return;
    struct feed_mark *m = mark_of(f, x->id, &fresh);
    if (!fresh || added) {
        f->in += x->request.size - m->request;
        f->out += x->response.size - m->response;
    }
    m->request = x->request.size;
    m->response = x->response.size;
    if (!m->dirty && ht_buf_append(&f->dirty, &x->id, sizeof x->id) == HT_OK)
        m->dirty = true;
    due(s);
}

static void on_added(struct inspect_observer *o, const struct inspect_exchange *x) {
    struct inspect_server *s = server_of(o);
    s->feed.begun++;
    touch(s, x, true);
    replay_added(s, x);
}

static void on_changed(struct inspect_observer *o, const struct inspect_exchange *x) { touch(server_of(o), x, false); }

static void on_removed(struct inspect_observer *o, uint64_t id) {
    struct inspect_server *s = server_of(o);
    if (s->feed.n_readers && ht_buf_append(&s->feed.removed, &id, sizeof id) < 0)
        s->feed.lost = true;
    due(s);
}

/* ---- the batch ---- */

static int begin_event(struct ht_buf *b, const char *type) { return ht_buf_printf(b, "event: %s\ndata: ", type); }
static int end_event(struct ht_buf *b) { return ht_buf_append_str(b, "\n\n"); }

/* Closes an event whose data was written with `rc`. What does not fit is lost: every reader gets a snapshot. */
static void close_event(struct inspect_server *s, int rc) {
    struct feed *f = &s->feed;
    if (rc == HT_OK)
        rc = end_event(&f->batch);
    if (rc < 0 || ht_buf_size(&f->batch) > BATCH_MAX) {
        f->lost = true;
        ht_buf_free(&f->batch);
    }
    due(s);
}

static void on_cleared(struct inspect_observer *o) {
    struct inspect_server *s = server_of(o);
    if (!s->feed.n_readers)
        return;
    ht_buf_free(&s->feed.dirty);
    ht_buf_free(&s->feed.removed);
    memset(s->feed.marks, 0, FEED_MARKS * sizeof *s->feed.marks);
    int rc = begin_event(&s->feed.batch, "cleared");
    close_event(s, rc == HT_OK ? ht_buf_append_str(&s->feed.batch, "{}") : rc);
}

void feed_watch(struct inspect_server *s, uint64_t id) {
    struct feed *f = &s->feed;
    unsigned at = 0;
    for (unsigned i = 0; i < INSPECT_WATCHED; i++) {
        if (f->watched[i].id == id) {
            at = i;
            break;
        }
        if (f->watched[i].until_ms < f->watched[at].until_ms)
            at = i;
    }
    f->watched[at].id = id;
    f->watched[at].until_ms = io_now_ms(s->cfg.loop) + INSPECT_WATCH_MS;
}

static bool is_watched(const struct inspect_server *s, uint64_t id) {
    for (unsigned i = 0; i < INSPECT_WATCHED; i++)
        if (s->feed.watched[i].id == id)
            return io_now_ms(s->cfg.loop) < s->feed.watched[i].until_ms;
    return false;
}

static void on_frame(struct inspect_observer *o, const struct inspect_exchange *x, const struct inspect_frame *frame) {
    struct inspect_server *s = server_of(o);
    if (!s->feed.n_readers || !is_watched(s, x->id))
        return;
    int rc = begin_event(&s->feed.batch, "frame");
    close_event(s, rc == HT_OK ? show_frame(&s->feed.batch, x, frame) : rc);
}

static void tell(struct inspect_server *s, const char *type,
                 int (*show)(struct ht_buf *out, const struct inspect_server *s)) {
    if (!s->feed.n_readers)
        return;
    int rc = begin_event(&s->feed.batch, type);
    close_event(s, rc == HT_OK ? show(&s->feed.batch, s) : rc);
}

void feed_tell_link(struct inspect_server *s) { tell(s, "link", show_link); }
void feed_tell_bindings(struct inspect_server *s) { tell(s, "bindings", show_bindings); }

static int show_rates(struct ht_buf *out, const struct inspect_server *s) {
    return inspect_api_write_rates(out, &s->feed.rates);
}

/* ---- the tick ---- */

static void tell_removed(struct inspect_server *s) {
    struct feed *f = &s->feed;
    size_t n = ht_buf_size(&f->removed) / sizeof(uint64_t);
    if (!n)
        return;
    int rc = begin_event(&f->batch, "removed");
    rc = rc == HT_OK ? ht_buf_append_str(&f->batch, "{\"ids\":[") : rc;
    for (size_t i = 0; i < n && rc == HT_OK; i++) {
        uint64_t id;
        memcpy(&id, ht_buf_head(&f->removed) + i * sizeof id, sizeof id);
        rc = ht_buf_printf(&f->batch, "%s\"%llu\"", i ? "," : "", (unsigned long long)id);
    }
    ht_buf_consume(&f->removed, ht_buf_size(&f->removed));
    close_event(s, rc == HT_OK ? ht_buf_append_str(&f->batch, "]}") : rc);
}

/* Writes the events of exchanges that are due; those that run and were told of just now stay in the list. */
static void tell_exchanges(struct inspect_server *s) {
    struct feed *f = &s->feed;
    struct ht_buf ids = f->dirty;
    uint64_t now = io_now_ms(s->cfg.loop);
    f->dirty = (struct ht_buf){0};
    for (size_t i = 0; i < ht_buf_size(&ids) / sizeof(uint64_t); i++) {
        uint64_t id;
        memcpy(&id, ht_buf_head(&ids) + i * sizeof id, sizeof id);
        const struct inspect_exchange *x = inspect_store_get(s->cfg.store, id);
        struct feed_mark *m = &f->marks[id % FEED_MARKS];
        bool mine = m->id == id;
        if (!x) {
            if (mine)
                m->dirty = false;
            continue;
        }
        if (mine && x->state == INSPECT_RUNNING && m->sent_ms && now - m->sent_ms < RUNNING_MS) {
            if (ht_buf_append(&f->dirty, &id, sizeof id) < 0)
                m->dirty = false;
            continue;
        }
        if (mine) {
            m->dirty = false;
            m->sent_ms = now;
        }
        int rc = begin_event(&f->batch, "exchange");
        close_event(s, rc == HT_OK ? show_exchange(&f->batch, x) : rc);
    }
    ht_buf_free(&ids);
}

/* Sends a snapshot to a reader for whom nothing waits. False: it is gone. */
static bool send_snapshot(struct client *c) {
    struct ht_buf *q = &c->web.out.queue;
    int rc = begin_event(q, "snapshot");
    rc = rc == HT_OK ? show_snapshot(q, c->s) : rc;
    rc = rc == HT_OK ? end_event(q) : rc;
    c->behind = false;
    if (rc == HT_OK)
        return true;
    web_conn_close(&c->web);
    return false;
}

static void deliver(struct client *c, struct ht_slice batch, bool lost) {
    c->behind = c->behind || lost || io_out_pending(&c->web.out) + batch.n > READER_MAX;
    if (c->behind) {
        if (!web_conn_busy(&c->web) && send_snapshot(c))
            web_conn_flush(&c->web);
    } else if (batch.n) {
        if (ht_buf_append(&c->web.out.queue, batch.p, batch.n) < 0)
            web_conn_close(&c->web);
        else
            web_conn_flush(&c->web);
    }
}

static void tick(struct io_timer *t) {
    struct inspect_server *s = ht_container_of(t, struct inspect_server, feed.tick);
    struct feed *f = &s->feed;
    tell_exchanges(s);
    tell_removed(s);
    struct ht_buf batch = f->batch;
    bool lost = f->lost;
    f->batch = (struct ht_buf){0};
    f->lost = false;
    HT_LIST_FOR_SAFE (it, &f->readers)
        deliver(HT_LIST_ENTRY(it, struct client, reader), lost ? ht_slice_of(NULL, 0) : ht_buf_slice(&batch), lost);
    ht_buf_free(&batch);
    if (ht_buf_size(&f->dirty))
        due(s);
    else
        io_timer_stop(&f->tick);
}

static void second(struct io_timer *t) {
    struct inspect_server *s = ht_container_of(t, struct inspect_server, feed.second);
    struct feed *f = &s->feed;
    f->rates = (struct inspect_api_rates){.in = f->in, .out = f->out, .rps = (double)f->begun};
    f->traffic[f->oldest] = f->in + f->out;
    f->oldest = (f->oldest + 1) % INSPECT_SECONDS;
    f->in = f->out = f->begun = 0;
    tell(s, "traffic", show_rates);
    io_timer_set(&f->second, 1000);
}

/* ---- readers ---- */

int feed_open(void *ctx, const struct inspect_api_request *req, struct inspect_api_response *res) {
    struct client *c = ctx;
    struct feed *f = &c->s->feed;
    if (f->n_readers >= INSPECT_READERS)
        return inspect_api_reply_error(res, 503, "too many readers");
    if (!f->marks && !(f->marks = ht_calloc(FEED_MARKS, sizeof *f->marks)))
        return HT_ENOMEM;
    inspect_api_reply_feed_200(res);
    if (!ht_slice_is(req->method, "HEAD"))
        c->role = CLIENT_FEED;
    return HT_OK;
}

bool feed_join(struct client *c) {
    struct feed *f = &c->s->feed;
    if (!f->n_readers++) {
        memset(f->traffic, 0, sizeof f->traffic);
        f->rates = (struct inspect_api_rates){.in = 0};
        f->in = f->out = f->begun = 0;
        io_timer_set(&f->second, 1000);
    }
    ht_list_push_back(&f->readers, &c->reader);
    return send_snapshot(c);
}

void feed_leave(struct client *c) {
    struct feed *f = &c->s->feed;
    if (!ht_list_linked(&c->reader))
        return;
    ht_list_remove(&c->reader);
    if (--f->n_readers)
        return;
    io_timer_stop(&f->second);
    io_timer_stop(&f->tick);
    ht_buf_free(&f->dirty);
    ht_buf_free(&f->removed);
    ht_buf_free(&f->batch);
    ht_free(f->marks);
    f->marks = NULL;
    f->lost = false;
}

void feed_drained(struct client *c) {
    if (c->behind && send_snapshot(c))
        web_conn_flush(&c->web);
}

void feed_start(struct inspect_server *s) {
    struct feed *f = &s->feed;
    ht_list_init(&f->readers);
    io_timer_init(s->cfg.loop, &f->tick, tick);
    io_timer_init(s->cfg.loop, &f->second, second);
    f->observer = (struct inspect_observer){
        .added = on_added, .changed = on_changed, .frame = on_frame, .removed = on_removed, .cleared = on_cleared};
    inspect_store_observe(s->cfg.store, &f->observer);
}

void feed_stop(struct inspect_server *s) {
    inspect_observer_remove(&s->feed.observer);
    io_timer_stop(&s->feed.tick);
    io_timer_stop(&s->feed.second);
    ht_free(s->feed.marks);
    s->feed.marks = NULL;
}
