/* Stream-resume on one link, rule by rule: RESUME-4 and RESUME-6 to RESUME-11. The peer is played by hand. */
#include "mux/replay.h"

/* ---- counting and acknowledging ---- */

static void messages_are_counted(void) {
    for (int role = WIRE_ROLE_KIT; role <= WIRE_ROLE_DRIVER; role++) {
        START((enum wire_role)role, resuming);
        rig_pull(r);
        CU_ASSERT_EQUAL(r->n_out, 1); /* HELLO or HELLO_OK, alone and not counted */
        CU_ASSERT_EQUAL(r->counted, 0);
        CU_ASSERT(rig_ping(r, "12345678") > 0);
        CU_ASSERT_EQUAL(acked(r), 1);
        CU_ASSERT_EQUAL(r->n_out, 3); /* PONG and ACK */
        CU_ASSERT_EQUAL(r->out[2].message, r->out[1].message);
        CU_ASSERT_EQUAL(r->counted, 1);
        CU_ASSERT(ack(r, 1) > 0); /* which does not count */
        CU_ASSERT_EQUAL(r->acked, 1);
        rig_tick(r, 0);
        rig_tick(r, 1000);
        CU_ASSERT_EQUAL(acked(r), UINT64_MAX);
        uint8_t count[8];
        wire_put64(count, 1);
        rig_add(r, WIRE_ACK, 0, count, 8);
        rig_add(r, WIRE_PING, 0, "12345678", 8);
        rig_add(r, 0x7E, 0, NULL, 5);
        CU_ASSERT(rig_send(r) > 0); /* but this one does, and so does one of what is skipped */
        CU_ASSERT(rig_frame_in(r, 0x7E, 3, NULL, 5) > 0);
        CU_ASSERT(rig_ping(r, "12345679") > 0);
        CU_ASSERT_EQUAL(acked(r), 4);
        CU_ASSERT_EQUAL(r->overs, 0);
        STOP();
    }
}

static void an_ack_goes_alone_when_it_must(void) {
    START(WIRE_ROLE_KIT, resuming);
    mux_session_set_bindings(r->s, 1);
    rig_pull(r);
    rig_tick(r, 0);
    CU_ASSERT(nothing_much(r) > 0);
    rig_pull(r);
    CU_ASSERT_EQUAL(r->n_out, 1);
    CU_ASSERT_EQUAL(mux_session_deadline(r->s), r->now);
    rig_tick(r, 10); /* the time begins with a tick */
    CU_ASSERT(nothing_much(r) > 0);
    CU_ASSERT_EQUAL(mux_session_deadline(r->s), r->now + WIRE_LIMIT_ACK_DELAY);
    rig_tick(r, WIRE_LIMIT_ACK_DELAY - 1);
    CU_ASSERT_EQUAL(acked(r), UINT64_MAX);
    unsigned outputs = r->outputs;
    rig_tick(r, 1);
    CU_ASSERT_EQUAL(r->outputs, outputs + 1);
    CU_ASSERT(mux_session_deadline(r->s) > r->now + WIRE_LIMIT_ACK_DELAY);
    CU_ASSERT_EQUAL(acked(r), 2);
    CU_ASSERT_EQUAL(r->counted, 0); /* it is none of those that count */
    CU_ASSERT(mux_session_deadline(r->s) > r->now + WIRE_LIMIT_ACK_DELAY);
    STOP();
}

static void much_is_acknowledged_sooner(void) {
    START(WIRE_ROLE_KIT, resuming);
    rig_pull(r);
    struct rig_stream *t = rig_visit(r, WIRE_KIND_TCP);
    t->keep = true; /* no WINDOW takes the ACK along */
    rig_pull(r);
    for (int i = 0; i < 3; i++)
        CU_ASSERT(rig_frame_in(r, WIRE_DATA, 2, NULL, 65536) > 0);
    CU_ASSERT_EQUAL(acked(r), UINT64_MAX);
    unsigned outputs = r->outputs;
    CU_ASSERT(rig_frame_in(r, WIRE_DATA, 2, NULL, 65536) > 0); /* a quarter of 1 MiB */
    CU_ASSERT(r->outputs > outputs);
    CU_ASSERT_EQUAL(acked(r), 4);
    STOP();
}

