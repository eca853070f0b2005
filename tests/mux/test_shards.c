/* Sessions of several links: what travels where, and what a lost link costs. */
#include "mux/mux_priv.h"
#include "mux/secondary.h"

#define START(role, tune)                                                                                              \
    size_t live = ht_mem_live();                                                                                       \
    struct rig *r = rig_start(role, tune);                                                                             \
    CU_ASSERT_PTR_NOT_NULL_FATAL(r->s)
#define STOP() rig_stop(r, live)

static void own(struct mux_config *c) { c->version = WIRE_V2; }

static void published(struct mux_config *c) {
    c->version = WIRE_V2;
    c->own_peer = false;
}

#define JOIN(i) "{\"sessionId\":\"S-1\",\"index\":" #i ",\"nonce\":\"n\"}"

static void secondaries_carry_streams(void) {
    START(WIRE_ROLE_KIT, published);
    struct secondary a, b;
    uint32_t id;
    rig_pull(r);
    secondary_join(r, &a, JOIN(1));
    CU_ASSERT_EQUAL(a.rc, 0);
    CU_ASSERT_EQUAL(secondary_says(&a, &id), WIRE_JOIN_OK);
    CU_ASSERT_EQUAL(mux_session_links(r->s), 2);
    secondary_join(r, &b, JOIN(1)); /* taken */
    CU_ASSERT_EQUAL(b.rc, HT_EINVAL);
    CU_ASSERT_EQUAL(b.closes, 1);
    CU_ASSERT_EQUAL(secondary_says(&b, &id), WIRE_JOIN_ERR);
    mux_link_destroy(&b.l);

    struct rig_stream *t = rig_visit(r, WIRE_KIND_HTTP), *u = rig_visit(r, WIRE_KIND_HTTP);
    CU_ASSERT_EQUAL(rig_count(r, WIRE_STREAM_OPEN, 2), 1);
    CU_ASSERT_EQUAL(secondary_says(&a, &id), WIRE_STREAM_OPEN);
    CU_ASSERT_EQUAL(id, 4);
    CU_ASSERT(rig_text(r, WIRE_STREAM_RESPONSE_HEAD, 4, RIG_HEAD) > 0); /* published drivers answer on the primary */
    for (int i = 0; i < 5; i++)
        CU_ASSERT(rig_frame_in(r, WIRE_DATA, 4, NULL, 60000) > 0);
    CU_ASSERT_EQUAL(u->heads, 1);
    CU_ASSERT_EQUAL(u->received, 300000);
    CU_ASSERT_EQUAL(u->data_ends, 6);
    CU_ASSERT_EQUAL(rig_count(r, WIRE_WINDOW, 4), 0); /* ours stay where the stream is (STREAM-3) */
    CU_ASSERT_EQUAL(secondary_says(&a, &id), WIRE_WINDOW);
    CU_ASSERT_EQUAL(id, 4);
    CU_ASSERT(secondary_in(&a, WIRE_PING, 0, "12345678", 8) > 0); /* FRAME-10: answered on the primary all the same */
    CU_ASSERT_EQUAL(secondary_says(&a, &id), 0);
    CU_ASSERT_EQUAL(rig_count(r, WIRE_PONG, 0), 1);

    mux_link_closed(a.l, true); /* PARK-4: even a clean close ends no session */
    CU_ASSERT_EQUAL(u->closes, 1);
    CU_ASSERT_EQUAL(u->code, WIRE_CODE_REFUSED_STREAM);
    CU_ASSERT_EQUAL(t->closes, 0);
    CU_ASSERT_EQUAL(r->overs, 0);
    mux_link_destroy(&a.l);
    secondary_join(r, &a, JOIN(1)); /* there is room again */
    CU_ASSERT_EQUAL(a.rc, 0);
    mux_link_closed(r->l, false); /* the primary's fate is the session's */
    CU_ASSERT_EQUAL(r->overs, 1);
    CU_ASSERT_EQUAL(r->why, MUX_END_LOST);
    CU_ASSERT_EQUAL(a.closes, 1);
    mux_link_destroy(&a.l);
    STOP();
}

static void roomy(struct mux_config *c) {
    own(c);
    c->stream_window = c->session_window = 64u << 20;
}

