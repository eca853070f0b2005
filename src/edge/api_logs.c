/* The log by the API: rows, sums, and rows as they come. */
#include "edge/api.h"

#include "base/mem.h"
#include "edge/log.h"

#include <stdio.h>
#include <stdlib.h>

#define STREAM_STEP 200u             /* rows of one question */
#define STREAM_BEHIND (256u * 1024u) /* bytes that a reader has not taken, before more is asked for */
#define READERS_MAX 32u

/* ---- parameters ---- */

static bool one_of(const char *text, const char *const *names, int n, int *out) {
    for (int i = 0; i < n; i++)
        if (strcmp(text, names[i]) == 0) {
            *out = i;
            return true;
        }
    return false;
}

/* False: it is answered, and *rc is what the handler returns. */
static bool read_filter(const struct edge_api_request *req, struct edge_api_response *res, struct edge_log_query *q,
                        int *rc) {
    const struct edge_api_params *p = &req->params;
    int kind = -1;
    if (p->set_level && !one_of(p->level, edge_log_levels, EDGE_LOG_LEVELS, &q->level)) {
        *rc = edge_api_reply_error(res, 400, "level must be info, warn or error");
        return false;
    }
    if (p->set_kind && !one_of(p->kind, edge_log_kinds, EDGE_LOG_KINDS, &kind)) {
        *rc = edge_api_reply_error(res, 400, "kind must be request, refused, error or engine");
        return false;
    }
    q->kind = kind + 1;
    snprintf(q->method, sizeof q->method, "%s", p->set_method ? p->method : "");
    snprintf(q->service, sizeof q->service, "%s", p->set_service_name ? p->service_name : "");
    snprintf(q->container, sizeof q->container, "%s", p->set_container ? p->container : "");
    snprintf(q->host, sizeof q->host, "%s", p->set_host ? p->host : "");
    snprintf(q->alias, sizeof q->alias, "%s", p->set_alias ? p->alias : "");
    return true;
}

static struct edge_log *log_of(const struct api_client *c) { return edge_api_of(c)->log; }

/* ---- one answer ---- */

struct question {
    struct api_client *c;
    struct edge_log_ask *ask;
};

static void question_gone(struct api_client *c, void *ctx) {
    struct question *q = ctx;
    (void)c;
    edge_log_cancel(&q->ask);
    ht_free(q);
}

static const struct api_goes_on question_ops = {.gone = question_gone};

static int failed(struct edge_api_response *res, const struct edge_log_answer *a) {
    return edge_api_reply_error(res, 503, "%s", a->err->text);
}

/* The connection is closed where there is no memory for an answer. */
static void answer(struct question *q, struct edge_api_response *res, int rc) {
    struct api_client *c = q->c;
    q->ask = NULL;
    if (rc == HT_OK) {
        ht_free(q);
        edge_api_client_answer(c, res);
    } else {
        edge_api_response_free(res);
        edge_api_client_end(c, false); /* which frees the question */
    }
}

/* The text between the brackets, as an array. */
static int in_brackets(struct ht_buf *out, struct ht_slice text) {
    int rc = ht_buf_append_str(out, "[");
    if (rc == HT_OK)
        rc = ht_buf_append(out, text.p, text.n);
    return rc == HT_OK ? ht_buf_append_str(out, "]") : rc;
}

static void on_rows(void *ctx, const struct edge_log_answer *a) {
    struct question *q = ctx;
    struct edge_api_response res = {0};
    struct ht_buf rows = {0};
    int rc;
    if (a->rc < 0) {
        rc = failed(&res, a);
    } else {
        rc = in_brackets(&rows, a->text);
        struct edge_api_logs v = {.logs = ht_buf_slice(&rows), .last_id = (uint64_t)a->seen};
        if (rc == HT_OK)
            rc = edge_api_reply_log_list_200(&res, &v);
        ht_buf_free(&rows);
    }
    answer(q, &res, rc);
}

static void on_stats(void *ctx, const struct edge_log_answer *a) {
    struct edge_api_response res = {0};
    struct ht_buf services = {0};
    const struct edge_log_totals *t = a->totals;
    struct question *q = ctx;
    struct edge_log_counts c;
    int rc;
    if (a->rc < 0) {
        rc = failed(&res, a);
    } else {
        edge_log_count(log_of(q->c), &c);
        rc = in_brackets(&services, a->text);
        struct edge_api_log_stats v = {.rows = t->rows,
                                       .bytes = t->bytes,
                                       .has_oldest = t->rows > 0,
                                       .oldest = t->oldest,
                                       .has_newest = t->rows > 0,
                                       .newest = t->newest,
                                       .written = c.written,
                                       .lost = c.lost,
                                       .malformed = c.malformed,
                                       .since = t->since,
                                       .services = ht_buf_slice(&services)};
        if (rc == HT_OK)
            rc = edge_api_reply_log_stats_200(&res, &v);
        ht_buf_free(&services);
    }
    answer(q, &res, rc);
}

static struct question *new_question(struct api_client *c) {
    struct question *q = ht_calloc(1, sizeof *q);
    if (q)
        q->c = c;
    return q;
}

/* The answer comes later. */
static int later(struct question *q) {
    if (!q->ask) {
        ht_free(q);
        return HT_ENOMEM;
    }
    edge_api_client_goes_on(q->c, &question_ops, q);
    return HT_OK;
}

