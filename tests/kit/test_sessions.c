/* What a session lives through: bindings, visitors, losing its driver, its end. */
#include "peer.h"

/* ---- bindings ---- */

static void try_bind(struct peer *p, const char *json, enum wire_bind_error code, const char *ref, const char *word) {
    peer_send_text(p, WIRE_BIND, 0, json);
    peer_expect(p, WIRE_BIND_ERR);
    const struct wire_bind_err *e = &p->any.bind_err;
    CU_ASSERT_EQUAL(e->code, code);
    CU_ASSERT_EQUAL(e->has_client_bind_ref, ref != NULL);
    if (ref)
        CU_ASSERT_EQUAL(e->client_bind_ref, strtoull(ref, NULL, 10));
    char text[512];
    snprintf(text, sizeof text, "%.*s", HT_SLICE_ARG(e->message));
    CU_ASSERT_PTR_NOT_NULL(strstr(text, word));
    if (e->code != code || !strstr(text, word))
        printf("# %s: %s: %s\n", json, wire_bind_error_text(e->code), text);
}

static void bind_errors_say_why(void) {
    host_start("--max-bindings-per-session 2 --reserved-ports 3998-4000");
    struct peer p, q;
    char json[256];
    peer_start(&p, NULL);
#define EXPOSE "\"kind\":\"http\",\"mode\":\"expose\""
#define PULL "\"kind\":\"tcp\",\"mode\":\"pull\""
    try_bind(&p, "{\"clientBindRef\":1," EXPOSE ",\"containerPort\":3999}", WIRE_BIND_ERROR_RESERVED_PORT, "1", "3999");
    try_bind(&p, "{\"clientBindRef\":2," EXPOSE ",\"containerPort\":79}", WIRE_BIND_ERROR_RESERVED_PORT, "2", "79");
    snprintf(json, sizeof json, "{\"clientBindRef\":3," PULL ",\"containerPort\":%u}", host.port);
    try_bind(&p, json, WIRE_BIND_ERROR_RESERVED_PORT, "3", "");
    try_bind(&p, "{\"clientBindRef\":4," EXPOSE ",\"containerPort\":80}", WIRE_BIND_ERROR_PRIVILEGED_PORT, "4", "80");
    try_bind(&p, "{\"clientBindRef\":5," PULL ",\"containerPort\":1023}", WIRE_BIND_ERROR_PRIVILEGED_PORT, "5", "1023");
    try_bind(&p, "{\"clientBindRef\":6,\"kind\":\"http\",\"mode\":\"pull\"}", WIRE_BIND_ERROR_INVALID_KIND, "6", "");
    try_bind(&p, "{\"clientBindRef\":7,\"kind\":\"udp\",\"mode\":\"expose\"}", WIRE_BIND_ERROR_INVALID_KIND, "7", "");
    try_bind(&p, "{\"clientBindRef\":8," PULL ",\"takeover\":true}", WIRE_BIND_ERROR_INVALID_KIND, "8", "");
    try_bind(&p, "{\"clientBindRef\":9," PULL ",\"host\":\"10.0.0.1\"}", WIRE_BIND_ERROR_INVALID_HOST, "9", "");
    /* What cannot be understood is answered too, with the ref when there is one (rule BIND-5). */
    try_bind(&p, "{\"clientBindRef\":10," EXPOSE ",\"containerPort\":65536}", WIRE_BIND_ERROR_INTERNAL, "10",
             "containerPort");
    try_bind(&p, "{\"clientBindRef\":11," EXPOSE ",\"containerPort\":\"x\"}", WIRE_BIND_ERROR_INTERNAL, "11",
             "containerPort");
    try_bind(&p, "{\"clientBindRef\":12,\"mode\":\"expose\"}", WIRE_BIND_ERROR_INTERNAL, "12", "kind");
    try_bind(&p, "{" EXPOSE "}", WIRE_BIND_ERROR_INTERNAL, NULL, "clientBindRef");
    try_bind(&p, "nonsense", WIRE_BIND_ERROR_INTERNAL, NULL, "");

    uint16_t port = peer_bind(&p, WIRE_KIND_HTTP, 0);
    CU_ASSERT(port >= WIRE_LIMIT_RANDOM_PORT_MIN && port <= WIRE_LIMIT_RANDOM_PORT_MAX);
    CU_ASSERT_EQUAL(p.any.bind_ok.bind_id, 1);
    CU_ASSERT_FALSE(p.any.bind_ok.has_public_url);
    peer_start(&q, NULL);
    snprintf(json, sizeof json, "{\"clientBindRef\":20," EXPOSE ",\"containerPort\":%u}", port);
    try_bind(&q, json, WIRE_BIND_ERROR_ALREADY_BOUND, "20", "");
    peer_bind(&p, WIRE_KIND_TCP, 0);
    CU_ASSERT_EQUAL(p.any.bind_ok.bind_id, 2);
    try_bind(&p, "{\"clientBindRef\":21," EXPOSE "}", WIRE_BIND_ERROR_BIND_CAP_EXCEEDED, "21", "");
    CU_ASSERT_EQUAL(kit_metrics(host.kit)->bind_errors_total[HT_METRIC_BIND_ERROR_RESERVED_PORT], 3);
    peer_bye(&p);
    peer_bye(&q);
    host_stop();
}

