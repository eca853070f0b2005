/*
 * Names at the kit: who may have which, what is told of them, and what becomes of them when their driver is gone. Peers
 * that do not know the capability meet none of it.
 *
 * Runs: sanitized.
 */
#include "peer.h"

#define API "/api/v1/tunnel"
#define ME PEER_CLIENT
#define PEM "-----BEGIN CERTIFICATE-----\nTUlJ\n-----END CERTIFICATE-----\n"

static const struct ht_slice caps[] = {{"names", 5}, {"client", 6}};

/* A session of a client; NULL: of nobody. */
static void start_as(struct peer *p, const char *client, const char *resume) {
    size_t n = client ? 2 : 1;
    peer_hello_as(p, caps, n, client, resume);
    peer_expect(p, WIRE_HELLO_OK);
    CU_ASSERT_EQUAL(p->any.hello_ok.n_capabilities, n);
}

static void ask(struct peer *p, const char *const *names, size_t n, const char *label) {
    struct ht_slice list[8];
    for (size_t i = 0; i < n; i++)
        list[i] = ht_slice_str(names[i]);
    struct wire_bind b = {
        .has_client_bind_ref = true,
        .client_bind_ref = 9,
        .kind = WIRE_KIND_TCP,
        .mode = WIRE_MODE_PULL,
        .names = list,
        .n_names = n,
        .has_portless = true,
        .portless = true,
        .has_ca = true,
        .ca = ht_slice_str(PEM),
        .has_label = label != NULL,
        .label = ht_slice_str(label),
    };
    peer_send(p, WIRE_BIND, 0, &b);
}

static uint32_t gets(struct peer *p) {
    peer_expect(p, WIRE_BIND_OK);
    CU_ASSERT_EQUAL(p->any.bind_ok.client_bind_ref, 9);
    CU_ASSERT_EQUAL(p->any.bind_ok.container_port, 0);
    CU_ASSERT(!p->any.bind_ok.has_public_url);
    return p->any.bind_ok.bind_id;
}

static void is_told(struct peer *p, enum wire_bind_error code, const char *says) {
    char text[1100];
    peer_expect(p, WIRE_BIND_ERR);
    CU_ASSERT_EQUAL(p->any.bind_err.code, code);
    snprintf(text, sizeof text, "%.*s", HT_SLICE_ARG(p->any.bind_err.message));
    if (!strstr(text, says))
        printf("# no '%s' in: %s\n", says, text);
    CU_ASSERT_PTR_NOT_NULL(strstr(text, says));
}

/* Whether the answer to a GET has the text. */
static bool shows(const char *path, const char *text) {
    char request[256];
    struct raw r;
    snprintf(request, sizeof request, "GET " API "%s HTTP/1.1\r\nHost: localhost\r\nConnection: close\r\n\r\n", path);
    CU_ASSERT_EQUAL(raw_ask(&r, host.port, request), 200);
    bool found = strstr(raw_text(&r), text) != NULL;
    if (!found)
        printf("# %s has no %s:\n# %s\n", path, text, raw_body(&r));
    raw_close(&r);
    return found;
}

static void they_are_seen_everywhere(void) {
    static const char *const names[] = {"GitLab.example.com.:443", "*.corp.example:*", "gitlab.example.com:443"};
    static const char list[] = "\"names\":[\"gitlab.example.com:443\",\"*.corp.example:*\"]";
    host_start("--public-url-pattern https://x-{port}.example");
    struct peer p;
    struct raw events;
    raw_connect(&events, host.port);
    raw_send(&events, "GET " API "/events HTTP/1.1\r\nHost: localhost\r\n\r\n");
    UNTIL(strstr(raw_text(&events), ": hoody-tunnel events"));
    start_as(&p, NULL, NULL);
    ask(&p, names, 3, "tools");
    uint32_t id = gets(&p);
    CU_ASSERT(shows("/bindings", list));
    CU_ASSERT(shows("/sessions", list));
    CU_ASSERT(shows("/tunnels", list));
    CU_ASSERT(shows("/bindings", "\"port\":0"));
    CU_ASSERT(shows("/metrics", "\nhoody_tunnel_names_active 2\n"));
    UNTIL(strstr(raw_text(&events), "event: bind\n"));
    CU_ASSERT_PTR_NOT_NULL(strstr(strstr(raw_text(&events), "event: bind\n"), list));
    peer_send(&p, WIRE_UNBIND, 0, &(struct wire_unbind){.bind_id = id});
    peer_expect(&p, WIRE_UNBIND_OK);
    UNTIL(strstr(raw_text(&events), "event: unbind\n"));
    CU_ASSERT_PTR_NOT_NULL(strstr(strstr(raw_text(&events), "event: unbind\n"), list));
    CU_ASSERT(shows("/metrics", "\nhoody_tunnel_names_active 0\n"));
    ask(&p, names, 1, NULL);
    gets(&p);
    raw_close(&events);
    peer_bye(&p);
    host_stop();
}

