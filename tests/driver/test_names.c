/* Names of a driver's bindings: what BIND says, and where streams by name lead. */
#include "driver/kit_script.h"
#include "wire/name.h"

#define PEM "-----BEGIN CERTIFICATE-----\nTUlJ\n-----END CERTIFICATE-----\n"

#include <netdb.h>

/* Whoever answers for corp.example has it lead into the driver's own machine. */
int getaddrinfo(const char *node, const char *service, const struct addrinfo *hints, struct addrinfo **out) {
    static const char *const into[] = {"127.0.0.1", "169.254.169.254"};
    (void)service, (void)hints;
    *out = NULL;
    for (size_t i = 0; strstr(node, ".corp.example") && i < HT_ARRAY_LEN(into); i++) {
        struct addrinfo *a = calloc(1, sizeof *a + sizeof(struct io_addr));
        struct io_addr *addr = (struct io_addr *)(a + 1);
        if (!a || io_addr_parse(addr, into[i], 0))
            abort();
        a->ai_family = addr->ss.ss_family;
        a->ai_addrlen = addr->len;
        a->ai_addr = (struct sockaddr *)&addr->ss;
        a->ai_next = *out;
        *out = a;
    }
    return *out ? 0 : EAI_NONAME;
}

void freeaddrinfo(struct addrinfo *a) {
    while (a) {
        struct addrinfo *next = a->ai_next;
        free(a);
        a = next;
    }
}

static unsigned warnings;
static char warning[512], asked[WIRE_NAME_ROOM];

static void log_text(void *user, enum ht_log_severity severity, const char *text) {
    (void)user;
    warnings += severity == HT_SEVERITY_WARNING;
    snprintf(warning, sizeof warning, "%s", text);
}

static void request(void *user, const struct ht_request *r) {
    on_request(user, r);
    snprintf(asked, sizeof asked, "%s", r->authority ? r->authority : "none");
}

static void go(unsigned caps) {
    calls.log = log_text;
    calls.request = request;
    warnings = 0;
    asked[0] = '\0';
    world_start();
    w.caps = caps;
    world_tunnel(NULL);
    CU_ASSERT_EQUAL_FATAL(ht_tunnel_connect(w.t), HT_TUNNEL_OK);
    UNTIL(w.connected);
}

static struct ht_bind_options names(const char *const *list, size_t n) {
    return (struct ht_bind_options){
        .size = sizeof(struct ht_bind_options), .kind = HT_PULL_TCP, .portless = 1, .names = list, .n_names = n};
}

/* ---- services that say a word to whoever comes ---- */

struct service {
    struct io_listener *l;
    const char *word;
    struct io_conn *c[4];
    unsigned n;
    uint16_t port;
};

static void service_accepted(void *ctx, struct io_conn *conn, const struct io_addr *peer) {
    struct service *s = ctx;
    (void)peer;
    struct iovec v = {.iov_base = (void *)(uintptr_t)s->word, .iov_len = strlen(s->word)};
    CU_ASSERT_FATAL(s->n < HT_ARRAY_LEN(s->c));
    s->c[s->n++] = conn;
    CU_ASSERT_EQUAL(io_conn_write(conn, &v, 1), (ssize_t)v.iov_len);
}

static void serve(struct service *s, const char *word) {
    static const struct io_listener_ops ops = {.accepted = service_accepted};
    struct io_addr at;
    *s = (struct service){.word = word};
    CU_ASSERT_EQUAL_FATAL(io_addr_parse(&at, "127.0.0.1", 0), 0);
    CU_ASSERT_EQUAL_FATAL(io_listen(w.loop, &at, &ops, s, &s->l, NULL), 0);
    io_listener_local(s->l, &at);
    s->port = io_addr_port(&at);
}

static void service_stop(struct service *s) {
    io_listener_close(&s->l);
    for (unsigned i = 0; i < s->n; i++)
        io_conn_close(&s->c[i]);
}

static void expect_word(const char *authority, const char *word) {
    struct play_stream k;
    play_connect(&k, 1, authority);
    UNTIL(ht_buf_size(&k.body) == strlen(word));
    CU_ASSERT_EQUAL(k.connects, 1);
    CU_ASSERT_EQUAL(memcmp(ht_buf_head(&k.body), word, strlen(word)), 0);
    mux_stream_reset(k.st, WIRE_CODE_CANCEL, "");
    mux_stream_release(&k.st);
    unsigned before = w.requests;
    UNTIL(w.requests > before || strcmp(asked, authority) == 0);
    ht_buf_free(&k.body);
}