static void unbind_gives_the_port_back(void) {
    host_start("--public-url-pattern https://app-{port}.example");
    struct peer p;
    peer_start(&p, NULL);
    uint16_t port = peer_bind(&p, WIRE_KIND_HTTP, 0);
    char url[64];
    snprintf(url, sizeof url, "https://app-%u.example", port);
    CU_ASSERT(p.any.bind_ok.has_public_url && ht_slice_is(p.any.bind_ok.public_url, url));
    struct wire_unbind u = {.bind_id = 1};
    peer_send(&p, WIRE_UNBIND, 0, &u);
    peer_expect(&p, WIRE_UNBIND_OK);
    CU_ASSERT_EQUAL(p.any.unbind_ok.bind_id, 1);
    CU_ASSERT(port_refuses(port));
    peer_send(&p, WIRE_UNBIND, 0, &u);
    peer_expect(&p, WIRE_UNBIND_ERR);
    CU_ASSERT_EQUAL(p.any.unbind_err.bind_id, 1);
    peer_bye(&p);
    host_stop();
}

/* ---- visitors ---- */

static void a_visitor_is_served(void) {
    host_start("");
    struct peer p;
    peer_start(&p, NULL);
    uint16_t port = peer_bind(&p, WIRE_KIND_HTTP, 0);
    get_through(&p, port);
    get_through(&p, port);
    UNTIL(kit_streams(host.kit) == 0);
    peer_bye(&p);
    host_stop();
}

static void bytes_are_pulled(void) {
    host_start("");
    struct peer p;
    struct raw r;
    peer_start(&p, NULL);
    uint16_t port = peer_bind(&p, WIRE_KIND_TCP, 0);
    raw_connect(&r, port);
    raw_send(&r, "ping");
    const struct got_frame *f = peer_expect(&p, WIRE_STREAM_OPEN);
    uint32_t id = f->stream_id;
    CU_ASSERT_EQUAL(id, 2);
    CU_ASSERT_EQUAL(p.any.stream_open.container_port, port);
    f = peer_expect(&p, WIRE_DATA);
    CU_ASSERT(ht_slice_is(peer_payload(&p, f), "ping"));
    /* Credit as a published driver gives it: the first WINDOW says that its local connection stands. */
    struct wire_window credit = {.increment = 4};
    peer_add(&p, WIRE_WINDOW, id, &credit);
    peer_add(&p, WIRE_WINDOW, 0, &credit);
    peer_add_raw(&p, WIRE_DATA, id, "pong", 4);
    peer_add_raw(&p, WIRE_EOF, id, NULL, 0);
    peer_flush(&p);
    UNTIL(raw_ended(&r));
    CU_ASSERT_STRING_EQUAL(raw_text(&r), "pong");
    raw_close(&r);
    peer_expect(&p, WIRE_EOF);
    UNTIL(kit_visitors(host.kit) == 0);
    peer_bye(&p);
    host_stop();
}

/* ---- losing the driver ---- */

