/* Each limit with a value small enough to run into. */
#include "peer.h"

#include <sys/resource.h>

static void wait_ms(uint64_t ms) {
    uint64_t start = ht_now_ms();
    UNTIL(ht_now_ms() - start > ms);
}

/* ---- streams ---- */

static void streams_are_capped(void) {
    host_start("--max-streams-per-session 2");
    struct peer p;
    struct raw r[2], more;
    peer_start(&p, NULL);
    CU_ASSERT_EQUAL(p.any.hello_ok.max_streams, 2);
    uint16_t http = peer_bind(&p, WIRE_KIND_HTTP, 0), tcp = peer_bind(&p, WIRE_KIND_TCP, 0);
    raw_connect(&r[0], http);
    raw_send(&r[0], GET("/held"));
    UNTIL(kit_streams(host.kit) == 1);
    const struct got_frame *f = peer_expect(&p, WIRE_STREAM_OPEN);
    uint32_t held = f->stream_id;
    peer_expect(&p, WIRE_EOF);
    raw_connect(&r[1], tcp);
    UNTIL(kit_streams(host.kit) == 2);
    CU_ASSERT_EQUAL(raw_ask(&more, http, GET("/")), 503);
    CU_ASSERT_PTR_NOT_NULL(strcasestr(raw_text(&more), "\r\nRetry-After: 1\r\n"));
    CU_ASSERT_PTR_NOT_NULL(strstr(raw_body(&more), "max streams exceeded"));
    raw_close(&more);
    raw_connect(&more, tcp);
    UNTIL(raw_ended(&more));
    CU_ASSERT_EQUAL(ht_buf_size(&more.in), 0);
    raw_close(&more);
    answer_stream(&p, held, "done");
    UNTIL(kit_streams(host.kit) == 1);
    raw_close(&r[0]);
    f = peer_expect(&p, WIRE_STREAM_OPEN);
    struct wire_reset reset = {.code = WIRE_CODE_REFUSED_STREAM};
    peer_send(&p, WIRE_RESET, f->stream_id, &reset);
    UNTIL(kit_streams(host.kit) == 0);
    raw_close(&r[1]);
    get_through(&p, http);
    peer_bye(&p);
    host_stop();
}

/* ---- windows ---- */

static void windows_hold_the_kit_back(void) {
    static const struct {
        const char *args;
        uint32_t stream, session;
    } rows[] = {
        {"--stream-initial-window 64K", 64 * 1024, 16 * 1024 * 1024},
        {"--stream-initial-window 128K --session-initial-window 96K", 128 * 1024, 96 * 1024},
    };
    for (size_t i = 0; i < HT_ARRAY_LEN(rows); i++) {
        host_start(rows[i].args);
        struct peer p;
        struct raw a, b;
        peer_start(&p, NULL);
        CU_ASSERT_EQUAL(p.any.hello_ok.stream_window, rows[i].stream);
        CU_ASSERT_EQUAL(p.any.hello_ok.session_window, rows[i].session);
        uint16_t port = peer_bind(&p, WIRE_KIND_TCP, 0);
        raw_connect(&a, port);
        fill(&a, 256 * 1024);
        raw_connect(&b, port);
        fill(&b, 256 * 1024);
        bool shared = rows[i].session < 2 * rows[i].stream;
        uint64_t most = shared ? rows[i].session : 2 * rows[i].stream;
        UNTIL(data_bytes(&p, 0) == most);
        for (int turns = 0; turns < 5; turns++)
            ready_turn();
        CU_ASSERT_EQUAL(data_bytes(&p, 0), most);
        CU_ASSERT(data_bytes(&p, 2) <= rows[i].stream && data_bytes(&p, 4) <= rows[i].stream);
        struct wire_window w = {.increment = 1000};
        peer_add(&p, WIRE_WINDOW, 2, &w);
        peer_add(&p, WIRE_WINDOW, 0, &w);
        peer_flush(&p);
        UNTIL(data_bytes(&p, 0) == most + 1000);
        raw_close(&a);
        raw_close(&b);
        peer_bye(&p);
        host_stop();
    }
}

/* ---- timers ---- */

