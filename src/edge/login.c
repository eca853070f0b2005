#include "edge/login.h"

#include "base/list.h"
#include "base/mem.h"
#include "edge/form.h"
#include "edge/policy_priv.h"
#include "haproxy_gen.h"
#include "web/web.h"

#include <stdio.h>
#include <stdlib.h>

#define CLIENTS 512u
#define HEAD_MOST 32768
#define TARGET_MOST 16384
#define PATIENCE_MS 10000
#define KEEPALIVE_MS 60000
#define WRITE_MS 30000
#define HOST 300
#define EXTRA (EDGE_LOGIN_HEADERS + EDGE_RETURN_MAX + 1024)

struct edge_login {
    struct edge_login_config cfg;
    struct web_server web;
    struct ht_list clients;
    unsigned n_clients;
    char headers[EDGE_LOGIN_HEADERS];
};

/* A connection of HAProxy, and what is known of the present request. */
struct client {
    struct ht_list node;
    struct edge_login *s;
    struct web_conn web;
    char host[HOST], container[EDGE_SCOPE], program[EDGE_SERVICE];
    unsigned index;
    struct io_addr visitor;
    bool has_visitor;
    struct ht_buf body;
    /* Of a password that is being checked: */
    bool waits;
    struct auth_login_wait wait;
    struct edge_policy *policy;
    struct edge_decision d;
    char to[EDGE_RETURN_MAX + 1];
};

static struct client *client_of(struct web_conn *web) { return ht_container_of(web, struct client, web); }

static void wipe(struct ht_buf *b) {
    if (b->data)
        explicit_bzero(b->data, b->cap);
    ht_buf_free(b);
}

static void forget(struct client *c) {
    wipe(&c->body);
    if (c->waits)
        auth_login_cancel(&c->wait);
    c->waits = false;
    edge_policy_destroy(&c->policy);
    explicit_bzero(&c->d, sizeof c->d);
}

/* ---- answers ---- */

/* What an answer is beside its page. */
struct said {
    uint16_t status;
    enum haproxy_verdict verdict; /* for the log, with `why`; why NULL: the gate has said it already */
    const char *why;
    struct ht_slice group;
    unsigned wait_s;        /* Retry-After; 0: none */
    const char *to;         /* Location; NULL: none */
    const char *cookie;     /* a ticket; "": it goes; NULL: it stays */
    unsigned cookie_s;      /* how long it holds */
    const char *allow;      /* the methods that there are; NULL: not said */
    const struct ht_buf *b; /* the page; NULL: none */
};

static bool answer(struct client *c, const struct said *a) {
    char extra[EXTRA];
    size_t n = 0;
#define ADD(...) n += (size_t)snprintf(extra + n, n < sizeof extra ? sizeof extra - n : 0, __VA_ARGS__)
    ADD("%s", c->s->headers);
    if (a->why)
        ADD(HAPROXY_LOGIN_HEADER "%s: %s\r\n" HAPROXY_LOGIN_HEADER "%s: %s\r\n" HAPROXY_LOGIN_HEADER "%s: %.*s\r\n",
            haproxy_answers[HAPROXY_ANSWER_VERDICT], haproxy_verdicts[a->verdict], haproxy_answers[HAPROXY_ANSWER_WHY],
            a->why, haproxy_answers[HAPROXY_ANSWER_GROUP], HT_SLICE_ARG(a->group));
    if (a->status == 401) /* a scheme that no browser asks for by itself */
        ADD("WWW-Authenticate: Session realm=\"%s\"\r\n", c->host);
    if (a->wait_s)
        ADD("Retry-After: %u\r\n", a->wait_s);
    if (a->to)
        ADD("Location: %s\r\n", a->to);
    if (a->cookie)
        ADD("Set-Cookie: " HAPROXY_LOGIN_COOKIE "=%s; Path=/; Secure; HttpOnly; SameSite=Lax; Max-Age=%u\r\n",
            a->cookie, a->cookie_s);
    if (a->allow)
        ADD("Allow: %s\r\n", a->allow);
#undef ADD
    struct web_reply r = {.status = a->status,
                          .type = a->b ? "text/html; charset=utf-8" : NULL,
                          .body = a->b ? ht_buf_slice(a->b) : ht_slice_of("", 0),
                          .extra = extra};
    bool alive = true;
    bool later = c->web.state == WEB_WAIT;
    forget(c);
    if (later)
        web_answer(&c->web, &r);
    else
        alive = web_reply(&c->web, &r);
    explicit_bzero(extra, sizeof extra);
    return alive;
}

