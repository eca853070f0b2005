/* Who sends what, and when: turns of the streams, WINDOWs, and everything that depends on time. */
#include "mux/rig.h"

#define START(role, tune)                                                                                              \
    size_t live = ht_mem_live();                                                                                       \
    struct rig *r = rig_start(role, tune);                                                                             \
    CU_ASSERT_PTR_NOT_NULL_FATAL(r->s)
#define STOP() rig_stop(r, live)

static void roomy(struct mux_config *c) {
    c->stream_window = 16u << 20;
    c->session_window = 64u << 20;
}

/* ---- turns ---- */

static void bulk_streams_share(void) {
    START(WIRE_ROLE_KIT, roomy);
    struct rig_stream *t[8];
    for (int i = 0; i < 8; i++)
        rig_write(t[i] = rig_visit(r, WIRE_KIND_TCP), 16u << 20, false);
    for (int i = 0; i < 100; i++)
        rig_pull_one(r, WIRE_LIMIT_MAX_MESSAGE);
    size_t share = r->data_out / 8;
    for (int i = 0; i < 8; i++) {
        size_t sent = (16u << 20) - t[i]->to_send;
        CU_ASSERT(sent > share * 8 / 10 && sent < share * 12 / 10);
    }
    CU_ASSERT(r->data_out > 98u * (WIRE_LIMIT_MAX_MESSAGE - 1000)); /* messages are full */
    STOP();
}

static void a_small_answer_passes_bulk(void) {
    START(WIRE_ROLE_KIT, roomy);
    for (int i = 0; i < 8; i++)
        rig_write(rig_visit(r, WIRE_KIND_TCP), 16u << 20, false);
    struct rig_stream *small = rig_visit(r, WIRE_KIND_TCP);
    for (int i = 0; i < 20; i++)
        rig_pull_one(r, WIRE_LIMIT_MAX_MESSAGE);
    for (int i = 0; i < 20; i++) {
        rig_write(small, 100, false);
        rig_pull_one(r, WIRE_LIMIT_MAX_MESSAGE);
        CU_ASSERT_EQUAL(small->to_send, 0);
        for (int j = 0; j < 16; j++) /* a round of the ring, in which it is met and leaves */
            rig_pull_one(r, WIRE_LIMIT_MAX_MESSAGE);
    }
    STOP();
}

/* Streams that are forever ready anew must not keep the ring waiting. */
static void small_ones_do_not_starve_bulk(void) {
    START(WIRE_ROLE_KIT, roomy);
    struct rig_stream *bulk = rig_visit(r, WIRE_KIND_TCP), *t[20];
    rig_write(bulk, 8u << 20, false);
    for (int i = 0; i < 20; i++)
        t[i] = rig_visit(r, WIRE_KIND_TCP);
    for (int m = 0; m < 100; m++) {
        for (int i = 0; i < 20; i++)
            if (t[i]->to_send == 0)
                rig_write(t[i], 32768, false);
        rig_pull_one(r, WIRE_LIMIT_MAX_MESSAGE);
    }
    CU_ASSERT((8u << 20) - bulk->to_send > 1u << 20);
    STOP();
}

static void control_frames_go_first(void) {
    START(WIRE_ROLE_KIT, roomy);
    struct rig_stream *bulk = rig_visit(r, WIRE_KIND_TCP);
    rig_write(bulk, 8u << 20, false);
    rig_pull_one(r, WIRE_LIMIT_MAX_MESSAGE);
    struct rig_stream *next = rig_visit(r, WIRE_KIND_TCP);
    rig_write(next, 10, true);
    struct wire_unbind_ok ok = {.bind_id = 3};
    CU_ASSERT_EQUAL(mux_session_send(r->s, WIRE_UNBIND_OK, &ok), 0);
    rig_ping(r, "12345678");
    unsigned at = r->n_out;
    rig_pull_one(r, WIRE_LIMIT_MAX_MESSAGE);
    CU_ASSERT_EQUAL(r->out[at].type, WIRE_PONG);
    CU_ASSERT_EQUAL(r->out[at + 1].type, WIRE_STREAM_OPEN);
    CU_ASSERT_EQUAL(r->out[at + 2].type, WIRE_UNBIND_OK);
    CU_ASSERT_EQUAL(r->out[at + 3].type, WIRE_DATA);
    CU_ASSERT_EQUAL(r->out[at + 3].id, 4);
    CU_ASSERT_EQUAL(r->out[at + 4].type, WIRE_EOF);
    CU_ASSERT_EQUAL(r->out[at + 5].id, 2);
    STOP();
}

static void open_data_and_eof_share_a_message(void) {
    START(WIRE_ROLE_KIT, NULL);
    rig_write(rig_visit(r, WIRE_KIND_HTTP), 100, true);
    rig_write(rig_visit(r, WIRE_KIND_HTTP), 0, true);
    CU_ASSERT(rig_pull_one(r, WIRE_LIMIT_MAX_MESSAGE));
    CU_ASSERT_EQUAL(r->n_out, 6); /* HELLO_OK, 2 opens, DATA, 2 EOFs */
    CU_ASSERT(!rig_pull_one(r, WIRE_LIMIT_MAX_MESSAGE));
    STOP();
}

