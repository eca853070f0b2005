#include "gate/gate.h"

#include "audit_gen.h"
#include "auth/login.h"
#include "base/mem.h"
#include "gate/forwarded.h"
#include "gate/pages.h"
#include "gate/rules.h"
#include "gate/visitor.h"
#include "http/http.h"
#include "relay/held.h"
#include "relay/reply.h"

#include <stdio.h>

#define URLS_MAX 8 /* of the service, that are remembered */

/* The answers that the gate gives itself (spec/audit.yaml). */
enum visit {
#define X(name, word, status, text) VISIT_##name,
    VISIT_ANSWERS(X)
#undef X
};

static const struct visit_answer {
    const char *code, *text;
    uint16_t status;
} answers[] = {
#define X(name, word, status, text) [VISIT_##name] = {word, text, status},
    VISIT_ANSWERS(X)
#undef X
};

struct gate {
    struct gate_config cfg;
    char *authority, *host; /* host: the new Host; NULL: the visitor's stays */
    bool sets;              /* forwarded fields are set */
    struct gate_rules request, answer;
    struct gate_nets allow, deny, edges;
    char *passwords; /* the file */
    struct auth_login *login;
    char **page_texts; /* as in gate_options.pages */
    size_t n_pages;
    struct gate_pages pages;
    char urls[URLS_MAX][300];
    size_t n_urls;
    struct ht_list waiting; /* struct waiting */
    struct ht_list replies;
    /* scratch space of one callback */
    struct ht_buf text, note, location;
    struct wire_header fields[HTTP_MAX_HEADERS + GATE_FORWARDED_FIELDS + GATE_RULES_MAX];
};

/* A request whose login is being checked. */
struct waiting {
    struct ht_list node;
    struct gate *g;
    struct relay_target *to;
    struct relay_held *held;
    struct auth_login_wait login;
    enum auth_login_result result;
};

/* ---- making one ---- */

bool gate_wanted(const struct gate_options *o) {
    return (o->host_header && strcmp(o->host_header, "preserve") != 0) || o->forwarded == GATE_FORWARDED_SET ||
           o->n_request_headers || o->n_response_headers || o->n_allow || o->n_deny || o->passwords || o->n_pages;
}

static char *copy(const char *s) { return ht_strndup(s, strlen(s)); }

/* A host with or without a port, as Host has it. */
static bool is_host_field(const char *s) {
    size_t n = strlen(s);
    for (size_t i = 0; i < n; i++)
        if ((unsigned char)s[i] <= ' ' || (unsigned char)s[i] >= 0x7f || strchr("/?#@\"\\,;<>", s[i]))
            return false;
    return n > 0 && n < 256 && s[0] != ':';
}

static int set_host(struct gate *g, const struct gate_options *o, struct ht_errmsg *err) {
    const char *h = o->host_header;
    bool preserve = !h || strcmp(h, "preserve") == 0;
    g->sets = o->forwarded == GATE_FORWARDED_SET || (!preserve && o->forwarded == GATE_FORWARDED_AUTO);
    if (preserve)
        return HT_OK;
    h = strcmp(h, "rewrite") == 0 ? g->authority : h;
    if (!is_host_field(h))
        return ht_fail(err, HT_EINVAL,
                       "\"%.80s\" is no Host; write preserve, rewrite, or a host as in app.example:8080", h);
    return (g->host = copy(h)) ? HT_OK : ht_fail(err, HT_ENOMEM, "%s", ht_err_text(HT_ENOMEM));
}

static int set_login(struct gate *g, const char *file, struct ht_errmsg *err) {
    struct auth_passwords p = {.n = 0};
    if (!file)
        return HT_OK;
    int rc = auth_passwords_load(&p, file, err);
    g->passwords = copy(file);
    if (rc == HT_OK && (!g->passwords || !(g->login = auth_login_create(g->cfg.loop, &p))))
        rc = ht_fail(err, HT_ENOMEM, "%s", ht_err_text(HT_ENOMEM));
    auth_passwords_free(&p);
    return rc;
}

static int set_pages(struct gate *g, const struct gate_options *o, struct ht_errmsg *err) {
    int rc = gate_pages_load(&g->pages, o->pages, o->n_pages, err);
    if (rc < 0)
        return rc;
    g->page_texts = ht_calloc(o->n_pages ? o->n_pages : 1, sizeof *g->page_texts);
    for (; g->page_texts && g->n_pages < o->n_pages; g->n_pages++)
        if (!(g->page_texts[g->n_pages] = copy(o->pages[g->n_pages])))
            break;
    return g->n_pages == o->n_pages && g->page_texts ? HT_OK : ht_fail(err, HT_ENOMEM, "%s", ht_err_text(HT_ENOMEM));
}