static bool close_now(struct client *c) {
    web_conn_close(&c->web);
    return false;
}

static bool show_text(struct client *c, struct said a, const char *title, const char *text) {
    struct ht_buf b = {0};
    a.b = &b;
    bool alive = edge_page_put_text(&b, title, text) == HT_OK ? answer(c, &a) : close_now(c);
    ht_buf_free(&b);
    return alive;
}

static bool show_form(struct client *c, struct said a, struct ht_slice user, struct ht_slice to, const char *said) {
    struct ht_buf b = {0};
    struct edge_page_login p = {
        .host = ht_slice_str(c->host), .user = user, .to = edge_is_return(to) ? to : ht_slice_str("/"), .said = said};
    a.b = &b;
    bool alive = edge_page_put_login(&b, &p) == HT_OK ? answer(c, &a) : close_now(c);
    ht_buf_free(&b);
    return alive;
}

static bool go_to(struct client *c, struct said a, struct ht_slice to) {
    char where[EDGE_RETURN_MAX + 1];
    snprintf(where, sizeof where, "%.*s", HT_SLICE_ARG(to));
    a.status = 303;
    a.to = where;
    return answer(c, &a);
}

/* ---- a password ---- */

static bool logged_in(struct client *c) {
    char ticket[EDGE_TICKET];
    struct edge_login_age age = edge_policy_login_age(c->policy, c->d.group);
    struct edge_ticket_for f = {.container = ht_slice_str(c->container),
                                .group = c->d.group,
                                .policy = edge_policy_serial(c->policy),
                                .max_age_s = age.max_age_s,
                                .idle_s = age.idle_s};
    if (edge_tickets_issue(c->s->cfg.tickets, &f, ticket) < 0)
        return close_now(c);
    char group[POLICY_NAME_MAX + 1];
    snprintf(group, sizeof group, "%.*s", HT_SLICE_ARG(c->d.group));
    struct said a = {.verdict = HAPROXY_VERDICT_ALLOW,
                     .why = "password",
                     .group = ht_slice_str(group),
                     .cookie = ticket,
                     .cookie_s = age.max_age_s};
    bool alive = go_to(c, a, ht_slice_str(c->to));
    explicit_bzero(ticket, sizeof ticket);
    return alive;
}

static bool outcome(struct client *c, enum auth_login_result result, unsigned wait_s) {
    char name[AUTH_USER_MAX + 1], to[EDGE_RETURN_MAX + 1];
    struct said a = {.status = 401, .verdict = HAPROXY_VERDICT_PAGE, .why = "password"};
    const char *text = "The name or the password is wrong.";
    if (result == AUTH_LOGIN_GOOD)
        return logged_in(c);
    if (result == AUTH_LOGIN_SLOW) {
        a = (struct said){.status = 429, .verdict = HAPROXY_VERDICT_SLOW, .why = "slow", .wait_s = wait_s};
        text = "Too many attempts from your address have failed. Wait a little.";
    } else if (result == AUTH_LOGIN_BUSY) {
        a = (struct said){.status = 503, .verdict = HAPROXY_VERDICT_BUSY, .why = "busy", .wait_s = 1};
        text = "Too many are logging in just now. Try again.";
    }
    snprintf(name, sizeof name, "%.*s", HT_SLICE_ARG(c->d.claim.name)); /* c->d is wiped before the page is sent */
    snprintf(to, sizeof to, "%s", c->to);
    return show_form(c, a, ht_slice_str(name), ht_slice_str(to), text);
}