static void messages_keep_to_64_frames(void) {
    START(WIRE_ROLE_KIT, NULL);
    for (int i = 0; i < 100; i++)
        rig_write(rig_visit(r, WIRE_KIND_TCP), 1, true);
    rig_pull(r); /* checks each message */
    CU_ASSERT_EQUAL(r->n_out, 301);
    CU_ASSERT_EQUAL(r->messages, 5);
    for (unsigned i = 0; i < r->n_out; i++) /* no stream's frame before its STREAM_OPEN */
        if (r->out[i].type != WIRE_STREAM_OPEN && r->out[i].id)
            for (unsigned j = i + 1; j < r->n_out; j++)
                CU_ASSERT(r->out[j].type != WIRE_STREAM_OPEN || r->out[j].id != r->out[i].id);
    STOP();
}

static void any_room_will_do(void) {
    START(WIRE_ROLE_KIT, NULL);
    rig_pull(r);
    for (size_t cap = 0; cap < 300; cap++) {
        struct rig_stream *t = rig_visit(r, WIRE_KIND_TCP);
        rig_write(t, 50, true);
        rig_ping(r, "12345678");
        unsigned rounds = 0;
        while (rig_pull_one(r, cap) && rounds < 1000)
            rounds++;
        CU_ASSERT(rounds < 1000);
        rig_pull(r);
        CU_ASSERT_EQUAL(t->to_send, 0);
        CU_ASSERT(mux_stream_local_ended(t->st));
        mux_stream_release(&t->st);
        rig_pull(r);
    }
    STOP();
}

static void nothing_to_say_costs_no_frame(void) {
    START(WIRE_ROLE_KIT, NULL);
    struct rig_stream *t = rig_visit(r, WIRE_KIND_TCP);
    rig_pull(r);
    unsigned frames = r->n_out;
    mux_stream_ready(t->st);
    t->more_lies = true; /* no bytes, but "more": that is not true, and must not spin */
    CU_ASSERT(!rig_pull_one(r, WIRE_LIMIT_MAX_MESSAGE));
    CU_ASSERT_EQUAL(r->n_out, frames);
    CU_ASSERT_EQUAL(t->pulls, 1);
    CU_ASSERT(!rig_pull_one(r, WIRE_LIMIT_MAX_MESSAGE));
    CU_ASSERT_EQUAL(t->pulls, 1);
    STOP();
}

static void a_source_may_come_later(void) {
    START(WIRE_ROLE_KIT, NULL);
    static const struct mux_stream_ops none = {.closed = rig_closed};
    struct rig_stream *t = rig_visit(r, WIRE_KIND_TCP);
    mux_stream_set_ops(t->st, &none, t);
    rig_write(t, 100, true);
    rig_pull(r);
    CU_ASSERT_EQUAL(r->data_out, 0);
    mux_stream_set_ops(t->st, &rig_stream_ops, t);
    mux_stream_ready(t->st);
    CU_ASSERT_EQUAL(rig_count(r, WIRE_EOF, 2), 1);
    CU_ASSERT_EQUAL(r->data_out, 100);
    STOP();
}

static void reset_overtakes_data(void) {
    START(WIRE_ROLE_KIT, NULL);
    struct rig_stream *t = rig_visit(r, WIRE_KIND_TCP);
    rig_write(t, 500000, true);
    mux_stream_reset(t->st, WIRE_CODE_CANCEL, "visitor gone");
    rig_pull(r);
    CU_ASSERT_EQUAL(r->data_out, 0);
    CU_ASSERT_EQUAL(r->out[r->n_out - 2].type, WIRE_STREAM_OPEN);
    CU_ASSERT_EQUAL(r->out[r->n_out - 1].type, WIRE_RESET);
    CU_ASSERT_EQUAL(t->closes, 0);
    CU_ASSERT_EQUAL(t->pulls, 0);
    STOP();
}

static void credit_blocks_and_unblocks(void) {
    START(WIRE_ROLE_KIT, NULL);
    struct rig_stream *t = rig_visit(r, WIRE_KIND_TCP);
    rig_write(t, (1u << 20) + 70000, true);
    rig_pull(r);
    CU_ASSERT_EQUAL(r->data_out, 1u << 20);
    CU_ASSERT_EQUAL(t->writable, 0);
    mux_stream_ready(t->st);
    CU_ASSERT(!rig_pull_one(r, WIRE_LIMIT_MAX_MESSAGE));
    CU_ASSERT(rig_window(r, 2, 69999) > 0);
    CU_ASSERT_EQUAL(t->writable, 1);
    rig_pull(r);
    CU_ASSERT_EQUAL(t->to_send, 1);
    CU_ASSERT_EQUAL(t->writable, 0);
    CU_ASSERT(rig_window(r, 2, 1) > 0);
    CU_ASSERT_EQUAL(rig_count(r, WIRE_EOF, 2), 1);
    STOP();
}

static void tight(struct mux_config *c) { c->session_window = 100000; }