static void an_ack_may_not_lie(void) {
    START(WIRE_ROLE_KIT, resuming);
    rig_pull(r);
    CU_ASSERT(rig_ping(r, "12345678") > 0);
    CU_ASSERT(ack(r, 0) > 0);
    rig_pull(r);
    CU_ASSERT(ack(r, 1) > 0);
    CU_ASSERT(ack(r, 0) > 0); /* old: sent again in a message that is sent again */
    CU_ASSERT_EQUAL(r->acked, 1);
    CU_ASSERT_EQUAL(r->overs, 0);
    CU_ASSERT(ack(r, 2) < 0);
    CU_ASSERT(rig_went_away(r, WIRE_CODE_PROTOCOL_ERROR, WIRE_CLOSE_PROTOCOL_ERROR));
    STOP();
}

static void hello_has_no_company(void) {
    static const char hello[] = "{\"version\":\"hoody-tunnel.v1\",\"capabilities\":[\"stream-resume\"]}";
    size_t live = ht_mem_live();
    struct rig *r = rig_start(WIRE_ROLE_KIT, resuming);
    mux_session_destroy(&r->s);
    mux_link_destroy(&r->l);
    r->l = mux_link_create(WIRE_ROLE_KIT, WIRE_V1, &rig_link_ops, r);
    rig_add(r, WIRE_HELLO, 0, hello, strlen(hello));
    rig_add(r, WIRE_PING, 0, "12345678", 8);
    CU_ASSERT(rig_send(r) < 0);
    CU_ASSERT_EQUAL(r->why, MUX_END_VIOLATION);
    STOP();
}

/* ---- the bound ---- */

static void roomy(struct mux_config *c) {
    resuming(c);
    c->stream_window = c->session_window = 64u << 20;
}

static void at_the_bound_the_sender_waits(void) {
    START(WIRE_ROLE_KIT, roomy);
    rig_pull(r);
    struct rig_stream *t = rig_visit(r, WIRE_KIND_TCP);
    rig_write(t, 5u << 20, true);
    rig_pull(r);
    CU_ASSERT(r->data_out >= BUFFER - 262144 && r->data_out <= BUFFER + 262144);
    CU_ASSERT_EQUAL(t->closes, 0);
    size_t before = r->data_out;
    struct rig_stream *u = rig_visit(r, WIRE_KIND_TCP); /* control frames go on */
    CU_ASSERT(rig_ping(r, "12345678") > 0);
    CU_ASSERT_EQUAL(rig_count(r, WIRE_STREAM_OPEN, 4), 1);
    CU_ASSERT_EQUAL(rig_count(r, WIRE_PONG, 0), 1);
    mux_stream_reset(u->st, WIRE_CODE_CANCEL, "");
    CU_ASSERT_EQUAL(rig_count(r, WIRE_RESET, 4), 1);
    CU_ASSERT_EQUAL(r->data_out, before);
    unsigned outputs = r->outputs;
    CU_ASSERT(ack(r, 1) > 0);
    CU_ASSERT_EQUAL(r->outputs, outputs + 1);
    rig_pull(r);
    CU_ASSERT(r->data_out > before && r->data_out <= before + 262144);
    before = r->data_out;
    CU_ASSERT(ack(r, r->counted) > 0);
    CU_ASSERT_EQUAL(r->outputs, outputs + 2);
    rig_pull(r);
    CU_ASSERT(r->data_out > before + BUFFER / 2);
    while (r->data_out < 5u << 20 && r->overs == 0) {
        CU_ASSERT_FATAL(ack(r, r->counted) > 0);
        rig_pull(r);
    }
    CU_ASSERT_EQUAL(rig_count(r, WIRE_EOF, 2), 1);
    STOP();
}