static void what_cannot_be(void) {
    static const char *const bad[] = {"a.example", "127.1"}, *const many[] = {"a.example", "b.example", "c.example"};
    host_start("--max-names-per-session 2");
    struct peer p;
    start_as(&p, NULL, NULL);
    ask(&p, bad, 2, NULL);
    is_told(&p, WIRE_BIND_ERROR_INVALID_NAME, "\"127.1\"");
    ask(&p, many, 3, NULL);
    is_told(&p, WIRE_BIND_ERROR_BIND_CAP_EXCEEDED, "2 names");
    ask(&p, NULL, 0, NULL);
    is_told(&p, WIRE_BIND_ERROR_INVALID_NAME, "needs a name");
    static char lots[WIRE_LIMIT_MAX_PAYLOAD];
    size_t at = (size_t)snprintf(
        lots, sizeof lots, "{\"clientBindRef\":9,\"kind\":\"tcp\",\"mode\":\"pull\",\"portless\":true,\"names\":[");
    for (int i = 0; i < 10000; i++)
        at += (size_t)snprintf(lots + at, sizeof lots - at, "%s\"a%d\"", i ? "," : "", i % 10);
    snprintf(lots + at, sizeof lots - at, "]}");
    peer_send_text(&p, WIRE_BIND, 0, lots);
    is_told(&p, WIRE_BIND_ERROR_INTERNAL, "more than 256 items");
    ask(&p, many, 2, NULL);
    gets(&p);
    peer_bye(&p);
    host_stop();
}

/* Without the capability its fields mean nothing, whatever is in them (EXT-1). */
static void a_driver_that_knows_none(void) {
    static const char *const texts[] = {
        "{\"clientBindRef\":1,\"kind\":\"tcp\",\"mode\":\"pull\",\"names\":[\"a.example\"],\"portless\":true,\"ca\":"
        "\"x\"}",
        "{\"clientBindRef\":1,\"kind\":\"tcp\",\"mode\":\"pull\",\"names\":7,\"portless\":\"no\",\"ca\":null}",
        "{\"clientBindRef\":1,\"kind\":\"http\",\"mode\":\"expose\",\"names\":[{}]}",
    };
    host_start("");
    struct peer p;
    peer_start(&p, NULL);
    CU_ASSERT_EQUAL(p.any.hello_ok.n_capabilities, 0);
    for (size_t i = 0; i < HT_ARRAY_LEN(texts); i++) {
        peer_send_text(&p, WIRE_BIND, 0, texts[i]);
        peer_expect(&p, WIRE_BIND_OK);
        CU_ASSERT(p.any.bind_ok.container_port > 0);
    }
    CU_ASSERT(shows("/metrics", "\nhoody_tunnel_names_active 0\n"));
    peer_bye(&p);
    host_stop();
}

static void parked_resumed_and_gone(void) {
    static const char *const one[] = {"a.example:443"}, *const wide[] = {"*.example:443", "a.example"};
    host_start("");
    struct peer p, q;
    char id[64];
    start_as(&p, NULL, NULL);
    snprintf(id, sizeof id, "%.*s", HT_SLICE_ARG(p.any.hello_ok.session_id));
    ask(&p, one, 1, "tools");
    uint32_t bind_id = gets(&p);
    start_as(&q, NULL, NULL);
    ask(&q, wide, 2, NULL);
    is_told(&q, WIRE_BIND_ERROR_ALREADY_BOUND, "a.example:443 is bound by another session (\"tools\"), since 20");
    peer_drop(&p);
    UNTIL(kit_sessions_parked(host.kit) == 1);
    ask(&q, wide, 2, NULL);
    is_told(&q, WIRE_BIND_ERROR_ALREADY_BOUND, "its driver is away, and the name is kept for it until 20");
    CU_ASSERT(shows("/bindings", "\"parked\":true"));
    start_as(&p, NULL, id);
    CU_ASSERT(p.any.hello_ok.resumed);
    CU_ASSERT_EQUAL_FATAL(p.any.hello_ok.n_resumed_binds, 1);
    CU_ASSERT_EQUAL(p.any.hello_ok.resumed_binds[0].bind_id, bind_id);
    CU_ASSERT_EQUAL(p.any.hello_ok.resumed_binds[0].container_port, 0);
    CU_ASSERT(shows("/metrics", "\nhoody_tunnel_names_active 1\n"));
    ask(&q, wide, 2, NULL);
    is_told(&q, WIRE_BIND_ERROR_ALREADY_BOUND, "a.example:443");
    peer_bye(&p);
    ask(&q, wide, 2, NULL);
    gets(&q);
    peer_bye(&q);
    host_stop();
}

