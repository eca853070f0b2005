/* The page to log in, as HAProxy hands it requests: at each split, cut, with every allocation failing; and tickets. */
#include "edge/login.h"

#include "edge/gate.h"
#include "edge/policy.h"
#include "haproxy_gen.h"
#include "io/net_support.h"

#include "support/clock_still.h"

#include <crypt.h>

#define P "67e89abc123def456789abcd"
#define C "890abcdef12345678901cdef"
#define D "0123456789abcdef01234567"
#define HOST "a.example"

static struct edge_maps *maps;
static struct edge_policies *policies;
static struct edge_gate *gate;
static struct edge_hooktable *hooks;
static struct edge_login *login;
static struct io_conn *end;
static struct ht_buf got;
static bool closed;
static char folder[64], team[600];

static void readable(void *ctx) {
    uint8_t *to = ht_buf_reserve(&got, 4096);
    (void)ctx;
    ssize_t n = to ? io_conn_read(end, to, 4096) : HT_EAGAIN;
    if (n > 0)
        ht_buf_commit(&got, (size_t)n);
    else if (n != HT_EAGAIN)
        io_conn_read_on(end, !(closed = true));
}

static void open_conn(void) {
    static const struct io_conn_ops ops = {.readable = readable};
    struct io_conn *both[2];
    CU_ASSERT_EQUAL_FATAL(io_conn_pair(loop, both), 0);
    end = both[0];
    closed = false;
    io_conn_set_ops(end, &ops, NULL);
    io_conn_read_on(end, true);
    edge_login_accept(login, both[1]);
}

static void close_conn(void) {
    io_conn_close(&end);
    turns(3);
    ht_buf_free(&got);
}

static void set(const char *id, const char *doc) {
    struct ht_errmsg e = {""};
    int rc = edge_policies_set(policies, EDGE_OF_CONTAINER, id, ht_slice_str(doc), &e);
    if (rc < 0)
        printf("# %s\n", e.text);
    CU_ASSERT_EQUAL(rc, 0);
}

static void begin(void) {
    struct ht_errmsg err;
    struct crypt_data data = {.initialized = 0};
    snprintf(folder, sizeof folder, "/tmp/ht-edge-XXXXXX");
    CU_ASSERT_PTR_NOT_NULL_FATAL(mkdtemp(folder));
    CU_ASSERT_EQUAL_FATAL(edge_folder_make(folder, &err), HT_OK);
    maps = edge_maps_create(loop, folder, NULL);
    policies = edge_policies_create(maps);
    hooks = edge_hooktable_create(maps);
    gate = edge_gate_create(loop, policies, hooks);
    CU_ASSERT_FATAL(maps && policies && hooks && gate);
    edge_maps_hold(maps);
    login = edge_login_create(&(struct edge_login_config){
        .loop = loop, .policies = policies, .login = edge_gate_logins(gate), .tickets = edge_gate_tickets(gate)});
    CU_ASSERT_PTR_NOT_NULL_FATAL(login);
    snprintf(team, sizeof team,
             "{\"groups\":{\"team\":{\"type\":\"password\",\"username\":\"ann\",\"password\":\"%s\",\"max_age\":600,"
             "\"idle\":120}},\"permissions\":{\"team\":{\"terminal\":true}}}",
             crypt_r("sesame", "$5$salt$", &data));
    set(C, team);
}

static void finish(void) {
    char line[128];
    edge_login_destroy(&login);
    edge_gate_destroy(&gate);
    edge_hooktable_destroy(&hooks);
    edge_policies_destroy(&policies);
    edge_maps_destroy(&maps);
    snprintf(line, sizeof line, "rm -r %s", folder);
    CU_ASSERT_EQUAL(system(line), 0);
}

#define HEAD(container, program)                                                                                       \
    "x-forwarded-host: " HOST "\r\nx-forwarded-for: 203.0.113.7\r\nx-hoody-gate-container: " container                 \
    "\r\nx-hoody-gate-program: " program "\r\nx-hoody-gate-index: 1\r\n"