/* Both at their bound at the same time: ACKs are not held back. */
static void a_peer_that_never_acknowledges(void) {
    START(WIRE_ROLE_KIT, roomy);
    rig_pull(r);
    r->kept = BUFFER + MUX_KEPT_MORE;
    CU_ASSERT(rig_ping(r, "12345678") > 0);
    rig_pull(r);
    CU_ASSERT_EQUAL(rig_count(r, WIRE_PONG, 0), 0);
    rig_tick(r, 0);
    rig_tick(r, WIRE_LIMIT_ACK_DELAY);
    CU_ASSERT_EQUAL(acked(r), 1);
    CU_ASSERT_EQUAL(r->counted, 0);
    for (int i = 0; i < 200000 && r->overs == 0; i++) /* it goes on to ask: hardening case 13 */
        rig_text(r, WIRE_UNBIND, 0, "{\"bindId\":1}");
    r->kept = 0;
    CU_ASSERT_EQUAL(rig_count(r, WIRE_PONG, 0), r->overs == 0);
    STOP();
}

/* ---- a lost link ---- */

static void streams_go_on(void) {
    START(WIRE_ROLE_KIT, resuming);
    rig_pull(r);
    struct rig_stream *t = rig_visit(r, WIRE_KIND_TCP), *u = rig_visit(r, WIRE_KIND_TCP);
    rig_write(t, 1000, false);
    rig_pull(r);
    CU_ASSERT(rig_frame_in(r, WIRE_DATA, 2, NULL, 500) > 0);
    unsigned sent = r->counted;
    lose(r);
    CU_ASSERT_EQUAL(r->aways, 1);
    CU_ASSERT_EQUAL(r->overs, 0);
    CU_ASSERT(mux_session_is_away(r->s));
    CU_ASSERT(mux_stream_is_away(t->st));
    CU_ASSERT_EQUAL(mux_session_links(r->s), 0);
    CU_ASSERT_EQUAL(mux_session_deadline(r->s), UINT64_MAX);
    rig_tick(r, 50000);
    CU_ASSERT_EQUAL(r->overs, 0);
    CU_ASSERT_EQUAL(t->closes + u->closes, 0);
    CU_ASSERT_PTR_NULL(rig_visit(r, WIRE_KIND_TCP));
    unsigned outputs = r->outputs;
    rig_write(t, 300, true); /* all of this is remembered */
    mux_stream_reset(u->st, WIRE_CODE_CANCEL, "gone");
    CU_ASSERT_EQUAL(mux_session_send(r->s, WIRE_UNBIND_OK, &(struct wire_unbind_ok){.bind_id = 7}), 0);
    mux_session_ping(r->s, r->now * 1000);
    mux_session_probe(r->s, r->now * 1000, 0);
    CU_ASSERT_EQUAL(r->outputs, outputs);
    for (int i = 0; i < 10; i++)
        mux_stream_ready(t->st);
    CU_ASSERT_EQUAL(t->writable, 0); /* nobody asks its source, so it need not look */
    CU_ASSERT_EQUAL(mux_stream_away_ms(t->st, r->now), 50000);

    unsigned first = r->n_out;
    come_back(r, sent - 1);
    CU_ASSERT_EQUAL(r->rc, 0);
    CU_ASSERT(!mux_session_is_away(r->s));
    CU_ASSERT_EQUAL(mux_session_links(r->s), 1);
    CU_ASSERT(rig_pull_one(r, WIRE_LIMIT_MAX_MESSAGE));
    CU_ASSERT_EQUAL(r->n_out, first + 1);
    CU_ASSERT_EQUAL(r->out[first].type, WIRE_HELLO_OK);
    CU_ASSERT_PTR_NOT_NULL(strstr((const char *)r->out[first].head, "S-1"));
    CU_ASSERT_EQUAL(r->hello_received, 1); /* the DATA */
    CU_ASSERT_EQUAL(r->replays, 0);
    CU_ASSERT(!rig_pull_one(r, WIRE_LIMIT_MAX_MESSAGE));
    CU_ASSERT_EQUAL(r->replays, 1);
    CU_ASSERT_EQUAL(r->replayed, sent - 1);
    rig_pull(r);
    CU_ASSERT_EQUAL(rig_count(r, WIRE_RESET, 4), 1);
    CU_ASSERT_EQUAL(rig_count(r, WIRE_UNBIND_OK, 0), 1);
    CU_ASSERT_EQUAL(rig_count(r, WIRE_EOF, 2), 1);
    CU_ASSERT_EQUAL(r->data_out, 1300);
    CU_ASSERT(!mux_stream_is_away(t->st));
    CU_ASSERT_EQUAL(mux_stream_away_ms(t->st, r->now + 5), 50000);
    CU_ASSERT(rig_frame_in(r, WIRE_DATA, 2, NULL, 5) > 0);
    CU_ASSERT(rig_frame_in(r, WIRE_EOF, 2, NULL, 0) > 0);
    CU_ASSERT_EQUAL(t->received, 505);
    CU_ASSERT_EQUAL(t->closes, 1);
    CU_ASSERT_EQUAL(t->code, 0);
    CU_ASSERT_EQUAL(mux_stream_away_ms(t->st, r->now + 1000), 50000);
    STOP();
}