static void a_lost_driver_finds_its_ports_again(void) {
    host_start("--takeover-grace 60s");
    struct peer p, q;
    struct raw r;
    char id[64], again[64];
    peer_start(&p, id);
    uint16_t port = peer_bind(&p, WIRE_KIND_HTTP, 0);
    get_through(&p, port);
    peer_drop(&p);
    UNTIL(kit_sessions_parked(host.kit) == 1);
    CU_ASSERT_EQUAL(kit_sessions_live(host.kit), 0);
    CU_ASSERT_EQUAL(raw_ask(&r, port, GET("/")), 503);
    CU_ASSERT_PTR_NOT_NULL(strcasestr(raw_text(&r), "\r\nRetry-After: 5\r\n"));
    raw_close(&r);
    /* The port is held. */
    peer_start(&q, NULL);
    struct wire_bind b = {
        .has_client_bind_ref = true, .kind = WIRE_KIND_HTTP, .mode = WIRE_MODE_EXPOSE, .container_port = port};
    peer_send(&q, WIRE_BIND, 0, &b);
    peer_expect(&q, WIRE_BIND_ERR);
    CU_ASSERT_EQUAL(q.any.bind_err.code, WIRE_BIND_ERROR_ALREADY_BOUND);
    peer_bye(&q);

    peer_resume(&p, id);
    const struct wire_hello_ok *ok = &p.any.hello_ok;
    snprintf(again, sizeof again, "%.*s", HT_SLICE_ARG(ok->session_id));
    CU_ASSERT_STRING_EQUAL(again, id);
    CU_ASSERT(ok->resumed);
    CU_ASSERT_EQUAL_FATAL(ok->n_resumed_binds, 1);
    CU_ASSERT_EQUAL(ok->resumed_binds[0].bind_id, 1);
    CU_ASSERT_EQUAL(ok->resumed_binds[0].container_port, port);
    CU_ASSERT_EQUAL(ok->resumed_binds[0].kind, WIRE_KIND_HTTP);
    CU_ASSERT_EQUAL(ok->resumed_binds[0].mode, WIRE_MODE_EXPOSE);
    CU_ASSERT_EQUAL(kit_sessions_parked(host.kit), 0);
    CU_ASSERT_EQUAL(kit_sessions_live(host.kit), 1);
    /* A published driver is given a moment (rule RESUME-5), then stream ids go on: 2 was used before. */
    CU_ASSERT_EQUAL(raw_ask(&r, port, GET("/")), 503);
    raw_close(&r);
    uint64_t start = ht_now_ms();
    UNTIL(ht_now_ms() - start > WIRE_LIMIT_RESUME_SETTLE);
    raw_connect(&r, port);
    raw_send(&r, GET("/again"));
    answer_one(&p, "/again", "still here");
    UNTIL(raw_ended(&r));
    CU_ASSERT_EQUAL(p.frames[p.n_read - 1].stream_id, 4);
    raw_close(&r);
    peer_bye(&p);
    UNTIL(port_refuses(port));
    host_stop();
}

static void a_resume_supersedes_a_socket_that_still_lives(void) {
    host_start("");
    struct peer p, q;
    struct raw r;
    char id[64];
    peer_start(&p, id);
    uint16_t port = peer_bind(&p, WIRE_KIND_HTTP, 0);
    /* A request is under way: its stream does not survive. */
    raw_connect(&r, port);
    raw_send(&r, GET("/slow"));
    peer_expect(&p, WIRE_STREAM_OPEN);
    peer_resume(&q, id);
    CU_ASSERT(q.any.hello_ok.resumed);
    CU_ASSERT_EQUAL(q.any.hello_ok.n_resumed_binds, 1);
    UNTIL(raw_ended(&r));
    CU_ASSERT_EQUAL(strncmp(raw_text(&r), "HTTP/1.1 503 ", 13), 0);
    raw_close(&r);
    peer_expect(&p, WIRE_EOF);
    peer_expect(&p, WIRE_GOAWAY);
    CU_ASSERT_EQUAL(p.any.goaway.code, WIRE_GOAWAY_SUPERSEDED_CODE);
    UNTIL(p.closed);
    CU_ASSERT_EQUAL(p.close_code, WIRE_GOAWAY_SUPERSEDED_CLOSE);
    peer_drop(&p);
    /* The late end of the old socket changes nothing (hardening 18). */
    UNTIL(kit_websockets(host.kit) == 1);
    CU_ASSERT_EQUAL(kit_sessions_live(host.kit), 1);
    CU_ASSERT_EQUAL(kit_sessions_parked(host.kit), 0);
    uint64_t start = ht_now_ms();
    UNTIL(ht_now_ms() - start > WIRE_LIMIT_RESUME_SETTLE);
    get_through(&q, port);
    CU_ASSERT_EQUAL(kit_metrics(host.kit)->resumes_total, 1);
    CU_ASSERT_EQUAL(kit_metrics(host.kit)->sessions_total, 1);
    peer_bye(&q);
    host_stop();
}