static void on_checked(struct auth_login_wait *w, enum auth_login_result result) {
    struct client *c = ht_container_of(w, struct client, wait);
    c->waits = false;
    outcome(c, result, 0);
}

static void fill_visit(const struct client *c, struct edge_visit *v) {
    *v = (struct edge_visit){.program = ht_slice_str(c->program), .index = c->index};
    edge_policies_also(c->s->cfg.policies, c->policy, ht_slice_str(c->container), v);
}

static bool check(struct client *c, struct ht_slice name, struct ht_slice password) {
    struct said denied = {.status = 403, .verdict = HAPROXY_VERDICT_DENY, .why = "nobody"};
    struct edge_policy *p;
    struct edge_visit v;
    unsigned wait_s = 0;
    if (!edge_policies_find(c->s->cfg.policies, ht_slice_str(c->container), &p))
        return go_to(c, (struct said){.verdict = HAPROXY_VERDICT_ALLOW, .why = "open"}, ht_slice_str(c->to));
    if (!p)
        return show_text(c, denied, "Not for you", "Nobody may visit this just now.");
    c->policy = edge_policy_keep(p);
    fill_visit(c, &v);
    if (!edge_policy_claim(p, &v, name, password, &c->d))
        return show_text(c, denied, "Not for you", "No password opens this.");
    c->d.claim.scope = ht_slice_str(c->container);
    c->wait.done = on_checked;
    enum auth_login_result rc =
        auth_login_check(c->s->cfg.login, &c->d.claim, c->has_visitor ? &c->visitor : NULL, &c->wait, &wait_s);
    if (rc != AUTH_LOGIN_ASKED)
        return outcome(c, rc, wait_s);
    c->waits = true;
    wipe(&c->body);
    return web_later(&c->web);
}

static bool read_form(struct client *c) {
    char name[AUTH_USER_MAX], password[AUTH_PASSWORD_MAX];
    struct edge_form_member m[] = {{.name = "user", .out = name, .cap = sizeof name},
                                   {.name = "password", .out = password, .cap = sizeof password},
                                   {.name = "to", .out = c->to, .cap = sizeof c->to - 1}};
    bool alive;
    edge_form_read(ht_buf_slice(&c->body), m, HT_ARRAY_LEN(m));
    if (!edge_is_return(ht_slice_of(c->to, m[2].n)) || m[2].times != 1)
        m[2].n = (size_t)snprintf(c->to, sizeof c->to, "/");
    c->to[m[2].n] = '\0';
    if (m[0].times != 1 || m[1].times != 1)
        alive = show_text(c, (struct said){.status = 400, .verdict = HAPROXY_VERDICT_DENY, .why = "form"}, "Log in",
                          "This form has not one name and one password.");
    else if (m[0].too_long || m[1].too_long) /* nobody has such a one */
        alive = show_form(c, (struct said){.status = 401, .verdict = HAPROXY_VERDICT_PAGE, .why = "password"},
                          ht_slice_of("", 0), ht_slice_str(c->to), "The name or the password is wrong.");
    else
        alive = check(c, ht_slice_of(name, m[0].n), ht_slice_of(password, m[1].n));
    explicit_bzero(password, sizeof password);
    return alive;
}

/* ---- requests ---- */

static struct ht_slice field(const struct client *c, enum haproxy_arg arg) {
    char name[64];
    snprintf(name, sizeof name, HAPROXY_LOGIN_HEADER "%s", haproxy_args[arg]);
    return web_field(&c->web, name);
}

static bool copy(char *out, size_t cap, struct ht_slice s) {
    snprintf(out, cap, "%.*s", HT_SLICE_ARG(s));
    return s.n > 0 && s.n < cap;
}

