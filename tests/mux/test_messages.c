/* How long messages are, and how much of one is a stream's turn. */
#include "mux/mux_priv.h"
#include "mux/rig.h"

#define START(role, tune)                                                                                              \
    size_t live = ht_mem_live();                                                                                       \
    struct rig *r = rig_start(role, tune);                                                                             \
    CU_ASSERT_PTR_NOT_NULL_FATAL(r->s)
#define STOP() rig_stop(r, live)

static void vast(struct mux_config *c) { c->stream_window = c->session_window = 1u << 30; }

/* Bulk alone gets long messages; beside small answers they are short, and long again when those stay away. */
static void messages_are_short_beside_small_answers(void) {
    START(WIRE_ROLE_KIT, vast);
    struct rig_stream *bulk = rig_visit(r, WIRE_KIND_TCP), *small = rig_visit(r, WIRE_KIND_TCP);
    size_t before;
    rig_write(bulk, 600u << 20, false);
    rig_pull_one(r, WIRE_LIMIT_MAX_MESSAGE);
    before = r->data_out;
    rig_pull_one(r, WIRE_LIMIT_MAX_MESSAGE);
    CU_ASSERT(r->data_out - before > 250000);
    rig_write(small, 100, false);
    rig_pull_one(r, WIRE_LIMIT_MAX_MESSAGE);
    CU_ASSERT_EQUAL(small->to_send, 0);
    before = r->data_out;
    rig_pull_one(r, WIRE_LIMIT_MAX_MESSAGE);
    CU_ASSERT_EQUAL(r->data_out - before, 65536);
    for (int i = 0; i < 1100; i++)
        rig_pull_one(r, WIRE_LIMIT_MAX_MESSAGE);
    before = r->data_out;
    rig_pull_one(r, WIRE_LIMIT_MAX_MESSAGE);
    CU_ASSERT(r->data_out - before > 250000);
    STOP();
}

/* One call fills the message while nobody else has anything; else everybody has a piece. */
static void a_stream_alone_fills_a_message_in_one_call(void) {
    START(WIRE_ROLE_KIT, vast);
    struct rig_stream *bulk = rig_visit(r, WIRE_KIND_TCP), *other = rig_visit(r, WIRE_KIND_TCP);
    rig_write(bulk, 10u << 20, false);
    rig_pull_one(r, WIRE_LIMIT_MAX_MESSAGE);
    CU_ASSERT_EQUAL(bulk->runs, 1);
    size_t before = r->data_out;
    unsigned at = r->n_out;
    rig_pull_one(r, WIRE_LIMIT_MAX_MESSAGE);
    CU_ASSERT_EQUAL(bulk->runs, 2);
    CU_ASSERT_EQUAL(r->data_out - before, WIRE_LIMIT_MAX_MESSAGE - 4 * WIRE_LIMIT_HEADER);
    for (unsigned i = at; i < r->n_out; i++) /* the first ones full */
        CU_ASSERT(r->out[i].type == WIRE_DATA && (r->out[i].len == WIRE_LIMIT_MAX_PAYLOAD || i == at + 3));
    rig_write(other, 10u << 20, false);
    rig_pull_one(r, WIRE_LIMIT_MAX_MESSAGE);
    rig_pull_one(r, WIRE_LIMIT_MAX_MESSAGE);
    CU_ASSERT_EQUAL(bulk->runs + other->runs, 2);
    STOP();
}

static void tight_run(struct mux_config *c) { c->stream_window = 150000; }

/* Credit and the end of the source cut a run anywhere. */
static void a_run_keeps_to_credit_and_ends_with_its_source(void) {
    START(WIRE_ROLE_KIT, tight_run);
    struct rig_stream *t = rig_visit(r, WIRE_KIND_TCP);
    rig_write(t, 140000, false);
    rig_pull(r);
    CU_ASSERT_EQUAL(r->data_out, 140000);
    rig_write(t, 90000, true);
    rig_pull(r);
    CU_ASSERT_EQUAL(r->data_out, 150000);
    CU_ASSERT_EQUAL(t->writable, 0);
    CU_ASSERT(rig_window(r, 2, 150000) > 0);
    rig_pull(r);
    CU_ASSERT_EQUAL(r->data_out, 230000);
    CU_ASSERT_EQUAL(rig_count(r, WIRE_EOF, 2), 1);
    STOP();
}

/* Bulk whose source has nothing at the moment of the small answer: its next messages are short all the same. Its own
 * small pieces make nothing short. */