#define KNOWN HEAD(P "-" C, "terminal")
#define OWN "origin: https://" HOST "\r\ncontent-type: application/x-www-form-urlencoded\r\n"

static void say(const char *text, size_t n) {
    struct iovec v = {(void *)(uintptr_t)text, n};
    CU_ASSERT_EQUAL(io_conn_write(end, &v, 1), (ssize_t)n);
}

/* Waits for a whole answer, and takes it; "": the connection has ended before. */
static const char *answer(void) {
    static char text[16384];
    uint64_t until = ht_now_ms() + PATIENCE_MS;
    text[0] = '\0';
    while (ht_now_ms() < until) {
        struct ht_slice s = ht_buf_slice(&got);
        const char *body = s.n ? memmem(s.p, s.n, "\r\n\r\n", 4) : NULL;
        const char *length = body ? memmem(s.p, s.n, "content-length: ", 16) : NULL;
        size_t n = body ? (size_t)(body + 4 - s.p) + (length && length < body ? strtoul(length + 16, NULL, 10) : 0) : 1;
        if (body && s.n >= n && n < sizeof text) {
            memcpy(text, s.p, n);
            text[n] = '\0';
            ht_buf_consume(&got, n);
            break;
        }
        if (closed)
            break;
        turns(1);
    }
    return text;
}

static char asked[12000];

/* A request as HAProxy would write it; the answer. */
static const char *ask(const char *line, const char *fields, const char *body) {
    int n = body ? snprintf(asked, sizeof asked, "%s HTTP/1.1\r\nHost: " HOST "\r\n%sContent-Length: %zu\r\n\r\n%s",
                            line, fields, strlen(body), body)
                 : snprintf(asked, sizeof asked, "%s HTTP/1.1\r\nHost: " HOST "\r\n%s\r\n", line, fields);
    say(asked, (size_t)n);
    return answer();
}

static bool says(const char *text, const char *status, const char *what) {
    bool ok = strncmp(text, "HTTP/1.1 ", 9) == 0 && strncmp(text + 9, status, 3) == 0 && strstr(text, what);
    if (!ok)
        printf("# %s %s: %.400s\n", status, what, text);
    return ok;
}

/* The ticket of an answer. */
static struct ht_slice ticket_in(const char *text) {
    const char *at = strstr(text, HAPROXY_LOGIN_COOKIE "=");
    return at ? ht_slice_of(at + sizeof HAPROXY_LOGIN_COOKIE, EDGE_TICKET - 1) : ht_slice_of("", 0);
}

static uint64_t serial_of(const char *container) {
    struct edge_policy *p = NULL;
    return edge_policies_find(policies, ht_slice_str(container), &p) && p ? edge_policy_serial(p) : 0;
}

static bool is_good(struct ht_slice ticket, const char *container) {
    struct ht_slice group = {"", 0};
    return edge_tickets_use(edge_gate_tickets(gate), ticket, ht_slice_str(container), serial_of(container), &group) &&
           ht_slice_is(group, "team");
}

static void pages(void) {
    begin();
    open_conn();
    /* Where the gate wants a login. */
    const char *text = ask("GET /a?b=\"<x>", KNOWN, NULL);
    CU_ASSERT(says(text, "401", "name=\"to\" value=\"/a?b=&quot;&lt;x&gt;\"") &&
              strstr(text, "WWW-Authenticate: Session") && !strstr(text, HAPROXY_LOGIN_HEADER "why"));
    CU_ASSERT(says(ask("GET //evil.example/", KNOWN, NULL), "401", "name=\"to\" value=\"/\""));
    CU_ASSERT(says(ask("GET " HAPROXY_LOGIN_PATH "login?x=1&to=%2Fa", KNOWN, NULL), "200", "name=\"to\" value=\"/a\""));
    CU_ASSERT(says(ask("GET " HAPROXY_LOGIN_PATH "login", KNOWN, NULL), "200", "name=\"to\" value=\"/\""));
    CU_ASSERT(says(ask("GET " HAPROXY_LOGIN_PATH "logout", KNOWN, NULL), "200", "Log out"));
    CU_ASSERT(says(ask("GET " HAPROXY_LOGIN_PATH, KNOWN, NULL), "404", "Not found"));
    CU_ASSERT(says(ask("GET " HAPROXY_LOGIN_PATH "login/x", KNOWN, NULL), "404", "Not found"));
    CU_ASSERT(says(ask("DELETE " HAPROXY_LOGIN_PATH "login", KNOWN, NULL), "405", "Allow: GET, HEAD, POST"));
    /* Whoever asks is no HAProxy of the edge. */
    CU_ASSERT(says(ask("GET /", "", NULL), "404", "alone"));
    CU_ASSERT(says(ask("GET /", HEAD("", "terminal"), NULL), "404", "alone"));
    CU_ASSERT(says(ask("GET /", HEAD(P "-" C "0123456789", "terminal"), NULL), "404", "alone"));
    close_conn();
    finish();
}