/* The same at a driver, which is opened streams. */
static void a_driver_goes_on(void) {
    START(WIRE_ROLE_DRIVER, resuming);
    CU_ASSERT(rig_open(r, 2, RIG_OPEN_TCP) > 0);
    CU_ASSERT(rig_open(r, 4, RIG_OPEN_TCP) > 0);
    rig_write(&r->streams[0], 10, true);
    rig_pull(r);
    uint64_t messages = 0;
    CU_ASSERT(!mux_session_counted(r->s, 0, &messages));
    lose(r);
    CU_ASSERT(mux_session_counted(r->s, 0, &messages));
    CU_ASSERT_EQUAL(messages, 2);
    CU_ASSERT_EQUAL(r->streams[0].closes, 0);
    come_back(r, 1);
    CU_ASSERT_EQUAL(r->rc, 0);
    rig_pull(r);
    rig_pull(r);
    CU_ASSERT_EQUAL(r->replayed, 1);
    CU_ASSERT(rig_open(r, 4, RIG_OPEN_TCP) > 0); /* ids go on, too */
    CU_ASSERT(rig_was_reset(r, 4, WIRE_CODE_PROTOCOL_ERROR));
    CU_ASSERT(rig_open(r, 6, RIG_OPEN_TCP) > 0);
    CU_ASSERT_EQUAL(r->n_streams, 3);
    STOP();
}

/* ---- half a message ---- */

static void message_of_three(struct rig *r) {
    rig_add(r, WIRE_DATA, 2, NULL, 100);
    rig_add(r, WIRE_PING, 0, "12345678", 8);
    rig_add(r, WIRE_DATA, 2, NULL, 5000);
    rig_add(r, WIRE_EOF, 2, NULL, 0);
}

/* Feeds the first `n` bytes of what was added, as if no more came. */
static void feed_part(struct rig *r, size_t n) {
    CU_ASSERT(mux_link_message(r->l, r->in, n, false) >= 0);
    mux_link_fed(r->l);
    r->in_len = 0;
}

/* Cut after each byte, and then cut again while it comes once more. */
static void half_a_message_is_half_done(void) {
    static const size_t second[] = {0, 1, 60, 109, 3000, 5200};
    for (size_t at = 1; at < 5144; at += at < 140 || at > 5120 ? 1 : 611)
        for (size_t i = 0; i < HT_ARRAY_LEN(second); i++) {
            START(WIRE_ROLE_KIT, resuming);
            rig_pull(r);
            struct rig_stream *t = rig_visit(r, WIRE_KIND_TCP);
            rig_pull(r);
            message_of_three(r);
            feed_part(r, ht_min(at, r->in_len));
            lose(r);
            come_back(r, 1);
            if (second[i]) {
                message_of_three(r);
                feed_part(r, ht_min(second[i], r->in_len));
                lose(r);
                come_back(r, r->counted); /* the last one with a PONG */
            }
            message_of_three(r);
            CU_ASSERT_EQUAL(rig_send(r), 4 * 9 + 100 + 8 + 5000);
            CU_ASSERT_EQUAL(t->received, 5100);
            CU_ASSERT_EQUAL(t->eofs, 1);
            rig_pull(r);
            CU_ASSERT_EQUAL(rig_count(r, WIRE_PONG, 0), 1);
            CU_ASSERT_EQUAL(r->overs, 0);
            CU_ASSERT_EQUAL(r->s->replay[0].came, 1);
            STOP();
        }
}