static void messages_are_short_beside_bulk_that_pauses(void) {
    START(WIRE_ROLE_KIT, vast);
    struct rig_stream *bulk = rig_visit(r, WIRE_KIND_TCP), *small = rig_visit(r, WIRE_KIND_TCP);
    rig_write(bulk, 1u << 20, false);
    rig_pull(r);
    for (int i = 0; i < 3; i++) {
        rig_write(bulk, 100, false);
        rig_pull(r);
    }
    size_t before = r->data_out;
    rig_write(bulk, 1u << 20, false);
    rig_pull_one(r, WIRE_LIMIT_MAX_MESSAGE);
    CU_ASSERT(r->data_out - before > 250000);
    rig_pull(r);
    rig_write(small, 100, false);
    rig_pull(r);
    before = r->data_out;
    rig_write(bulk, 1u << 20, false);
    rig_pull_one(r, WIRE_LIMIT_MAX_MESSAGE);
    CU_ASSERT_EQUAL(r->data_out - before, 65536);
    STOP();
}

/* Messages until each of `n` streams has sent something since now. */
static unsigned a_round(struct rig *r, struct rig_stream **t, unsigned n) {
    size_t before[8];
    unsigned messages = 0, met = 0;
    for (unsigned i = 0; i < n; i++)
        before[i] = t[i]->to_send;
    for (; met < n && messages < 100; messages++) {
        rig_pull_one(r, WIRE_LIMIT_MAX_MESSAGE);
        met = 0;
        for (unsigned i = 0; i < n; i++)
            met += t[i]->to_send < before[i];
    }
    return messages;
}

/* `ms` for each message, until the link has made up its mind. */
static void pull_at_pace(struct rig *r, uint64_t ms) {
    for (unsigned i = 0; i < 2 * MUX_SWIFT_BYTES / WIRE_LIMIT_MAX_MESSAGE + 8; i++) {
        rig_pull_one(r, WIRE_LIMIT_MAX_MESSAGE);
        mux_session_tick(r->s, r->now += ms);
    }
}

/* A turn is a whole message where it is gone in a moment, and a piece where others would wait for it. */
static void turns_are_long_on_a_swift_link_only(void) {
    START(WIRE_ROLE_KIT, vast);
    struct rig_stream *t[8];
    for (int i = 0; i < 8; i++)
        rig_write(t[i] = rig_visit(r, WIRE_KIND_TCP), 100u << 20, false);
    rig_pull_one(r, WIRE_LIMIT_MAX_MESSAGE);
    CU_ASSERT(a_round(r, t, 8) <= 3);
    pull_at_pace(r, 0);
    CU_ASSERT_EQUAL(a_round(r, t, 8), 8);
    pull_at_pace(r, 10);
    CU_ASSERT(a_round(r, t, 8) <= 3);
    pull_at_pace(r, 0);
    CU_ASSERT_EQUAL(a_round(r, t, 8), 8);
    STOP();
}

/* Who comes while bulk takes long turns is next, with a small piece, and everybody's turns are short behind it. */
static void a_newcomer_cuts_long_turns(void) {
    START(WIRE_ROLE_KIT, vast);
    struct rig_stream *t[4], *late = rig_visit(r, WIRE_KIND_TCP);
    for (int i = 0; i < 4; i++)
        rig_write(t[i] = rig_visit(r, WIRE_KIND_TCP), 100u << 20, false);
    pull_at_pace(r, 0);
    rig_write(late, 100, false);
    rig_pull_one(r, WIRE_LIMIT_MAX_MESSAGE);
    CU_ASSERT_EQUAL(late->to_send, 0);
    size_t before = r->data_out;
    rig_pull_one(r, WIRE_LIMIT_MAX_MESSAGE);
    CU_ASSERT_EQUAL(r->data_out - before, WIRE_LIMIT_MAX_PAYLOAD);
    STOP();
}

int main(void) {
    static const struct tap_test tests[] = {
        {"messages are short beside small answers", messages_are_short_beside_small_answers},
        {"a stream alone fills a message in one call", a_stream_alone_fills_a_message_in_one_call},
        {"such a run keeps to credit and ends with its source", a_run_keeps_to_credit_and_ends_with_its_source},
        {"messages are short beside bulk that pauses", messages_are_short_beside_bulk_that_pauses},
        {"turns of bulk beside bulk are long on a swift link only", turns_are_long_on_a_swift_link_only},
        {"a newcomer cuts long turns", a_newcomer_cuts_long_turns},
        {NULL, NULL},
    };
    return tap_main("mux messages", tests);
}