static void expect_refused(const char *authority, const char *reason) {
    struct play_stream k;
    play_connect(&k, 1, authority);
    UNTIL(k.closes);
    CU_ASSERT_EQUAL(k.reset, WIRE_CODE_REFUSED_STREAM);
    CU_ASSERT_EQUAL(k.connects, 0);
    if (strncmp(k.reason, reason, strlen(reason)) != 0)
        printf("# %s: %s\n", authority ? authority : "none", k.reason);
    CU_ASSERT_EQUAL(strncmp(k.reason, reason, strlen(reason)), 0);
    ht_buf_free(&k.body);
}

/* ---- BIND ---- */

static void what_bind_says(void) {
    static const char *const list[] = {"GitLab.Example.com.", "*.corp.example:*", "db.example:5432=127.0.0.1:1"};
    go(WIRE_CAP_NAMES);
    struct ht_bind_options o = names(list, 3);
    o.ca_pem = PEM;
    o.label = "tools";
    CU_ASSERT_EQUAL(ht_tunnel_bind(w.t, &o), 1);
    UNTIL(w.bound);
    CU_ASSERT_STRING_EQUAL(w.bind_names, "gitlab.example.com *.corp.example:* db.example:5432 ");
    CU_ASSERT_STRING_EQUAL(w.bind_ca, PEM);
    CU_ASSERT(w.binds[0].portless);
    CU_ASSERT_EQUAL(w.binds[0].container_port, 0);
    CU_ASSERT_EQUAL(w.binds[0].kind, WIRE_KIND_TCP);
    CU_ASSERT_STRING_EQUAL(w.bound_url, "");
    CU_ASSERT_EQUAL(w.failed + warnings, 0);
    o = names(list, 1);
    o.portless = 0;
    o.target = "gitlab.example.com:443";
    o.container_port = 8083;
    CU_ASSERT_EQUAL(ht_tunnel_bind(w.t, &o), 2);
    UNTIL(w.bound == 2);
    CU_ASSERT_STRING_EQUAL(w.bind_names, "gitlab.example.com ");
    CU_ASSERT(!w.binds[1].has_portless && !w.binds[1].has_ca);
    CU_ASSERT_STRING_EQUAL(w.bound_url, "127.0.0.1:8083");
    world_stop();
}

/* A kit that has never heard of names is told of none. */
static void an_older_kit(void) {
    static const char *const list[] = {"gitlab.example.com:443"};
    go(0);
    struct ht_bind_options o = names(list, 1);
    CU_ASSERT_EQUAL(ht_tunnel_bind(w.t, &o), 1);
    UNTIL(w.failed);
    CU_ASSERT_STRING_EQUAL(w.fail_code, "UNSUPPORTED");
    CU_ASSERT_EQUAL(w.n_binds, 0);
    o.portless = 0;
    o.target = "gitlab.example.com:443";
    o.ca_pem = PEM;
    CU_ASSERT_EQUAL(ht_tunnel_bind(w.t, &o), 2);
    UNTIL(w.bound);
    CU_ASSERT_EQUAL(w.binds[0].n_names, 0);
    CU_ASSERT(!w.binds[0].has_portless && !w.binds[0].has_ca);
    CU_ASSERT_EQUAL(warnings, 1);
    CU_ASSERT_PTR_NOT_NULL(strstr(warning, "too old to register names"));
    world_stop();
}

static void what_is_no_binding(void) {
    static const char *const good[] = {"a.example"};
    static const char *const bad[] = {"a..b", "a.example=", "a.example=8080:1", "*", "a.example:0", "=1", "0x7f.1"};
    go(WIRE_CAP_NAMES);
    for (size_t i = 0; i < HT_ARRAY_LEN(bad); i++) {
        struct ht_bind_options o = names(&bad[i], 1);
        CU_ASSERT_EQUAL(ht_tunnel_bind(w.t, &o), HT_TUNNEL_EINVAL);
        CU_ASSERT(ht_tunnel_last_error()[0] != '\0');
    }
    struct ht_bind_options rows[8];
    for (size_t i = 0; i < HT_ARRAY_LEN(rows); i++)
        rows[i] = names(good, 1);
    rows[0].kind = HT_EXPOSE_HTTP;
    rows[1].target = "1";
    rows[2].container_port = 1;
    rows[3].pull_host = "::1";
    rows[4].n_names = 0;
    rows[5].ca_pem = "-----BEGIN PRIVATE KEY-----\nTUlJ\n-----END PRIVATE KEY-----\n";
    rows[6].portless = 0;
    rows[7].n_names = WIRE_LIMIT_MAX_NAMES + 1;
    for (size_t i = 0; i < HT_ARRAY_LEN(rows); i++)
        CU_ASSERT_EQUAL(ht_tunnel_bind(w.t, &rows[i]), HT_TUNNEL_EINVAL);
    CU_ASSERT_EQUAL(w.n_binds, 0);
    world_stop();
}