/* Messages that do not count are not sent again, so nothing of them may be skipped. */
static void what_does_not_count_is_no_half(void) {
    uint8_t count[8] = {0};
    START(WIRE_ROLE_KIT, resuming);
    rig_pull(r);
    struct rig_stream *t = rig_visit(r, WIRE_KIND_TCP);
    rig_pull(r);
    rig_add(r, WIRE_ACK, 0, count, 8);
    feed_part(r, 17); /* all of it, but for the end */
    lose(r);
    come_back(r, 1);
    CU_ASSERT(rig_frame_in(r, WIRE_DATA, 2, NULL, 1000) > 0);
    CU_ASSERT_EQUAL(t->received, 1000);
    lose(r);
    r->l = mux_link_create(WIRE_ROLE_KIT, WIRE_V1, &rig_link_ops, r);
    rig_add(r, WIRE_HELLO, 0, RIG_RESUME, strlen(RIG_RESUME));
    feed_part(r, 9 + strlen(RIG_RESUME));
    CU_ASSERT(!mux_session_is_away(r->s));
    lose(r);
    CU_ASSERT_EQUAL(r->aways, 3);
    come_back(r, 1);
    CU_ASSERT(rig_frame_in(r, WIRE_DATA, 2, NULL, 1000) > 0);
    CU_ASSERT_EQUAL(t->received, 2000);
    STOP();
}

/* A link that is lost while it is being fed: the frame that was handled then was handled. */
static void lost_inside_a_callback(void) {
    START(WIRE_ROLE_KIT, resuming);
    rig_pull(r);
    struct rig_stream *t = rig_visit(r, WIRE_KIND_TCP);
    rig_pull(r);
    message_of_three(r);
    t->lose_link = true;
    CU_ASSERT(rig_send(r) < 0);
    CU_ASSERT_EQUAL(r->aways, 1);
    CU_ASSERT_EQUAL(t->received, 100);
    come_back(r, 1);
    CU_ASSERT_EQUAL(r->rc, 0);
    message_of_three(r);
    CU_ASSERT(rig_send(r) > 0);
    CU_ASSERT_EQUAL(t->received, 5100);
    STOP();
}

static void what_is_sent_again_may_not_be_shorter(void) {
    START(WIRE_ROLE_KIT, resuming);
    rig_pull(r);
    (void)rig_visit(r, WIRE_KIND_TCP);
    rig_pull(r);
    message_of_three(r);
    feed_part(r, 3000);
    lose(r);
    come_back(r, 1);
    CU_ASSERT(nothing_much(r) < 0);
    CU_ASSERT_EQUAL(r->why, MUX_END_VIOLATION);
    STOP();
}

/* ---- counts that cannot be true ---- */

static void lying_counts(void) {
    START(WIRE_ROLE_KIT, resuming);
    rig_pull(r);
    struct rig_stream *t = rig_visit(r, WIRE_KIND_TCP);
    rig_pull(r);
    for (int i = 0; i < 3; i++) {
        CU_ASSERT(rig_ping(r, "12345678") > 0);
        rig_pull(r);
    }
    CU_ASSERT_EQUAL(r->counted, 4);
    CU_ASSERT(ack(r, 2) > 0);
    CU_ASSERT_EQUAL(mux_session_can_resume(r->s, 0, 2), 0); /* also while it lives */
    lose(r);
    CU_ASSERT_EQUAL(mux_session_can_resume(r->s, 0, 4), 0);
    CU_ASSERT_EQUAL(mux_session_can_resume(r->s, 0, 5), HT_EPROTO);
    CU_ASSERT_EQUAL(mux_session_can_resume(r->s, 0, 1), HT_EAGAIN);
    come_back(r, 5);
    CU_ASSERT_EQUAL(r->rc, HT_EPROTO);
    mux_link_destroy(&r->l);
    come_back(r, 1);
    CU_ASSERT_EQUAL(r->rc, HT_EAGAIN);
    mux_link_destroy(&r->l);
    CU_ASSERT(mux_session_is_away(r->s));
    CU_ASSERT_EQUAL(t->closes, 0);
    come_back(r, 3);
    CU_ASSERT_EQUAL(r->rc, 0);
    STOP();
}

