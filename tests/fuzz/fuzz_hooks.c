/*
 * Documents of hooks, and requests that they act on: any bytes are hooks, or what is wrong is said; hooks do the same
 * twice, and whatever a visitor sends, nothing that they put into a head has a line end, no field is one of the edge's,
 * no path can be read in two ways, and a request goes to a container of 24 digits, or stays.
 *
 * Input: the document, a NUL, the method, a NUL, path and query, a NUL, header fields.
 */
#include "edge/hooks_edit.h"
#include "edge/hooks_priv.h"
#include "fuzz.h"

static struct ht_slice piece(const uint8_t **p, const uint8_t *end) {
    const uint8_t *nul = *p < end ? memchr(*p, '\0', (size_t)(end - *p)) : NULL;
    struct ht_slice s = ht_slice_of(*p, (size_t)((nul ? nul : end) - *p));
    *p = nul ? nul + 1 : end;
    return s;
}

/* Written anew: what is looked at here is not asked of what is looked after. */
static bool is_the_edges(struct ht_slice name) {
    static const char *const whole[] = {"host",   "content-length", "transfer-encoding", "connection",
                                        "te",     "keep-alive",     "upgrade",           "trailer",
                                        "expect", "forwarded",      "x-real-ip",         "proxy-connection"};
    static const char *const begin[] = {"x-forwarded-", "x-hoody-"};
    char plain[300];
    size_t n = ht_min(name.n, sizeof plain - 1);
    for (size_t i = 0; i < n; i++)
        plain[i] = name.p[i] == '_' ? '-' : ht_lower(name.p[i]);
    plain[n] = '\0';
    for (size_t i = 0; i < HT_ARRAY_LEN(whole); i++)
        if (strcmp(plain, whole[i]) == 0)
            return true;
    for (size_t i = 0; i < HT_ARRAY_LEN(begin); i++)
        if (strncmp(plain, begin[i], strlen(begin[i])) == 0)
            return true;
    return false;
}

static void look_at_records(struct ht_slice s, bool request) {
    bool replies = false;
    while (s.n) {
        FUZZ_CHECK(s.n >= 4);
        const uint8_t *p = (const uint8_t *)s.p;
        size_t name_n = p[1];
        FUZZ_CHECK(s.n >= 4 + name_n);
        size_t value_n = (size_t)p[2 + name_n] << 8 | p[3 + name_n];
        FUZZ_CHECK(s.n >= 4 + name_n + value_n);
        struct ht_slice name = ht_slice_of(p + 2, name_n), value = ht_slice_of(p + 4 + name_n, value_n);
        FUZZ_CHECK(memchr("sadrhb", p[0], 6));
        replies |= p[0] == 'r';
        FUZZ_CHECK((p[0] != 'h' && p[0] != 'b' && p[0] != 'r') || (request && replies));
        for (size_t i = 0; i < name.n; i++)
            FUZZ_CHECK((unsigned char)name.p[i] > ' ' && name.p[i] != ':' && name.p[i] != 0x7f);
        for (size_t i = 0; p[0] != 'b' && i < value.n; i++)
            FUZZ_CHECK(value.p[i] == '\t' || ((unsigned char)value.p[i] >= ' ' && value.p[i] != 0x7f));
        FUZZ_CHECK(p[0] == 'r' || p[0] == 'b' || (name.n && !is_the_edges(name)));
        s = ht_slice_of(s.p + 4 + name_n + value_n, s.n - 4 - name_n - value_n);
    }
}

static bool has(struct ht_slice s, const char *text) {
    size_t n = strlen(text);
    for (size_t i = 0; i + n <= s.n; i++)
        if (ht_slice_case_eq(ht_slice_of(s.p + i, n), ht_slice_str(text)))
            return true;
    return false;
}

static void look_at_path(struct ht_slice target) {
    const char *mark = target.n ? memchr(target.p, '?', target.n) : NULL;
    struct ht_slice path = ht_slice_of(target.p, mark ? (size_t)(mark - target.p) : target.n);
    static const char *const never[] = {"//", "/../", "/./", "%2e", "%2f", "%5c", "\\", " ", "\r", "\n", "#"};
    FUZZ_CHECK(path.n && path.p[0] == '/');
    for (size_t i = 0; i < HT_ARRAY_LEN(never); i++)
        FUZZ_CHECK(!has(path, never[i]));
    FUZZ_CHECK(path.n < 3 || memcmp(path.p + path.n - 3, "/..", 3) != 0);
}

