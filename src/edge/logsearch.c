/* What is read from the log's file: rows as JSON, and sums. */
#include "edge/logdb_priv.h"

#include "base/text.h"

#define STEP_ROWS 4000 /* that one step looks at */
#define HOUR_MS 3600000

/* ---- JSON ---- */

static int put_text(struct ht_buf *out, struct ht_slice text) {
    uint8_t *to = ht_buf_reserve(out, 6 * text.n + 1);
    if (!to)
        return HT_ENOMEM;
    ht_buf_commit(out, ht_text_put(text, HT_TEXT_JSON, (char *)to, 6 * text.n + 1));
    return HT_OK;
}

static int put_member(struct ht_buf *out, const char *name, struct ht_slice text) {
    int rc = ht_buf_printf(out, ",\"%s\":\"", name);
    if (rc == HT_OK)
        rc = put_text(out, text);
    return rc == HT_OK ? ht_buf_append_str(out, "\"") : rc;
}

static struct ht_slice column(struct edge_logdb *db, sqlite3_stmt *s, int i) {
    const unsigned char *p = db->sql->sqlite3_column_text(s, i); /* before the bytes are asked for */
    int n = db->sql->sqlite3_column_bytes(s, i);
    return ht_slice_of(p, p && n > 0 ? (size_t)n : 0);
}

/* A name of one of n, as a file may hold any number. */
static const char *name_of(const char *const *names, size_t n, int64_t i) {
    return names[i >= 0 && (size_t)i < n ? (size_t)i : n - 1];
}

static int put_row(struct edge_logdb *db, sqlite3_stmt *s, struct ht_buf *out) {
    int rc = ht_buf_printf(out, "{\"id\":%lld,\"kind\":\"%s\",\"level\":\"%s\"",
                           (long long)db->sql->sqlite3_column_int64(s, 0),
                           name_of(edge_log_kinds, EDGE_LOG_KINDS, db->sql->sqlite3_column_int64(s, 1)),
                           name_of(edge_log_levels, EDGE_LOG_LEVELS, db->sql->sqlite3_column_int64(s, 2)));
    for (int i = 0; rc == HT_OK && i < HAPROXY_LOG_FIELDS; i++) {
        if (db->sql->sqlite3_column_type(s, i + 3) == SQLITE_NULL)
            continue;
        if (haproxy_log[i].number)
            rc = ht_buf_printf(out, ",\"%s\":%lld", haproxy_log[i].name,
                               (long long)db->sql->sqlite3_column_int64(s, i + 3));
        else
            rc = put_member(out, haproxy_log[i].name, column(db, s, i + 3));
    }
    return rc == HT_OK ? ht_buf_append_str(out, "}") : rc;
}

/* Nothing of it is left in *out when there is no memory. */
static int put_found(struct edge_logdb *db, const struct edge_log_search *f, sqlite3_stmt *s, struct ht_buf *out) {
    size_t had = out->len;
    int rc = f->q.events ? ht_buf_printf(out, "id: %lld\ndata: ", (long long)db->sql->sqlite3_column_int64(s, 0))
             : f->found  ? ht_buf_append_str(out, ",")
                         : HT_OK;
    if (rc == HT_OK)
        rc = put_row(db, s, out);
    if (rc == HT_OK && f->q.events)
        rc = ht_buf_append_str(out, "\n\n");
    if (rc < 0)
        out->len = had;
    return rc;
}

/* ---- searching ---- */

void edge_log_search_begin(struct edge_logdb *db, struct edge_log_search *s, const struct edge_log_query *q) {
    int64_t first = edge_logdb_first(db);
    int64_t from = q->after;
    if (first && from < first - 1)
        from = first - 1;
    *s = (struct edge_log_search){.q = *q, .counts = q->order == EDGE_LOG_LAST, .at = from, .until = db->last};
    /* A larger one than there is comes from another file than this one. */
    s->seen = q->order == EDGE_LOG_OLDEST_FIRST && q->after < db->last ? q->after : db->last;
}

static void bind_text(struct edge_logdb *db, sqlite3_stmt *s, int at, const char *text) {
    (void)db->sql->sqlite3_bind_text(s, at, text, -1, SQLITE_STATIC);
}

static void bind_query(struct edge_logdb *db, sqlite3_stmt *s, const struct edge_log_query *q, int64_t from,
                       int64_t to) {
    (void)db->sql->sqlite3_bind_int64(s, 1, from);
    (void)db->sql->sqlite3_bind_int64(s, 2, to);
    (void)db->sql->sqlite3_bind_int64(s, 3, q->kind - 1);
    (void)db->sql->sqlite3_bind_int64(s, 4, q->level);
    bind_text(db, s, 5, q->method);
    bind_text(db, s, 6, q->service);
    bind_text(db, s, 7, q->container);
    bind_text(db, s, 8, q->host);
    bind_text(db, s, 9, q->alias);
}

