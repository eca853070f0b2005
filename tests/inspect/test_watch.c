/* From the tap of a target into the store: a service played by hand, and what is kept of it, byte for byte. */
#include "inspect/watch.h"
#include "relay/origin_rig.h"

static struct inspect_store *store;
static struct relay_tap tap;

static void *begin(void *ctx, const struct wire_stream_open *open, struct ht_slice head) {
    (void)ctx;
    return inspect_watch_begin(store, 7, ht_slice_str("web"), open, head);
}

static void watch_go(uint64_t max_bytes) {
    struct inspect_store_config cfg = {.max_exchanges = 100,
                                       .max_bytes = max_bytes,
                                       .max_body = 1 << 20,
                                       .max_frames = INSPECT_FRAMES_KEPT,
                                       .max_frame = INSPECT_FRAME_KEPT};
    rig_start();
    store = inspect_store_create(&cfg);
    CU_ASSERT_PTR_NOT_NULL_FATAL(store);
    tap = inspect_watch_tap;
    tap.begin = begin;
    rig.cfg.tap = &tap;
    rig_target();
}

static void watch_stop(void) {
    relay_target_destroy(&rig.target); /* it writes to the store until its end */
    inspect_store_destroy(&store);
    rig_stop();
}

static const struct inspect_exchange *got(uint64_t id) {
    const struct inspect_exchange *x = inspect_store_get(store, id);
    CU_ASSERT_PTR_NOT_NULL_FATAL(x);
    return x;
}

static bool is(const struct ht_buf *b, const char *want) {
    bool same = ht_slice_is(ht_buf_slice(b), want);
    if (!same)
        printf("# [%.*s]\n# instead of [%s]\n", HT_SLICE_ARG(ht_buf_slice(b)), want);
    return same;
}

/* The texts of its frames, as "up text Hello; ". */
static const char *frames(const struct inspect_exchange *x) {
    static char text[2000];
    size_t n = 0;
    text[0] = '\0';
    HT_LIST_FOR (it, &x->frames) {
        const struct inspect_frame *f = HT_LIST_ENTRY(it, struct inspect_frame, node);
        n += (size_t)snprintf(text + n, sizeof text - n, "%s %s %.*s; ", f->down ? "down" : "up",
                              inspect_opcode_word(f->opcode), HT_SLICE_ARG(f->data));
    }
    return text;
}

static void heads_bodies_and_trailers(void) {
    rig_caps = WIRE_CAP_TRAILERS;
    watch_go(1 << 24);
    struct wire_header sum = H("X-Sum", "1");
    struct call *c =
        call_http("POST", "/a%20b?c", HEADERS(H("Host", "a"), H("transfer-encoding", "chunked"), H("X-ODD", " b")), 3,
                  "abc", false);
    struct service_conn *s = service_wait(0, "abc");
    CU_ASSERT_EQUAL(mux_stream_trailers(c->st, &(struct wire_trailers){&sum, 1}), 0);
    call_sends(c, "de", 2, true);
    service_wait(0, "X-Sum: 1\r\n\r\n");
    const char *heard = service_heard(s);
    const struct inspect_exchange *x = got(1);
    CU_ASSERT(memcmp(heard, ht_buf_head(&x->request.head), ht_buf_size(&x->request.head)) == 0);
    CU_ASSERT(memcmp(heard + ht_buf_size(&x->request.head) - 4, "\r\n\r\n", 4) == 0);
    CU_ASSERT(is(&x->request.body, "abcde"));
    CU_ASSERT(is(&x->request.trailers, "X-Sum: 1\r\n"));
    CU_ASSERT(x->request.ended && x->state == INSPECT_RUNNING);
    CU_ASSERT(ht_slice_is(x->visitor, "192.0.2.7:1234"));
    service_says(s, "HTTP/1.1 100 Go on\r\n\r\nHTTP/1.1 103 Early Hints\r\nLINK:  </a> \r\n\r\nHTTP/1.1 200 Fine\r\n"
                    "Transfer-Encoding: chunked\r\nTrailer: A\r\nx-TWO:1\nX-two: \t2\r\n\r\n3;ext\r\nabc\r\n");
    UNTIL(x->response.size == 3);
    service_says(s, "2\r\nde\r\n0\r\nA:  b \r\nContent-Length: 1\r\n\r\n");
    UNTIL(c->closes);
    CU_ASSERT(is(&x->interims, "HTTP/1.1 100 Go on\r\n\r\nHTTP/1.1 103 Early Hints\r\nLINK:  </a> \r\n\r\n"));
    CU_ASSERT(is(&x->response.head,
                 "HTTP/1.1 200 Fine\r\nTransfer-Encoding: chunked\r\nTrailer: A\r\nx-TWO:1\nX-two: \t2\r\n\r\n"));
    CU_ASSERT(is(&x->response.body, "abcde"));
    CU_ASSERT(x->response.trailers.len > 0 && memmem(x->response.trailers.data, x->response.trailers.len, "A:  b", 5));
    CU_ASSERT_EQUAL(x->state, INSPECT_DONE);
    CU_ASSERT(x->response.ended && x->status == 200 && ht_slice_is(x->reason, "Fine"));
    rig_caps = 0;
    watch_stop();
}