static void a_port_that_was_not_asked_for(void) {
    static const char *const list[] = {"a.example"};
    go(WIRE_CAP_NAMES);
    w.wrong_port = true;
    struct ht_bind_options o = names(list, 1);
    CU_ASSERT_EQUAL(ht_tunnel_bind(w.t, &o), 1);
    UNTIL(w.n_unbinds);
    CU_ASSERT_EQUAL(w.bound, 0);
    CU_ASSERT_PTR_NOT_NULL(strstr(warning, "given back"));
    world_stop();
}

/* ---- streams ---- */

static void where_streams_lead(void) {
    char exact[64], other[64], elsewhere[64], near[64], all[64];
    struct service a, b;
    go(WIRE_CAP_NAMES);
    serve(&a, "alpha");
    serve(&b, "beta");
    snprintf(exact, sizeof exact, "127.0.0.1:%u", a.port);
    snprintf(all, sizeof all, "LocalHost:*");
    snprintf(near, sizeof near, "localhost:77=127.0.0.1:%u", b.port);
    snprintf(elsewhere, sizeof elsewhere, "*.corp.example:443=127.0.0.1:%u", b.port);
    snprintf(other, sizeof other, "a.corp.example=127.0.0.1:%u", a.port);
    const char *const list[] = {exact, all, near, elsewhere, other};
    struct ht_bind_options o = names(list, HT_ARRAY_LEN(list));
    CU_ASSERT_EQUAL(ht_tunnel_bind(w.t, &o), 1);
    UNTIL(w.bound);
    expect_word(exact, "alpha");
    char text[64];
    snprintf(text, sizeof text, "localhost:%u", b.port);
    expect_word(text, "beta");
    expect_word("localhost:77", "beta");
    expect_word("a.corp.example:443", "alpha"); /* the host itself goes before the wildcard */
    expect_word("b.corp.example:443", "beta");
    service_stop(&a);
    service_stop(&b);
    world_stop();
}

static void what_is_not_covered(void) {
    static const char *const list[] = {"a.example:443", "*.corp.example:443", "127.0.0.1:1"};
    go(WIRE_CAP_NAMES);
    struct ht_bind_options o = names(list, HT_ARRAY_LEN(list));
    CU_ASSERT_EQUAL(ht_tunnel_bind(w.t, &o), 1);
    UNTIL(w.bound);
    static const char *const bad[] = {"a.example:80",
                                      "b.example:443",
                                      "corp.example:443",
                                      "xcorp.example:443",
                                      "xxcorp.example:443",
                                      "127.0.0.1:2",
                                      "localhost:443",
                                      "a.example",
                                      "a.example:443:443",
                                      "0x7f.0.0.1:443",
                                      "127.1:1",
                                      "*.corp.example:443",
                                      NULL};
    for (size_t i = 0; i < HT_ARRAY_LEN(bad); i++)
        expect_refused(bad[i], "not-covered: ");
    expect_refused("127.0.0.1:1", "refused: ");
    CU_ASSERT_EQUAL(w.requests, 1);
    CU_ASSERT_STRING_EQUAL(asked, "127.0.0.1:1");
    world_stop();
}