/* What HAProxy says of the visitor. False: it has not, so it is somebody else who asks. */
static bool read_head(struct client *c) {
    char number[8], addr[IO_ADDR_TEXT];
    bool good = copy(c->host, sizeof c->host, web_field(&c->web, "x-forwarded-host")) &&
                copy(c->container, sizeof c->container, field(c, HAPROXY_ARG_CONTAINER)) &&
                copy(c->program, sizeof c->program, field(c, HAPROXY_ARG_PROGRAM)) &&
                copy(number, sizeof number, field(c, HAPROXY_ARG_INDEX));
    if (!good)
        return false;
    c->index = (unsigned)strtoul(number, NULL, 10);
    c->has_visitor =
        copy(addr, sizeof addr, web_field(&c->web, "x-forwarded-for")) && io_addr_parse(&c->visitor, addr, 0) == HT_OK;
    return true;
}

static bool is_form(const struct client *c) {
    struct ht_slice type = web_field(&c->web, "content-type");
    static const char form[] = "application/x-www-form-urlencoded";
    size_t n = sizeof form - 1;
    return type.n >= n && ht_slice_case_eq(ht_slice_of(type.p, n), ht_slice_str(form)) &&
           (type.n == n || type.p[n] == ';' || type.p[n] == ' ');
}

static bool is_from_here(const struct client *c) {
    return edge_is_own_form(ht_slice_str(c->host), web_field(&c->web, "origin"), web_field(&c->web, "sec-fetch-site"));
}

static bool refuse_foreign(struct client *c) {
    return show_text(c, (struct said){.status = 403, .verdict = HAPROXY_VERDICT_DENY, .why = "origin"}, "Log in",
                     "This form does not come from a page of this host. Programs log in with Basic.");
}

static bool refuse_method(struct client *c) {
    return show_text(
        c, (struct said){.status = 405, .verdict = HAPROXY_VERDICT_DENY, .why = "method", .allow = "GET, HEAD, POST"},
        "Log in", "There is GET, and POST of a form.");
}

static bool on_login(struct client *c, bool get, bool post, struct ht_slice query) {
    char to[EDGE_RETURN_MAX];
    struct edge_form_member m = {.name = "to", .out = to, .cap = sizeof to};
    if (post && !is_from_here(c))
        return refuse_foreign(c);
    if (post && !is_form(c))
        return show_text(c, (struct said){.status = 415, .verdict = HAPROXY_VERDICT_DENY, .why = "form"}, "Log in",
                         "The body is a form, application/x-www-form-urlencoded.");
    if (post)
        return web_take_body(&c->web, HAPROXY_LOGIN_BODY_MAX);
    if (!get)
        return refuse_method(c);
    edge_form_read(query, &m, 1);
    return show_form(c, (struct said){.status = 200, .verdict = HAPROXY_VERDICT_PAGE, .why = "asked"},
                     ht_slice_of("", 0), ht_slice_of(to, m.n), NULL);
}

static bool on_logout(struct client *c, bool get, bool post) {
    struct ht_buf b = {0};
    struct edge_field cookie = {ht_slice_str("cookie"), web_field(&c->web, "cookie")};
    struct ht_slice ticket;
    if (post && !is_from_here(c))
        return refuse_foreign(c);
    if (post) {
        if (edge_cookie_find(ht_slice_str(HAPROXY_LOGIN_COOKIE), &cookie, 1, &ticket) == 1)
            edge_tickets_end(c->s->cfg.tickets, ticket, ht_slice_str(c->container));
        return go_to(c, (struct said){.verdict = HAPROXY_VERDICT_PAGE, .why = "logout", .cookie = ""},
                     ht_slice_str(HAPROXY_LOGIN_PATH "login"));
    }
    if (!get)
        return refuse_method(c);
    struct said a = {.status = 200, .verdict = HAPROXY_VERDICT_PAGE, .why = "asked", .b = &b};
    bool alive = edge_page_put_logout(&b, ht_slice_str(c->host)) == HT_OK ? answer(c, &a) : close_now(c);
    ht_buf_free(&b);
    return alive;
}