/* Session credit goes to those who wait for it in the order in which they came, a piece each. */
static void session_credit_is_shared(void) {
    START(WIRE_ROLE_KIT, tight);
    struct rig_stream *t[5];
    for (int i = 0; i < 5; i++)
        rig_write(t[i] = rig_visit(r, WIRE_KIND_TCP), 1u << 20, false);
    rig_pull(r);
    CU_ASSERT_EQUAL(r->data_out, 100000);
    for (int i = 0; i < 5; i++)
        CU_ASSERT_EQUAL(t[i]->writable, 0);
    for (int i = 0; i < 50; i++) {
        CU_ASSERT(rig_window(r, 0, 65536) > 0);
        rig_pull(r);
    }
    for (int i = 0; i < 5; i++) {
        size_t sent = (1u << 20) - t[i]->to_send;
        CU_ASSERT(sent >= 9 * 65536 && sent <= 12 * 65536);
    }
    CU_ASSERT_EQUAL(r->data_out, 100000 + 50 * 65536);
    STOP();
}

/* EOF costs no credit: a request without a body goes out whole while uploads stall. */
static void the_end_needs_no_credit(void) {
    START(WIRE_ROLE_KIT, tight);
    struct rig_stream *upload = rig_visit(r, WIRE_KIND_TCP);
    rig_write(upload, 1u << 20, false);
    rig_pull(r);
    CU_ASSERT_EQUAL(upload->writable, 0);
    struct rig_stream *get = rig_visit(r, WIRE_KIND_TCP), *late = rig_visit(r, WIRE_KIND_TCP);
    rig_write(get, 0, true);
    rig_write(late, 10, true);
    rig_pull(r);
    CU_ASSERT_EQUAL(rig_count(r, WIRE_EOF, mux_stream_id(get->st)), 1);
    CU_ASSERT_EQUAL(rig_count(r, WIRE_EOF, mux_stream_id(late->st)), 0);
    CU_ASSERT_EQUAL(late->to_send, 10);
    CU_ASSERT(rig_window(r, 0, 90000) > 0);
    rig_pull(r);
    CU_ASSERT_EQUAL(rig_count(r, WIRE_EOF, mux_stream_id(late->st)), 1);
    STOP();
}

/* The one who waits for session credit goes away: what was meant for it goes to the next. */
static void credit_meant_for_the_dead(void) {
    START(WIRE_ROLE_KIT, tight);
    struct rig_stream *a = rig_visit(r, WIRE_KIND_TCP), *b = rig_visit(r, WIRE_KIND_TCP),
                      *c = rig_visit(r, WIRE_KIND_TCP);
    rig_write(a, 100000, false);
    rig_pull(r);
    rig_write(b, 1000, false);
    rig_write(c, 1000, false);
    rig_pull(r);
    CU_ASSERT_EQUAL(b->writable, 0);
    b->to_send = 0; /* its source has dried up meanwhile */
    CU_ASSERT(rig_window(r, 0, 10) > 0);
    rig_pull(r);
    CU_ASSERT_EQUAL(c->to_send, 990);
    mux_stream_release(&c->st);
    CU_ASSERT(rig_window(r, 0, 65536) > 0);
    STOP();
}

static void a_full_link_quiets_the_source(void) {
    START(WIRE_ROLE_KIT, NULL);
    struct rig_stream *t = rig_visit(r, WIRE_KIND_TCP);
    rig_pull(r);
    rig_write(t, 100, false);
    for (int i = 0; i < 3; i++)
        mux_stream_ready(t->st);
    CU_ASSERT_EQUAL(t->writable, -1);
    mux_stream_ready(t->st);
    CU_ASSERT_EQUAL(t->writable, 0);
    rig_pull(r);
    CU_ASSERT_EQUAL(t->to_send, 0);
    CU_ASSERT_EQUAL(t->writable, 1);
    STOP();
}

/* ---- WINDOWs ---- */

static void windows_come_in_batches(void) {
    START(WIRE_ROLE_DRIVER, NULL);
    rig_open(r, 2, RIG_OPEN_TCP);
    for (int i = 0; i < 64; i++) {
        CU_ASSERT(rig_frame_in(r, WIRE_DATA, 2, NULL, 16384) > 0);
        rig_pull(r);
    }
    CU_ASSERT_EQUAL(rig_count(r, WIRE_WINDOW, 2), 4);
    CU_ASSERT_EQUAL(rig_count(r, WIRE_WINDOW, 0), 0);
    STOP();
}

/* The published sender: session credit first, then stream credit, in pieces, each waiting until all of it is there. */
static void a_sender_of_pieces_never_starves(void) {
    START(WIRE_ROLE_DRIVER, NULL);
    uint32_t stream = 1u << 20, session = 16u << 20;
    rig_open(r, 2, RIG_OPEN_TCP);
    for (int i = 0; i < 2000; i++) {
        uint32_t n = i % 7 ? 65536 : 1 + (uint32_t)i * 31;
        while (stream < n || session < n) {
            const struct rig_frame *f = rig_next(r, WIRE_WINDOW);
            CU_ASSERT_PTR_NOT_NULL_FATAL(f);
            *(f->id ? &stream : &session) += wire_get32(f->head);
        }
        stream -= n;
        session -= n;
        CU_ASSERT(rig_frame_in(r, WIRE_DATA, 2, NULL, n) > 0);
    }
    CU_ASSERT_EQUAL(r->overs, 0);
    STOP();
}

static void no_credit_for_what_is_over(void) {
    START(WIRE_ROLE_DRIVER, NULL);
    rig_open(r, 2, RIG_OPEN_TCP);
    r->streams[0].keep = true;
    for (int i = 0; i < 16; i++)
        CU_ASSERT(rig_frame_in(r, WIRE_DATA, 2, NULL, 65536) > 0);
    CU_ASSERT(rig_frame_in(r, WIRE_EOF, 2, NULL, 0) > 0);
    mux_stream_consumed(r->streams[0].st, 1u << 20);
    CU_ASSERT_EQUAL(rig_count(r, WIRE_WINDOW, 2), 0);
    CU_ASSERT_EQUAL(mux_stream_unconsumed(r->streams[0].st), 0);
    STOP();
}