static int set_all(struct gate *g, struct ht_errmsg *err) {
    const struct gate_options *o = &g->cfg.options;
    int rc = set_host(g, o, err);
    if (rc == HT_OK)
        rc = gate_rules_parse(&g->request, o->request_headers, o->n_request_headers, true, err);
    if (rc == HT_OK)
        rc = gate_rules_parse(&g->answer, o->response_headers, o->n_response_headers, false, err);
    if (rc == HT_OK)
        rc = gate_nets_parse(&g->allow, o->allow, o->n_allow, err);
    if (rc == HT_OK)
        rc = gate_nets_parse(&g->deny, o->deny, o->n_deny, err);
    if (rc == HT_OK)
        rc = gate_nets_parse(&g->edges, o->edges, o->n_edges, err);
    if (rc == HT_OK)
        rc = set_login(g, o->passwords, err);
    return rc == HT_OK ? set_pages(g, o, err) : rc;
}

struct gate *gate_create(const struct gate_config *cfg, int *rc, struct ht_errmsg *err) {
    struct gate *g = ht_calloc(1, sizeof *g);
    *rc = HT_ENOMEM;
    if (!g || !(g->authority = copy(cfg->authority))) {
        ht_free(g);
        ht_fail(err, HT_ENOMEM, "%s", ht_err_text(HT_ENOMEM));
        return NULL;
    }
    g->cfg = *cfg;
    ht_list_init(&g->waiting);
    ht_list_init(&g->replies);
    *rc = set_all(g, err);
    bool keeps = g->cfg.options.keep_credentials;
    g->cfg.options = (struct gate_options){.keep_credentials = keeps}; /* what it pointed to belongs to the caller */
    if (*rc < 0)
        gate_destroy(&g);
    return g;
}

static void waiting_free(struct waiting *w) {
    ht_list_remove(&w->node);
    ht_free(w);
}

void gate_destroy(struct gate **gp) {
    struct gate *g = *gp;
    *gp = NULL;
    if (!g)
        return;
    while (!ht_list_empty(&g->waiting)) {
        struct waiting *w = HT_LIST_ENTRY(g->waiting.next, struct waiting, node);
        auth_login_cancel(&w->login);
        relay_held_cut(&w->held, WIRE_CODE_CANCEL, "the tunnel is closing");
        waiting_free(w);
    }
    relay_replies_drop(&g->replies);
    auth_login_destroy(&g->login);
    gate_pages_free(&g->pages);
    gate_rules_free(&g->request);
    gate_rules_free(&g->answer);
    gate_nets_free(&g->allow);
    gate_nets_free(&g->deny);
    gate_nets_free(&g->edges);
    for (size_t i = 0; i < g->n_pages; i++)
        ht_free(g->page_texts[i]);
    ht_free(g->page_texts);
    ht_free(g->passwords);
    ht_free(g->authority);
    ht_free(g->host);
    ht_buf_free(&g->text);
    ht_buf_free(&g->note);
    ht_buf_free(&g->location);
    ht_free(g);
}

static void reload_login(struct gate *g) {
    struct auth_passwords p;
    struct ht_errmsg err;
    if (auth_passwords_load(&p, g->passwords, &err) == HT_OK) {
        auth_login_set(g->login, &p);
        return;
    }
    auth_passwords_free(&p);
    g->cfg.trouble(g->cfg.ctx, err.text);
}

static void reload_pages(struct gate *g) {
    struct gate_pages pages;
    struct ht_errmsg err;
    if (gate_pages_load(&pages, (const char *const *)g->page_texts, g->n_pages, &err) == HT_OK) {
        gate_pages_free(&g->pages);
        g->pages = pages;
        return;
    }
    gate_pages_free(&pages);
    g->cfg.trouble(g->cfg.ctx, err.text);
}

void gate_reload(struct gate *g) {
    if (g->login)
        reload_login(g);
    if (g->n_pages)
        reload_pages(g);
}

void gate_set_urls(struct gate *g, const char *const *urls, size_t n) {
    for (g->n_urls = 0; g->n_urls < ht_min(n, URLS_MAX); g->n_urls++) {
        const char *url = urls[g->n_urls], *host = strstr(url, "://");
        size_t len = host ? (size_t)(host + 3 - url) + strcspn(host + 3, "/?#") : strlen(url);
        snprintf(g->urls[g->n_urls], sizeof g->urls[0], "%.*s", (int)ht_min(len, sizeof g->urls[0] - 1), url);
    }
}