static struct ht_slice query_of(struct ht_slice target, size_t path) {
    return target.n > path ? ht_slice_of(target.p + path + 1, target.n - path - 1) : ht_slice_of("", 0);
}

static bool request(struct web_conn *web) {
    struct client *c = client_of(web);
    static const struct ht_slice own = {HAPROXY_LOGIN_PATH, sizeof HAPROXY_LOGIN_PATH - 1};
    struct ht_slice method = http_text(web_bytes(web), web->head.method),
                    target = http_text(web_bytes(web), web->head.path);
    struct ht_slice path = web_path(web);
    bool get = ht_slice_is(method, "GET") || ht_slice_is(method, "HEAD"), post = ht_slice_is(method, "POST");
    forget(c);
    if (!read_head(c))
        return show_text(c, (struct said){.status = 404}, "Not found", "This is for the edge's HAProxy alone.");
    if (path.n < own.n || memcmp(path.p, own.p, own.n) != 0) /* somewhere else, where the gate wants a login */
        return show_form(c, (struct said){.status = 401}, ht_slice_of("", 0), target, NULL);
    struct ht_slice page = ht_slice_of(path.p + own.n, path.n - own.n);
    if (ht_slice_is(page, "login"))
        return on_login(c, get, post, query_of(target, path.n));
    if (ht_slice_is(page, "logout"))
        return on_logout(c, get, post);
    return show_text(c, (struct said){.status = 404, .verdict = HAPROXY_VERDICT_DENY, .why = "page"}, "Not found",
                     "There is " HAPROXY_LOGIN_PATH "login and " HAPROXY_LOGIN_PATH "logout.");
}

static bool body(struct web_conn *web, struct ht_slice piece, bool last) {
    struct client *c = client_of(web);
    if (ht_buf_append(&c->body, piece.p, piece.n) < 0)
        return close_now(c);
    return last ? read_form(c) : true;
}

static bool refuse(struct web_conn *web, uint16_t status, const char *text) {
    return show_text(client_of(web), (struct said){.status = status, .verdict = HAPROXY_VERDICT_DENY, .why = "form"},
                     "Log in", text);
}

static void gone(struct web_conn *web) {
    struct client *c = client_of(web);
    forget(c);
    ht_list_remove(&c->node);
    c->s->n_clients--;
    ht_free(c);
}

static const struct web_server_ops web_ops = {.request = request, .body = body, .refuse = refuse, .gone = gone};

/* ---- beginning and end ---- */

void edge_login_accept(struct edge_login *s, struct io_conn *conn) {
    struct client *c = s->n_clients < CLIENTS ? ht_calloc(1, sizeof *c) : NULL;
    if (!c) {
        io_conn_close(&conn);
        return;
    }
    c->s = s;
    ht_list_init(&c->wait.node);
    ht_list_push_back(&s->clients, &c->node);
    s->n_clients++;
    web_conn_begin(&c->web, s->cfg.loop, &s->web, conn);
}

struct edge_login *edge_login_create(const struct edge_login_config *cfg) {
    struct edge_login *s = ht_calloc(1, sizeof *s);
    if (!s)
        return NULL;
    s->cfg = *cfg;
    s->web = (struct web_server){
        .ops = &web_ops,
        .limits = {.max_head = HEAD_MOST, .max_headers = HTTP_MAX_HEADERS, .max_target = TARGET_MOST},
        .head_timeout_ms = PATIENCE_MS,
        .body_timeout_ms = PATIENCE_MS,
        .keepalive_timeout_ms = KEEPALIVE_MS,
        .write_timeout_ms = WRITE_MS,
    };
    ht_list_init(&s->clients);
    if (!edge_page_headers(s->headers))
        edge_login_destroy(&s);
    return s;
}

void edge_login_destroy(struct edge_login **sp) {
    struct edge_login *s = *sp;
    *sp = NULL;
    if (!s)
        return;
    HT_LIST_FOR_SAFE (it, &s->clients)
        web_conn_close(&HT_LIST_ENTRY(it, struct client, node)->web);
    ht_free(s);
}
