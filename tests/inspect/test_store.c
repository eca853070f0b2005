/* The store: what it keeps, what it pushes out, and whom it tells. */
#include "base/clock.h"
#include "base/mem.h"
#include "inspect/store.h"
#include "support/tap.h"

#include <stdio.h>
#include <stdlib.h>

#define HEAD "GET /a?b=1 HTTP/1.1\r\nHost: x\r\n\r\n"
#define ANSWER "HTTP/1.1 200 OK\r\nContent-Type: text/plain\r\nContent-Length: 3\r\n\r\n"

static struct inspect_store *s;

static void make(uint32_t exchanges, uint64_t bytes, uint64_t body, uint32_t frames) {
    struct inspect_store_config cfg = {.max_exchanges = exchanges,
                                       .max_bytes = bytes,
                                       .max_body = body,
                                       .max_frames = frames,
                                       .max_frame = INSPECT_FRAME_KEPT};
    s = inspect_store_create(&cfg);
    CU_ASSERT_PTR_NOT_NULL_FATAL(s);
}

static size_t blocks;
static void begin_test(void) { blocks = ht_mem_live(); }
static void end_test(void) {
    inspect_store_destroy(&s);
    CU_ASSERT_EQUAL(ht_mem_live(), blocks);
}

static struct inspect_exchange *begin(void) {
    struct inspect_begin b = {
        .binding = 7, .binding_name = ht_slice_str("127.0.0.1:3000"), .visitor = ht_slice_str("192.0.2.1")};
    return inspect_begin(s, &b, ht_slice_str(HEAD));
}

static void end(struct inspect_exchange *x) { inspect_end(x, INSPECT_NO_FAULT, ht_slice_of(NULL, 0)); }
static void body(struct inspect_exchange *x, const char *text) { inspect_body(x, true, ht_slice_str(text)); }

static void whole_exchange(void) {
    begin_test();
    make(10, 1 << 20, 1000, 10);
    struct inspect_exchange *x = begin();
    CU_ASSERT_EQUAL(x->id, 1);
    CU_ASSERT_EQUAL(x->binding, 7);
    CU_ASSERT(ht_slice_is(x->binding_name, "127.0.0.1:3000"));
    CU_ASSERT(ht_slice_is(x->visitor, "192.0.2.1"));
    CU_ASSERT(ht_slice_is(x->method, "GET"));
    CU_ASSERT(ht_slice_is(x->target, "/a?b=1"));
    CU_ASSERT(ht_slice_is(x->version, "HTTP/1.1"));
    CU_ASSERT(x->at_us / 1000000 > 1600000000);
    inspect_body(x, false, ht_slice_str("hello"));
    inspect_body_end(x, false);
    inspect_interim(x, ht_slice_str("HTTP/1.1 103 Early Hints\r\nLink: <a>\r\n\r\n"));
    inspect_interim(x, ht_slice_str("HTTP/1.1 100 Continue\n\n"));
    inspect_response(x, ht_slice_str(ANSWER));
    body(x, "ab");
    body(x, "c");
    inspect_trailers(x, true, ht_slice_str("Sum: 1\r\n"));
    inspect_body_end(x, true);
    end(x);
    const struct inspect_exchange *g = inspect_store_get(s, 1);
    CU_ASSERT_PTR_EQUAL(g, x);
    CU_ASSERT_EQUAL(g->state, INSPECT_DONE);
    CU_ASSERT_EQUAL(g->status, 200);
    CU_ASSERT(ht_slice_is(g->reason, "OK"));
    CU_ASSERT(ht_slice_is(g->type, "text/plain"));
    CU_ASSERT(ht_slice_is(ht_buf_slice(&g->request.head), HEAD));
    CU_ASSERT(ht_slice_is(ht_buf_slice(&g->request.body), "hello"));
    CU_ASSERT(ht_slice_is(ht_buf_slice(&g->response.head), ANSWER));
    CU_ASSERT(ht_slice_is(ht_buf_slice(&g->response.body), "abc"));
    CU_ASSERT(ht_slice_is(ht_buf_slice(&g->response.trailers), "Sum: 1\r\n"));
    CU_ASSERT(g->request.ended && g->response.ended);
    struct ht_slice heads = ht_buf_slice(&g->interims), head;
    CU_ASSERT(inspect_interim_next(&heads, &head));
    CU_ASSERT(ht_slice_is(head, "HTTP/1.1 103 Early Hints\r\nLink: <a>\r\n\r\n"));
    CU_ASSERT(inspect_interim_next(&heads, &head));
    CU_ASSERT(ht_slice_is(head, "HTTP/1.1 100 Continue\n\n"));
    CU_ASSERT(!inspect_interim_next(&heads, &head));
    CU_ASSERT_EQUAL(g->n_interims, 2);
    end_test();
}

