/* Stream-resume with secondaries (v2): each link is lost and comes back for itself. The peer is played by hand. */
#include "mux/replay.h"
#include "mux/secondary.h"

#define JOIN_WITH(n) "{\"sessionId\":\"S-1\",\"index\":1,\"nonce\":\"n\",\"received\":" #n "}"
#define JOIN_1 "{\"sessionId\":\"S-1\",\"index\":1,\"nonce\":\"n\"}"

/* Two streams, the second one on the secondary, which has sent one message that counts. */
static struct rig_stream *on_secondary(struct rig *r, struct secondary *a) {
    rig_pull(r);
    secondary_join(r, a, JOIN_1);
    CU_ASSERT_EQUAL(a->rc, 0);
    secondary_pull(a);
    CU_ASSERT_EQUAL(a->counted, 0);
    (void)rig_visit(r, WIRE_KIND_TCP);
    struct rig_stream *u = rig_visit(r, WIRE_KIND_TCP);
    rig_pull(r);
    secondary_pull(a);
    CU_ASSERT_EQUAL(a->counted, 1);
    CU_ASSERT_EQUAL(r->s->links[1]->n_streams, 1);
    return u;
}

static void a_secondary_comes_back(void) {
    START(WIRE_ROLE_KIT, resuming_v2);
    struct secondary a;
    struct rig_stream *u = on_secondary(r, &a);
    CU_ASSERT(secondary_in(&a, WIRE_DATA, 4, NULL, 10) > 0);
    mux_link_destroy(&a.l);
    CU_ASSERT_EQUAL(r->lost, 1);
    CU_ASSERT_EQUAL(r->aways + r->overs + u->closes, 0);
    CU_ASSERT(mux_stream_is_away(u->st) && !mux_stream_is_away(r->streams[0].st));
    CU_ASSERT_EQUAL(mux_session_links(r->s), 1);
    uint64_t messages;
    CU_ASSERT(mux_session_counted(r->s, 1, &messages) && messages == 1);
    rig_write(u, 100, true);
    CU_ASSERT_PTR_NOT_NULL(rig_visit(r, WIRE_KIND_TCP)); /* not on the lost one */
    CU_ASSERT_EQUAL(rig_count(r, WIRE_STREAM_OPEN, 6), 1);
    rig_tick(r, GRACE - 1);
    secondary_join(r, &a, JOIN_WITH(0));
    CU_ASSERT_EQUAL(a.rc, 0);
    uint32_t id;
    CU_ASSERT_EQUAL(secondary_says(&a, &id), WIRE_JOIN_OK);
    CU_ASSERT_PTR_NOT_NULL(strstr((char *)rig_buffer + 9, "\"received\":1"));
    CU_ASSERT_EQUAL(secondary_says(&a, &id), 0);
    CU_ASSERT_EQUAL(a.replays, 1);
    CU_ASSERT_EQUAL(secondary_says(&a, &id), WIRE_DATA);
    CU_ASSERT_EQUAL(id, 4);
    CU_ASSERT(secondary_in(&a, WIRE_EOF, 4, NULL, 0) > 0);
    CU_ASSERT_EQUAL(u->code, 0);
    CU_ASSERT_EQUAL(r->given_up, 0);
    mux_link_destroy(&a.l);
    STOP();
}

/* RESUME-11: a JOIN that was overtaken. */
static void a_late_join_changes_nothing(void) {
    START(WIRE_ROLE_KIT, resuming_v2);
    struct secondary a;
    struct rig_stream *u = on_secondary(r, &a);
    uint8_t count[8];
    uint32_t id;
    wire_put64(count, 1);
    CU_ASSERT(secondary_in(&a, WIRE_ACK, 0, count, 8) > 0);
    mux_link_destroy(&a.l);
    secondary_join(r, &a, JOIN_WITH(0));
    CU_ASSERT_EQUAL(a.rc, HT_EAGAIN);
    CU_ASSERT_EQUAL(secondary_says(&a, &id), WIRE_JOIN_ERR);
    mux_link_destroy(&a.l);
    CU_ASSERT_EQUAL(u->closes + r->given_up, 0);
    secondary_join(r, &a, JOIN_WITH(1));
    CU_ASSERT_EQUAL(a.rc, 0);
    mux_link_destroy(&a.l);
    STOP();
}

