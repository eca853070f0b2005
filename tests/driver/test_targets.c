/* The local services of a driver: where they are, whether they are there, and how much of them a kit may use. */
#include "driver/kit_script.h"
#include "support/ports.h"

static unsigned warnings;
static char warning[512];

static void log_text(void *user, enum ht_log_severity severity, const char *text) {
    (void)user;
    if (severity != HT_SEVERITY_WARNING)
        return;
    warnings++;
    snprintf(warning, sizeof warning, "%s", text);
}

/* ---- a service ---- */

static struct io_listener *service;
static struct io_conn *clients[8];
static unsigned n_clients, n_heard;
static bool silent;

static void client_readable(void *ctx) {
    static const char ok[] = "HTTP/1.1 200 OK\r\nContent-Length: 2\r\n\r\nok";
    struct io_conn **c = ctx;
    char drop[4096];
    ssize_t n = io_conn_read(*c, drop, sizeof drop);
    if (n == HT_EAGAIN)
        return;
    if (n <= 0) {
        io_conn_close(c);
        return;
    }
    n_heard++;
    struct iovec v = {.iov_base = (void *)(uintptr_t)ok, .iov_len = sizeof ok - 1};
    if (!silent)
        CU_ASSERT_EQUAL(io_conn_write(*c, &v, 1), (ssize_t)v.iov_len);
}

static void client_accepted(void *ctx, struct io_conn *conn, const struct io_addr *peer) {
    static const struct io_conn_ops ops = {.readable = client_readable};
    (void)ctx, (void)peer;
    CU_ASSERT_FATAL(n_clients < HT_ARRAY_LEN(clients));
    struct io_conn **c = &clients[n_clients++];
    *c = conn;
    io_conn_set_ops(conn, &ops, c);
    io_conn_read_on(*c, true);
}

/* Its port as text, or NULL: the machine does not have the address. */
static int held = -1; /* the same port on 127.0.0.1, for a service on ::1 alone */

static const char *service_at(const char *host) {
    static const struct io_listener_ops ops = {.accepted = client_accepted};
    static char text[16];
    struct io_addr at;
    n_clients = n_heard = 0;
    silent = false;
    CU_ASSERT_EQUAL_FATAL(io_addr_parse(&at, host, 0), 0);
    if (io_listen(w.loop, &at, &ops, NULL, &service, NULL) < 0)
        return NULL;
    io_listener_local(service, &at);
    if (strcmp(host, "::1") == 0 && (held = hold_v4_port(io_addr_port(&at))) < 0) {
        io_listener_close(&service);
        return service_at(host);
    }
    snprintf(text, sizeof text, "%u", io_addr_port(&at));
    return text;
}

static void service_gone(void) {
    io_listener_close(&service);
    if (held >= 0)
        close(held);
    held = -1;
    for (unsigned i = 0; i < n_clients; i++)
        io_conn_close(&clients[i]);
}

static void begin(void) {
    calls.log = log_text;
    warnings = 0;
    warning[0] = '\0';
}

/* ---- where they are ---- */

/* Vite and Node from 17 on listen on ::1 alone. */
static void a_port_alone_is_either_loopback(void) {
    static const char *const hosts[] = {"127.0.0.1", "::1"};
    for (size_t i = 0; i < HT_ARRAY_LEN(hosts); i++) {
        begin();
        world_go();
        const char *at = service_at(hosts[i]);
        if (!at) {
            printf("# no %s here\n", hosts[i]);
            world_stop();
            continue;
        }
        CU_ASSERT(bind_one(HT_EXPOSE_HTTP, at, 0) > 0);
        UNTIL(w.bound);
        for (unsigned round = 1; round <= 2; round++) {
            struct play_stream k = {.reset = -1};
            play_get(&k, 1, "/");
            UNTIL(k.closes);
            CU_ASSERT_EQUAL(k.status, 200);
            ht_buf_free(&k.body);
        }
        CU_ASSERT_EQUAL(warnings, 0);
        service_gone();
        world_stop();
    }
}

/* ---- whether they are there ---- */