static void fields_of_a_head(void) {
    begin_test();
    make(10, 1 << 20, 1000, 10);
    struct inspect_begin b = {.binding = 1};
    struct inspect_exchange *x = inspect_begin(
        s, &b,
        ht_slice_str(
            "GET / HTTP/1.1\r\nHOST:  a \r\nX-Fold: one\r\n two\r\nCookie: a=1\r\nEmpty:\r\nno colon\r\n\r\n"));
    struct ht_slice lines = inspect_head_fields(&x->request.head);
    struct inspect_field f;
    const struct inspect_secrets *secrets = inspect_store_secrets(s);
    CU_ASSERT(inspect_field_next(secrets, &lines, &f) && ht_slice_is(f.name, "HOST") && ht_slice_is(f.value, "a"));
    CU_ASSERT(inspect_field_next(secrets, &lines, &f) && ht_slice_is(f.value, "one\r\n two") && !f.secret);
    CU_ASSERT(inspect_field_next(secrets, &lines, &f) && ht_slice_is(f.value, "a=1") && f.secret);
    CU_ASSERT(inspect_field_next(secrets, &lines, &f) && ht_slice_is(f.name, "Empty") && f.value.n == 0);
    CU_ASSERT(!inspect_field_next(secrets, &lines, &f));
    CU_ASSERT(ht_slice_is(inspect_field(&x->request, "host"), "a"));
    CU_ASSERT(inspect_field(&x->request, "empty").p != NULL);
    CU_ASSERT_PTR_NULL(inspect_field(&x->request, "hos").p);
    end(x);
    end_test();
}

static void kinds(void) {
    static const struct {
        const char *head;
        enum inspect_kind kind;
    } rows[] = {
        {"HTTP/1.1 101 \r\nUpgrade: WebSocket\r\n\r\n", INSPECT_WEBSOCKET},
        {"HTTP/1.1 101 \r\nUpgrade: other\r\n\r\n", INSPECT_STREAM},
        {"HTTP/1.1 200 OK\r\nContent-Type: text/event-stream; charset=utf-8\r\n\r\n", INSPECT_SSE},
        {"HTTP/1.1 200 OK\r\nContent-Type: Text/Event-Stream\r\n\r\n", INSPECT_SSE},
        {"HTTP/1.1 200 OK\r\nContent-Type: text/event-streams\r\n\r\n", INSPECT_HTTP},
        {"HTTP/1.1 200 OK\r\nContent-Length: 9\r\n\r\n", INSPECT_HTTP},
    };
    begin_test();
    make(10, 1 << 20, 1000, 10);
    for (size_t i = 0; i < HT_ARRAY_LEN(rows); i++) {
        struct inspect_exchange *x = begin();
        inspect_response(x, ht_slice_str(rows[i].head));
        CU_ASSERT_EQUAL(x->kind, rows[i].kind);
        end(x);
    }
    struct inspect_exchange *x = begin();
    inspect_response(x, ht_slice_str("HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\n\r\n"));
    body(x, "a");
    CU_ASSERT_EQUAL(x->kind, INSPECT_HTTP);
    ht_clock_skip(INSPECT_STREAM_US + 1);
    body(x, "a");
    CU_ASSERT_EQUAL(x->kind, INSPECT_STREAM);
    end(x);
    end_test();
}

static void count_is_bounded(void) {
    begin_test();
    make(3, 1 << 20, 1000, 10);
    for (int i = 0; i < 10; i++)
        end(begin());
    CU_ASSERT_EQUAL(inspect_store_count(s), 3);
    CU_ASSERT_EQUAL(inspect_store_first(s), 8);
    CU_ASSERT_EQUAL(inspect_store_end(s), 11);
    CU_ASSERT_PTR_NULL(inspect_store_get(s, 7));
    CU_ASSERT_PTR_NULL(inspect_store_get(s, 11));
    CU_ASSERT_EQUAL(inspect_store_get(s, 8)->id, 8);
    end_test();
}

