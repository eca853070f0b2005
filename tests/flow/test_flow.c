#include "flow/flow.h"
#include "support/tap.h"

#include <CUnit/CUnit.h>

static void sending_stops_at_no_credit(void) {
    struct flow_send w;
    flow_send_init(&w, 10);
    flow_send_take(&w, 9);
    CU_ASSERT_EQUAL(w.credit, 1);
    CU_ASSERT_EQUAL(flow_send_grant(&w, 1, 10), FLOW_GRANTED);
    flow_send_take(&w, 2);
    CU_ASSERT_EQUAL(w.credit, 0);
    CU_ASSERT_EQUAL(flow_send_grant(&w, 1, 10), FLOW_UNBLOCKED);
}

static void grants_keep_to_the_limit(void) {
    struct flow_send w;
    flow_send_init(&w, 1048576);
    CU_ASSERT_EQUAL(flow_send_grant(&w, 0, 1048576), FLOW_ZERO);
    CU_ASSERT_EQUAL(flow_send_grant(&w, 1, 1048576), FLOW_OVERFLOW);
    flow_send_take(&w, 100);
    CU_ASSERT_EQUAL(flow_send_grant(&w, 101, 1048576), FLOW_OVERFLOW);
    CU_ASSERT_EQUAL(w.credit, 1048476);
    CU_ASSERT_EQUAL(flow_send_grant(&w, 99, 1048576), FLOW_GRANTED);
    CU_ASSERT_EQUAL(flow_send_grant(&w, 1, 1048576), FLOW_GRANTED);
    CU_ASSERT_EQUAL(flow_send_grant(&w, UINT32_MAX, 1048576), FLOW_OVERFLOW);
    CU_ASSERT_EQUAL(flow_send_grant(&w, 1, 1048577), FLOW_GRANTED); /* auto-window */
    flow_send_init(&w, UINT32_MAX);
    CU_ASSERT_EQUAL(flow_send_grant(&w, 1, UINT32_MAX), FLOW_OVERFLOW);
}

static void receiving_counts_to_the_byte(void) {
    struct flow_recv w;
    flow_recv_init(&w, 1000);
    CU_ASSERT(flow_recv_take(&w, 0));
    CU_ASSERT(!flow_recv_take(&w, 1001));
    CU_ASSERT_EQUAL(w.avail, 1000);
    CU_ASSERT(flow_recv_take(&w, 999));
    CU_ASSERT(!flow_recv_take(&w, 2));
    CU_ASSERT(flow_recv_take(&w, 1));
    CU_ASSERT(!flow_recv_take(&w, 1));
    CU_ASSERT_EQUAL(flow_recv_announce(&w), 0);
    flow_recv_give(&w, 400);
    CU_ASSERT_EQUAL(flow_recv_announce(&w), 400);
    CU_ASSERT_EQUAL(flow_recv_announce(&w), 0);
    CU_ASSERT(!flow_recv_take(&w, 401));
    CU_ASSERT(flow_recv_take(&w, 400));
}

static void a_window_is_due_at_a_quarter(void) {
    struct flow_recv w;
    flow_recv_init(&w, 1048576);
    CU_ASSERT(!flow_recv_due(&w));
    CU_ASSERT(flow_recv_take(&w, 262143));
    flow_recv_give(&w, 262143);
    CU_ASSERT(!flow_recv_due(&w));
    CU_ASSERT(flow_recv_take(&w, 1));
    flow_recv_give(&w, 1);
    CU_ASSERT(flow_recv_due(&w));
}

static void a_window_is_due_below_one_piece(void) {
    struct flow_recv w;
    flow_recv_init(&w, 1048576);
    CU_ASSERT(flow_recv_take(&w, 1048576 - FLOW_PIECE));
    CU_ASSERT(!flow_recv_due(&w)); /* nothing is owed */
    flow_recv_give(&w, 1);
    CU_ASSERT(!flow_recv_due(&w)); /* one whole piece is left */
    CU_ASSERT(flow_recv_take(&w, 1));
    CU_ASSERT(flow_recv_due(&w));
    CU_ASSERT_EQUAL(flow_recv_announce(&w), 1);
    CU_ASSERT(!flow_recv_due(&w));
    flow_recv_init(&w, 1000); /* smaller than a piece: always at once */
    CU_ASSERT(flow_recv_take(&w, 1));
    flow_recv_give(&w, 1);
    CU_ASSERT(flow_recv_due(&w));
}

static void a_window_grows_at_once(void) {
    struct flow_recv w;
    flow_recv_init(&w, 100);
    CU_ASSERT(flow_recv_take(&w, 60));
    flow_recv_resize(&w, 200);
    CU_ASSERT_EQUAL(flow_recv_announce(&w), 100);
    CU_ASSERT(flow_recv_take(&w, 140));
    CU_ASSERT(!flow_recv_take(&w, 1));
}

/* What was announced stays the peer's: it is smaller once as much was consumed. */
static void a_window_shrinks_as_bytes_are_consumed(void) {
    struct flow_recv w;
    flow_recv_init(&w, 1000);
    CU_ASSERT(flow_recv_take(&w, 600));
    flow_recv_give(&w, 300);
    flow_recv_resize(&w, 500); /* 300 were not announced: they are gone; 200 more are still out */
    CU_ASSERT_EQUAL(flow_recv_announce(&w), 0);
    CU_ASSERT_EQUAL(w.avail, 400);
    flow_recv_give(&w, 100);
    CU_ASSERT_EQUAL(flow_recv_announce(&w), 0);
    flow_recv_give(&w, 200);
    CU_ASSERT_EQUAL(flow_recv_announce(&w), 100);
    CU_ASSERT_EQUAL(w.avail, 500);
    flow_recv_resize(&w, 200);
    flow_recv_resize(&w, 450); /* grows again before it was small */
    CU_ASSERT_EQUAL(flow_recv_announce(&w), 0);
    CU_ASSERT_EQUAL(w.avail + w.owed, w.window + w.over);
}