static void an_unknown_session_is_a_fresh_one(void) {
    host_start("");
    struct peer p;
    peer_resume(&p, "S-00000000-0000-4000-8000-000000000000");
    CU_ASSERT_FALSE(p.any.hello_ok.resumed);
    CU_ASSERT_FALSE(ht_slice_is(p.any.hello_ok.session_id, "S-00000000-0000-4000-8000-000000000000"));
    peer_bye(&p);
    host_stop();
}

static void the_grace_ends(void) {
    host_start("--takeover-grace 100ms");
    struct peer p;
    char id[64];
    peer_start(&p, id);
    uint16_t port = peer_bind(&p, WIRE_KIND_HTTP, 0);
    peer_drop(&p);
    UNTIL(kit_sessions_parked(host.kit) == 1);
    UNTIL(kit_sessions_parked(host.kit) == 0);
    CU_ASSERT(port_refuses(port));
    peer_resume(&p, id);
    CU_ASSERT_FALSE(p.any.hello_ok.resumed);
    peer_bye(&p);
    host_stop();
}

static void without_grace_nothing_is_parked(void) {
    host_start("--takeover-grace 0");
    struct peer p;
    peer_start(&p, NULL);
    uint16_t port = peer_bind(&p, WIRE_KIND_HTTP, 0);
    peer_drop(&p);
    UNTIL(kit_sessions_live(host.kit) == 0);
    CU_ASSERT_EQUAL(kit_sessions_parked(host.kit), 0);
    CU_ASSERT(port_refuses(port));
    host_stop();
}

static void the_oldest_parked_goes_first(void) {
    host_start("--max-sessions 2");
    struct peer p;
    char id[3][64];
    for (int i = 0; i < 3; i++) {
        peer_start(&p, id[i]);
        peer_bind(&p, WIRE_KIND_HTTP, 0);
        peer_drop(&p);
        UNTIL(kit_sessions_live(host.kit) == 0);
    }
    CU_ASSERT_EQUAL(kit_sessions_parked(host.kit), 2);
    peer_resume(&p, id[0]);
    CU_ASSERT_FALSE(p.any.hello_ok.resumed);
    peer_bye(&p);
    peer_resume(&p, id[1]);
    CU_ASSERT(p.any.hello_ok.resumed);
    peer_bye(&p);
    host_stop();
}

/* How the socket ends decides whether the session is parked (section 7 of the protocol). */
static void only_a_goodbye_is_final(void) {
    static const struct {
        int close; /* 0: no code; -1: GOAWAY */
        unsigned parked;
    } rows[] = {{0, 0}, {1000, 0}, {-1, 0}, {1001, 1}, {1011, 1}, {4000, 1}};
    host_start("");
    unsigned parked = 0;
    for (size_t i = 0; i < HT_ARRAY_LEN(rows); i++) {
        struct peer p;
        peer_start(&p, NULL);
        if (rows[i].close < 0) {
            struct wire_goaway bye = {.code = WIRE_CODE_NO_ERROR, .message = ht_slice_str("bye")};
            peer_send(&p, WIRE_GOAWAY, 0, &bye);
        } else {
            ws_conn_close(p.ws, (uint16_t)rows[i].close, NULL);
        }
        UNTIL(p.closed);
        peer_drop(&p);
        UNTIL(kit_sessions_live(host.kit) == 0);
        parked += rows[i].parked;
        CU_ASSERT_EQUAL(kit_sessions_parked(host.kit), parked);
    }
    host_stop();
}

static void a_takeover_tells_the_old_driver(void) {
    host_start("");
    struct peer p, q;
    peer_start(&p, NULL);
    peer_start(&q, NULL);
    uint16_t port = peer_bind(&p, WIRE_KIND_HTTP, 0);
    struct wire_bind b = {.has_client_bind_ref = true,
                          .client_bind_ref = 7,
                          .kind = WIRE_KIND_HTTP,
                          .mode = WIRE_MODE_EXPOSE,
                          .container_port = port,
                          .takeover = true};
    peer_send(&q, WIRE_BIND, 0, &b);
    peer_expect(&q, WIRE_BIND_OK);
    CU_ASSERT_EQUAL(q.any.bind_ok.container_port, port);
    peer_expect(&p, WIRE_BIND_REVOKED);
    CU_ASSERT_EQUAL(p.any.bind_revoked.bind_id, 1);
    get_through(&q, port);
    peer_bye(&p);
    get_through(&q, port);
    peer_bye(&q);
    host_stop();
}

/* ---- the end ---- */