static void a_secondary_does_not_come_back(void) {
    for (int how = 0; how < 5; how++) {
        START(WIRE_ROLE_KIT, resuming_v2);
        struct secondary a;
        struct rig_stream *u = on_secondary(r, &a);
        if (how == 4)
            mux_link_closed(a.l, true); /* PARK-4: a goodbye of that socket */
        mux_link_destroy(&a.l);
        CU_ASSERT_EQUAL(r->lost, 1);
        rig_tick(r, 0);
        if (how == 0) {
            CU_ASSERT(mux_session_deadline(r->s) <= r->now + GRACE);
            rig_tick(r, GRACE - 1);
            CU_ASSERT_EQUAL(u->closes, 0);
            rig_tick(r, 1);
        } else if (how == 1) {
            secondary_join(r, &a, JOIN_1); /* the driver has given them up */
        } else if (how == 2) {
            secondary_join(r, &a, JOIN_WITH(2)); /* RESUME-11 */
        } else if (how == 3) {
            mux_session_shutdown(r->s, 0, "bye", 1000, 1000); /* nobody joins it any more */
            CU_ASSERT(mux_session_deadline(r->s) <= r->now);
            rig_tick(r, 0);
        }
        CU_ASSERT_EQUAL(u->closes, 1);
        CU_ASSERT_EQUAL(u->code, WIRE_CODE_REFUSED_STREAM);
        CU_ASSERT(mux_stream_was_lost(u->st));
        CU_ASSERT_EQUAL(r->given_up, 1);
        CU_ASSERT_EQUAL(r->overs, 0);
        if (how == 1 || how == 2) {
            uint32_t id;
            CU_ASSERT_EQUAL(a.rc, 0);
            CU_ASSERT_EQUAL(secondary_says(&a, &id), WIRE_JOIN_OK);
            CU_ASSERT_PTR_NULL(strstr((char *)rig_buffer + 9, "\"received\""));
            (void)rig_visit(r, WIRE_KIND_TCP);
            secondary_pull(&a);
            CU_ASSERT_EQUAL(a.replays, 0);
            CU_ASSERT_EQUAL(r->s->replay[1].sent, 1); /* counted anew */
            mux_link_destroy(&a.l);
        }
        STOP();
    }
}

static void the_primary_takes_all_along(void) {
    START(WIRE_ROLE_KIT, resuming_v2);
    struct secondary a;
    struct rig_stream *u = on_secondary(r, &a);
    uint8_t part[9 + 40];
    wire_encode_header(part, WIRE_DATA, 4, 100);
    memset(part + 9, 'y', 40);
    CU_ASSERT_EQUAL(mux_link_message(a.l, part, sizeof part, false), (ssize_t)sizeof part);
    mux_link_fed(a.l);
    lose(r);
    CU_ASSERT_EQUAL(r->aways, 1);
    CU_ASSERT_EQUAL(a.closes, 1);
    CU_ASSERT_EQUAL(r->lost, 0);
    CU_ASSERT_EQUAL(mux_link_pull(a.l, rig_buffer, WIRE_LIMIT_MAX_MESSAGE), 0);
    mux_link_destroy(&a.l);
    rig_tick(r, 2 * GRACE);
    secondary_join(r, &a, JOIN_WITH(1));
    CU_ASSERT_EQUAL(a.rc, HT_ECLOSED); /* the primary comes first */
    mux_link_destroy(&a.l);
    come_back(r, 1);
    CU_ASSERT_EQUAL(r->rc, 0);
    CU_ASSERT(mux_stream_is_away(u->st));
    rig_tick(r, GRACE - 1);
    CU_ASSERT_EQUAL(u->closes, 0);
    lose(r); /* again, before the secondary has come */
    rig_tick(r, GRACE);
    come_back(r, 1);
    rig_tick(r, GRACE - 1);
    CU_ASSERT_EQUAL(u->closes, 0);
    secondary_join(r, &a, JOIN_WITH(1));
    CU_ASSERT_EQUAL(a.rc, 0);
    secondary_pull(&a);
    CU_ASSERT(secondary_in(&a, WIRE_DATA, 4, NULL, 100) > 0);
    CU_ASSERT_EQUAL(u->received, 100);
    CU_ASSERT_EQUAL(r->overs, 0);
    mux_link_destroy(&a.l);
    STOP();
}

static void tight(struct mux_config *c) {
    resuming_v2(c);
    c->session_window = 1000;
}

/* What waits for session credit on a link that is away does not keep it from the others. */
static void credit_for_those_who_can_use_it(void) {
    START(WIRE_ROLE_KIT, tight);
    struct secondary a;
    struct rig_stream *u = on_secondary(r, &a), *t = &r->streams[0];
    rig_write(u, 2000, false);
    secondary_pull(&a);
    CU_ASSERT_EQUAL(r->s->send.credit, 0);
    rig_write(t, 50, false);
    rig_pull(r);
    CU_ASSERT(t->writable == 0 && u->writable == 0);
    mux_link_destroy(&a.l);
    CU_ASSERT(rig_window(r, 0, 100) > 0);
    rig_pull(r);
    CU_ASSERT_EQUAL(r->data_out, 50);
    secondary_join(r, &a, JOIN_WITH(1));
    secondary_pull(&a);
    secondary_pull(&a);
    CU_ASSERT_EQUAL(r->s->send.credit, 0);
    CU_ASSERT_EQUAL(u->to_send, 950);
    mux_link_destroy(&a.l);
    STOP();
}

static void roomy_v2(struct mux_config *c) {
    resuming_v2(c);
    c->stream_window = c->session_window = 64u << 20;
}

/* RESUME-8: what a link that is away keeps is kept until it comes back, however little the others may have then. Off:
 * is_within() without the link's own part. */