static void another_session(void) {
    START(WIRE_ROLE_DRIVER, resuming);
    lose(r);
    r->s->cfg.stream_window++; /* HELLO_OK speaks of another window than the session's */
    come_back(r, 0);
    CU_ASSERT_EQUAL(r->rc, HT_EPROTO);
    CU_ASSERT(mux_session_is_away(r->s));
    STOP();
}

/* ---- ends ---- */

static void some_ends_are_ends(void) {
    for (int how = 0; how < 5; how++) {
        START(how == 3 ? WIRE_ROLE_DRIVER : WIRE_ROLE_KIT, resuming);
        static const enum mux_end why[] = {MUX_END_CLEAN, MUX_END_LOST, MUX_END_LOCAL, MUX_END_CLEAN, MUX_END_LOST};
        rig_pull(r);
        struct wire_goaway bye = {.code = 0, .message = ht_slice_str(WIRE_GOAWAY_RESTARTING_MESSAGE)};
        if (how == 1) /* for a peer that does not know HANDOVER-1 it is one as any other */
            CU_ASSERT_EQUAL(mux_session_send(r->s, WIRE_GOAWAY, &bye), 0);
        if (how == 2)
            mux_session_shutdown(r->s, 0, "bye", 1000, 1000);
        if (how == 3)
            CU_ASSERT(rig_text(r, WIRE_GOAWAY, 0, "{\"code\":0,\"message\":\"bye\"}") > 0);
        if (how == 4)
            r->s->failed = HT_ENOMEM;
        mux_link_closed(r->l, how == 0);
        CU_ASSERT_EQUAL(r->aways, 0);
        CU_ASSERT_EQUAL(r->overs, 1);
        CU_ASSERT_EQUAL(r->why, why[how]);
        STOP();
    }
}

static void restarting(struct mux_config *c) {
    resuming(c);
    c->caps |= WIRE_CAP_HANDOVER;
}

#define RESTARTING "{\"code\":0,\"message\":\"restarting\",\"lastStreamId\":4}"

/* The kit says `ours`; without it, the driver reads `theirs`. */
static void say_goaway(struct rig *r, const struct wire_goaway *ours, const char *theirs) {
    if (ours) {
        CU_ASSERT_EQUAL(mux_session_send(r->s, WIRE_GOAWAY, ours), 0);
    } else {
        CU_ASSERT(rig_text(r, WIRE_GOAWAY, 0, theirs) > 0);
    }
}

/* HANDOVER-1: what is under way goes on, on whatever link; until another GOAWAY says otherwise. */
static void a_restart_is_no_end(void) {
    for (int role = WIRE_ROLE_KIT; role <= WIRE_ROLE_DRIVER; role++)
        for (int and_then = 0; and_then < 2; and_then++) {
            START((enum wire_role)role, restarting);
            bool is_kit = role == WIRE_ROLE_KIT;
            CU_ASSERT_FATAL(is_kit ? rig_visit(r, WIRE_KIND_TCP) != NULL : rig_open(r, 2, RIG_OPEN_TCP) > 0);
            struct wire_goaway g = {.code = WIRE_GOAWAY_RESTARTING_CODE,
                                    .message = ht_slice_str(WIRE_GOAWAY_RESTARTING_MESSAGE)};
            say_goaway(r, is_kit ? &g : NULL, RESTARTING);
            rig_pull(r);
            CU_ASSERT(mux_session_owes(r->s));
            uint64_t got = r->counted;
            lose(r);
            CU_ASSERT_EQUAL(r->aways, 1);
            CU_ASSERT_EQUAL(r->overs, 0);
            come_back(r, got);
            CU_ASSERT_EQUAL(r->rc, 0);
            CU_ASSERT_EQUAL(r->streams[0].closes, 0);
            say_goaway(r, is_kit ? &g : NULL, RESTARTING); /* it may be said again */
            if (!is_kit) {                                 /* a stream that was opened before may still come */
                CU_ASSERT(rig_open(r, 4, RIG_OPEN_TCP) > 0);
            }
            CU_ASSERT_EQUAL(r->overs, 0);
            g.message = ht_slice_str("bye");
            if (and_then == 1)
                say_goaway(r, is_kit ? &g : NULL, "{\"code\":0,\"message\":\"bye\"}");
            lose(r);
            CU_ASSERT_EQUAL(r->aways, and_then == 1 ? 1 : 2);
            CU_ASSERT_EQUAL(r->overs, and_then == 1);
            STOP();
        }
}