int edge_api_log_list(void *ctx, const struct edge_api_request *req, struct edge_api_response *res) {
    const struct edge_api_params *p = &req->params;
    struct edge_log_query query = {.limit = (uint32_t)(p->last ? p->last : p->limit),
                                   .offset = (uint64_t)p->offset,
                                   .after = p->set_after_id ? p->after_id : 0,
                                   .order = p->last           ? EDGE_LOG_LAST
                                            : p->set_after_id ? EDGE_LOG_OLDEST_FIRST
                                                              : EDGE_LOG_NEWEST_FIRST};
    int rc;
    if (!read_filter(req, res, &query, &rc))
        return rc;
    struct question *q = new_question(ctx);
    if (!q)
        return HT_ENOMEM;
    q->ask = edge_log_ask(log_of(ctx), &query, on_rows, q);
    return later(q);
}

int edge_api_log_stats(void *ctx, const struct edge_api_request *req, struct edge_api_response *res) {
    struct question *q = new_question(ctx);
    (void)res;
    if (!q)
        return HT_ENOMEM;
    q->ask = edge_log_ask_stats(log_of(ctx), (unsigned)req->params.hours, on_stats, q);
    return later(q);
}

/* ---- rows as they come ---- */

struct stream {
    struct api_client *c;
    struct edge_log_ask *ask;
    struct edge_log_follower follower;
    struct edge_log_query q; /* q.after: it has all up to there */
    bool began;
    bool more; /* rows may have come since it was asked */
};

static void go_on(struct stream *s);

static void stream_gone(struct api_client *c, void *ctx) {
    struct stream *s = ctx;
    (void)c;
    edge_log_unfollow(&s->follower);
    edge_log_cancel(&s->ask);
    ht_free(s);
}

/* A reader that is slow is waited for: its rows stay where they are. */
static void on_events(void *ctx, const struct edge_log_answer *a) {
    struct stream *s = ctx;
    struct ht_buf *out = edge_api_client_out(s->c);
    s->ask = NULL;
    if (a->rc < 0 || ht_buf_append(out, a->text.p, a->text.n) < 0) {
        edge_api_client_end(s->c, false); /* it comes again, and says where it was */
        return;
    }
    s->more = s->more || a->seen > s->q.after; /* there may be a next page */
    s->q.after = a->seen;
    if (edge_api_client_flush(s->c))
        go_on(s);
}

static void go_on(struct stream *s) {
    if (!s->began || s->ask || !s->more || edge_api_client_behind(s->c) > STREAM_BEHIND)
        return;
    s->ask = edge_log_ask(log_of(s->c), &s->q, on_events, s);
    s->more = !s->ask; /* without memory, at the next tick */
}

static void on_more(struct edge_log_follower *f) {
    struct stream *s = ht_container_of(f, struct stream, follower);
    s->more = true;
    go_on(s);
}

static void stream_began(struct api_client *c, void *ctx) {
    struct stream *s = ctx;
    (void)c;
    s->began = true;
    go_on(s);
}

static void stream_tick(struct api_client *c, void *ctx) {
    go_on(ctx);
    if (ht_buf_append_str(edge_api_client_out(c), ":\n\n") < 0)
        edge_api_client_end(c, false);
    else
        (void)edge_api_client_flush(c);
}

static void stream_drained(struct api_client *c, void *ctx) {
    (void)c;
    go_on(ctx);
}

/* Where it begins: `afterId`, Last-Event-ID, or what comes from now on. A header that is no id is none. */
static int64_t begins_after(const struct api_client *c, const struct edge_api_params *p) {
    struct edge_log_counts counts;
    struct ht_slice id = edge_api_field(c, "last-event-id");
    char text[20], *end = text;
    snprintf(text, sizeof text, "%.*s", (int)ht_min(id.n, sizeof text - 1), id.n ? id.p : "");
    long long n = id.n && id.n < 17 && ht_is_digit(text[0]) ? strtoll(text, &end, 10) : -1;
    if (n >= 0 && *end == '\0') /* newer than the URL, which stays as it is when a browser comes again */
        return n;
    if (p->set_after_id)
        return p->after_id;
    edge_log_count(log_of(c), &counts);
    return counts.last;
}

int edge_api_log_stream(void *ctx, const struct edge_api_request *req, struct edge_api_response *res) {
    static const struct api_goes_on ops = {
        .began = stream_began, .tick = stream_tick, .drained = stream_drained, .gone = stream_gone};
    struct edge_log_query query = {
        .limit = STREAM_STEP, .order = EDGE_LOG_OLDEST_FIRST, .after = begins_after(ctx, &req->params), .events = true};
    int rc;
    if (!read_filter(req, res, &query, &rc))
        return rc;
    if (edge_log_followers(log_of(ctx)) >= READERS_MAX)
        return edge_api_reply_error(res, 503, "too many readers of the log");
    struct stream *s = ht_calloc(1, sizeof *s);
    if (!s)
        return HT_ENOMEM;
    *s = (struct stream){.c = ctx, .q = query, .follower = {.more = on_more}, .more = true};
    edge_log_follow(log_of(ctx), &s->follower);
    edge_api_reply_log_stream_200(res);
    edge_api_client_goes_on(ctx, &ops, s);
    return HT_OK;
}