/* Trailers are kept where the tunnel does not carry them, and what the visitor gets is as without a tap. */
static void trailers_that_go_no_further(void) {
    watch_go(1 << 24);
    struct call *c = call_get("/");
    struct service_conn *s = service_wait(0, "\r\n\r\n");
    service_says(
        s, "HTTP/1.1 200 OK\r\nTrailer: X-Sum\r\nTransfer-Encoding: chunked\r\n\r\n3\r\nabc\r\n0\r\nX-Sum: 1\r\n\r\n");
    UNTIL(c->closes);
    CU_ASSERT_STRING_EQUAL(c->head, "200");
    CU_ASSERT_STRING_EQUAL(c->trailers, "");
    CU_ASSERT_STRING_EQUAL(call_body(c), "abc");
    CU_ASSERT(got(1)->response.trailers.len > 0);
    watch_stop();
}

/* An answer in the smallest pieces, and one whose body comes with the head. */
static void answers_in_pieces(void) {
    static const char answer[] = "HTTP/1.1 200 OK\r\nContent-Length: 5\r\n\r\nhello";
    watch_go(1 << 24);
    for (unsigned k = 0; k < 2; k++) {
        struct call *c = call_get("/");
        struct service_conn *s = service_wait(0, "\r\n\r\n");
        service_forget(s);
        size_t piece = k ? sizeof answer - 1 : 1;
        for (size_t i = 0; i < sizeof answer - 1; i += piece)
            service_bytes(s, answer + i, piece);
        UNTIL(c->closes);
        CU_ASSERT(is(&got(k + 1)->response.head, "HTTP/1.1 200 OK\r\nContent-Length: 5\r\n\r\n"));
        CU_ASSERT(is(&got(k + 1)->response.body, "hello"));
        CU_ASSERT(got(k + 1)->response.ended);
    }
    watch_stop();
}

static void a_websocket(void) {
    watch_go(1 << 24);
    struct call *c = call_http(
        "GET", "/ws", HEADERS(H("host", "a"), H("connection", "Upgrade"), H("upgrade", "websocket")), 3, "", true);
    struct service_conn *s = service_wait(0, "\r\n\r\n");
    service_forget(s);
    service_says(s, "HTTP/1.1 101 Switching Protocols\r\nConnection: Upgrade\r\nUpgrade: websocket\r\n"
                    "Sec-WebSocket-Extensions: permessage-deflate\r\n\r\n\x81\x05"
                    "early");
    UNTIL(ht_buf_size(&c->body) == 7);
    call_sends(c, "\x81\x85\x37\xfa\x21\x3d\x7f\x9f\x4d\x51\x58", 11, false);
    service_wait(0, "\x58");
    service_bytes(s, "\xc1\x07\xf2\x48\xcd\xc9\xc9\x07\x00\x88\x02\x03\xe8", 13);
    UNTIL(got(1)->n_frames == 4);
    CU_ASSERT_STRING_EQUAL(frames(got(1)), "down text early; up text Hello; down text Hello; down close 1000; ");
    CU_ASSERT_EQUAL(got(1)->kind, INSPECT_WEBSOCKET);
    CU_ASSERT_EQUAL(got(1)->state, INSPECT_RUNNING);
    CU_ASSERT_EQUAL(got(1)->request.size, 11);
    CU_ASSERT_EQUAL(got(1)->response.size, 20);
    call_sends(c, "", 0, true);
    service_close(s);
    UNTIL(c->closes);
    CU_ASSERT_EQUAL(got(1)->state, INSPECT_DONE);
    watch_stop();
}