static void auto_on(struct mux_config *c) {
    c->caps = WIRE_CAP_AUTO_WINDOW;
    c->stream_window = 1u << 20;
    c->max_window = 64u << 20;
}

static void windows_grow_with_use(void) {
    START(WIRE_ROLE_DRIVER, auto_on);
    CU_ASSERT_EQUAL(mux_session_deadline(r->s), r->now); /* wants to measure the round trip */
    rig_tick(r, 0);
    const struct rig_frame *f = rig_next(r, WIRE_PING);
    CU_ASSERT_PTR_NOT_NULL_FATAL(f);
    rig_tick(r, 40);
    CU_ASSERT(rig_frame_in(r, WIRE_PONG, 0, f->head, 8) > 0);
    rig_open(r, 2, RIG_OPEN_TCP);
    size_t sent = 0, credit = 1u << 20;
    for (int i = 0; i < 40; i++) { /* fast: a window in 40 ms */
        while (credit >= 65536) {
            CU_ASSERT(rig_frame_in(r, WIRE_DATA, 2, NULL, 65536) > 0);
            sent += 65536;
            credit -= 65536;
        }
        while ((f = rig_next(r, WIRE_WINDOW)))
            credit += f->id ? wire_get32(f->head) : 0;
        rig_tick(r, 40);
    }
    CU_ASSERT(credit > 15u << 20);
    CU_ASSERT(credit <= 16u << 20);
    STOP();
}

static void large_on(struct mux_config *c) {
    auto_on(c);
    c->caps |= WIRE_CAP_LARGE_WINDOW;
}

/* What the peer may send on stream 2 in one go, within both windows; `ms` pass afterwards. */
static void fill_windows(struct rig *r, size_t credit[2], unsigned ms) {
    while (credit[0] >= 65536 && credit[1] >= 65536) {
        CU_ASSERT_FATAL(rig_frame_in(r, WIRE_DATA, 2, NULL, 65536) > 0);
        credit[0] -= 65536;
        credit[1] -= 65536;
    }
    for (const struct rig_frame *f; (f = rig_next(r, WIRE_WINDOW));)
        credit[f->id != 0] += wire_get32(f->head);
    rig_tick(r, ms);
}

static struct rig *away(struct rig *r, unsigned ms) {
    rig_tick(r, 0);
    const struct rig_frame *f = rig_next(r, WIRE_PING);
    CU_ASSERT_PTR_NOT_NULL_FATAL(f);
    rig_tick(r, ms);
    CU_ASSERT(rig_frame_in(r, WIRE_PONG, 0, f->head, 8) > 0);
    rig_open(r, 2, RIG_OPEN_TCP);
    return r;
}

/* Both windows follow a long way, and both go back when nothing comes. */
static void both_windows_follow_the_way(void) {
    START(WIRE_ROLE_DRIVER, large_on);
    size_t credit[2] = {WIRE_LIMIT_SESSION_WINDOW, 1u << 20};
    away(r, 40);
    for (int i = 0; i < 20; i++)
        fill_windows(r, credit, 40);
    CU_ASSERT(credit[0] > 60u << 20 && credit[0] <= 64u << 20);
    CU_ASSERT(credit[1] > 60u << 20 && credit[1] <= 64u << 20);
    for (int i = 0; i < 30; i++) { /* 5 MB/s need 400 KB: 30 s of them are 2 windows of 64 MiB */
        CU_ASSERT_FATAL(rig_frame_in(r, WIRE_DATA, 2, NULL, 65536) > 0);
        credit[0] -= 65536, credit[1] -= 65536;
        rig_tick(r, 1000);
    }
    for (int i = 0; i < 1100; i++) { /* what was announced is used up, and not announced again */
        CU_ASSERT_FATAL(rig_frame_in(r, WIRE_DATA, 2, NULL, 65536) > 0);
        credit[0] -= 65536, credit[1] -= 65536;
        for (const struct rig_frame *f; (f = rig_next(r, WIRE_WINDOW));)
            credit[f->id != 0] += wire_get32(f->head);
        rig_tick(r, 130);
    }
    CU_ASSERT(credit[0] <= 17u << 20);
    CU_ASSERT(credit[1] <= 2u << 20);
    STOP();
}

/* Next door a stream that is alone gets the session's first window; one of many, or a slow one, keeps its own. */
static void a_short_way_gets_a_larger_window(void) {
    for (int slow = 0; slow < 2; slow++) {
        START(WIRE_ROLE_DRIVER, large_on);
        size_t credit[2] = {WIRE_LIMIT_SESSION_WINDOW, 1u << 20};
        away(r, 0);
        for (int i = 0; i < 100; i++) {
            size_t some[2] = {slow ? 65536 : credit[0], slow ? 65536 : credit[1]}, left[2] = {some[0], some[1]};
            fill_windows(r, left, 1);
            credit[0] -= some[0] - left[0];
            credit[1] -= some[1] - left[1];
        }
        CU_ASSERT(credit[0] <= WIRE_LIMIT_SESSION_WINDOW);
        CU_ASSERT(slow ? credit[1] <= 1u << 20 : credit[1] > 12u << 20 && credit[1] <= WIRE_LIMIT_SESSION_WINDOW);
        STOP();
    }
}