static void slow_services_and_slow_visitors(void) {
    host_start("--response-timeout 150ms --head-timeout 100ms --keepalive-timeout 100ms");
    struct peer p;
    struct raw late, head, idle;
    peer_start(&p, NULL);
    uint16_t port = peer_bind(&p, WIRE_KIND_HTTP, 0);
    raw_connect(&late, port);
    raw_send(&late, GET("/never"));
    raw_connect(&head, port);
    raw_send(&head, "GET / HTTP/1.1\r\nHost:");
    UNTIL(raw_ended(&late) && raw_ended(&head));
    CU_ASSERT_EQUAL(strncmp(raw_text(&late), "HTTP/1.1 504 ", 13), 0);
    CU_ASSERT_EQUAL(strncmp(raw_text(&head), "HTTP/1.1 408 ", 13), 0);
    raw_close(&late);
    raw_close(&head);
    peer_expect(&p, WIRE_STREAM_OPEN);
    peer_expect(&p, WIRE_EOF);
    peer_expect(&p, WIRE_RESET);
    /* Between two requests. */
    raw_connect(&idle, port);
    raw_send(&idle, "GET /one HTTP/1.1\r\nHost: a\r\n\r\n");
    answer_one(&p, "/one", "1");
    UNTIL(raw_ended(&idle));
    CU_ASSERT_STRING_EQUAL(raw_body(&idle), "1");
    raw_close(&idle);
    UNTIL(kit_visitors(host.kit) == 0);
    peer_bye(&p);
    host_stop();
}

static void a_quiet_half_closed_connection_ends(void) {
    host_start("--half-close-timeout 100ms");
    struct peer p;
    struct raw r;
    peer_start(&p, NULL);
    uint16_t port = peer_bind(&p, WIRE_KIND_TCP, 0);
    raw_connect(&r, port);
    raw_send(&r, "x");
    peer_expect(&p, WIRE_STREAM_OPEN);
    const struct got_frame *f = peer_expect(&p, WIRE_DATA);
    struct wire_window w = {.increment = 1};
    peer_send(&p, WIRE_WINDOW, f->stream_id, &w);
    CU_ASSERT_EQUAL(shutdown(r.fd, SHUT_WR), 0);
    UNTIL(raw_ended(&r)); /* this driver never answers with an EOF of its own */
    UNTIL(kit_streams(host.kit) == 0 && kit_visitors(host.kit) == 0);
    raw_close(&r);
    peer_bye(&p);
    host_stop();
}

/* Rule KEEP-3: a binding or a stream keeps a session, however quiet. */
static void only_an_empty_session_is_idle(void) {
    host_start("--idle-timeout 100ms");
    struct peer p;
    peer_start(&p, NULL);
    peer_bind(&p, WIRE_KIND_HTTP, 0);
    wait_ms(300);
    CU_ASSERT_FALSE(p.closed);
    CU_ASSERT_EQUAL(kit_sessions_live(host.kit), 1);
    struct wire_unbind u = {.bind_id = 1};
    peer_send(&p, WIRE_UNBIND, 0, &u);
    peer_expect(&p, WIRE_UNBIND_OK);
    uint64_t start = ht_now_ms();
    peer_expect(&p, WIRE_GOAWAY);
    CU_ASSERT(ht_now_ms() - start >= 90);
    CU_ASSERT_EQUAL(p.any.goaway.code, WIRE_GOAWAY_IDLE_CODE);
    UNTIL(p.closed);
    peer_drop(&p);
    host_stop();
}

static uint64_t round_trips(void) {
    const struct ht_metrics_ping_rtt_seconds *h = &kit_metrics(host.kit)->ping_rtt_seconds;
    uint64_t n = 0;
    for (size_t i = 0; i < HT_ARRAY_LEN(h->bucket); i++)
        n += h->bucket[i];
    return n;
}

/* Keepalive on the protocol's level: a driver that answers stays, and each round trip is counted once. */
static void answered_pings_keep_a_session(void) {
    host_start("--ping-interval 100ms --pong-timeout 300ms");
    struct peer p;
    peer_start(&p, NULL);
    peer_bind(&p, WIRE_KIND_HTTP, 0);
    unsigned pings = 0;
    while (pings < 3) {
        UNTIL(p.n_read < p.n_frames);
        const struct got_frame *f = &p.frames[p.n_read++];
        CU_ASSERT_EQUAL_FATAL(f->type, WIRE_PING);
        peer_add_raw(&p, WIRE_PONG, 0, p.bytes.data + f->at, f->len);
        peer_flush(&p);
        pings++;
        UNTIL(round_trips() == pings);
    }
    CU_ASSERT_EQUAL(round_trips(), 3);
    CU_ASSERT(kit_metrics(host.kit)->pings_total[HT_METRIC_DIRECTION_SENT] >= 3);
    CU_ASSERT_FALSE(p.closed);
    peer_bye(&p);
    host_stop();
}

/* ---- descriptors ---- */