/* A small answer on one link makes the messages of bulk on another one short. */
static void small_answers_are_beside_bulk_of_other_links(void) {
    START(WIRE_ROLE_KIT, roomy);
    struct secondary a;
    rig_pull(r);
    secondary_join(r, &a, JOIN(1));
    struct rig_stream *bulk = rig_visit(r, WIRE_KIND_TCP), *small = rig_visit(r, WIRE_KIND_TCP);
    while (mux_link_pull(a.l, rig_buffer, WIRE_LIMIT_MAX_MESSAGE) > 0)
        ;
    rig_write(bulk, 8u << 20, false);
    CU_ASSERT(mux_link_pull(r->l, rig_buffer, WIRE_LIMIT_MAX_MESSAGE) > 250000);
    CU_ASSERT(mux_link_pull(r->l, rig_buffer, WIRE_LIMIT_MAX_MESSAGE) > 250000);
    rig_write(small, 100, false);
    CU_ASSERT_EQUAL(mux_link_pull(a.l, rig_buffer, WIRE_LIMIT_MAX_MESSAGE), WIRE_LIMIT_HEADER + 100);
    CU_ASSERT_EQUAL(mux_link_pull(r->l, rig_buffer, WIRE_LIMIT_MAX_MESSAGE), WIRE_LIMIT_HEADER + 65536);
    mux_link_destroy(&a.l);
    STOP();
}

/* FRAME-10. */
static void frames_of_the_session_stay_on_the_primary(void) {
    for (int role = 0; role < 2; role++) {
        START(role ? WIRE_ROLE_KIT : WIRE_ROLE_DRIVER, own);
        struct secondary a;
        rig_pull(r);
        secondary_join(r, &a, JOIN(1));
        CU_ASSERT_EQUAL(a.rc, 0);
        CU_ASSERT(secondary_in(&a, 0x44, 0, NULL, 0) > 0); /* what nobody knows is skipped anywhere */
        CU_ASSERT_EQUAL(r->overs, 0);
        CU_ASSERT(secondary_in(&a, WIRE_PING, 0, "12345678", 8) < 0);
        CU_ASSERT(rig_went_away(r, WIRE_CODE_PROTOCOL_ERROR, WIRE_CLOSE_PROTOCOL_ERROR));
        CU_ASSERT_EQUAL(r->why, MUX_END_VIOLATION);
        CU_ASSERT_EQUAL(a.closes, 1);
        mux_link_destroy(&a.l);
        STOP();
    }
}

/* STREAM-1: what has overtaken others is no reason to refuse them, and nothing comes twice. */
static void ids_overtake_but_never_repeat(void) {
    START(WIRE_ROLE_DRIVER, own);
    struct secondary a;
    uint32_t id;
    secondary_join(r, &a, JOIN(1));
    CU_ASSERT(rig_open(r, 20, RIG_OPEN_TCP) > 0);
    static const uint32_t late[] = {2, 8, 14, 18}; /* both ends of a gap, and its middle */
    for (size_t i = 0; i < HT_ARRAY_LEN(late); i++)
        CU_ASSERT(secondary_in(&a, WIRE_STREAM_OPEN, late[i], RIG_OPEN_TCP, strlen(RIG_OPEN_TCP)) > 0);
    CU_ASSERT_EQUAL(r->n_streams, 5);
    CU_ASSERT_EQUAL(mux_session_next_id(r->s), 22);
    for (unsigned i = 0; i < 5; i++)
        mux_stream_release(&r->streams[i].st);
    while (mux_link_pull(a.l, rig_buffer, WIRE_LIMIT_MAX_MESSAGE))
        continue;
    rig_pull(r);
    mux_link_destroy(&a.l);
    secondary_join(r, &a, JOIN(1)); /* a new link knows of no ids */
    static const uint32_t again[] = {2, 8, 14, 18, 20};
    for (size_t i = 0; i < HT_ARRAY_LEN(again); i++) {
        CU_ASSERT(secondary_in(&a, WIRE_STREAM_OPEN, again[i], RIG_OPEN_TCP, strlen(RIG_OPEN_TCP)) > 0);
        CU_ASSERT_EQUAL(secondary_says(&a, &id), WIRE_RESET);
        CU_ASSERT_EQUAL(id, again[i]);
    }
    CU_ASSERT_EQUAL(r->n_streams, 5);
    static const uint32_t rest[] = {4, 6, 10, 12, 16};
    for (size_t i = 0; i < HT_ARRAY_LEN(rest); i++)
        CU_ASSERT(secondary_in(&a, WIRE_STREAM_OPEN, rest[i], RIG_OPEN_TCP, strlen(RIG_OPEN_TCP)) > 0);
    CU_ASSERT_EQUAL(r->n_streams, 10);
    mux_link_destroy(&a.l);
    STOP();
}