static void one_that_is_away_leaves_the_others_room(void) {
    START(WIRE_ROLE_KIT, roomy_v2);
    struct secondary a;
    struct rig_stream *u = on_secondary(r, &a), *t = &r->streams[0];
    rig_write(u, 64u << 20, false);
    secondary_pull(&a);
    CU_ASSERT(a.kept > BUFFER / 2 - WIRE_LIMIT_MAX_MESSAGE && a.kept < BUFFER / 2 + WIRE_LIMIT_MAX_MESSAGE);
    mux_link_closed(a.l, false); /* its messages stay where they are */
    CU_ASSERT_EQUAL(r->s->n_away, 1);
    CU_ASSERT(ack(r, r->counted) > 0);
    rig_write(t, 20u << 20, false);
    for (int i = 0; i < 100 && t->to_send > 0; i++) {
        size_t before = r->data_out;
        rig_pull(r);
        CU_ASSERT_FATAL(r->data_out > before);
        CU_ASSERT(a.kept + r->kept < BUFFER);
        CU_ASSERT(ack(r, r->counted) > 0);
    }
    CU_ASSERT_EQUAL(t->to_send, 0);
    size_t left = u->to_send;
    struct mux_link *lost = a.l;
    struct secondary b = a;
    secondary_join(r, &b, JOIN_WITH(1));
    CU_ASSERT_EQUAL(b.rc, 0);
    b.kept = a.kept; /* the owner's, whichever link there is */
    b.counted = a.counted;
    memcpy(b.size_of, a.size_of, sizeof b.size_of);
    b.acked = a.acked;
    secondary_pull(&b);
    secondary_pull(&b);
    CU_ASSERT_EQUAL(u->to_send, left);
    uint8_t count[8];
    wire_put64(count, b.counted);
    CU_ASSERT(secondary_in(&b, WIRE_ACK, 0, count, 8) > 0);
    secondary_pull(&b);
    CU_ASSERT(u->to_send < left);
    mux_link_destroy(&b.l);
    mux_link_destroy(&lost);
    STOP();
}

/* However many links are away with whatever they keep, one message is always under way. */
static void a_full_buffer_stops_nobody_who_keeps_nothing(void) {
    START(WIRE_ROLE_KIT, roomy_v2);
    struct secondary a;
    struct rig_stream *t = &r->streams[0];
    (void)on_secondary(r, &a);
    a.kept = BUFFER + MUX_KEPT_MORE;
    secondary_pull(&a);
    CU_ASSERT(ack(r, r->counted) > 0);
    rig_write(t, 64u << 20, false);
    for (int i = 0; i < 3; i++) {
        size_t before = r->data_out;
        rig_pull(r);
        CU_ASSERT(r->data_out > before && r->data_out <= before + WIRE_LIMIT_MAX_MESSAGE);
        CU_ASSERT(ack(r, r->counted) > 0);
    }
    mux_link_destroy(&a.l);
    STOP();
}

/* ACK is the one frame of the session that belongs on the link it speaks of (FRAME-10). */
static void acks_stay_on_their_link(void) {
    START(WIRE_ROLE_KIT, resuming_v2);
    struct secondary a;
    struct rig_stream *u = on_secondary(r, &a);
    uint8_t count[8];
    wire_put64(count, 1);
    CU_ASSERT(secondary_in(&a, WIRE_ACK, 0, count, 8) > 0);
    CU_ASSERT_EQUAL(a.acked, 1);
    CU_ASSERT(secondary_in(&a, WIRE_DATA, 4, NULL, 10) > 0);
    rig_write(u, 10, false);
    CU_ASSERT_EQUAL(rig_count(r, WIRE_ACK, 0), 0);
    size_t n = mux_link_pull(a.l, rig_buffer, WIRE_LIMIT_MAX_MESSAGE);
    CU_ASSERT_EQUAL_FATAL(n, 9 + 10 + 9 + 8);
    CU_ASSERT_EQUAL(rig_buffer[19], WIRE_ACK);
    CU_ASSERT_EQUAL(wire_get64(rig_buffer + 28), 1);
    wire_put64(count, 3);
    CU_ASSERT(secondary_in(&a, WIRE_ACK, 0, count, 8) < 0);
    CU_ASSERT_EQUAL(r->why, MUX_END_VIOLATION);
    mux_link_destroy(&a.l);
    STOP();
}

static const struct tap_test tests[] = {
    {"a secondary comes back", a_secondary_comes_back},
    {"a JOIN that was overtaken changes nothing", a_late_join_changes_nothing},
    {"a secondary that does not come back costs its streams", a_secondary_does_not_come_back},
    {"with the primary all links are away", the_primary_takes_all_along},
    {"credit goes to those who can use it", credit_for_those_who_can_use_it},
    {"one that is away leaves the others room", one_that_is_away_leaves_the_others_room},
    {"a full buffer stops nobody who keeps nothing", a_full_buffer_stops_nobody_who_keeps_nothing},
    {"ACKs stay on their link", acks_stay_on_their_link},
    {NULL, NULL},
};

int main(void) { return tap_main("mux replay of secondaries", tests); }