static void an_idle_session_ends(void) {
    host_start("--idle-timeout 100ms");
    struct peer p;
    peer_start(&p, NULL);
    peer_expect(&p, WIRE_GOAWAY);
    CU_ASSERT_EQUAL(p.any.goaway.code, WIRE_GOAWAY_IDLE_CODE);
    CU_ASSERT(ht_slice_is(p.any.goaway.message, "session idle timeout"));
    UNTIL(p.closed);
    peer_drop(&p);
    UNTIL(kit_sessions_live(host.kit) == 0);
    CU_ASSERT_EQUAL(kit_sessions_parked(host.kit), 0);
    host_stop();
}

static void a_driver_that_does_not_answer_is_parked(void) {
    host_start("--ping-interval 100ms --pong-timeout 100ms");
    struct peer p;
    peer_start(&p, NULL);
    peer_bind(&p, WIRE_KIND_HTTP, 0);
    peer_expect(&p, WIRE_GOAWAY);
    CU_ASSERT_EQUAL(p.any.goaway.code, WIRE_GOAWAY_PONG_TIMEOUT_CODE);
    CU_ASSERT(ht_slice_is(p.any.goaway.message, "pong timeout"));
    UNTIL(p.closed);
    peer_drop(&p);
    UNTIL(kit_sessions_parked(host.kit) == 1);
    host_stop();
}

static void ping_is_answered(void) {
    host_start("");
    struct peer p;
    peer_start(&p, NULL);
    struct wire_ping ping = {{1, 2, 3, 4, 5, 6, 7, 8}};
    peer_send(&p, WIRE_PING, 0, &ping);
    peer_expect(&p, WIRE_PONG);
    CU_ASSERT_EQUAL(memcmp(p.any.ping.nonce, ping.nonce, 8), 0);
    peer_bye(&p);
    host_stop();
}

static void a_drain_lets_requests_finish(void) {
    host_start("--drain-timeout 5s");
    struct peer p, q, stranger, parked;
    struct raw r, idle;
    peer_start(&parked, NULL);
    uint16_t over[2] = {peer_bind(&parked, WIRE_KIND_HTTP, 0), 0};
    peer_drop(&parked);
    UNTIL(kit_sessions_parked(host.kit) == 1);
    peer_start(&p, NULL);
    peer_start(&q, NULL);
    over[1] = peer_bind(&q, WIRE_KIND_HTTP, 0);
    peer_connect(&stranger);
    raw_connect(&idle, host.port);
    UNTIL(kit_http_clients(host.kit) == 1);
    uint16_t port = peer_bind(&p, WIRE_KIND_HTTP, 0);
    raw_connect(&r, port);
    raw_send(&r, GET("/last"));
    UNTIL(kit_streams(host.kit) == 1);
    kit_drain(host.kit, host_drained, &host);
    /* Nobody new, and whoever asks is told so. */
    struct peer late;
    peer_connect(&late);
    CU_ASSERT_EQUAL(late.status, 503);
    peer_drop(&late);
    struct raw ready;
    CU_ASSERT_EQUAL(raw_ask(&ready, host.port, "GET /readyz HTTP/1.1\r\nHost: localhost\r\n\r\n"), 503);
    CU_ASSERT_PTR_NOT_NULL(strstr(raw_body(&ready), "draining"));
    raw_close(&ready);
    peer_expect(&q, WIRE_GOAWAY);
    CU_ASSERT_EQUAL(q.any.goaway.code, WIRE_CODE_NO_ERROR);
    CU_ASSERT(ht_slice_is(q.any.goaway.message, "shutting down"));
    UNTIL(q.closed && stranger.closed && raw_ended(&idle));
    CU_ASSERT_EQUAL(q.close_code, 1001);
    CU_ASSERT_EQUAL(kit_sessions_parked(host.kit), 0);
    CU_ASSERT_FALSE(host.drained);
    /* Visitors hear 503 on every port, whether its session drains or is over. */
    uint16_t all[] = {port, over[0], over[1]};
    for (size_t i = 0; i < HT_ARRAY_LEN(all); i++) {
        struct raw visitor;
        CU_ASSERT_EQUAL(raw_ask(&visitor, all[i], GET("/new")), 503);
        CU_ASSERT_PTR_NOT_NULL(strcasestr(raw_text(&visitor), "retry-after: 5"));
        raw_close(&visitor);
    }
    /* What was under way finishes, and that is the end. */
    answer_one(&p, "/last", "goodbye");
    UNTIL(raw_ended(&r));
    CU_ASSERT_STRING_EQUAL(raw_body(&r), "goodbye");
    UNTIL(p.closed);
    UNTIL(host.drained);
    CU_ASSERT(port_refuses(host.port) && port_refuses(port) && port_refuses(over[0]) && port_refuses(over[1]));
    raw_close(&r);
    raw_close(&idle);
    peer_drop(&p);
    peer_drop(&q);
    peer_drop(&stranger);
    host_stop();
}