/* BIND_OK is on the primary, and a stream of that binding must not be there before it. */
static void streams_come_behind_what_they_need(void) {
    START(WIRE_ROLE_KIT, own);
    struct secondary a;
    uint32_t id;
    secondary_join(r, &a, JOIN(1));
    CU_ASSERT_EQUAL(secondary_says(&a, &id), WIRE_JOIN_OK);
    rig_pull(r);
    CU_ASSERT_PTR_NOT_NULL(rig_visit(r, WIRE_KIND_TCP));
    rig_pull(r);
    CU_ASSERT_EQUAL(rig_count(r, WIRE_STREAM_OPEN, 2), 1);
    mux_session_in_order(r->s); /* without it the next one would go to the other link, which has no streams */
    rig_pull(r);
    const struct rig_frame *ping = rig_next(r, WIRE_PING);
    CU_ASSERT_PTR_NOT_NULL_FATAL(ping);
    uint8_t nonce[8];
    memcpy(nonce, ping->head, sizeof nonce);
    CU_ASSERT_PTR_NOT_NULL(rig_visit(r, WIRE_KIND_TCP));
    rig_pull(r);
    CU_ASSERT_EQUAL(rig_count(r, WIRE_STREAM_OPEN, 4), 1);
    CU_ASSERT_EQUAL(secondary_says(&a, &id), 0);
    CU_ASSERT(rig_frame_in(r, WIRE_PONG, 0, nonce, sizeof nonce) > 0);
    CU_ASSERT_PTR_NOT_NULL(rig_visit(r, WIRE_KIND_TCP));
    CU_ASSERT_EQUAL(secondary_says(&a, &id), WIRE_STREAM_OPEN);
    CU_ASSERT_EQUAL(id, 6);
    mux_link_destroy(&a.l);
    STOP();
}

/* A kit that skips ids for ever costs no more than this. */
static void gaps_are_bounded(void) {
    START(WIRE_ROLE_DRIVER, own);
    struct secondary a;
    uint32_t id;
    size_t most = 0, before = ht_mem_live();
    secondary_join(r, &a, JOIN(1));
    for (uint32_t n = 1; n <= 5000; n++) {
        CU_ASSERT(rig_open(r, 4 * n, RIG_OPEN_TCP) > 0);
        rig_reset(r, 4 * n, WIRE_CODE_CANCEL);
        for (unsigned i = 0; i < RIG_STREAMS; i++)
            mux_stream_release(&r->streams[i].st);
        most = ht_max(most, ht_mem_live() - before);
    }
    CU_ASSERT(most < 64u << 10);
    secondary_in(&a, WIRE_STREAM_OPEN, 2, RIG_OPEN_TCP, strlen(RIG_OPEN_TCP)); /* too late by far */
    CU_ASSERT_EQUAL(secondary_says(&a, &id), WIRE_RESET);
    CU_ASSERT(secondary_in(&a, WIRE_STREAM_OPEN, 4 * 4500 + 2, RIG_OPEN_TCP, strlen(RIG_OPEN_TCP)) > 0);
    CU_ASSERT_EQUAL(r->n_streams, 5001);
    mux_link_destroy(&a.l);
    STOP();
}

static void small(struct mux_config *c) {
    c->version = WIRE_V2;
    c->session_window = 100000;
    c->stream_window = 100000;
}