/* Hardening case 35. Who has named a host himself knows where it leads; below a wildcard others choose. */
static void a_wildcard_leads_out(void) {
    struct service a;
    char text[64], exact[64];
    go(WIRE_CAP_NAMES);
    serve(&a, "alpha");
    snprintf(exact, sizeof exact, "own.corp.example:%u", a.port);
    const char *const list[] = {"*.corp.example:*", exact};
    struct ht_bind_options o = names(list, HT_ARRAY_LEN(list));
    CU_ASSERT_EQUAL(ht_tunnel_bind(w.t, &o), 1);
    UNTIL(w.bound);
    snprintf(text, sizeof text, "any.corp.example:%u", a.port);
    expect_refused(text, "unreachable: ");
    CU_ASSERT_EQUAL(a.n, 0);
    expect_word(exact, "alpha");
    service_stop(&a);
    world_stop();
}

/* Beside a port: connections to it lead to the target, names where they say, and what has none is refused. */
static void names_beside_a_port(void) {
    struct service a;
    char target[64];
    static const char *const list[] = {"api.example:443"};
    go(WIRE_CAP_NAMES);
    serve(&a, "alpha");
    snprintf(target, sizeof target, "127.0.0.1:%u", a.port);
    struct ht_bind_options o = names(list, 1);
    o.portless = 0;
    o.target = target;
    CU_ASSERT_EQUAL(ht_tunnel_bind(w.t, &o), 1);
    UNTIL(w.bound);
    struct play_stream k;
    play_connect(&k, 1, NULL);
    UNTIL(ht_buf_size(&k.body) == 5);
    CU_ASSERT_EQUAL(k.connects, 0);
    mux_stream_release(&k.st);
    ht_buf_free(&k.body);
    expect_refused(target, "not-covered: ");
    service_stop(&a);
    world_stop();
}

/* Names that are no more than welcome: an older kit and a name that somebody has leave the port alone. */
static void names_that_are_optional(void) {
    static const struct wire_bind_err taken = {.code = WIRE_BIND_ERROR_ALREADY_BOUND,
                                               .message = {"gitlab is taken", 15}};
    static const char *const list[] = {"gitlab.example.com:443"};
    struct ht_bind_options o = names(list, 1);
    o.portless = 0;
    o.target = "gitlab.example.com:443";
    o.names_optional = 1;
    go(0);
    CU_ASSERT_EQUAL(ht_tunnel_bind(w.t, &o), 1);
    UNTIL(w.bound);
    CU_ASSERT_EQUAL(warnings, 0);
    world_stop();
    go(WIRE_CAP_NAMES);
    w.refuse_bind = &taken;
    w.n_refusals = 1;
    CU_ASSERT_EQUAL(ht_tunnel_bind(w.t, &o), 1);
    UNTIL(w.bound);
    CU_ASSERT_EQUAL(w.n_binds, 2);
    CU_ASSERT_EQUAL(w.binds[0].n_names, 1);
    CU_ASSERT_EQUAL(w.binds[1].n_names, 0);
    CU_ASSERT_EQUAL(warnings, 0);
    CU_ASSERT_EQUAL(w.failed, 0);
    world_stop();
    go(WIRE_CAP_NAMES); /* it was the port all the same */
    w.refuse_bind = &taken;
    w.n_refusals = 2;
    CU_ASSERT_EQUAL(ht_tunnel_bind(w.t, &o), 1);
    UNTIL(w.failed);
    CU_ASSERT_EQUAL(w.n_binds, 2);
    CU_ASSERT_STRING_EQUAL(w.fail_code, "ALREADY_BOUND");
    world_stop();
}

/* A binding without names has no business with an authority. */
static void no_names_at_all(void) {
    go(WIRE_CAP_NAMES);
    CU_ASSERT_EQUAL(bind_one(HT_PULL_TCP, "127.0.0.1:1", 0), 1);
    UNTIL(w.bound);
    expect_refused("127.0.0.1:1", "not-covered: ");
    world_stop();
}

int main(void) {
    static const struct tap_test tests[] = {
        {"BIND carries the names", what_bind_says},
        {"a kit that knows no names gets none, and portless bindings fail", an_older_kit},
        {"impossible bindings are refused", what_is_no_binding},
        {"a portless binding with a port is given back", a_port_that_was_not_asked_for},
        {"streams lead to the name's target", where_streams_lead},
        {"a stream that no name covers is refused", what_is_not_covered},
        {"a wildcard leads to no address of the driver's machine", a_wildcard_leads_out},
        {"a binding may have a port and names", names_beside_a_port},
        {"optional names that are refused leave the port", names_that_are_optional},
        {"a stream by name for a binding without names is refused", no_names_at_all},
        {NULL, NULL},
    };
    return tap_main("driver, names", tests);
}