static void another_upgrade(void) {
    watch_go(1 << 24);
    struct call *c =
        call_http("GET", "/", HEADERS(H("host", "a"), H("connection", "Upgrade"), H("upgrade", "tcp")), 3, "", true);
    struct service_conn *s = service_wait(0, "\r\n\r\n");
    service_says(s, "HTTP/1.1 101 UPGRADED\r\nConnection: Upgrade\r\nUpgrade: tcp\r\n\r\nout");
    UNTIL(ht_buf_size(&c->body) == 3);
    call_sends(c, "in", 2, true);
    service_wait(0, "in");
    CU_ASSERT(is(&got(1)->request.body, "in"));
    CU_ASSERT(is(&got(1)->response.body, "out"));
    CU_ASSERT_EQUAL(got(1)->kind, INSPECT_STREAM);
    service_close(s);
    UNTIL(c->closes);
    watch_stop();
}

static void events(void) {
    watch_go(1 << 24);
    struct call *c = call_get("/");
    struct service_conn *s = service_wait(0, "\r\n\r\n");
    service_says(s, "HTTP/1.1 200 OK\r\nContent-Type: text/event-stream\r\nTransfer-Encoding: chunked\r\n\r\n"
                    "b\r\ndata: one\n\n\r\n5\r\ndata:\r\n");
    UNTIL(got(1)->n_frames == 1);
    CU_ASSERT_EQUAL(got(1)->state, INSPECT_RUNNING);
    service_says(s, "6\r\n two\n\n\r\n0\r\n\r\n");
    UNTIL(c->closes);
    CU_ASSERT_STRING_EQUAL(frames(got(1)), "down text one; down text two; ");
    CU_ASSERT_EQUAL(got(1)->kind, INSPECT_SSE);
    watch_stop();
}

/* ---- how it ends ---- */

static void ends(const char *answer, enum inspect_fault want, const char *error) {
    watch_go(1 << 24);
    struct call *c = call_get("/");
    struct service_conn *s = service_wait(0, "\r\n\r\n");
    service_says(s, answer);
    service_close(s);
    UNTIL(c->closes);
    CU_ASSERT_EQUAL(got(1)->state, INSPECT_FAILED);
    CU_ASSERT_EQUAL(got(1)->fault, want);
    CU_ASSERT_PTR_NOT_NULL(memmem(got(1)->error.p, got(1)->error.n, error, strlen(error)));
    watch_stop();
}

static void services_that_fail(void) {
    ends("", INSPECT_RESET, "without an answer");
    ends("HTTP/1.1 200 OK\r\nContent-Length: 5\r\n\r\nhel", INSPECT_RESET, "in the middle of its answer");
    ends("SSH-2.0-OpenSSH\r\n", INSPECT_PROTOCOL, "bad answer");
    ends("HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\n\r\nzz\r\n", INSPECT_PROTOCOL, "bad answer");
    watch_go(1 << 24);
    io_listener_close(&rig.listener);
    struct call *c = call_get("/");
    UNTIL(c->closes);
    CU_ASSERT_EQUAL(got(1)->fault, INSPECT_REFUSED);
    CU_ASSERT_EQUAL(got(1)->status, 0);
    watch_stop();
}