static void a_drain_does_not_wait_for_ever(void) {
    host_start("--drain-timeout 100ms");
    struct peer p;
    struct raw r;
    peer_start(&p, NULL);
    uint16_t port = peer_bind(&p, WIRE_KIND_HTTP, 0);
    raw_connect(&r, port);
    raw_send(&r, GET("/never"));
    peer_expect(&p, WIRE_STREAM_OPEN);
    kit_drain(host.kit, host_drained, &host);
    UNTIL(host.drained);
    UNTIL(raw_ended(&r));
    raw_close(&r);
    UNTIL(p.closed);
    peer_drop(&p);
    host_stop();
}

static void violations_end_the_session(void) {
    host_start("");
    struct peer p;
    peer_start(&p, NULL);
    peer_bind(&p, WIRE_KIND_HTTP, 0);
    peer_add_raw(&p, 0x99, 0, NULL, 0);
    peer_flush(&p);
    peer_expect(&p, WIRE_GOAWAY);
    CU_ASSERT_EQUAL(p.any.goaway.code, WIRE_CODE_PROTOCOL_ERROR);
    UNTIL(p.closed);
    CU_ASSERT_EQUAL(p.close_code, 1002);
    peer_drop(&p);
    UNTIL(kit_sessions_live(host.kit) == 0);
    CU_ASSERT_EQUAL(kit_sessions_parked(host.kit), 0);
    host_stop();
}

static void a_kit_can_be_cut_at_any_time(void) {
    host_start("");
    struct peer p, q;
    struct raw r, idle;
    peer_start(&p, NULL);
    uint16_t port = peer_bind(&p, WIRE_KIND_HTTP, 0);
    peer_bind(&p, WIRE_KIND_TCP, 0);
    peer_connect(&q);
    raw_connect(&r, port);
    raw_send(&r, GET("/"));
    peer_expect(&p, WIRE_STREAM_OPEN);
    raw_connect(&idle, host.port);
    raw_send(&idle, "GET /");
    UNTIL(kit_http_clients(host.kit) == 1);
    kit_destroy(&host.kit);
    UNTIL(p.closed && q.closed && raw_ended(&r) && raw_ended(&idle));
    peer_drop(&p);
    peer_drop(&q);
    raw_close(&r);
    raw_close(&idle);
    io_loop_destroy(&host.loop);
    opt_serve_free(&host.opt);
    CU_ASSERT_EQUAL(ht_mem_live(), host.mem_before);
    CU_ASSERT_EQUAL(io_count_fds(), host.fds_before);
}

int main(void) {
    static const struct tap_test tests[] = {
        {"each refused BIND has its code and reason", bind_errors_say_why},
        {"UNBIND gives the port back", unbind_gives_the_port_back},
        {"a visitor of an EXPOSE port gets the driver's answer", a_visitor_is_served},
        {"a PULL port carries bytes both ways", bytes_are_pulled},
        {"a lost driver finds its ports again", a_lost_driver_finds_its_ports_again},
        {"a resume supersedes a socket that still lives", a_resume_supersedes_a_socket_that_still_lives},
        {"an unknown session is a fresh one", an_unknown_session_is_a_fresh_one},
        {"a parked session ends after the grace", the_grace_ends},
        {"without grace nothing is parked", without_grace_nothing_is_parked},
        {"when there are too many parked sessions the oldest one ends", the_oldest_parked_goes_first},
        {"a session is parked after any close but a goodbye", only_a_goodbye_is_final},
        {"a takeover tells the old driver", a_takeover_tells_the_old_driver},
        {"an idle session ends", an_idle_session_ends},
        {"a driver that does not answer is parked", a_driver_that_does_not_answer_is_parked},
        {"PING is answered", ping_is_answered},
        {"a drain lets requests finish", a_drain_lets_requests_finish},
        {"a drain does not wait for ever", a_drain_does_not_wait_for_ever},
        {"a driver that breaks a rule loses its session", violations_end_the_session},
        {"a kit can be cut at any time", a_kit_can_be_cut_at_any_time},
        {NULL, NULL},
    };
    return tap_main("sessions", tests);
}