/* Where programs ask for them: told to drivers that know names. */
static void where_the_proxy_is(void) {
    static const char *const args[] = {"", "--connect-proxy 127.0.0.1:0"};
    for (size_t i = 0; i < HT_ARRAY_LEN(args); i++) {
        host_start(args[i]);
        struct peer p, old;
        start_as(&p, NULL, NULL);
        CU_ASSERT_EQUAL(p.any.hello_ok.has_proxy, i == 1);
        CU_ASSERT(i == 0 || strncmp(p.any.hello_ok.proxy.p, "127.0.0.1:", 10) == 0);
        peer_start(&old, NULL);
        CU_ASSERT(!old.any.hello_ok.has_proxy);
        peer_bye(&p);
        peer_bye(&old);
        host_stop();
    }
}

/* As with ports (rules CLIENT-1, CLIENT-3, NAME-2). */
static void the_clients_next_process(void) {
    static const char *const one[] = {"a.example:443"}, *const two[] = {"b.example:443"},
                             *const both[] = {"a.example:443", "b.example"};
    host_start("");
    struct peer old, new, other;
    start_as(&old, ME, NULL);
    ask(&old, one, 1, NULL);
    uint32_t id = gets(&old);
    start_as(&other, NULL, NULL);
    ask(&other, both, 2, NULL);
    is_told(&other, WIRE_BIND_ERROR_ALREADY_BOUND, "a.example:443");
    peer_bye(&other);
    /* It answers, and keeps it. */
    start_as(&new, ME, NULL);
    ask(&new, both, 2, NULL);
    peer_expect(&old, WIRE_PING);
    CU_ASSERT_EQUAL(new.n_read, new.n_frames);
    peer_send(&old, WIRE_PONG, 0, &old.any.ping);
    is_told(&new, WIRE_BIND_ERROR_ALREADY_BOUND, "a.example:443 is held by another driver of yours, which is alive");
    /* It is silent: what was asked for is not forgotten while the kit waits. */
    ask(&new, both, 2, "mine");
    peer_expect(&old, WIRE_PING);
    gets(&new);
    peer_expect(&old, WIRE_BIND_REVOKED);
    CU_ASSERT_EQUAL(old.any.bind_revoked.bind_id, id);
    CU_ASSERT(shows("/bindings", "\"label\":\"mine\",\"names\":[\"a.example:443\",\"b.example\"]"));
    /* It is parked. */
    peer_drop(&old);
    peer_drop(&new);
    UNTIL(kit_sessions_parked(host.kit) >= 1);
    start_as(&new, ME, NULL);
    ask(&new, two, 1, NULL);
    gets(&new);
    CU_ASSERT(shows("/metrics", "\nhoody_tunnel_names_active 1\n"));
    CU_ASSERT_EQUAL(kit_metrics(host.kit)->takeovers_total, 2);
    peer_bye(&new);
    host_stop();
}

/* Two dead processes of one client, each with a name that the third wants: both are asked at once, and it waits for
 * both. */
static void two_at_once(void) {
    static const char *const one[] = {"a.example:443"}, *const two[] = {"b.example:443"},
                             *const both[] = {"a.example:443", "b.example:443"};
    host_start("");
    struct peer first, second, third;
    start_as(&first, ME, NULL);
    ask(&first, one, 1, NULL);
    gets(&first);
    start_as(&second, ME, NULL);
    ask(&second, two, 1, NULL);
    gets(&second);
    start_as(&third, ME, NULL);
    ask(&third, both, 2, NULL);
    peer_expect(&first, WIRE_PING);
    peer_expect(&second, WIRE_PING);
    gets(&third);
    peer_expect(&first, WIRE_BIND_REVOKED);
    peer_expect(&second, WIRE_BIND_REVOKED);
    peer_drop(&first);
    peer_drop(&second);
    peer_bye(&third);
    host_stop();
}

int main(void) {
    static const struct tap_test tests[] = {
        {"names are in events and listings", they_are_seen_everywhere},
        {"impossible names are refused", what_cannot_be},
        {"a driver without the capability has no names", a_driver_that_knows_none},
        {"HELLO_OK names the proxy", where_the_proxy_is},
        {"a parked session keeps its names", parked_resumed_and_gone},
        {"the client's next process gets its names", the_clients_next_process},
        {"two silent processes of a client lose their names to its third", two_at_once},
        {NULL, NULL},
    };
    return tap_main("kit, names", tests);
}