static void the_session_gives_back_on_receipt(void) {
    struct flow_pool p;
    flow_pool_init(&p, 1000, 100);
    CU_ASSERT(flow_recv_take(&p.recv, 100));
    flow_pool_hold(&p, 99);
    flow_pool_hold(&p, 1);
    CU_ASSERT_EQUAL(p.recv.owed, 100);
    CU_ASSERT_EQUAL(p.deferred, 0);
    CU_ASSERT(flow_recv_take(&p.recv, 50));
    flow_pool_hold(&p, 50);
    CU_ASSERT_EQUAL(p.recv.owed, 100);
    CU_ASSERT_EQUAL(p.deferred, 50);
    flow_pool_finish(&p, 49); /* still above the mark: as much as has left */
    CU_ASSERT_EQUAL(p.deferred, 1);
    CU_ASSERT_EQUAL(p.recv.owed, 149);
    flow_pool_finish(&p, 1);
    CU_ASSERT_EQUAL(p.deferred, 0);
    CU_ASSERT_EQUAL(p.recv.owed, 150);
    flow_pool_finish(&p, 100);
    CU_ASSERT_EQUAL(p.held, 0);
    CU_ASSERT_EQUAL(p.recv.owed, 150);
    CU_ASSERT(flow_recv_take(&p.recv, 7));
    flow_pool_drop(&p, 7);
    CU_ASSERT_EQUAL(p.recv.owed, 157);
}

static uint32_t roll(uint32_t *s) {
    *s = *s * 1664525u + 1013904223u;
    return *s >> 8;
}

/* What is held never passes buffer + window, and once all is finished with the whole window is the peer's again. */
static void the_session_holds_no_more_than_it_may(void) {
    uint32_t seed = 4711;
    for (int round = 0; round < 50; round++) {
        struct flow_pool p;
        uint32_t window = 1 + roll(&seed) % 5000, buffer = roll(&seed) % 5000;
        flow_pool_init(&p, window, buffer);
        for (int i = 0; i < 2000; i++) {
            uint32_t n = roll(&seed) % 700;
            switch (roll(&seed) % 5) {
            case 4:
                flow_pool_resize(&p, 1 + roll(&seed) % (window + buffer));
                break;
            case 0:
                if (flow_recv_take(&p.recv, n))
                    flow_pool_hold(&p, n);
                break;
            case 1:
                if (flow_recv_take(&p.recv, n))
                    flow_pool_drop(&p, n);
                break;
            case 2:
                flow_pool_finish(&p, n < p.held ? n : p.held);
                break;
            default:
                if (flow_recv_due(&p.recv))
                    CU_ASSERT(flow_recv_announce(&p.recv) > 0);
            }
            if (p.held > (uint64_t)buffer + window || p.deferred > p.held ||
                p.recv.avail + p.recv.owed + p.deferred != p.recv.window + p.recv.over) {
                CU_FAIL("the sums do not hold");
                return;
            }
        }
        flow_pool_finish(&p, p.held);
        CU_ASSERT_EQUAL(p.recv.avail + p.recv.owed, p.recv.window + p.recv.over);
    }
}

/*
 * The sender of existing peers: takes credit in pieces of up to 65,536 bytes, and a piece waits until there is credit
 * for all of it. With a receiver that finishes everything at once it must never stand still (FLOW-2).
 */
static void a_sender_of_pieces_never_starves(void) {
    static const uint32_t windows[] = {65536, 65537, 100000, 131072, 262144, 1048576, 16777216};
    uint32_t seed = 99;
    for (size_t i = 0; i < HT_ARRAY_LEN(windows); i++) {
        struct flow_recv w;
        uint32_t gate = windows[i], sent_windows = 0;
        flow_recv_init(&w, windows[i]);
        for (int piece = 0; piece < 5000; piece++) {
            uint32_t n = 1 + (piece % 3 ? FLOW_PIECE - 1 : roll(&seed) % FLOW_PIECE);
            if (gate < n) {
                CU_FAIL("the sender stands still");
                return;
            }
            gate -= n;
            CU_ASSERT(flow_recv_take(&w, n));
            flow_recv_give(&w, n);
            if (flow_recv_due(&w)) {
                gate += flow_recv_announce(&w);
                sent_windows++;
            }
        }
        if (windows[i] >= 1048576)
            CU_ASSERT(sent_windows <= 5000 / 3);
    }
}

int main(void) {
    static const struct tap_test tests[] = {
        {"sending stops at no credit", sending_stops_at_no_credit},
        {"grants keep to the limit", grants_keep_to_the_limit},
        {"receiving counts to the byte", receiving_counts_to_the_byte},
        {"a WINDOW is due at a quarter", a_window_is_due_at_a_quarter},
        {"a WINDOW is due below one piece", a_window_is_due_below_one_piece},
        {"a window grows at once", a_window_grows_at_once},
        {"a window shrinks as bytes are consumed", a_window_shrinks_as_bytes_are_consumed},
        {"the session gives credit back on receipt", the_session_gives_back_on_receipt},
        {"the session never holds more than its bound", the_session_holds_no_more_than_it_may},
        {"a sender that takes credit in pieces never stops", a_sender_of_pieces_never_starves},
        {NULL, NULL},
    };
    return tap_main("flow", tests);
}