/* A WINDOW waits to be sent, and then the window shrinks by all that it would have said. */
static void a_window_that_shrinks_takes_its_announcement_back(void) {
    START(WIRE_ROLE_DRIVER, large_on);
    size_t credit[2] = {WIRE_LIMIT_SESSION_WINDOW, 1u << 20};
    away(r, 40);
    for (int i = 0; i < 20; i++)
        fill_windows(r, credit, 40);
    unsigned before = rig_count(r, WIRE_WINDOW, 2);
    for (int i = 0; i < 260; i++) /* a quarter of 64 MiB, and nothing is pulled */
        CU_ASSERT_FATAL(rig_frame_in(r, WIRE_DATA, 2, NULL, 65536) > 0);
    mux_session_tick(r->s, r->now += 11000);
    CU_ASSERT(rig_frame_in(r, WIRE_DATA, 2, NULL, 100) > 0);
    CU_ASSERT_EQUAL(rig_count(r, WIRE_WINDOW, 2), before);
    STOP();
}

static void far_and_tight(struct mux_config *c) {
    large_on(c);
    c->session_window = 4u << 20;
    c->session_buffer = 16u << 20;
}

/* Whoever makes the windows grow and then has nothing read holds no more than before: the buffer pays. */
static void a_grown_window_holds_no_more(void) {
    START(WIRE_ROLE_DRIVER, far_and_tight);
    size_t credit[2] = {4u << 20, 1u << 20};
    away(r, 40);
    for (int i = 0; i < 20; i++)
        fill_windows(r, credit, 40);
    CU_ASSERT(credit[0] > 12u << 20 && credit[0] <= 16u << 20); /* four fifths of all */
    r->streams[0].keep = true;
    size_t before = r->streams[0].received;
    for (int i = 0; i < 20; i++)
        fill_windows(r, credit, 40);
    CU_ASSERT(r->streams[0].received - before > 12u << 20);
    CU_ASSERT(r->streams[0].received - before <= 20u << 20);
    CU_ASSERT_EQUAL(r->overs, 0);
    STOP();
}

/* A peer without the capability gets the session's window as it was, and a stream's up to 16 MiB. */
static void without_the_capability_the_session_keeps_its_window(void) {
    START(WIRE_ROLE_DRIVER, auto_on);
    size_t credit[2] = {WIRE_LIMIT_SESSION_WINDOW, 1u << 20};
    away(r, 40);
    for (int i = 0; i < 20; i++)
        fill_windows(r, credit, 40);
    CU_ASSERT(credit[0] <= WIRE_LIMIT_SESSION_WINDOW);
    CU_ASSERT(credit[1] <= 16u << 20);
    STOP();
}

/* ---- time ---- */

static void pings_after_silence(void) {
    START(WIRE_ROLE_KIT, NULL);
    rig_visit(r, WIRE_KIND_TCP);
    rig_tick(r, 0);
    CU_ASSERT_EQUAL(mux_session_deadline(r->s), r->now + 30000);
    rig_tick(r, 29999);
    CU_ASSERT(!rig_next(r, WIRE_PING));
    CU_ASSERT(rig_frame_in(r, 0x44, 0, NULL, 0) > 0); /* anything counts */
    CU_ASSERT(rig_ping(r, "whatever") > 0);
    rig_tick(r, 1);
    CU_ASSERT(!rig_next(r, WIRE_PING));
    rig_tick(r, 30000);
    const struct rig_frame *f = rig_next(r, WIRE_PING);
    CU_ASSERT_PTR_NOT_NULL_FATAL(f);
    rig_tick(r, 59999);
    CU_ASSERT(rig_frame_in(r, WIRE_PONG, 0, "12345678", 8) > 0); /* somebody else's */
    CU_ASSERT_EQUAL(r->pongs, 0);
    CU_ASSERT(rig_frame_in(r, WIRE_PONG, 0, f->head, 8) > 0);
    CU_ASSERT_EQUAL(r->pongs, 1);
    rig_tick(r, 1);
    CU_ASSERT_EQUAL(r->overs, 0);
    CU_ASSERT(!rig_next(r, WIRE_PING));
    STOP();
}

static unsigned next_random;

static void made_up(void *p, size_t n) { memset(p, 'a' + (int)next_random++, n); }

static void measured(struct mux_config *c) {
    c->measure_interval_ms = 1000;
    c->random = made_up;
}