/* A session that is wanted no more waits until the peer has everything. */
static void what_the_peer_may_lack(void) {
    START(WIRE_ROLE_KIT, resuming);
    rig_pull(r);
    CU_ASSERT(!mux_session_owes(r->s));
    CU_ASSERT(rig_ping(r, "12345678") > 0);
    rig_pull(r);
    CU_ASSERT(mux_session_owes(r->s));
    CU_ASSERT(ack(r, r->counted) > 0);
    CU_ASSERT(!mux_session_owes(r->s));
    CU_ASSERT_PTR_NOT_NULL(rig_visit(r, WIRE_KIND_TCP));
    CU_ASSERT(mux_session_owes(r->s));
    STOP();
}

static void a_late_pong_is_a_pause(void) {
    for (int role = WIRE_ROLE_KIT; role <= WIRE_ROLE_DRIVER; role++) {
        START((enum wire_role)role, resuming);
        bool open = role == WIRE_ROLE_KIT ? rig_visit(r, WIRE_KIND_TCP) != NULL : rig_open(r, 2, RIG_OPEN_TCP) > 0;
        CU_ASSERT_FATAL(open);
        rig_pull(r);
        rig_tick(r, 0);
        mux_session_probe(r->s, r->now * 1000, 700);
        CU_ASSERT_EQUAL(rig_count(r, WIRE_PING, 0), 1);
        rig_tick(r, 0);
        rig_tick(r, 699);
        CU_ASSERT_EQUAL(r->aways, 0);
        rig_tick(r, 1);
        CU_ASSERT_EQUAL(r->aways, 1);
        CU_ASSERT_EQUAL(r->overs, 0);
        CU_ASSERT_EQUAL(r->closes, 1);
        CU_ASSERT_EQUAL(r->ws_code, WIRE_CLOSE_PROTOCOL_ERROR);
        CU_ASSERT_EQUAL(rig_count(r, WIRE_GOAWAY, 0), 0);
        CU_ASSERT(!rig_pull_one(r, WIRE_LIMIT_MAX_MESSAGE));
        CU_ASSERT(rig_ping(r, "12345678") > 0); /* what still comes will come again */
        mux_link_closed(r->l, true);
        CU_ASSERT_EQUAL(r->overs, 0);
        CU_ASSERT_EQUAL(r->streams[0].closes, 0);
        mux_link_destroy(&r->l);
        come_back(r, role == WIRE_ROLE_KIT ? 1 : 0);
        CU_ASSERT_EQUAL(r->rc, 0);
        rig_tick(r, 100); /* and its silence is forgotten */
        CU_ASSERT_EQUAL(r->aways, 1);
        STOP();
    }
}

static void the_owner_waits_no_longer(void) {
    for (int how = 0; how < 3; how++) {
        START(WIRE_ROLE_KIT, resuming);
        struct rig_stream *t = rig_visit(r, WIRE_KIND_TCP);
        lose(r);
        if (how == 0)
            mux_session_close(r->s);
        else if (how == 1)
            mux_session_shutdown(r->s, WIRE_CODE_PROTOCOL_ERROR, "closed by admin", 1000, 1000);
        else
            mux_session_destroy(&r->s);
        CU_ASSERT_EQUAL(r->overs, how < 2);
        CU_ASSERT(how == 2 || r->why == MUX_END_LOCAL);
        CU_ASSERT_EQUAL(t->closes, 1);
        CU_ASSERT_EQUAL(t->code, WIRE_CODE_REFUSED_STREAM);
        CU_ASSERT(t->remote);
        CU_ASSERT(mux_stream_was_lost(t->st));
        STOP();
    }
}

/* Somebody destroys the link while its message is made: nobody can keep that one. */
static void destroyed_inside_its_own_pull(void) {
    START(WIRE_ROLE_KIT, resuming);
    rig_pull(r);
    struct rig_stream *t = rig_visit(r, WIRE_KIND_TCP);
    rig_pull(r);
    rig_write(t, 100, false);
    t->lose_link = true;
    struct mux_link *l = r->l;
    (void)mux_link_pull(l, rig_buffer, WIRE_LIMIT_MAX_MESSAGE);
    CU_ASSERT_EQUAL(r->aways, 1);
    CU_ASSERT_EQUAL(r->overs, 1);
    CU_ASSERT_EQUAL(r->why, MUX_END_LOST);
    STOP();
}