static void bytes_are_bounded(void) {
    static char piece[1000];
    begin_test();
    make(10000, 100000, 20000, 10);
    for (int i = 0; i < 200; i++) {
        struct inspect_exchange *x = begin();
        for (int k = 0; k < i % 30; k++)
            inspect_body(x, k & 1, ht_slice_of(piece, sizeof piece));
        CU_ASSERT(inspect_store_bytes(s) <= 100000);
        end(x);
    }
    CU_ASSERT(inspect_store_count(s) > 1);
    CU_ASSERT(inspect_store_count(s) < 50);
    CU_ASSERT(ht_mem_bytes() < 100000 + 10000 * sizeof(void *) + 50000);
    inspect_store_clear(s);
    CU_ASSERT_EQUAL(inspect_store_bytes(s), 0);
    end_test();
}

static void bodies_are_cut(void) {
    begin_test();
    make(10, 1 << 20, 5, 10);
    struct inspect_exchange *x = begin();
    body(x, "abc");
    body(x, "defg");
    body(x, "h");
    CU_ASSERT(ht_slice_is(ht_buf_slice(&x->response.body), "abcde"));
    CU_ASSERT_EQUAL(x->response.size, 8);
    end(x);
    end_test();
}

static void frames_are_a_ring(void) {
    begin_test();
    make(10, 1 << 20, 1000, 3);
    struct inspect_exchange *x = begin();
    static char large[INSPECT_FRAME_KEPT + 1];
    for (int i = 0; i < 5; i++) {
        struct inspect_frame f = {.down = i & 1, .opcode = INSPECT_TEXT, .size = 3, .data = ht_slice_str("abc")};
        inspect_add_frame(x, &f);
    }
    struct inspect_frame f = {.opcode = INSPECT_BINARY, .size = sizeof large, .data = ht_slice_of(large, sizeof large)};
    inspect_add_frame(x, &f);
    CU_ASSERT_EQUAL(x->n_frames, 6);
    CU_ASSERT_EQUAL(x->frames_dropped, 3);
    uint64_t seq = 4;
    HT_LIST_FOR (it, &x->frames) {
        const struct inspect_frame *g = HT_LIST_ENTRY(it, struct inspect_frame, node);
        CU_ASSERT_EQUAL(g->seq, seq);
        if (seq++ == 6) {
            CU_ASSERT(g->truncated);
            CU_ASSERT_EQUAL(g->data.n, INSPECT_FRAME_KEPT);
        } else {
            CU_ASSERT(ht_slice_is(g->data, "abc"));
        }
    }
    CU_ASSERT_EQUAL(seq, 7);
    end(x);
    end_test();
}

/* What was pushed out, or cleared, while it ran is written to in vain until its end. */
static void running_ones_go_unlisted(void) {
    begin_test();
    make(2, 1 << 20, 1000, 3);
    struct inspect_exchange *x = begin(), *y;
    inspect_response(x, ht_slice_str(ANSWER));
    end(begin());
    end(begin());
    CU_ASSERT(!inspect_is_listed(x));
    CU_ASSERT_PTR_NULL(inspect_store_get(s, 1));
    y = begin();
    inspect_store_clear(s);
    CU_ASSERT(!inspect_is_listed(y));
    struct inspect_frame f = {.opcode = INSPECT_TEXT, .data = ht_slice_str("abc")};
    for (int i = 0; i < 2; i++, x = y) {
        inspect_interim(x, ht_slice_str("HTTP/1.1 100 Continue\r\n\r\n"));
        inspect_response(x, ht_slice_str(ANSWER));
        body(x, "abc");
        inspect_trailers(x, true, ht_slice_str("a: b\r\n"));
        inspect_add_frame(x, &f);
        inspect_account(x, 1000);
        inspect_body_end(x, true);
        inspect_mark(x, INSPECT_SENT);
        inspect_end(x, INSPECT_RESET, ht_slice_str("why"));
    }
    CU_ASSERT_EQUAL(inspect_store_bytes(s), 0);
    CU_ASSERT_EQUAL(inspect_store_count(s), 0);
    CU_ASSERT_EQUAL(inspect_store_first(s), 5);
    end_test();
}

/* An exchange that alone is too large goes, while it is written, and the store goes on. */
static void one_that_pushes_itself_out(void) {
    begin_test();
    make(10, 2000, 1 << 20, 1000);
    struct inspect_exchange *x = begin();
    inspect_account(x, 5000);
    CU_ASSERT(!inspect_is_listed(x));
    inspect_end(x, INSPECT_RESET, ht_slice_str("why"));
    x = begin();
    CU_ASSERT(inspect_is_listed(x));
    static char error[5000];
    inspect_end(x, INSPECT_RESET, ht_slice_of(error, sizeof error)); /* gone with its end */
    CU_ASSERT_EQUAL(inspect_store_count(s), 0);
    CU_ASSERT_EQUAL(inspect_store_bytes(s), 0);
    end_test();
}