static void logins(void) {
    char cookie[128], fields[700];
    begin();
    open_conn();
    const char *text = ask("POST " HAPROXY_LOGIN_PATH "login", KNOWN OWN, "user=ann&password=sesame&to=%2Fa%3Fb");
    CU_ASSERT(says(text, "303", "Location: /a?b\r\n") && strstr(text, "x-hoody-gate-verdict: allow\r\n") &&
              strstr(text, "x-hoody-gate-group: team\r\n") &&
              strstr(text, "; Path=/; Secure; HttpOnly; SameSite=Lax; Max-Age=600\r\n"));
    struct ht_slice t = ticket_in(text);
    snprintf(cookie, sizeof cookie, "%.*s", HT_SLICE_ARG(t));
    t = ht_slice_str(cookie);
    CU_ASSERT(t.n == EDGE_TICKET - 1 && is_good(t, P "-" C));
    CU_ASSERT_FALSE(is_good(t, P "-" D));
    CU_ASSERT_TRUE(is_good(t, P "-" C));
    /* The gate knows it, and the request's own group is what it is good for. */
    struct edge_policy *p = NULL;
    struct edge_decision d;
    CU_ASSERT(edge_policies_find(policies, ht_slice_str(P "-" C), &p) && p);
    snprintf(fields, sizeof fields, "cookie: a=b; " HAPROXY_LOGIN_COOKIE "=%s\r\n", cookie);
    struct edge_visit v = {
        .program = ht_slice_str("terminal"), .index = 1, .target = ht_slice_str("/"), .heads = ht_slice_str(fields)};
    struct ht_slice shown;
    CU_ASSERT(edge_policy_ticket(p, &v, &shown) && ht_slice_eq(shown, t));
    v.login = ht_slice_str("team");
    edge_policy_decide(p, &v, 0, &d);
    CU_ASSERT(d.verdict == EDGE_ALLOW && strcmp(d.why, "page") == 0);
    v.login = ht_slice_str("tea");
    edge_policy_decide(p, &v, 0, &d);
    CU_ASSERT_EQUAL(d.verdict, EDGE_LOGIN);
    /* The same permissions once more: nothing changes. Others, and then the first again: it is over. */
    set(C, team);
    CU_ASSERT_TRUE(is_good(t, P "-" C));
    set(C, "{}");
    set(C, team);
    CU_ASSERT_FALSE(is_good(t, P "-" C));
    /* Out again. */
    text = ask("POST " HAPROXY_LOGIN_PATH "login", KNOWN OWN, "user=ann&password=sesame&to=//x");
    CU_ASSERT(says(text, "303", "Location: /\r\n"));
    snprintf(cookie, sizeof cookie, "%.*s", HT_SLICE_ARG(ticket_in(text)));
    CU_ASSERT_TRUE(is_good(t, P "-" C));
    snprintf(fields, sizeof fields, KNOWN "origin: https://evil.example\r\ncookie: " HAPROXY_LOGIN_COOKIE "=%s\r\n",
             cookie);
    CU_ASSERT(says(ask("POST " HAPROXY_LOGIN_PATH "logout", fields, ""), "403", "does not come from"));
    CU_ASSERT_TRUE(is_good(t, P "-" C));
    snprintf(fields, sizeof fields, KNOWN OWN "cookie: " HAPROXY_LOGIN_COOKIE "=%s\r\n", cookie);
    close_conn();
    open_conn();
    CU_ASSERT(says(ask("POST " HAPROXY_LOGIN_PATH "logout", fields, ""), "303", HAPROXY_LOGIN_COOKIE "=; "));
    CU_ASSERT_FALSE(is_good(t, P "-" C));
    close_conn();
    finish();
}

