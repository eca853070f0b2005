/* Sessions without a driver, who may claim them, and how a port changes hands. */
#include "peer.h"

#define PORTS 8

/* A connection to a pull port that nobody serves: taken, and closed without a byte. */
static void closed_at_once(uint16_t port) {
    struct raw r;
    raw_connect(&r, port);
    UNTIL(raw_ended(&r));
    CU_ASSERT_EQUAL(ht_buf_size(&r.in), 0);
    raw_close(&r);
}

static void wait_for_settle(void) {
    uint64_t start = ht_now_ms();
    UNTIL(ht_now_ms() - start > WIRE_LIMIT_RESUME_SETTLE);
}

static void refused_as_bound(struct peer *p, enum wire_kind kind, uint16_t port) {
    struct wire_bind b = {
        .has_client_bind_ref = true,
        .kind = kind,
        .mode = kind == WIRE_KIND_HTTP ? WIRE_MODE_EXPOSE : WIRE_MODE_PULL,
        .container_port = port,
    };
    peer_send(p, WIRE_BIND, 0, &b);
    peer_expect(p, WIRE_BIND_ERR);
    CU_ASSERT_EQUAL(p->any.bind_err.code, WIRE_BIND_ERROR_ALREADY_BOUND);
}

static void a_pull_port_is_held_and_serves_nobody(void) {
    host_start("");
    struct peer p, q;
    struct raw r;
    char id[64];
    peer_start(&p, id);
    uint16_t port = peer_bind(&p, WIRE_KIND_TCP, 0);
    /* A connection that stands when the driver is lost is cut. */
    raw_connect(&r, port);
    peer_expect(&p, WIRE_STREAM_OPEN);
    peer_drop(&p);
    UNTIL(kit_sessions_parked(host.kit) == 1);
    UNTIL(raw_ended(&r));
    raw_close(&r);
    for (int i = 0; i < 3; i++)
        closed_at_once(port);
    peer_start(&q, NULL);
    refused_as_bound(&q, WIRE_KIND_TCP, port);
    peer_resume(&p, id);
    CU_ASSERT_EQUAL_FATAL(p.any.hello_ok.n_resumed_binds, 1);
    CU_ASSERT_EQUAL(p.any.hello_ok.resumed_binds[0].kind, WIRE_KIND_TCP);
    CU_ASSERT_EQUAL(p.any.hello_ok.resumed_binds[0].mode, WIRE_MODE_PULL);
    CU_ASSERT_EQUAL(p.any.hello_ok.resumed_binds[0].container_port, port);
    wait_for_settle();
    raw_connect(&r, port);
    peer_expect(&p, WIRE_STREAM_OPEN);
    raw_close(&r);
    peer_bye(&p);
    peer_bye(&q);
    host_stop();
}