/* A row that matches. 1: it was the last that is wanted. */
static int take(struct edge_logdb *db, struct edge_log_search *f, sqlite3_stmt *s, struct ht_buf *out) {
    int64_t id = db->sql->sqlite3_column_int64(s, 0);
    if (f->left_out < f->q.offset) {
        f->left_out++;
        return 0;
    }
    if (!f->counts) {
        int rc = put_found(db, f, s, out);
        if (rc < 0)
            return rc;
        f->seen = f->q.order == EDGE_LOG_OLDEST_FIRST ? id : f->seen;
    }
    f->found++;
    if (f->counts)
        f->begins = id - 1; /* the rows begin here, so far */
    return f->found == f->q.limit || ht_buf_size(out) > (f->q.events ? EDGE_LOG_EVENTS : EDGE_LOG_ANSWER);
}

/* The first half of EDGE_LOG_LAST is over: what was found is shown, the oldest first. */
static int turn_round(struct edge_log_search *f) {
    uint32_t n = f->found;
    f->counts = false;
    f->found = 0;
    f->at = f->begins;
    f->until = f->seen;
    f->q.offset = 0;
    f->q.limit = n;
    return n == 0;
}

int edge_log_search_step(struct edge_logdb *db, struct edge_log_search *f, struct ht_buf *out, struct ht_errmsg *err) {
    bool back = f->counts || f->q.order == EDGE_LOG_NEWEST_FIRST;
    sqlite3_stmt *s = db->s[back ? EDGE_LOGDB_BACKWARD : EDGE_LOGDB_FORWARD];
    int64_t from = f->at, to = f->until;
    int rc = SQLITE_DONE, full = 0;
    if (to - from > STEP_ROWS && back)
        from = to - STEP_ROWS;
    else if (to - from > STEP_ROWS)
        to = from + STEP_ROWS;
    if (from >= to)
        return 1;
    bind_query(db, s, &f->q, from, to);
    while (full == 0 && (rc = db->sql->sqlite3_step(s)) == SQLITE_ROW)
        full = take(db, f, s, out);
    if (full == 0 && rc != SQLITE_DONE)
        full = edge_logdb_fail(db, rc, err);
    else if (full < 0)
        ht_fail(err, full, "out of memory");
    db->sql->sqlite3_reset(s);
    if (full < 0)
        return full;
    if (back)
        f->until = from;
    else if (!full)
        f->at = to;
    if (!full && f->q.order == EDGE_LOG_OLDEST_FIRST)
        f->seen = to;
    bool over = full || f->at >= f->until;
    return over && f->counts ? turn_round(f) : over;
}

/* ---- sums ---- */

static int put_service(struct edge_logdb *db, sqlite3_stmt *s, bool first, struct ht_buf *out) {
    static const char *const texts[] = {"container", "serviceName", "host"};
    static const char *const numbers[] = {"requests", "refused",  "warnings", "errors",
                                          "bytesIn",  "bytesOut", "totalMs",  "longestMs"};
    int rc = ht_buf_append_str(out, first ? "{" : ",{"), n = 0;
    size_t begin = out->len;
    for (int i = 0; rc == HT_OK && i < (int)HT_ARRAY_LEN(texts); i++, n++)
        if (column(db, s, n).n)
            rc = put_member(out, texts[i], column(db, s, n));
    for (int i = 0; rc == HT_OK && i < (int)HT_ARRAY_LEN(numbers); i++, n++)
        rc = ht_buf_printf(out, ",\"%s\":%lld", numbers[i], (long long)db->sql->sqlite3_column_int64(s, n));
    if (rc == HT_OK) /* the first member has no comma before it */
        memmove(out->data + begin, out->data + begin + 1, --out->len - begin);
    return rc == HT_OK ? ht_buf_append_str(out, "}") : rc;
}

static uint64_t one(struct edge_logdb *db, enum edge_logdb_statement which) {
    sqlite3_stmt *s = db->s[which];
    int64_t n = db->sql->sqlite3_step(s) == SQLITE_ROW ? db->sql->sqlite3_column_int64(s, 0) : 0;
    db->sql->sqlite3_reset(s);
    return n > 0 ? (uint64_t)n : 0;
}

int edge_logdb_stats(struct edge_logdb *db, int64_t now_ms, unsigned hours, struct edge_log_totals *totals,
                     struct ht_buf *out, struct ht_errmsg *err) {
    sqlite3_stmt *s = db->s[EDGE_LOGDB_STATS];
    int64_t first = edge_logdb_first(db), since = now_ms / HOUR_MS - hours + 1;
    bool none = true;
    int rc = HT_OK, got = SQLITE_DONE;
    *totals = (struct edge_log_totals){.rows = first ? (uint64_t)(db->last - first + 1) : 0,
                                       .bytes = edge_logdb_bytes(db),
                                       .oldest = first ? one(db, EDGE_LOGDB_OLDEST) : 0,
                                       .newest = first ? one(db, EDGE_LOGDB_NEWEST) : 0,
                                       .since = since > 0 ? (uint64_t)since * HOUR_MS : 0};
    (void)db->sql->sqlite3_bind_int64(s, 1, since);
    (void)db->sql->sqlite3_bind_int64(s, 2, EDGE_LOG_MOST);
    while (rc == HT_OK && (got = db->sql->sqlite3_step(s)) == SQLITE_ROW) {
        rc = put_service(db, s, none, out);
        none = false;
    }
    if (rc == HT_OK && got != SQLITE_DONE)
        rc = edge_logdb_fail(db, got, err);
    db->sql->sqlite3_reset(s);
    return rc == HT_ENOMEM ? ht_fail(err, rc, "out of memory") : rc;
}