/* ---- what a request says ---- */

static const struct wire_header *find(const struct wire_stream_open *open, const char *name) {
    for (size_t i = 0; i < open->n_headers; i++)
        if (ht_slice_case_eq(open->headers[i].name, ht_slice_str(name)))
            return &open->headers[i];
    return NULL;
}

static enum relay_form form_of(const struct wire_stream_open *open) {
    const struct wire_header *accept = find(open, "accept");
    return accept ? relay_form_of(accept->value) : RELAY_TEXT;
}

/* What a trusted edge says of the scheme, or else the URL of the service that has this host. */
static bool uses_https(const struct gate *g, const struct gate_visitor *v, const struct wire_stream_open *open,
                       struct ht_slice visited) {
    const struct wire_header *proto = v->edge ? find(open, "x-forwarded-proto") : NULL;
    if (proto)
        return ht_slice_case_eq(proto->value, ht_slice_str("https"));
    for (size_t i = 0; i < g->n_urls; i++) {
        const char *host = strstr(g->urls[i], "://");
        if (host && ht_slice_case_eq(ht_slice_str(host + 3), visited))
            return strncmp(g->urls[i], "https:", 6) == 0;
    }
    return false;
}

/* ---- answers ---- */

static void report(const struct gate *g, const struct wire_stream_open *open, uint32_t id, uint16_t status,
                   const char *error) {
    struct relay_request_info info = {.method = open->method,
                                      .target = open->target,
                                      .peer_addr = open->peer_addr,
                                      .stream_id = id,
                                      .status = status,
                                      .answered = true,
                                      .error = error};
    if (g->cfg.finished)
        g->cfg.finished(g->cfg.ctx, &info);
}

/* Writes the body: the user's page, or else ours. Returns its type, or NULL: out of memory. */
static const char *put_body(struct gate *g, enum relay_form form, uint16_t status, const char *code, const char *text) {
    const struct gate_page *page = gate_pages_find(&g->pages, status, form);
    g->text.off = g->text.len = 0;
    int rc = page ? gate_page_put(page, &g->text, status, code, text) : HT_ESPACE;
    if (rc == HT_ESPACE) {
        g->text.off = g->text.len = 0;
        rc = relay_form_body(&g->text, form, status, code, text);
    }
    return rc == HT_OK ? relay_form_type(form) : NULL;
}

struct answer {
    uint16_t status;
    const char *code, *text;
    unsigned retry_after;
    bool login, head;
    enum relay_form form;
};

static void answer(struct gate *g, struct mux_stream *st, const struct answer *a) {
    char error[80], later[16];
    const char *type = put_body(g, a->form, a->status, a->code, a->text);
    if (!type) {
        mux_stream_reset(st, WIRE_CODE_INTERNAL_ERROR, ht_err_text(HT_ENOMEM));
        mux_stream_release(&st);
        return;
    }
    snprintf(error, sizeof error, "error=%s", a->code);
    snprintf(later, sizeof later, "%u", a->retry_after);
    struct wire_header h[RELAY_REPLY_FIELDS] = {
        {ht_slice_str("content-type"), ht_slice_str(type)},
        {ht_slice_str("cache-control"), ht_slice_str("no-store")},
        {ht_slice_str("x-hoody-tunnel"), ht_slice_str(error)},
    };
    size_t n = 3;
    if (a->retry_after)
        h[n++] = (struct wire_header){ht_slice_str("retry-after"), ht_slice_str(later)};
    if (a->login) /* RFC 7617 2.1 */
        h[n++] = (struct wire_header){ht_slice_str("www-authenticate"),
                                      ht_slice_str("Basic realm=\"This service\", charset=\"UTF-8\"")};
    relay_reply(&g->replies, st,
                &(struct relay_reply){.status = a->status,
                                      .fields = h,
                                      .n_fields = n,
                                      .body = ht_slice_of(ht_buf_head(&g->text), ht_buf_size(&g->text)),
                                      .head = a->head});
}

static void refuse(struct gate *g, struct mux_stream *st, const struct wire_stream_open *open, enum visit why,
                   unsigned retry_after, const char *error) {
    const struct visit_answer *v = &answers[why];
    uint32_t id = mux_stream_id(st);
    answer(g, st,
           &(struct answer){.status = v->status,
                            .code = v->code,
                            .text = v->text,
                            .retry_after = retry_after,
                            .login = why == VISIT_LOGIN,
                            .head = ht_slice_is(open->method, "HEAD"),
                            .form = form_of(open)});
    report(g, open, id, v->status, error);
}