static void refusals(void) {
    static const struct {
        const char *fields, *body, *status, *said;
    } rows[] = {
        {KNOWN OWN, "user=ann&password=guess&to=/a", "401", "is wrong"},
        {KNOWN OWN, "user=bob&password=sesame&to=/a", "401", "is wrong"},
        {KNOWN OWN, "user=ann", "400", "not one name"},
        {KNOWN OWN, "", "400", "not one name"},
        {KNOWN OWN, "user=ann&password=x&password=y", "400", "not one name"},
        {KNOWN OWN, "user=a%00&password=x", "401", "is wrong"},
        {KNOWN "origin: https://" HOST "\r\ncontent-type: application/json\r\n", "{}", "415", "a form"},
        {KNOWN "origin: https://" HOST "\r\n", "user=ann&password=sesame", "415", "a form"},
        {KNOWN "content-type: application/x-www-form-urlencoded\r\n", "user=ann&password=sesame", "403",
         "does not come"},
        {HEAD(P "-" C, "exec") OWN, "user=ann&password=sesame", "403", "No password"},
        {HEAD(P "-" D, "exec") OWN, "user=ann&password=sesame", "303", "Location: /"},
        {HEAD("x", "exec") OWN, "user=ann&password=sesame", "403", "Nobody may"},
    };
    static char large[HAPROXY_LOGIN_BODY_MAX + 32];
    begin();
    for (size_t i = 0; i < HT_ARRAY_LEN(rows); i++) {
        open_conn();
        const char *text = ask("POST " HAPROXY_LOGIN_PATH "login", rows[i].fields, rows[i].body);
        CU_ASSERT(says(text, rows[i].status, rows[i].said) && !strstr(text, "Set-Cookie") && !strstr(text, "sesame") &&
                  !strstr(text, "guess"));
        close_conn();
    }
    memset(large, 'x', sizeof large - 1);
    memcpy(large, "password=", 9);
    open_conn();
    CU_ASSERT(says(ask("POST " HAPROXY_LOGIN_PATH "login", KNOWN OWN, large), "413", "<!doctype html>"));
    close_conn();
    /* Guesses of the page and of Basic are counted together: the address waits. */
    open_conn();
    for (unsigned i = 0; i < AUTH_LOGIN_FREE; i++) {
        char body[64];
        snprintf(body, sizeof body, "user=ann&password=guess%u", i);
        (void)ask("POST " HAPROXY_LOGIN_PATH "login", KNOWN OWN, body);
    }
    CU_ASSERT(
        says(ask("POST " HAPROXY_LOGIN_PATH "login", KNOWN OWN, "user=ann&password=sesame"), "429", "Retry-After: "));
    close_conn();
    CU_ASSERT_EQUAL(edge_tickets_count(edge_gate_tickets(gate)), 0);
    finish();
}