static void permits_are_counted_and_given_back(void) {
    host_start("--max-fds 4");
    struct peer p;
    struct raw r[2], more;
    char id[64];
    peer_start(&p, id);
    uint16_t http = peer_bind(&p, WIRE_KIND_HTTP, 0), tcp = peer_bind(&p, WIRE_KIND_TCP, 0);
    CU_ASSERT_EQUAL(kit_fd_permits_used(host.kit), 2);
    raw_connect(&r[0], http);
    raw_connect(&r[1], tcp);
    UNTIL(kit_fd_permits_used(host.kit) == 4);
    CU_ASSERT_EQUAL(raw_ask(&more, http, GET("/")), 503);
    CU_ASSERT_PTR_NOT_NULL(strstr(raw_body(&more), "no file descriptors left"));
    raw_close(&more);
    raw_connect(&more, tcp);
    UNTIL(raw_ended(&more));
    raw_close(&more);
    /* A binding needs one too. */
    struct wire_bind b = {.has_client_bind_ref = true, .kind = WIRE_KIND_HTTP, .mode = WIRE_MODE_EXPOSE};
    peer_expect(&p, WIRE_STREAM_OPEN);
    peer_send(&p, WIRE_BIND, 0, &b);
    peer_expect(&p, WIRE_BIND_ERR);
    CU_ASSERT_EQUAL(p.any.bind_err.code, WIRE_BIND_ERROR_INTERNAL);
    raw_close(&r[0]);
    UNTIL(kit_fd_permits_used(host.kit) == 3);
    raw_close(&r[1]);
    peer_drop(&p);
    UNTIL(kit_sessions_parked(host.kit) == 1);
    UNTIL(kit_fd_permits_used(host.kit) == 2); /* a parked session holds its listeners and nothing else */
    peer_resume(&p, id);
    peer_bye(&p);
    UNTIL(kit_fd_permits_used(host.kit) == 0);
    host_stop();
}

/* Lowers the soft limit so far that no new descriptor fits in, and gives back what it was. */
static struct rlimit without_descriptors(void) {
    struct rlimit was, none;
    int lowest = dup(2); /* the first number that is free */
    CU_ASSERT_FATAL(lowest >= 0);
    close(lowest);
    getrlimit(RLIMIT_NOFILE, &was);
    none = (struct rlimit){(rlim_t)lowest, was.rlim_max};
    CU_ASSERT_EQUAL(setrlimit(RLIMIT_NOFILE, &none), 0);
    return was;
}

/* Hardening 22: no descriptor for the next connection, on the base listener and on a port alike. */
static void accept_recovers_by_itself(void) {
    host_start("");
    struct peer p;
    struct raw base, visitor, r;
    peer_start(&p, NULL);
    uint16_t port = peer_bind(&p, WIRE_KIND_HTTP, 0);
    raw_connect(&base, host.port);
    raw_connect(&visitor, port);
    struct rlimit was = without_descriptors();
    uint64_t end = ht_now_ms() + PATIENCE_MS;
    unsigned turns = 0;
    while (ht_now_ms() < end && !(raw_ended(&base) && raw_ended(&visitor))) {
        one_turn();
        turns++;
    }
    uint64_t failed = kit_metrics(host.kit)->accept_errors_total;
    setrlimit(RLIMIT_NOFILE, &was);
    CU_ASSERT(base.eof && visitor.eof); /* taken with the reserve, and let go: nobody hangs */
    CU_ASSERT_EQUAL(failed, 2);
    CU_ASSERT(turns < 1000); /* no spinning */
    raw_close(&base);
    raw_close(&visitor);
    CU_ASSERT_EQUAL(
        raw_ask(&r, host.port, "GET /api/v1/tunnel/health HTTP/1.1\r\nHost: localhost\r\nConnection: close\r\n\r\n"),
        200);
    raw_close(&r);
    get_through(&p, port);
    peer_bye(&p);
    host_stop();
}

int main(void) {
    static const struct tap_test tests[] = {
        {"streams are capped", streams_are_capped},
        {"windows hold the kit back", windows_hold_the_kit_back},
        {"slow services and slow visitors time out", slow_services_and_slow_visitors},
        {"a quiet half-closed connection ends", a_quiet_half_closed_connection_ends},
        {"only an empty session is idle", only_an_empty_session_is_idle},
        {"answered PINGs keep a session", answered_pings_keep_a_session},
        {"permits are counted and given back", permits_are_counted_and_given_back},
        {"accept recovers by itself", accept_recovers_by_itself},
        {NULL, NULL},
    };
    return tap_main("limits", tests);
}