static void one_that_is_down_is_told_at_once(void) {
    begin();
    world_go();
    char at[32];
    snprintf(at, sizeof at, "127.0.0.1:%s", service_at("127.0.0.1"));
    service_gone();
    CU_ASSERT(bind_one(HT_EXPOSE_HTTP, at, 3000) > 0);
    UNTIL(w.bound && warnings);
    CU_ASSERT_PTR_NOT_NULL(strstr(warning, at));
    CU_ASSERT_PTR_NOT_NULL(strstr(warning, "connection refused"));
    CU_ASSERT_PTR_NOT_NULL(strstr(warning, "visitors of port 3000 get 502"));
    /* A service of TCP may take an empty connection for a client that went wrong. */
    CU_ASSERT(bind_one(HT_PULL_TCP, at, 0) > 0);
    UNTIL(w.bound == 2);
    settle();
    CU_ASSERT_EQUAL(warnings, 1);
    world_stop();
}

static void what_visitors_get_is_in_the_event(void) {
    begin();
    world_go();
    char at[32];
    snprintf(at, sizeof at, "127.0.0.1:%s", service_at("127.0.0.1"));
    service_gone();
    CU_ASSERT(bind_one(HT_EXPOSE_HTTP, at, 3000) > 0);
    UNTIL(w.bound);
    struct play_stream k = {.reset = -1};
    play_get(&k, 1, "/");
    UNTIL(w.requests);
    CU_ASSERT_EQUAL(w.request.status, 502);
    UNTIL(k.closes);
    CU_ASSERT_EQUAL(k.reset, WIRE_CODE_REFUSED_STREAM);
    ht_buf_free(&k.body);
    world_stop();
}

/* ---- how much of them a kit may use (hardening case 31) ---- */

static void a_kit_does_not_size_the_driver(void) {
    static const char huge[] = "{\"sessionId\":\"S\",\"resumed\":false,\"resumedBinds\":[],\"streamWindow\":4294967295,"
                               "\"sessionWindow\":4294967295,\"connectionsGranted\":1,\"joinTickets\":[]}";
    uint8_t frame[512] = {WIRE_HELLO_OK, 0, 0, 0, 0, 0, 0, (sizeof huge - 1) >> 8, (sizeof huge - 1) & 255};
    begin();
    world_start();
    w.no_hello_ok = true;
    world_tunnel(NULL);
    CU_ASSERT_EQUAL_FATAL(ht_tunnel_connect(w.t), HT_TUNNEL_OK);
    UNTIL(w.hellos);
    memcpy(frame + 9, huge, sizeof huge - 1);
    kit_sends_raw(frame, 9 + sizeof huge - 1);
    UNTIL(w.ended);
    CU_ASSERT_EQUAL(w.end_error, HT_TUNNEL_EPROTO);
    CU_ASSERT_PTR_NOT_NULL(strstr(w.end_text, "4294967295"));
    CU_ASSERT_EQUAL(w.connected, 0);
    world_stop();
}

static void streams_are_the_drivers_to_bound(void) {
    struct play_stream k[4] = {{.reset = -1}, {.reset = -1}, {.reset = -1}, {.reset = -1}};
    begin();
    world_start();
    w.max_streams = 3; /* of the 64 that the kit has */
    world_tunnel(NULL);
    CU_ASSERT_EQUAL_FATAL(ht_tunnel_connect(w.t), HT_TUNNEL_OK);
    UNTIL(w.connected);
    CU_ASSERT(bind_one(HT_EXPOSE_HTTP, service_at("127.0.0.1"), 0) > 0);
    silent = true;
    UNTIL(w.bound);
    for (size_t i = 0; i < HT_ARRAY_LEN(k); i++)
        play_get(&k[i], 1, "/");
    UNTIL(k[3].closes && n_heard == 3);
    CU_ASSERT_EQUAL(k[3].reset, WIRE_CODE_REFUSED_STREAM);
    CU_ASSERT_EQUAL(k[0].closes + k[1].closes + k[2].closes, 0);
    for (size_t i = 0; i < 3; i++)
        mux_stream_release(&k[i].st);
    service_gone();
    world_stop();
}

int main(void) {
    static const struct tap_test tests[] = {
        {"a port alone means 127.0.0.1 or ::1", a_port_alone_is_either_loopback},
        {"a target that is down is reported at once", one_that_is_down_is_told_at_once},
        {"the event has the status that visitors get", what_visitors_get_is_in_the_event},
        {"a kit cannot demand more memory than --max-window", a_kit_does_not_size_the_driver},
        {"a kit cannot open more streams than the driver allows", streams_are_the_drivers_to_bound},
        {NULL, NULL},
    };
    return tap_main("driver, targets", tests);
}