static void a_resume_without_memory(void) {
    for (long i = 0;; i++) {
        START(WIRE_ROLE_KIT, resuming);
        struct rig_stream *t = rig_visit(r, WIRE_KIND_TCP);
        rig_pull(r);
        rig_write(t, 5000, true);
        lose(r);
        mux_stream_ready(t->st);
        r->l = mux_link_create(WIRE_ROLE_KIT, WIRE_V1, &rig_link_ops, r);
        CU_ASSERT_PTR_NOT_NULL_FATAL(r->l);
        ht_mem_fail_at(i);
        rig_text(r, WIRE_HELLO, 0, RIG_RESUME);
        bool failed = !ht_mem_fail_pending();
        ht_mem_fail_at(-1);
        CU_ASSERT_EQUAL(r->rc, failed ? HT_ENOMEM : 0);
        CU_ASSERT_EQUAL(mux_session_is_away(r->s), failed);
        if (failed) {
            mux_link_destroy(&r->l);
            come_back(r, 1);
            CU_ASSERT_EQUAL(r->rc, 0);
        }
        rig_pull(r);
        rig_pull(r);
        CU_ASSERT_EQUAL(r->data_out, 5000);
        CU_ASSERT_EQUAL(r->overs, 0);
        STOP();
        if (!failed)
            return;
    }
}

/* A session that ends at once says so behind HELLO_OK, not before it. */
static void the_greeting_comes_first(void) {
    START(WIRE_ROLE_KIT, resuming);
    CU_ASSERT(rig_frame_in(r, WIRE_EOF, 0, NULL, 0) < 0);
    CU_ASSERT_EQUAL(r->why, MUX_END_VIOLATION);
    rig_pull(r);
    CU_ASSERT_EQUAL(r->n_out, 2);
    CU_ASSERT_EQUAL(r->out[0].type, WIRE_HELLO_OK);
    CU_ASSERT_EQUAL(r->out[1].type, WIRE_GOAWAY);
    CU_ASSERT_EQUAL(r->counted, 0); /* nobody will ask for it again */
    STOP();
}

static const struct tap_test tests[] = {
    {"messages are counted and acknowledged", messages_are_counted},
    {"an ACK goes alone after 100 ms", an_ack_goes_alone_when_it_must},
    {"a quarter of the sender's buffer is acknowledged at once", much_is_acknowledged_sooner},
    {"an ACK of more than was sent ends the session", an_ack_may_not_lie},
    {"HELLO is alone in its message", hello_has_no_company},
    {"with a full replay buffer no DATA is sent", at_the_bound_the_sender_waits},
    {"memory is bounded when a peer acknowledges nothing", a_peer_that_never_acknowledges},
    {"streams go on after a lost link", streams_go_on},
    {"a driver's streams go on as well", a_driver_goes_on},
    {"half a message is half done, and comes once more", half_a_message_is_half_done},
    {"messages that do not count are not skipped", what_does_not_count_is_no_half},
    {"a link may be lost inside a callback", lost_inside_a_callback},
    {"what is sent again may not be shorter", what_is_sent_again_may_not_be_shorter},
    {"counts that cannot be true leave the session as it is", lying_counts},
    {"a session goes on with what it began with", another_session},
    {"a goodbye is a goodbye", some_ends_are_ends},
    {"HANDOVER-1: what is under way outlives its link as before", a_restart_is_no_end},
    {"what the peer may lack", what_the_peer_may_lack},
    {"a late PONG is a pause", a_late_pong_is_a_pause},
    {"the owner decides how long a session is away", the_owner_waits_no_longer},
    {"a message that nobody can keep ends the session", destroyed_inside_its_own_pull},
    {"a resume without memory changes nothing", a_resume_without_memory},
    {"HELLO_OK comes before everything else", the_greeting_comes_first},
    {NULL, NULL},
};

int main(void) { return tap_main("mux replay", tests); }