/* A round trip ends when the PONG is here, whenever the last tick was; and no peer can answer ahead. */
static void round_trips_are_measured(void) {
    next_random = 0;
    START(WIRE_ROLE_DRIVER, measured);
    rig_tick(r, 5000);
    const struct rig_frame *f = rig_next(r, WIRE_PING);
    CU_ASSERT_PTR_NOT_NULL_FATAL(f);
    CU_ASSERT_EQUAL(memcmp(f->head, "aaaaaaaa", 8), 0);
    CU_ASSERT(rig_frame_in(r, WIRE_PONG, 0, "bbbbbbbb", 8) > 0); /* the next one, which nobody can know */
    mux_session_measure(r->s, r->now * 1000 + 40250);
    CU_ASSERT(rig_frame_in(r, WIRE_PONG, 0, "aaaaaaaa", 8) > 0);
    CU_ASSERT_EQUAL(r->pongs, 1);
    CU_ASSERT_EQUAL(r->rtt_us, 40250);
    CU_ASSERT_EQUAL(mux_session_deadline(r->s), r->now + 1000);
    rig_tick(r, 999);
    CU_ASSERT(!rig_next(r, WIRE_PING));
    rig_tick(r, 1);
    CU_ASSERT_PTR_NOT_NULL_FATAL(rig_next(r, WIRE_PING));
    rig_tick(r, 7); /* without a measure() the tick counts */
    CU_ASSERT(rig_frame_in(r, WIRE_PONG, 0, "bbbbbbbb", 8) > 0);
    CU_ASSERT_EQUAL(r->rtt_us, 7000);
    STOP();
}

static void no_pong_is_the_end(void) {
    START(WIRE_ROLE_KIT, NULL);
    struct rig_stream *t = rig_visit(r, WIRE_KIND_TCP);
    rig_tick(r, 30000);
    CU_ASSERT_PTR_NOT_NULL(rig_next(r, WIRE_PING));
    CU_ASSERT_EQUAL(mux_session_deadline(r->s), r->now + 60000);
    rig_tick(r, 59999);
    CU_ASSERT_EQUAL(r->overs, 0);
    rig_tick(r, 1);
    CU_ASSERT_EQUAL(r->overs, 1);
    CU_ASSERT_EQUAL(r->why, MUX_END_TIMEOUT);
    CU_ASSERT_EQUAL(t->closes, 1);
    const struct rig_frame *f = rig_next(r, WIRE_GOAWAY);
    CU_ASSERT_PTR_NOT_NULL_FATAL(f);
    CU_ASSERT(strstr((const char *)f->head, "\"code\":10,\"message\":\"pong timeout\"") != NULL);
    CU_ASSERT_EQUAL(mux_session_deadline(r->s), UINT64_MAX);
    STOP();
}

static void no_pings(struct mux_config *c) { c->ping_interval_ms = 0; }

static void idle_sessions_go(void) {
    START(WIRE_ROLE_KIT, no_pings);
    mux_session_set_bindings(r->s, 1);
    CU_ASSERT_EQUAL(mux_session_deadline(r->s), UINT64_MAX);
    rig_tick(r, 1000000);
    CU_ASSERT_EQUAL(r->overs, 0);
    mux_session_set_bindings(r->s, 0);
    CU_ASSERT(mux_session_deadline(r->s) <= r->now);
    rig_tick(r, 5);
    CU_ASSERT_EQUAL(mux_session_deadline(r->s), r->now + 300000);
    rig_tick(r, 299999);
    struct rig_stream *t = rig_visit(r, WIRE_KIND_TCP); /* a visitor in the last moment */
    mux_stream_release(&t->st);
    rig_tick(r, 1);
    CU_ASSERT_EQUAL(r->overs, 0);
    rig_tick(r, 299999);
    CU_ASSERT_EQUAL(r->overs, 0);
    rig_tick(r, 1);
    CU_ASSERT_EQUAL(r->overs, 1);
    CU_ASSERT_EQUAL(r->why, MUX_END_IDLE);
    CU_ASSERT_EQUAL(r->ws_code, 1000);
    const struct rig_frame *f = rig_next(r, WIRE_GOAWAY);
    CU_ASSERT_PTR_NOT_NULL_FATAL(f);
    CU_ASSERT(strstr((const char *)f->head, "session idle timeout") != NULL);
    STOP();
}

static void draining_lets_streams_finish(void) {
    START(WIRE_ROLE_KIT, NULL);
    struct rig_stream *t = rig_visit(r, WIRE_KIND_TCP);
    mux_session_shutdown(r->s, WIRE_GOAWAY_SHUTDOWN_CODE, WIRE_GOAWAY_SHUTDOWN_MESSAGE, 10000, 1001);
    CU_ASSERT_PTR_NOT_NULL(rig_next(r, WIRE_GOAWAY));
    CU_ASSERT(mux_session_draining(r->s));
    CU_ASSERT_PTR_NULL(rig_visit(r, WIRE_KIND_TCP));
    rig_write(t, 1000, true);
    CU_ASSERT(rig_frame_in(r, WIRE_DATA, 2, NULL, 77) > 0);
    CU_ASSERT(rig_frame_in(r, WIRE_EOF, 2, NULL, 0) > 0);
    rig_pull(r);
    CU_ASSERT_EQUAL(t->closes, 1);
    CU_ASSERT_EQUAL(t->received, 77);
    CU_ASSERT_EQUAL(mux_session_deadline(r->s), r->now + 10000); /* the handle is still there */
    mux_stream_release(&t->st);
    CU_ASSERT(mux_session_deadline(r->s) <= r->now);
    rig_tick(r, 0);
    CU_ASSERT_EQUAL(r->overs, 1);
    CU_ASSERT_EQUAL(r->why, MUX_END_LOCAL);
    CU_ASSERT_EQUAL(r->ws_code, 1001);
    STOP();
}