static void visitors_who_leave(void) {
    watch_go(1 << 24);
    struct call *c = call_get("/");
    struct service_conn *s = service_wait(0, "\r\n\r\n");
    mux_stream_reset(c->st, WIRE_CODE_CANCEL, "gone");
    UNTIL(got(1)->state != INSPECT_RUNNING);
    CU_ASSERT_EQUAL(got(1)->fault, INSPECT_VISITOR_LEFT);
    UNTIL(s->ended);
    c = call_get("/2");
    service_wait(1, "\r\n\r\n");
    mux_stream_reset(c->st, WIRE_CODE_CANCEL, RELAY_NO_HEAD_IN_TIME);
    UNTIL(got(2)->state != INSPECT_RUNNING);
    CU_ASSERT_EQUAL(got(2)->fault, INSPECT_TIMEOUT);
    call_get("/3");
    service_wait(2, "\r\n\r\n");
    relay_target_destroy(&rig.target);
    CU_ASSERT_EQUAL(got(3)->fault, INSPECT_LINK_LOST);
    watch_stop();
}

/* ---- bounds ---- */

/* A WebSocket that is pushed out while it runs: its decoders go, and the connection goes on. */
static void pushed_out_while_it_runs(void) {
    watch_go(200000);
    struct call *c = call_http(
        "GET", "/ws", HEADERS(H("host", "a"), H("connection", "Upgrade"), H("upgrade", "websocket")), 3, "", true);
    struct service_conn *s = service_wait(0, "\r\n\r\n");
    service_says(s, "HTTP/1.1 101 Switching Protocols\r\nConnection: Upgrade\r\nUpgrade: websocket\r\n"
                    "Sec-WebSocket-Extensions: permessage-deflate\r\n\r\n");
    service_bytes(s, "\xc1\x07\xf2\x48\xcd\xc9\xc9\x07\x00", 9);
    UNTIL(got(1)->n_frames == 1);
    CU_ASSERT(inspect_store_bytes(store) > 30000); /* the window counts */
    size_t bytes = ht_mem_bytes();
    inspect_store_clear(store);
    CU_ASSERT_EQUAL(inspect_store_bytes(store), 0);
    service_bytes(s, "\xc1\x07\xf2\x48\xcd\xc9\xc9\x07\x00", 9);
    UNTIL(ht_buf_size(&c->body) == 18);
    CU_ASSERT(ht_mem_bytes() + 30000 < bytes);
    call_sends(c, "", 0, true);
    service_close(s);
    UNTIL(c->closes);
    watch_stop();
}

/* Each allocation of an exchange fails once: the visitor's answer is the same, whatever is kept of it. */
static void without_memory(void) {
    static const char answer[] =
        "HTTP/1.1 200 OK\r\nContent-Type: text/event-stream\r\nContent-Length: 11\r\n\r\ndata: one\n\n";
    watch_go(1 << 24);
    struct wire_stream_open open = {.peer_addr = ht_slice_str("192.0.2.7")};
    bool over = false;
    for (long i = 0; !over; i++) {
        ht_mem_fail_at(i);
        void *x = tap.begin(NULL, &open, ht_slice_str("GET / HTTP/1.1\r\n\r\n"));
        if (x) {
            tap.moment(x, RELAY_TAP_CONNECTED);
            tap.head(x, ht_slice_of(answer, sizeof answer - 12), true);
            tap.body(x, true, ht_slice_of(answer + sizeof answer - 12, 11));
            tap.body_end(x, true, ht_slice_str("a: b\r\n"));
            tap.end(x, RELAY_TAP_RESET, ht_slice_str("why"));
        }
        over = ht_mem_fail_pending();
        ht_mem_fail_at(-1);
    }
    watch_stop();
}

int main(void) {
    static const struct tap_test tests[] = {
        {"heads, bodies and trailers are kept byte for byte", heads_bodies_and_trailers},
        {"trailers that the tunnel does not carry", trailers_that_go_no_further},
        {"answers in pieces", answers_in_pieces},
        {"a WebSocket", a_websocket},
        {"another upgrade", another_upgrade},
        {"server-sent events", events},
        {"services that fail", services_that_fail},
        {"visitors who leave, and links that are lost", visitors_who_leave},
        {"a WebSocket that is pushed out while it runs", pushed_out_while_it_runs},
        {"each allocation fails", without_memory},
        {NULL, NULL},
    };
    return tap_main("inspect watch", tests);
}