static void a_resume_brings_every_binding_back(void) {
    host_start("");
    struct peer p;
    struct raw r;
    char id[64];
    uint16_t port[PORTS];
    uint32_t last = 0;
    peer_start(&p, id);
    for (int i = 0; i < PORTS; i++)
        port[i] = peer_bind(&p, i % 2 ? WIRE_KIND_TCP : WIRE_KIND_HTTP, 0);
    for (int round = 0; round < 3; round++) {
        peer_drop(&p);
        UNTIL(kit_sessions_parked(host.kit) == 1);
        for (int i = 0; i < PORTS; i++) {
            if (i % 2) {
                closed_at_once(port[i]);
                continue;
            }
            CU_ASSERT_EQUAL(raw_ask(&r, port[i], GET("/")), 503);
            CU_ASSERT_PTR_NOT_NULL(strcasestr(raw_text(&r), "\r\nRetry-After: 5\r\n"));
            raw_close(&r);
        }
        CU_ASSERT_EQUAL(kit_metrics(host.kit)->visitor_responses_total[HT_METRIC_CLASS_PARKED], 4u * (round + 1u));
        peer_resume(&p, id);
        CU_ASSERT_EQUAL_FATAL(p.any.hello_ok.n_resumed_binds, PORTS);
        for (unsigned i = 0; i < PORTS; i++) {
            CU_ASSERT_EQUAL(p.any.hello_ok.resumed_binds[i].bind_id, i + 1);
            CU_ASSERT_EQUAL(p.any.hello_ok.resumed_binds[i].container_port, port[i]);
        }
        wait_for_settle();
        for (unsigned i = 0; i < PORTS; i++) {
            raw_connect(&r, port[i]);
            if (i % 2 == 0)
                raw_send(&r, GET("/"));
            const struct got_frame *f = peer_expect(&p, WIRE_STREAM_OPEN);
            CU_ASSERT(f->stream_id > last); /* rule STREAM-1: never used twice */
            last = f->stream_id;
            CU_ASSERT_EQUAL(p.any.stream_open.bind_id, i + 1);
            struct wire_reset reset = {.code = WIRE_CODE_REFUSED_STREAM};
            peer_send(&p, WIRE_RESET, last, &reset);
            UNTIL(raw_ended(&r));
            raw_close(&r);
            if (i % 2 == 0)
                peer_expect(&p, WIRE_EOF);
        }
    }
    CU_ASSERT_EQUAL(kit_metrics(host.kit)->resumes_total, 3);
    peer_bye(&p);
    UNTIL(kit_fd_permits_used(host.kit) == 0);
    host_stop();
}

/* Hardening 18. Whether the session is parked or live: both are answered, one holds it in the end. */
static void two_claims_have_one_winner(void) {
    for (int parked = 0; parked < 2; parked++) {
        host_start("--max-sessions 1");
        struct peer first, a, b;
        char id[64];
        peer_start(&first, id);
        uint16_t port = peer_bind(&first, WIRE_KIND_HTTP, 0);
        if (parked) {
            peer_drop(&first);
            UNTIL(kit_sessions_parked(host.kit) == 1);
        }
        struct wire_hello h = {.version = WIRE_V1, .has_resume = true, .resume = {.session_id = ht_slice_str(id)}};
        peer_connect(&a);
        peer_connect(&b);
        peer_add(&a, WIRE_HELLO, 0, &h);
        peer_add(&b, WIRE_HELLO, 0, &h);
        ws_conn_want_send(a.ws);
        ws_conn_want_send(b.ws);
        peer_expect(&a, WIRE_HELLO_OK);
        CU_ASSERT(a.any.hello_ok.resumed);
        peer_expect(&b, WIRE_HELLO_OK);
        CU_ASSERT(b.any.hello_ok.resumed);
        UNTIL(a.closed || b.closed);
        struct peer *winner = a.closed ? &b : &a, *loser = a.closed ? &a : &b;
        peer_expect(loser, WIRE_GOAWAY);
        CU_ASSERT_EQUAL(loser->any.goaway.code, WIRE_GOAWAY_SUPERSEDED_CODE);
        peer_drop(loser);
        if (!parked) {
            UNTIL(first.closed);
            peer_drop(&first);
        }
        UNTIL(kit_websockets(host.kit) == 1);
        CU_ASSERT_EQUAL(kit_sessions_live(host.kit), 1);
        CU_ASSERT_EQUAL(kit_sessions_parked(host.kit), 0);
        wait_for_settle();
        get_through(winner, port);
        peer_bye(winner);
        host_stop();
    }
}

static void a_resume_of_a_parked_session_needs_a_place(void) {
    host_start("--max-sessions 1");
    struct peer p, q;
    char id[64];
    peer_start(&p, id);
    peer_bind(&p, WIRE_KIND_HTTP, 0);
    peer_drop(&p);
    UNTIL(kit_sessions_parked(host.kit) == 1);
    peer_start(&q, NULL); /* a parked one does not count */
    struct wire_hello h = {.version = WIRE_V1, .has_resume = true, .resume = {.session_id = ht_slice_str(id)}};
    peer_connect(&p);
    peer_hello(&p, &h);
    peer_expect(&p, WIRE_GOAWAY);
    CU_ASSERT_EQUAL(p.any.goaway.code, WIRE_GOAWAY_SESSION_LIMIT_CODE);
    UNTIL(p.closed);
    peer_drop(&p);
    CU_ASSERT_EQUAL(kit_sessions_parked(host.kit), 1); /* and it is still there to come back to */
    peer_bye(&q);
    UNTIL(kit_sessions_live(host.kit) == 0);
    peer_resume(&p, id);
    CU_ASSERT(p.any.hello_ok.resumed);
    peer_bye(&p);
    host_stop();
}

