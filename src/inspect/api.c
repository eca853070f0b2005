/* The handlers that read what the store has. */
#include "inspect/server_priv.h"

#include "base/clock.h"
#include "base/mem.h"

#define SEARCH_MS 200u

static int no_exchange(struct inspect_api_response *res) {
    return inspect_api_reply_error(res, 404, "there is no such exchange, or no more");
}

/* The exchange and the message that a request names; NULL: there is none, and 404 is answered with *rc. */
static const struct inspect_message *message_of(const struct client *c, const struct inspect_api_request *req,
                                                struct inspect_api_response *res, int *rc) {
    const struct inspect_exchange *x = exchange_of(c->s, req->params.id);
    const struct inspect_message *m = NULL;
    if (x && strcmp(req->params.side, "request") == 0)
        m = &x->request;
    else if (x && strcmp(req->params.side, "response") == 0 && ht_buf_size(&x->response.head))
        m = &x->response;
    if (!m)
        *rc = x ? inspect_api_reply_error(res, 404, "there is no such side; there are request and response")
                : no_exchange(res);
    return m;
}

static void begin_json(struct inspect_api_response *res) {
    res->status = 200;
    res->content_type = "application/json";
}

int api_state(void *ctx, const struct inspect_api_request *req, struct inspect_api_response *res) {
    const struct client *c = ctx;
    (void)req;
    begin_json(res);
    return show_snapshot(&res->body, c->s);
}

int api_clear(void *ctx, const struct inspect_api_request *req, struct inspect_api_response *res) {
    const struct client *c = ctx;
    (void)req;
    inspect_store_clear(c->s->cfg.store);
    res->status = 204;
    return HT_OK;
}

int api_exchange(void *ctx, const struct inspect_api_request *req, struct inspect_api_response *res) {
    const struct client *c = ctx;
    const struct inspect_exchange *x = exchange_of(c->s, req->params.id);
    if (!x)
        return no_exchange(res);
    begin_json(res);
    return show_detail(&res->body, c->s->cfg.store, x);
}

int api_body(void *ctx, const struct inspect_api_request *req, struct inspect_api_response *res) {
    const struct client *c = ctx;
    struct ht_buf decoded = {0};
    struct ht_slice body;
    int rc = HT_OK;
    const struct inspect_message *m = message_of(c, req, res, &rc);
    if (!m)
        return rc;
    inspect_api_reply_body_200(res);
    if (req->params.encoded)
        return ht_buf_append(&res->body, ht_buf_head(&m->body), ht_buf_size(&m->body));
    rc = show_body(m, &decoded, &body);
    if (rc == HT_OK && ht_buf_size(&decoded) && body.p == (const char *)ht_buf_head(&decoded)) {
        res->body = decoded;
        return HT_OK;
    }
    if (rc == HT_OK)
        rc = ht_buf_append(&res->body, body.p, body.n);
    ht_buf_free(&decoded);
    return rc;
}

int api_reveal(void *ctx, const struct inspect_api_request *req, struct inspect_api_response *res) {
    const struct client *c = ctx;
    int rc = HT_OK;
    const struct inspect_message *m = message_of(c, req, res, &rc);
    if (!m)
        return rc;
    begin_json(res);
    return show_headers(&res->body, c->s->cfg.store, m);
}

int api_frames(void *ctx, const struct inspect_api_request *req, struct inspect_api_response *res) {
    const struct client *c = ctx;
    const struct inspect_exchange *x = exchange_of(c->s, req->params.id);
    if (!x)
        return no_exchange(res);
    feed_watch(c->s, x->id);
    begin_json(res);
    int rc = ht_buf_append_str(&res->body, "{\"frames\":[");
    bool first = true;
    HT_LIST_FOR (it, &x->frames) {
        const struct inspect_frame *f = HT_LIST_ENTRY(it, struct inspect_frame, node);
        if (rc < 0 || f->seq <= (uint64_t)req->params.after)
            continue;
        rc = first ? HT_OK : ht_buf_append_str(&res->body, ",");
        first = false;
        rc = rc == HT_OK ? show_frame(&res->body, x, f) : rc;
    }
    return rc == HT_OK ? ht_buf_printf(&res->body, "],\"dropped\":%llu}", (unsigned long long)x->frames_dropped) : rc;
}