/* ---- let in ---- */

/* What its answer needs of a request: the form of an error, and where the visitor is. */
static struct ht_slice make_note(struct gate *g, const struct gate_forward *f, enum relay_form form) {
    g->note.off = g->note.len = 0;
    const char *scheme = !*f->visited ? "" : f->https ? "https://" : "http://";
    if (ht_buf_printf(&g->note, "%c%s%s", 'a' + (int)form, scheme, f->visited) < 0)
        return ht_slice_of(NULL, 0);
    return ht_buf_slice(&g->note);
}

/* Drops the credentials that were for us. */
static size_t without_login(const struct gate *g, struct wire_header *fields, size_t n) {
    size_t to = 0;
    for (size_t i = 0; i < n; i++)
        if (!g->login || g->cfg.options.keep_credentials ||
            !ht_slice_case_eq(fields[i].name, ht_slice_str("authorization")))
            fields[to++] = fields[i];
    return to;
}

/* HTTP/2 behind an upgrade would be a way past every rule for heads: the service never hears of it (RFC 9110 7.8). */
static bool is_upgrade(const struct gate *g, const struct wire_stream_open *open) {
    bool rules = g->sets || g->host || g->request.n || g->answer.n;
    for (size_t i = 0; open->is_upgrade && rules && i < open->n_headers; i++) {
        struct ht_slice rest = open->headers[i].value, item;
        while (ht_slice_case_eq(open->headers[i].name, ht_slice_str("upgrade")) && http_list_next(&rest, &item))
            if (ht_slice_case_eq(item, ht_slice_str("h2c")))
                return false;
    }
    return open->is_upgrade;
}

static void let_in(struct gate *g, struct relay_target *to, struct mux_stream *st,
                   const struct wire_stream_open *open) {
    struct gate_visitor v;
    char visited[300] = "";
    const struct wire_header *host = find(open, "host");
    if (host && host->value.n < sizeof visited)
        snprintf(visited, sizeof visited, "%.*s", HT_SLICE_ARG(host->value));
    gate_visitor_read(&v, open, &g->edges);
    struct gate_forward f = {.host = g->host,
                             .set = g->sets,
                             .secure = g->cfg.secure,
                             .visited = visited,
                             .https = uses_https(g, &v, open, ht_slice_str(visited))};
    struct wire_stream_open with = *open;
    ssize_t n = gate_forwarded_put(&f, &v, open, &g->text, g->fields, HT_ARRAY_LEN(g->fields));
    if (n >= 0)
        n = gate_rules_apply(&g->request, g->fields, without_login(g, g->fields, (size_t)n), HT_ARRAY_LEN(g->fields));
    if (n < 0) {
        mux_stream_reset(st, WIRE_CODE_INTERNAL_ERROR, ht_err_text((int)n));
        mux_stream_release(&st);
        return;
    }
    with.headers = g->fields;
    with.n_headers = (size_t)n;
    with.is_upgrade = is_upgrade(g, open);
    relay_target_serve_noted(to, st, &with, make_note(g, &f, form_of(open)));
}

static void decided(struct gate *g, struct relay_target *to, struct mux_stream *st, const struct wire_stream_open *open,
                    enum auth_login_result result, unsigned wait_s) {
    switch (result) {
    case AUTH_LOGIN_GOOD:
        let_in(g, to, st, open);
        break;
    case AUTH_LOGIN_SLOW:
        refuse(g, st, open, VISIT_SLOW, wait_s, answers[VISIT_SLOW].text);
        break;
    case AUTH_LOGIN_BUSY:
        refuse(g, st, open, VISIT_BUSY, 1, answers[VISIT_BUSY].text);
        break;
    default:
        refuse(g, st, open, VISIT_LOGIN, 0, NULL);
        break;
    }
}

/* ---- waiting for a login ---- */

static void left(void *ctx) {
    struct waiting *w = ctx;
    auth_login_cancel(&w->login);
    waiting_free(w);
}

static void take(void *ctx, struct mux_stream *st, const struct wire_stream_open *open) {
    struct waiting *w = ctx;
    decided(w->g, w->to, st, open, w->result, 0);
}

static void checked(struct auth_login_wait *login, enum auth_login_result result) {
    struct waiting *w = ht_container_of(login, struct waiting, login);
    w->result = result;
    ht_list_remove(&w->node);
    ht_list_init(&w->node);
    relay_held_go(&w->held, take, w);
    waiting_free(w);
}