/* A dead link and a grace of 0: nothing stays. */
static void without_grace_a_late_pong_is_the_end(void) {
    host_start("--takeover-grace 0 --ping-interval 100ms --pong-timeout 100ms");
    struct peer p;
    peer_start(&p, NULL);
    uint16_t port = peer_bind(&p, WIRE_KIND_HTTP, 0);
    peer_expect(&p, WIRE_GOAWAY);
    UNTIL(p.closed);
    peer_drop(&p);
    UNTIL(kit_sessions_live(host.kit) == 0);
    CU_ASSERT_EQUAL(kit_sessions_parked(host.kit), 0);
    CU_ASSERT(port_refuses(port));
    CU_ASSERT_EQUAL(kit_fd_permits_used(host.kit), 0);
    host_stop();
}

static void a_killed_orphan_goes_at_once(void) {
    host_start("");
    struct peer p;
    struct raw r;
    char id[64], request[256];
    peer_start(&p, id);
    uint16_t port = peer_bind(&p, WIRE_KIND_HTTP, 0);
    peer_drop(&p);
    UNTIL(kit_sessions_parked(host.kit) == 1);
    snprintf(request, sizeof request,
             "DELETE /api/v1/tunnel/sessions/%s?grace_ms=5000 HTTP/1.1\r\nHost: localhost\r\nConnection: close\r\n\r\n",
             id);
    CU_ASSERT_EQUAL(raw_ask(&r, host.port, request), 202);
    raw_close(&r);
    CU_ASSERT_EQUAL(kit_sessions_parked(host.kit), 0);
    CU_ASSERT(port_refuses(port));
    CU_ASSERT_EQUAL(raw_ask(&r, host.port, request), 404);
    raw_close(&r);
    peer_resume(&p, id);
    CU_ASSERT_FALSE(p.any.hello_ok.resumed);
    peer_bye(&p);
    host_stop();
}

/* ---- takeover ---- */

static void take_port(struct peer *p, uint16_t port) {
    struct wire_bind b = {
        .has_client_bind_ref = true,
        .kind = WIRE_KIND_HTTP,
        .mode = WIRE_MODE_EXPOSE,
        .container_port = port,
        .takeover = true,
    };
    peer_send(p, WIRE_BIND, 0, &b);
    peer_expect(p, WIRE_BIND_OK);
    CU_ASSERT_EQUAL(p->any.bind_ok.container_port, port);
}

static void a_parked_port_can_be_taken(void) {
    host_start("");
    struct peer p, q;
    char id[64];
    peer_start(&p, id);
    uint16_t lost = peer_bind(&p, WIRE_KIND_HTTP, 0), kept = peer_bind(&p, WIRE_KIND_HTTP, 0);
    peer_drop(&p);
    UNTIL(kit_sessions_parked(host.kit) == 1);
    peer_start(&q, NULL);
    take_port(&q, lost);
    get_through(&q, lost);
    peer_resume(&p, id);
    CU_ASSERT(p.any.hello_ok.resumed);
    CU_ASSERT_EQUAL_FATAL(p.any.hello_ok.n_resumed_binds, 1);
    CU_ASSERT_EQUAL(p.any.hello_ok.resumed_binds[0].container_port, kept);
    get_through(&q, lost);
    CU_ASSERT_EQUAL(kit_metrics(host.kit)->takeovers_total, 1);
    peer_bye(&p);
    UNTIL(port_refuses(kept));
    get_through(&q, lost);
    peer_bye(&q);
    UNTIL(port_refuses(lost));
    host_stop();
}