/* A request cut in two at each byte says the same; cut off at each byte it leaves nothing. */
static void splits(void) {
    static const char text[] = "POST " HAPROXY_LOGIN_PATH "login HTTP/1.1\r\nHost: x\r\n" KNOWN OWN
                               "Content-Length: 30\r\n\r\nuser=ann&password=sesame&to=/a";
    size_t n = sizeof text - 1;
    begin();
    for (size_t i = 1; i < n; i += 7) {
        open_conn();
        say(text, i);
        turns(2);
        close_conn();
        open_conn();
        say(text, i);
        turns(2);
        say(text + i, n - i);
        CU_ASSERT(says(answer(), "303", "Location: /a\r\n"));
        close_conn();
    }
    /* The client is gone while its password is being checked. */
    open_conn();
    say("POST " HAPROXY_LOGIN_PATH "login HTTP/1.1\r\nHost: x\r\n" KNOWN OWN
        "Content-Length: 21\r\n\r\nuser=ann&password=new",
        sizeof("POST " HAPROXY_LOGIN_PATH "login HTTP/1.1\r\nHost: x\r\n" KNOWN OWN
               "Content-Length: 21\r\n\r\nuser=ann&password=new") -
            1);
    turns(3);
    close_conn();
    open_conn();
    say("POST " HAPROXY_LOGIN_PATH "login HTTP/1.1\r\nHost: x\r\n" KNOWN OWN
        "Content-Length: 21\r\n\r\nuser=ann&password=two",
        sizeof("POST " HAPROXY_LOGIN_PATH "login HTTP/1.1\r\nHost: x\r\n" KNOWN OWN
               "Content-Length: 21\r\n\r\nuser=ann&password=two") -
            1);
    turns(2);
    finish(); /* and so is the agent */
    close_conn();
}

/* One allocation after the other fails: the connection ends, or the answer is right. */
static void no_memory(void) {
    static const struct {
        const char *line, *fields, *body, *status;
    } rows[] = {
        {"GET /a", KNOWN, NULL, "401"},
        {"GET " HAPROXY_LOGIN_PATH "logout", KNOWN, NULL, "200"},
        {"POST " HAPROXY_LOGIN_PATH "login", KNOWN OWN, "user=ann&password=sesame&to=/a", "303"},
        {"POST " HAPROXY_LOGIN_PATH "login", KNOWN OWN, "user=ann", "400"},
    };
    begin();
    for (size_t r = 0; r < HT_ARRAY_LEN(rows); r++) {
        bool over = false;
        for (long i = 0; !over && i < 200; i++) {
            open_conn();
            turns(1);
            CU_ASSERT_NOT_EQUAL(ht_buf_reserve(&got, 16384), NULL);
            ht_mem_fail_at(i);
            const char *text = ask(rows[r].line, rows[r].fields, rows[r].body);
            over = ht_mem_fail_pending();
            ht_mem_fail_at(-1);
            CU_ASSERT(text[0] == '\0' || strncmp(text + 9, rows[r].status, 3) == 0 || strncmp(text + 9, "503", 3) == 0);
            CU_ASSERT(!over || strncmp(text + 9, rows[r].status, 3) == 0);
            close_conn();
        }
        CU_ASSERT_TRUE(over);
    }
    finish();
}

/* ---- tickets ---- */

static bool use(struct edge_tickets *t, const char *ticket, const char *container, uint64_t policy) {
    struct ht_slice group;
    return edge_tickets_use(t, ht_slice_str(ticket), ht_slice_str(container), policy, &group) &&
           ht_slice_is(group, "g");
}