static void draining_comes_to_an_end(void) {
    START(WIRE_ROLE_KIT, NULL);
    struct rig_stream *t = rig_visit(r, WIRE_KIND_TCP);
    mux_session_shutdown(r->s, 1, "closed by admin", 60000, 1000);
    mux_session_shutdown(r->s, 1, "closed by admin", 50, 1000); /* shortens */
    mux_session_shutdown(r->s, 1, "closed by admin", 5000, 1000);
    CU_ASSERT_EQUAL(rig_count(r, WIRE_GOAWAY, 0), 1);
    rig_tick(r, 49);
    CU_ASSERT_EQUAL(r->overs, 0);
    rig_tick(r, 1);
    CU_ASSERT_EQUAL(r->overs, 1);
    CU_ASSERT_EQUAL(t->closes, 1);
    CU_ASSERT_EQUAL(t->code, 7);
    CU_ASSERT_EQUAL(rig_count(r, WIRE_RESET, 2), 1);
    STOP();
}

/* ---- published drivers ---- */

static void published(struct mux_config *c) { c->own_peer = false; }

static void the_first_burst_is_bounded(void) {
    START(WIRE_ROLE_KIT, published);
    struct rig_stream *t = rig_visit(r, WIRE_KIND_HTTP);
    rig_write(t, 5u << 20, true);
    rig_pull(r);
    CU_ASSERT_EQUAL(r->data_out, 921600);
    CU_ASSERT_EQUAL(t->writable, 0);
    rig_tick(r, 5000); /* it has not even seen the stream */
    CU_ASSERT_EQUAL(r->data_out, 921600);
    CU_ASSERT(rig_window(r, 2, 65536) > 0); /* it gathers, and gives credit for that */
    CU_ASSERT_EQUAL(t->writable, 0);
    rig_tick(r, 1);
    rig_tick(r, 249);
    CU_ASSERT(rig_window(r, 2, 65536) > 0);
    rig_tick(r, 1);
    CU_ASSERT_EQUAL(mux_session_deadline(r->s), r->now + 250);
    rig_tick(r, 249);
    CU_ASSERT_EQUAL(r->data_out, 921600);
    rig_tick(r, 1);
    CU_ASSERT_EQUAL(t->writable, 1);
    rig_pull(r);
    CU_ASSERT_EQUAL(r->data_out, (1u << 20) + 131072);
    STOP();
}

static void what_comes_back_ends_the_first_burst(void) {
    START(WIRE_ROLE_KIT, published);
    struct rig_stream *h = rig_visit(r, WIRE_KIND_HTTP);
    rig_write(h, 5u << 20, true);
    rig_pull(r);
    CU_ASSERT_EQUAL(r->data_out, 921600);
    CU_ASSERT(rig_text(r, WIRE_STREAM_RESPONSE_HEAD, 2, RIG_HEAD) > 0);
    CU_ASSERT_EQUAL(h->writable, 1);
    rig_pull(r);
    CU_ASSERT_EQUAL(r->data_out, 1u << 20); /* all of the window */
    struct rig_stream *t = rig_visit(r, WIRE_KIND_TCP);
    rig_write(t, 100, true);
    rig_pull(r);
    CU_ASSERT_EQUAL(rig_count(r, WIRE_EOF, 4), 0);
    CU_ASSERT(rig_frame_in(r, WIRE_DATA, 4, "x", 1) > 0);
    CU_ASSERT_EQUAL(rig_count(r, WIRE_EOF, 4), 1);
    STOP();
}

static void a_tcp_eof_waits_for_the_dial(void) {
    START(WIRE_ROLE_KIT, published);
    struct rig_stream *t = rig_visit(r, WIRE_KIND_TCP), *u = rig_visit(r, WIRE_KIND_TCP),
                      *h = rig_visit(r, WIRE_KIND_HTTP), *v = rig_visit(r, WIRE_KIND_TCP);
    rig_write(t, 10, true); /* waits for the WINDOW, and 250 ms */
    rig_write(u, 0, true);  /* waits for 250 ms */
    rig_write(h, 0, true);  /* does not wait */
    rig_write(v, 0, true);
    rig_pull(r);
    CU_ASSERT_EQUAL(r->data_out, 10);
    CU_ASSERT_EQUAL(rig_count(r, WIRE_EOF, 2), 0);
    CU_ASSERT_EQUAL(rig_count(r, WIRE_EOF, 4), 0);
    CU_ASSERT_EQUAL(rig_count(r, WIRE_EOF, 6), 1);
    mux_stream_reset(v->st, 7, "");
    CU_ASSERT(mux_session_deadline(r->s) <= r->now);
    rig_tick(r, 1);
    CU_ASSERT_EQUAL(mux_session_deadline(r->s), r->now + 250);
    rig_tick(r, 249);
    CU_ASSERT_EQUAL(rig_count(r, WIRE_EOF, 4), 0);
    rig_tick(r, 1);
    CU_ASSERT_EQUAL(rig_count(r, WIRE_EOF, 4), 1);
    rig_tick(r, 5000);
    CU_ASSERT_EQUAL(rig_count(r, WIRE_EOF, 2), 0);
    CU_ASSERT(rig_window(r, 2, 10) > 0);
    rig_tick(r, 1);
    rig_tick(r, 249);
    CU_ASSERT_EQUAL(rig_count(r, WIRE_EOF, 2), 0);
    rig_tick(r, 1);
    CU_ASSERT_EQUAL(rig_count(r, WIRE_EOF, 2), 1);
    CU_ASSERT_EQUAL(rig_count(r, WIRE_EOF, 8), 0);
    rig_write(rig_visit(r, WIRE_KIND_TCP), 10, true); /* a driver that gathers its WINDOWs */
    rig_pull(r);
    rig_tick(r, 1);
    rig_tick(r, 9999);
    CU_ASSERT_EQUAL(rig_count(r, WIRE_EOF, 10), 0);
    rig_tick(r, 1);
    CU_ASSERT_EQUAL(rig_count(r, WIRE_EOF, 10), 1);
    STOP();
}