int api_reconnect(void *ctx, const struct inspect_api_request *req, struct inspect_api_response *res) {
    const struct client *c = ctx;
    struct inspect_api_nothing none = {0};
    (void)req;
    c->s->cfg.reconnect(c->s->cfg.ctx);
    return inspect_api_reply_reconnect_202(res, &none);
}

/* ---- search ---- */

static unsigned char lower(char ch) { return (unsigned char)(ch >= 'A' && ch <= 'Z' ? ch | 32 : ch); }

/* Whether `text` has `word`, in any case of ASCII letters. */
static bool has(struct ht_slice text, struct ht_slice word) {
    if (!word.n)
        return true;
    for (size_t i = 0; i + word.n <= text.n; i++) {
        size_t n = 0;
        while (n < word.n && lower(text.p[i + n]) == lower(word.p[n]))
            n++;
        if (n == word.n)
            return true;
    }
    return false;
}

static bool lines_have(struct ht_slice lines, struct ht_slice word) {
    const char *colon = memmem(word.p, word.n, ": ", 2);
    struct ht_slice name = ht_slice_of(word.p, colon ? (size_t)(colon - word.p) : 0);
    struct ht_slice value = colon ? ht_slice_of(colon + 2, word.n - name.n - 2) : word;
    struct inspect_field f;
    while (inspect_field_next(NULL, &lines, &f))
        if (colon ? has(f.name, name) && has(f.value, value) : has(f.name, word) || has(f.value, word))
            return true;
    return false;
}

static bool head_has(const struct inspect_exchange *x, struct ht_slice word) {
    return lines_have(inspect_head_fields(&x->request.head), word) ||
           lines_have(ht_buf_slice(&x->request.trailers), word) ||
           lines_have(inspect_head_fields(&x->response.head), word) ||
           lines_have(ht_buf_slice(&x->response.trailers), word);
}

/* 1, 0, or HT_ENOMEM. */
static int body_has(const struct inspect_message *m, struct ht_slice word) {
    struct ht_buf decoded = {0};
    struct ht_slice body;
    int rc = show_body(m, &decoded, &body);
    bool found = rc == HT_OK && has(body, word);
    ht_buf_free(&decoded);
    return rc == HT_OK ? found : rc;
}

static int matches(const struct inspect_exchange *x, const struct inspect_api_params *p) {
    int found = !p->set_header || head_has(x, ht_slice_str(p->header));
    if (found && p->set_body) {
        found = body_has(&x->request, ht_slice_str(p->body));
        if (found == 0)
            found = body_has(&x->response, ht_slice_str(p->body));
    }
    return found;
}

int api_find(void *ctx, const struct inspect_api_request *req, struct inspect_api_response *res) {
    const struct client *c = ctx;
    const struct inspect_store *store = c->s->cfg.store;
    const struct inspect_api_params *p = &req->params;
    if ((!p->set_body && !p->set_header) || (p->set_fields && strcmp(p->fields, "id") != 0))
        return inspect_api_reply_error(res, 400, "give body or header, and fields only as id");
    uint64_t end = ht_now_ms() + SEARCH_MS, first = inspect_store_first(store);
    struct ht_buf ids = {0};
    bool partial = false;
    int rc = HT_OK;
    for (uint64_t id = inspect_store_end(store); rc >= 0 && id-- > first;) {
        const struct inspect_exchange *x = inspect_store_get(store, id);
        if ((partial = ht_now_ms() >= end))
            break;
        rc = x ? matches(x, p) : 0;
        if (rc > 0)
            rc = ht_buf_append(&ids, &id, sizeof id);
    }
    begin_json(res);
    rc = rc < 0 ? rc : ht_buf_append_str(&res->body, "{\"ids\":[");
    size_t n = ht_buf_size(&ids) / sizeof(uint64_t);
    for (size_t i = n; rc == HT_OK && i-- > 0;) {
        uint64_t id;
        memcpy(&id, ht_buf_head(&ids) + i * sizeof id, sizeof id);
        rc = ht_buf_printf(&res->body, "%s\"%llu\"", i + 1 < n ? "," : "", (unsigned long long)id);
    }
    ht_buf_free(&ids);
    return rc == HT_OK ? ht_buf_append_str(&res->body, partial ? "],\"partial\":true}" : "]}") : rc;
}