/* ---- observers ---- */

static char told[400];
struct teller {
    struct inspect_observer o;
    char name;
};
static void note(struct inspect_observer *o, const char *what, uint64_t id) {
    size_t n = strlen(told);
    snprintf(told + n, sizeof told - n, "%c%s%u ", ht_container_of(o, struct teller, o)->name, what, (unsigned)id);
}
static void on_added(struct inspect_observer *o, const struct inspect_exchange *x) { note(o, "+", x->id); }
static void on_changed(struct inspect_observer *o, const struct inspect_exchange *x) { note(o, "~", x->id); }
static void on_frame(struct inspect_observer *o, const struct inspect_exchange *x, const struct inspect_frame *f) {
    (void)x;
    note(o, "f", f->seq);
}
static void on_removed(struct inspect_observer *o, uint64_t id) { note(o, "-", id); }
static void on_cleared(struct inspect_observer *o) { note(o, "c", 0); }

static void observers_in_order(void) {
    begin_test();
    make(1, 1 << 20, 1000, 3);
    struct teller a = {.name = 'a'}, b = {.name = 'b'};
    inspect_observer_remove(&a.o);
    a.o = (struct inspect_observer){
        .added = on_added, .changed = on_changed, .frame = on_frame, .removed = on_removed, .cleared = on_cleared};
    b.o = (struct inspect_observer){.added = on_added, .removed = on_removed};
    inspect_store_observe(s, &a.o);
    inspect_store_observe(s, &b.o);
    struct inspect_exchange *x = begin();
    body(x, "a");
    struct inspect_frame f = {.opcode = INSPECT_TEXT, .data = ht_slice_str("abc")};
    inspect_add_frame(x, &f);
    end(x);
    x = begin();
    CU_ASSERT_STRING_EQUAL(told, "a+1 b+1 a~1 af1 a~1 a~1 a-1 b-1 a+2 b+2 ");
    told[0] = '\0';
    inspect_observer_remove(&a.o);
    inspect_observer_remove(&a.o);
    body(x, "a");
    inspect_store_clear(s);
    end(x);
    CU_ASSERT_STRING_EQUAL(told, "");
    inspect_observer_remove(&b.o);
    end_test();
}

/* ---- times ---- */

static void times(void) {
    begin_test();
    make(10, 1 << 20, 1000, 3);
    struct inspect_exchange *x = begin();
    ht_clock_skip(1000000);
    inspect_mark(x, INSPECT_CONNECTING);
    ht_clock_skip(2000000);
    inspect_mark(x, INSPECT_CONNECTED);
    ht_clock_skip(3000000);
    inspect_mark(x, INSPECT_SENT);
    ht_clock_skip(4000000);
    inspect_mark(x, INSPECT_ANSWERS);
    ht_clock_skip(5000000);
    inspect_body_end(x, true);
    ht_clock_skip(6000000);
    end(x);
    const struct inspect_timing *t = &x->timing;
    CU_ASSERT_EQUAL(t->queued / 1000000, 1);
    CU_ASSERT_EQUAL(t->connect / 1000000, 2);
    CU_ASSERT_EQUAL(t->send / 1000000, 3);
    CU_ASSERT_EQUAL(t->wait / 1000000, 4);
    CU_ASSERT_EQUAL(t->receive / 1000000, 5);
    CU_ASSERT_EQUAL(x->duration_us / 1000000, 21);

    x = begin(); /* answered early, on a connection that there was, and never ended */
    inspect_mark(x, INSPECT_CONNECTED);
    ht_clock_skip(1000000);
    inspect_mark(x, INSPECT_ANSWERS);
    ht_clock_skip(2000000);
    inspect_end(x, INSPECT_RESET, ht_slice_str("reset"));
    t = &x->timing;
    CU_ASSERT_EQUAL(t->connect / 1000000, 0);
    CU_ASSERT_EQUAL(t->send / 1000000, 1);
    CU_ASSERT_EQUAL(t->wait / 1000000, 0);
    CU_ASSERT_EQUAL(t->receive / 1000000, 2);
    CU_ASSERT(ht_slice_is(x->error, "reset"));

    x = begin(); /* never connected */
    inspect_mark(x, INSPECT_CONNECTING);
    ht_clock_skip(1000000);
    inspect_end(x, INSPECT_REFUSED, ht_slice_str("refused"));
    CU_ASSERT_EQUAL(x->timing.connect / 1000000, 1);
    CU_ASSERT_EQUAL(x->timing.wait / 1000000, 0);
    end_test();
}