/* ---- memory ---- */

/* A session from its start to its end, with the allocation number `index` failing; false: none failed. */
static void scenario(enum wire_role role) {
    size_t live = ht_mem_live();
    struct rig *r = rig_start(role, NULL);
    if (!r) {
        CU_ASSERT_EQUAL(ht_mem_live(), live);
        return;
    }
    for (uint32_t i = 0; r->s && i < 20; i++) {
        uint32_t id = 2 + 2 * i;
        struct rig_stream *t = NULL;
        if (role == WIRE_ROLE_KIT)
            t = rig_visit(r, i % 2 ? WIRE_KIND_HTTP : WIRE_KIND_TCP);
        else if (rig_open(r, id, i % 2 ? RIG_OPEN_HTTP : RIG_OPEN_TCP) > 0 && r->n_streams > 0)
            t = &r->streams[r->n_streams - 1];
        if (!t || !t->st)
            continue;
        rig_write(t, 1000, i % 3 == 0);
        struct wire_response_head head = {.status = 200, .final = true};
        if (role == WIRE_ROLE_DRIVER)
            (void)!mux_stream_respond(t->st, &head);
        else
            rig_text(r, WIRE_STREAM_RESPONSE_HEAD, id, RIG_HEAD);
        rig_frame_in(r, WIRE_DATA, id, NULL, 5000);
        rig_frame_in(r, WIRE_EOF, id, NULL, 0);
        if (i % 4 == 0)
            mux_stream_reset(t->st, 7, "");
        if (i % 2)
            rig_pull(r);
        rig_tick(r, 100);
    }
    if (r->s)
        mux_session_shutdown(r->s, 0, "bye", 10, 1001);
    rig_tick(r, 20);
    rig_pull(r);
    CU_ASSERT(!r->s || r->overs == 1);
    ht_mem_fail_at(-1);
    rig_stop(r, live);
}

static void every_allocation_may_fail(void) {
    for (int role = 0; role < 2; role++)
        for (long i = 0; i < 400; i++) {
            ht_mem_fail_at(i);
            scenario(role ? WIRE_ROLE_DRIVER : WIRE_ROLE_KIT);
            ht_mem_fail_at(-1);
        }
}

int main(void) {
    static const struct tap_test tests[] = {
        {"bulk streams share the link equally", bulk_streams_share},
        {"a small answer passes bulk", a_small_answer_passes_bulk},
        {"small streams do not starve bulk", small_ones_do_not_starve_bulk},
        {"control frames go first", control_frames_go_first},
        {"STREAM_OPEN, DATA and EOF share a message", open_data_and_eof_share_a_message},
        {"a message has at most 64 frames", messages_keep_to_64_frames},
        {"pull() works with every size of buffer", any_room_will_do},
        {"a stream with nothing to send costs no frame", nothing_to_say_costs_no_frame},
        {"the source of a stream may be set later", a_source_may_come_later},
        {"RESET overtakes DATA", reset_overtakes_data},
        {"a stream is blocked without credit and unblocked with it", credit_blocks_and_unblocks},
        {"streams share the session's credit", session_credit_is_shared},
        {"EOF needs no credit", the_end_needs_no_credit},
        {"credit of an ended stream goes to another stream", credit_meant_for_the_dead},
        {"a full link stops the source", a_full_link_quiets_the_source},
        {"WINDOWs come in batches", windows_come_in_batches},
        {"a sender that takes credit in pieces never stops", a_sender_of_pieces_never_starves},
        {"a stream whose peer has sent EOF gets no WINDOW", no_credit_for_what_is_over},
        {"windows grow with use", windows_grow_with_use},
        {"both windows follow the way", both_windows_follow_the_way},
        {"on a short way a stream alone has the session's first window", a_short_way_gets_a_larger_window},
        {"a window that shrinks takes its announcement back", a_window_that_shrinks_takes_its_announcement_back},
        {"a grown window lets nobody hold more", a_grown_window_holds_no_more},
        {"without large-window the session keeps its window", without_the_capability_the_session_keeps_its_window},
        {"PING is sent after silence", pings_after_silence},
        {"round trips are measured", round_trips_are_measured},
        {"a session without a PONG ends", no_pong_is_the_end},
        {"an idle session ends", idle_sessions_go},
        {"draining lets streams finish", draining_lets_streams_finish},
        {"draining comes to an end", draining_comes_to_an_end},
        {"published drivers: the first burst is bounded", the_first_burst_is_bounded},
        {"published drivers: an answer ends the limit of the first burst", what_comes_back_ends_the_first_burst},
        {"published drivers: a TCP EOF waits for the dial", a_tcp_eof_waits_for_the_dial},
        {"every allocation may fail", every_allocation_may_fail},
        {NULL, NULL},
    };
    return tap_main("mux turns", tests);
}