static void hold(struct waiting *w, struct gate *g, struct relay_target *to, struct mux_stream *st,
                 const struct wire_stream_open *open) {
    w->g = g;
    w->to = to;
    ht_list_push_back(&g->waiting, &w->node);
    w->held = relay_held_start(st, open, left, w);
    if (!w->held) {
        auth_login_cancel(&w->login);
        waiting_free(w);
    }
}

static void ask_login(struct gate *g, struct relay_target *to, struct mux_stream *st,
                      const struct wire_stream_open *open, const struct gate_visitor *v) {
    const struct wire_header *h = find(open, "authorization");
    struct waiting *w = h ? ht_calloc(1, sizeof *w) : NULL;
    unsigned wait_s = 0;
    if (h && !w) {
        refuse(g, st, open, VISIT_BUSY, 1, ht_err_text(HT_ENOMEM));
        return;
    }
    enum auth_login_result result = AUTH_LOGIN_BAD;
    if (w) {
        w->login.done = checked;
        ht_list_init(&w->node);
        ht_list_init(&w->login.node);
        result = auth_login_ask(g->login, h->value, v->known ? &v->addr : NULL, &w->login, &wait_s);
    }
    if (result == AUTH_LOGIN_ASKED) {
        hold(w, g, to, st, open);
        return;
    }
    ht_free(w);
    decided(g, to, st, open, result, wait_s);
}

void gate_serve(struct gate *g, struct relay_target *to, struct mux_stream *st, const struct wire_stream_open *open) {
    struct gate_visitor v;
    gate_visitor_read(&v, open, &g->edges);
    bool lists = g->allow.n || g->deny.n;
    if (lists &&
        (!v.known || gate_nets_have(&g->deny, &v.addr) || (g->allow.n && !gate_nets_have(&g->allow, &v.addr)))) {
        char text[IO_ADDR_TEXT], error[IO_ADDR_TEXT + 80];
        snprintf(error, sizeof error, "visitors from %s are not let in",
                 v.known ? io_addr_host(&v.addr, text) : "an unknown address");
        refuse(g, st, open, VISIT_DENIED, 0, error);
        return;
    }
    if (g->login)
        ask_login(g, to, st, open, &v);
    else
        let_in(g, to, st, open);
}

/* ---- the service's answers ---- */

/* A redirect to the service by the Host that it was told leads the visitor to where he is. */
static void lead_back(struct gate *g, struct ht_slice note, struct wire_header *location) {
    struct ht_slice value = location->value, base = ht_slice_of(note.p + 1, note.n - 1);
    size_t host = strlen(g->host);
    for (unsigned tls = 0; tls < 2; tls++) {
        const char *scheme = tls ? "https://" : "http://";
        size_t at = strlen(scheme), end = at + host;
        if (value.n < end || !ht_slice_case_eq(ht_slice_of(value.p, at), ht_slice_of(scheme, at)) ||
            !ht_slice_case_eq(ht_slice_of(value.p + at, host), ht_slice_of(g->host, host)) ||
            (value.n > end && !memchr("/?#", value.p[end], 3)))
            continue;
        g->location.off = g->location.len = 0;
        if (ht_buf_append(&g->location, base.p, base.n) == HT_OK &&
            ht_buf_append(&g->location, value.p + end, value.n - end) == HT_OK)
            location->value = ht_buf_slice(&g->location);
        return;
    }
}

size_t gate_answers(struct gate *g, struct ht_slice note, uint16_t status, struct wire_header *fields, size_t n,
                    size_t cap) {
    for (size_t i = 0; g->host && note.n > 1 && i < n; i++)
        if (ht_slice_case_eq(fields[i].name, ht_slice_str("location")))
            lead_back(g, note, &fields[i]);
    ssize_t with = status >= 200 ? gate_rules_apply(&g->answer, fields, n, cap) : (ssize_t)n;
    if (with < 0) {
        g->cfg.trouble(g->cfg.ctx, "an answer has too many header fields for those of --response-header");
        return n;
    }
    return (size_t)with;
}

bool gate_fails(struct gate *g, struct mux_stream *st, const struct relay_failure *f) {
    enum relay_form form = f->note.n ? (enum relay_form)(f->note.p[0] - 'a') : RELAY_TEXT;
    if (!gate_pages_find(&g->pages, f->status, form))
        return false;
    answer(g, st,
           &(struct answer){.status = f->status, .code = f->code, .text = f->text, .head = f->head, .form = form});
    return true;
}

unsigned gate_waiting(const struct gate *g) {
    unsigned n = 0;
    HT_LIST_FOR (it, &g->waiting)
        n++;
    return n;
}