static void tickets_end(void) {
    struct edge_tickets *t = edge_tickets_create(loop);
    struct edge_ticket_for f = {ht_slice_str("c"), ht_slice_str("g"), 7, 600, 120};
    char a[EDGE_TICKET], b[EDGE_TICKET];
    CU_ASSERT_PTR_NOT_NULL_FATAL(t);
    CU_ASSERT(edge_tickets_issue(t, &f, a) == 0 && edge_tickets_issue(t, &f, b) == 0 && strcmp(a, b) != 0);
    CU_ASSERT(strlen(a) == EDGE_TICKET - 1 &&
              strspn(a, "ABCDEFGHIJKLMNOPQRSTUVWXYZabcdefghijklmnopqrstuvwxyz0123456789-_") == EDGE_TICKET - 1);
    CU_ASSERT(use(t, a, "c", 7) && !use(t, a, "d", 7) && !use(t, "", "c", 7) && use(t, a, "c", 7));
    /* Unused for a while; used again and again until it is too old. */
    for (unsigned s = 0; s < 500; s += 100) {
        ht_clock_skip(UINT64_C(100) * 1000000);
        turns(1);
        CU_ASSERT_TRUE(use(t, a, "c", 7));
    }
    CU_ASSERT_FALSE(use(t, b, "c", 7));
    ht_clock_skip(UINT64_C(100) * 1000000);
    turns(1);
    CU_ASSERT_FALSE(use(t, a, "c", 7));
    CU_ASSERT_EQUAL(edge_tickets_count(t), 0);
    /* Other permissions; a log out, which is of no other container. */
    CU_ASSERT(edge_tickets_issue(t, &f, a) == 0 && edge_tickets_issue(t, &f, b) == 0);
    CU_ASSERT(!use(t, a, "c", 8) && !use(t, a, "c", 7));
    edge_tickets_end(t, ht_slice_str(b), ht_slice_str("d"));
    CU_ASSERT_TRUE(use(t, b, "c", 7));
    edge_tickets_end(t, ht_slice_str(b), ht_slice_str("c"));
    edge_tickets_end(t, ht_slice_str(b), ht_slice_str("c"));
    CU_ASSERT_FALSE(use(t, b, "c", 7));
    edge_tickets_destroy(&t);
}

static void tickets_are_bounded(void) {
    struct edge_tickets *t = edge_tickets_create(loop);
    struct edge_ticket_for f = {ht_slice_str("c"), ht_slice_str("g"), 7, 600, 120}, other = f;
    char first[EDGE_TICKET], second[EDGE_TICKET], one[EDGE_TICKET], theirs[EDGE_TICKET];
    other.container = ht_slice_str("d");
    CU_ASSERT_PTR_NOT_NULL_FATAL(t);
    CU_ASSERT_EQUAL(edge_tickets_issue(t, &other, theirs), 0);
    CU_ASSERT(edge_tickets_issue(t, &f, first) == 0 && edge_tickets_issue(t, &f, second) == 0);
    for (unsigned i = 2; i < EDGE_TICKETS_OF_CONTAINER; i++)
        CU_ASSERT_EQUAL(edge_tickets_issue(t, &f, one), 0);
    CU_ASSERT_TRUE(use(t, first, "c", 7)); /* the other one was used longest ago */
    CU_ASSERT_EQUAL(edge_tickets_issue(t, &f, one), 0);
    CU_ASSERT(use(t, first, "c", 7) && !use(t, second, "c", 7) && use(t, theirs, "d", 7));
    CU_ASSERT_EQUAL(edge_tickets_count(t), EDGE_TICKETS_OF_CONTAINER + 1);
    /* What is over makes room. */
    ht_clock_skip(UINT64_C(130) * 1000000);
    turns(1);
    CU_ASSERT_EQUAL(edge_tickets_issue(t, &f, one), 0);
    CU_ASSERT_EQUAL(edge_tickets_count(t), 1);
    f.container = ht_slice_str("a name of a container that is longer than any that there is, by far");
    CU_ASSERT_EQUAL(edge_tickets_issue(t, &f, one), HT_EINVAL);
    edge_tickets_destroy(&t);
    ht_mem_fail_at(0);
    CU_ASSERT_PTR_NULL(edge_tickets_create(loop));
}

static const struct tap_test tests[] = {
    {"pages: where a login is wanted, to log in and out, for HAProxy alone", pages},
    {"logins: a ticket for the container, until permissions change or a log out", logins},
    {"refusals: wrong passwords, forms that are none or of others, guesses; no ticket, and no password comes back",
     refusals},
    {"requests cut at each byte; who asks, and the agent, gone meanwhile", splits},
    {"each allocation fails", no_memory},
    {"tickets end: unused, by age, with the permissions, by a log out", tickets_end},
    {"tickets are bounded, for each container by itself", tickets_are_bounded},
    {NULL, NULL},
};

int main(void) {
    loop = io_loop_create();
    int rc = tap_main("edge, login", tests);
    turns(2);
    io_loop_destroy(&loop);
    return rc;
}