/* Rule TAKEOVER-1, with visitors at every moment: connected and silent, waiting for an answer, just arriving. */
static void visitors_live_through_a_takeover(void) {
    host_start("");
    struct peer p, q;
    struct raw silent, waiting, arriving;
    peer_start(&p, NULL);
    peer_start(&q, NULL);
    uint16_t port = peer_bind(&p, WIRE_KIND_HTTP, 0);
    raw_connect(&silent, port);
    raw_connect(&waiting, port);
    raw_send(&waiting, GET("/slow"));
    const struct got_frame *f = peer_expect(&p, WIRE_STREAM_OPEN);
    uint32_t id = f->stream_id;
    UNTIL(kit_visitors(host.kit) == 2);
    raw_connect(&arriving, port); /* in the kernel's queue when the BIND comes */
    take_port(&q, port);
    peer_expect(&p, WIRE_EOF);
    f = peer_expect(&p, WIRE_RESET);
    CU_ASSERT_EQUAL(f->stream_id, id);
    CU_ASSERT_EQUAL(p.any.reset.code, WIRE_CODE_BIND_TAKEOVER);
    peer_expect(&p, WIRE_BIND_REVOKED);
    UNTIL(raw_ended(&waiting));
    CU_ASSERT_EQUAL(strncmp(raw_text(&waiting), "HTTP/1.1 502 ", 13), 0);
    raw_send(&silent, GET("/a"));
    answer_one(&q, "/a", "new owner");
    raw_send(&arriving, GET("/b"));
    answer_one(&q, "/b", "new owner");
    UNTIL(raw_ended(&silent) && raw_ended(&arriving));
    CU_ASSERT_STRING_EQUAL(raw_body(&silent), "new owner");
    CU_ASSERT_STRING_EQUAL(raw_body(&arriving), "new owner");
    raw_close(&silent);
    raw_close(&waiting);
    raw_close(&arriving);
    peer_bye(&p);
    peer_bye(&q);
    UNTIL(kit_fd_permits_used(host.kit) == 0);
    host_stop();
}

/* A port goes round between a session that is lost, resumed and killed, and one that takes it: hardening 20. */
static void a_port_is_never_lost(void) {
    host_start("");
    struct peer p, q;
    char id[64];
    peer_start(&p, id);
    uint16_t port = peer_bind(&p, WIRE_KIND_HTTP, 0);
    peer_start(&q, NULL);
    for (int i = 0; i < 10; i++) {
        take_port(&q, port);
        if (i % 2)
            peer_drop(&p);
        else
            peer_expect(&p, WIRE_BIND_REVOKED);
        if (i % 2)
            peer_resume(&p, id);
        get_through(&q, port);
        if (i % 2)
            wait_for_settle();
        take_port(&p, port);
        peer_expect(&q, WIRE_BIND_REVOKED);
        get_through(&p, port);
    }
    CU_ASSERT_EQUAL(kit_metrics(host.kit)->takeovers_total, 20);
    peer_bye(&q);
    get_through(&p, port);
    peer_bye(&p);
    UNTIL(port_refuses(port));
    UNTIL(kit_fd_permits_used(host.kit) == 0);
    host_stop();
}

int main(void) {
    static const struct tap_test tests[] = {
        {"a pull port is held and serves nobody", a_pull_port_is_held_and_serves_nobody},
        {"a resume brings every binding back", a_resume_brings_every_binding_back},
        {"two claims have one winner", two_claims_have_one_winner},
        {"a resume of a parked session needs a place", a_resume_of_a_parked_session_needs_a_place},
        {"without grace a late PONG is the end", without_grace_a_late_pong_is_the_end},
        {"a killed parked session ends at once", a_killed_orphan_goes_at_once},
        {"a parked port can be taken", a_parked_port_can_be_taken},
        {"visitors live through a takeover", visitors_live_through_a_takeover},
        {"a port always returns to its driver or becomes free", a_port_is_never_lost},
        {NULL, NULL},
    };
    return tap_main("parking", tests);
}