/* ---- replays ---- */

static void replays_are_known(void) {
    char mark[INSPECT_MARK];
    begin_test();
    make(10, 1 << 20, 1000, 3);
    struct inspect_begin b = {.visitor = ht_slice_str("x")};
    inspect_replay_read(s, ht_slice_str(inspect_replay_mark(s, UINT64_MAX, true, mark)), &b);
    CU_ASSERT(b.replay_of == UINT64_MAX && b.edited && ht_slice_is(b.visitor, "you"));
    inspect_replay_read(s, ht_slice_str(inspect_replay_mark(s, 7, false, mark)), &b);
    CU_ASSERT(b.replay_of == 7 && !b.edited);
    b = (struct inspect_begin){.binding = 1};
    mark[0] = mark[0] == '0' ? '1' : '0'; /* a guess */
    inspect_replay_read(s, ht_slice_str(mark), &b);
    inspect_replay_read(s, ht_slice_of(NULL, 0), &b);
    inspect_replay_read(s, ht_slice_str("192.0.2.1"), &b);
    CU_ASSERT(b.replay_of == 0 && !b.visitor.p);
    end_test();
}

/* ---- without memory ---- */

static void scenario(void) {
    const char *names[] = {"X-One", "X-Two"};
    struct inspect_store_config cfg = {.max_exchanges = 2,
                                       .max_bytes = 1 << 20,
                                       .max_body = 1000,
                                       .max_frames = 2,
                                       .max_frame = 100,
                                       .secrets = names,
                                       .n_secrets = 2};
    s = inspect_store_create(&cfg);
    for (int i = 0; s && i < 3; i++) {
        struct inspect_exchange *x = begin();
        if (!x)
            continue;
        inspect_body(x, false, ht_slice_str("hello"));
        inspect_interim(x, ht_slice_str("HTTP/1.1 100 Continue\r\n\r\n"));
        inspect_response(x, ht_slice_str(ANSWER));
        body(x, "abc");
        struct inspect_frame f = {.opcode = INSPECT_TEXT, .data = ht_slice_str("abc")};
        for (int k = 0; k < 3; k++)
            inspect_add_frame(x, &f);
        inspect_trailers(x, true, ht_slice_str("a: b\r\n"));
        CU_ASSERT_EQUAL(x->response.size, 3);
        CU_ASSERT_EQUAL(x->n_frames, 3);
        inspect_end(x, INSPECT_RESET, ht_slice_str("why"));
    }
    inspect_store_destroy(&s);
}

static void each_allocation_fails(void) {
    begin_test();
    for (long i = 0;; i++) {
        ht_mem_fail_at(i);
        scenario();
        bool over = ht_mem_fail_pending();
        ht_mem_fail_at(-1);
        CU_ASSERT_EQUAL(ht_mem_live(), blocks);
        if (over)
            break;
    }
}

static void words(void) {
    CU_ASSERT_STRING_EQUAL(inspect_kind_word(INSPECT_SSE), "sse");
    CU_ASSERT_STRING_EQUAL(inspect_state_word(INSPECT_FAILED), "failed");
    CU_ASSERT_STRING_EQUAL(inspect_fault_word(INSPECT_VISITOR_LEFT), "visitor_left");
    CU_ASSERT_STRING_EQUAL(inspect_opcode_word(INSPECT_PONG), "pong");
    for (int f = INSPECT_REFUSED; f <= INSPECT_INTERNAL; f++)
        CU_ASSERT(*inspect_fault_title((enum inspect_fault)f) != '\0');
}

int main(void) {
    static const struct tap_test tests[] = {
        {"an exchange is kept as it travelled", whole_exchange},
        {"the fields of a head", fields_of_a_head},
        {"kinds of exchanges", kinds},
        {"the count is bounded", count_is_bounded},
        {"the bytes are bounded", bytes_are_bounded},
        {"a body is cut at its bound", bodies_are_cut},
        {"the frames are a ring", frames_are_a_ring},
        {"running exchanges that are pushed out or cleared", running_ones_go_unlisted},
        {"an exchange that pushes itself out", one_that_pushes_itself_out},
        {"observers are told in order", observers_in_order},
        {"times", times},
        {"replays are known by their mark", replays_are_known},
        {"each allocation fails", each_allocation_fails},
        {"words", words},
        {NULL, NULL},
    };
    return tap_main("inspect store", tests);
}