static void look_at(const struct edge_hooked *o) {
    FUZZ_CHECK(o->fault == 0 || o->fault == HT_EINVAL);
    FUZZ_CHECK(ht_buf_size(&o->request) + ht_buf_size(&o->response) <= HOOKS_RECORDS_MAX);
    FUZZ_CHECK(o->n_limits <= HOOKS_LIMITS);
    if (o->fault)
        return;
    look_at_records(ht_buf_slice(&o->request), true);
    look_at_records(ht_buf_slice(&o->response), false);
    if (o->has_path)
        look_at_path(ht_buf_slice(&o->path));
    if (o->forwards)
        FUZZ_CHECK((!o->to[0] || edge_is_id(ht_slice_str(o->to))) && edge_is_service(o->to_program) &&
                   o->to_index <= UINT16_MAX);
}

static void act(const struct edge_hooks *h, const struct edge_hook_visit *v) {
    struct edge_hooked o = {.fault = 0}, again = {.fault = 0};
    FUZZ_CHECK(edge_hooks_run(h, v, 2000000000, &o) == HT_OK && edge_hooks_run(h, v, 2000000000, &again) == HT_OK);
    FUZZ_CHECK(o.fault == again.fault && ht_slice_eq(ht_buf_slice(&o.request), ht_buf_slice(&again.request)) &&
               ht_slice_eq(ht_buf_slice(&o.response), ht_buf_slice(&again.response)) &&
               ht_slice_eq(ht_buf_slice(&o.path), ht_buf_slice(&again.path)));
    look_at(&o);
    edge_hooked_free(&o);
    edge_hooked_free(&again);
}

/* The form of a form is itself, and a good one unless there was something odd. */
static void normalise(struct ht_slice path) {
    struct ht_buf once = {0}, twice = {0};
    bool odd, still;
    FUZZ_CHECK(hook_path_normal(path, &once, &odd) == HT_OK);
    FUZZ_CHECK(hook_path_normal(ht_buf_slice(&once), &twice, &still) == HT_OK);
    if (path.n && path.p[0] == '/') {
        FUZZ_CHECK(ht_slice_eq(ht_buf_slice(&once), ht_buf_slice(&twice)));
        FUZZ_CHECK(odd || hook_path_is_good(ht_buf_slice(&once)));
        look_at_path(odd ? ht_slice_of("/", 1) : ht_buf_slice(&once));
    }
    FUZZ_CHECK(!hook_path_is_good(path) || (!odd && ht_slice_eq(path, ht_buf_slice(&once))));
    ht_buf_free(&once);
    ht_buf_free(&twice);
}

/* Rows are put back as they were. */
static void edit(struct ht_slice doc) {
    struct edge_hook_rows rows, again;
    struct ht_buf out = {0};
    if (edge_hook_rows_read(doc, "http", &rows) == HT_OK && edge_hook_rows_write(doc, "http", &rows, &out) == HT_OK) {
        FUZZ_CHECK(edge_hook_rows_read(ht_buf_slice(&out), "http", &again) == HT_OK && again.n == rows.n);
        for (size_t i = 0; i < rows.n; i++)
            FUZZ_CHECK(ht_slice_eq(rows.all[i].text, again.all[i].text) &&
                       strcmp(rows.all[i].id, again.all[i].id) == 0);
    }
    ht_buf_free(&out);
}

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size) {
    const uint8_t *at = data, *end = data + size;
    struct ht_errmsg err = {""};
    int rc;
    if (size > 30000)
        return 0;
    size_t live = ht_mem_live();
    struct ht_slice doc = piece(&at, end), method = piece(&at, end), target = piece(&at, end);
    char *text = fuzz_copy(doc.p, doc.n), *path = fuzz_copy(target.p, target.n);
    char *heads = fuzz_copy(at, (size_t)(end - at));
    struct edge_hooks *h = edge_hooks_create(ht_slice_of(text, doc.n), &rc, &err);
    FUZZ_CHECK(h ? rc == HT_OK : rc == HT_EINVAL && err.text[0]);
    if (h) {
        static const char *const programs[] = {"http", "terminal"};
        for (size_t i = 0; i < HT_ARRAY_LEN(programs); i++) {
            struct edge_hook_visit v = {.container = ht_slice_str("890abcdef12345678901cdef"),
                                        .program = ht_slice_str(programs[i]),
                                        .index = 3000,
                                        .method = method,
                                        .family = i ? 0 : 4,
                                        .addr = {203, 0, 113, 7},
                                        .target = ht_slice_of(path, target.n),
                                        .heads = ht_slice_of(heads, (size_t)(end - at))};
            act(h, &v);
        }
        struct edge_hooks *same = edge_hooks_create(ht_slice_of(text, doc.n), &rc, &err);
        FUZZ_CHECK(same && edge_hooks_count(same) == edge_hooks_count(h));
        edge_hooks_destroy(&same);
    }
    edge_hooks_destroy(&h);
    edit(ht_slice_of(text, doc.n));
    normalise(ht_slice_of(path, target.n));
    free(text);
    free(path);
    free(heads);
    FUZZ_CHECK(ht_mem_live() == live);
    return 0;
}