/* SHARD-3. What was on its way when a link was lost is no credit lost for ever. */
static void credit_of_what_a_link_has_swallowed(void) {
    START(WIRE_ROLE_KIT, small);
    struct secondary a;
    rig_pull(r);
    secondary_join(r, &a, JOIN(1));
    struct rig_stream *t = rig_visit(r, WIRE_KIND_TCP), *u = rig_visit(r, WIRE_KIND_TCP);
    rig_pull(r);
    CU_ASSERT_EQUAL(r->s->links[1]->n_streams, 1); /* u */
    rig_write(u, 60000, false);
    while (mux_link_pull(a.l, rig_buffer, WIRE_LIMIT_MAX_MESSAGE))
        continue;
    rig_write(t, 70000, false);
    rig_pull(r);
    CU_ASSERT_EQUAL(r->data_out, 40000);
    mux_link_destroy(&a.l); /* the peer has had 25,000 of the 60,000 */
    secondary_join(r, &a, "{\"sessionId\":\"S-1\",\"index\":1,\"nonce\":\"n\",\"receivedBytes\":25000}");
    CU_ASSERT_EQUAL(a.rc, 0);
    rig_pull(r);
    CU_ASSERT_EQUAL(r->data_out, 70000);
    CU_ASSERT(rig_window(r, 0, 25000 + 70000) > 0); /* and of those it gives the credit back itself */
    CU_ASSERT_EQUAL(r->overs, 0);
    mux_link_destroy(&a.l);
    secondary_join(r, &a,
                   "{\"sessionId\":\"S-1\",\"index\":1,\"nonce\":\"n\",\"receivedBytes\":25000}"); /* nothing since */
    CU_ASSERT_EQUAL(a.rc, 0);
    CU_ASSERT_EQUAL(r->s->send.credit, 100000);
    mux_link_destroy(&a.l);
    secondary_join(r, &a, "{\"sessionId\":\"S-1\",\"index\":1,\"nonce\":\"n\",\"receivedBytes\":25001}"); /* a lie */
    CU_ASSERT_EQUAL(a.rc, HT_EPROTO);
    CU_ASSERT(rig_went_away(r, WIRE_CODE_PROTOCOL_ERROR, WIRE_CLOSE_PROTOCOL_ERROR));
    mux_link_destroy(&a.l);
    STOP();
}

static void both_sides_say_what_they_have_had(void) {
    START(WIRE_ROLE_KIT, small);
    struct secondary a;
    rig_pull(r);
    secondary_join(r, &a, JOIN(1));
    struct rig_stream *t = rig_visit(r, WIRE_KIND_TCP), *u = rig_visit(r, WIRE_KIND_TCP);
    CU_ASSERT_EQUAL(t->closes + u->closes, 0);
    rig_pull(r);
    CU_ASSERT(secondary_in(&a, WIRE_DATA, 4, NULL, 1234) > 0);
    CU_ASSERT(secondary_in(&a, WIRE_DATA, 99, NULL, 66) > 0); /* for nobody, and had all the same */
    uint8_t part[9 + 100] = {0};
    wire_encode_header(part, WIRE_DATA, 4, 700); /* of which 100 come: the credit of all of it is ours to give back */
    CU_ASSERT(mux_link_message(a.l, part, sizeof part, false) > 0);
    mux_link_destroy(&a.l);
    CU_ASSERT_EQUAL(mux_session_received(r->s, 1), 2000);
    CU_ASSERT_EQUAL(mux_session_received(r->s, 0), 0);
    secondary_join(r, &a, "{\"sessionId\":\"S-1\",\"index\":1,\"nonce\":\"n\",\"receivedBytes\":0}");
    size_t n = mux_link_pull(a.l, rig_buffer, WIRE_LIMIT_MAX_MESSAGE);
    CU_ASSERT_FATAL(n > 9 && rig_buffer[0] == WIRE_JOIN_OK);
    rig_buffer[n] = '\0';
    CU_ASSERT_PTR_NOT_NULL(strstr((char *)rig_buffer + 9, "\"receivedBytes\":2000"));
    mux_link_destroy(&a.l);
    STOP();
}

static const struct tap_test tests[] = {
    {"secondaries carry streams", secondaries_carry_streams},
    {"small answers are beside bulk of other links", small_answers_are_beside_bulk_of_other_links},
    {"frames of the session stay on the primary", frames_of_the_session_stay_on_the_primary},
    {"ids may overtake each other on several links but never repeat", ids_overtake_but_never_repeat},
    {"a stream arrives behind the frames that it needs", streams_come_behind_what_they_need},
    {"the number of gaps in the ids is bounded", gaps_are_bounded},
    {"credit of bytes that were lost with a link comes back", credit_of_what_a_link_has_swallowed},
    {"both sides say how many bytes they have received", both_sides_say_what_they_have_had},
    {NULL, NULL},
};

int main(void) { return tap_main("mux, several links", tests); }
