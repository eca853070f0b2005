/* STREAM_TRAILERS, rule TRAIL-1: where it may stand, and what becomes of it between peers that have not agreed on it.
 */
#include "mux/rig.h"

#define TRAILERS "{\"headers\":[[\"x-sum\",\"abc\"],[\"x-more\",\"\"]]}"

static void agreed(struct mux_config *c) { c->caps = WIRE_CAP_TRAILERS; }

#define START(role, tune)                                                                                              \
    size_t live = ht_mem_live();                                                                                       \
    struct rig *r = rig_start(role, tune);                                                                             \
    CU_ASSERT_PTR_NOT_NULL_FATAL(r->s)
#define STOP() rig_stop(r, live)

/* A visit at the kit, whose final head has come. */
static struct rig_stream *answered(struct rig *r) {
    struct rig_stream *t = rig_visit(r, WIRE_KIND_HTTP);
    CU_ASSERT_PTR_NOT_NULL_FATAL(t);
    rig_pull(r);
    CU_ASSERT(rig_text(r, WIRE_STREAM_RESPONSE_HEAD, 2, RIG_HEAD) > 0);
    return t;
}

static void they_come_between_data_and_eof(void) {
    START(WIRE_ROLE_KIT, agreed);
    struct rig_stream *t = answered(r);
    rig_add(r, WIRE_DATA, 2, "body", 4);
    rig_add(r, WIRE_STREAM_TRAILERS, 2, TRAILERS, strlen(TRAILERS));
    rig_add(r, WIRE_EOF, 2, NULL, 0);
    CU_ASSERT(rig_send(r) > 0);
    CU_ASSERT_EQUAL(t->trailers, 1);
    CU_ASSERT_EQUAL(t->fields, 2);
    CU_ASSERT_EQUAL(t->eofs, 1);
    CU_ASSERT_EQUAL(t->received, 4);
    STOP();
}

static void requests_have_them_too(void) {
    START(WIRE_ROLE_DRIVER, agreed);
    rig_open(r, 2, RIG_OPEN_HTTP);
    CU_ASSERT(rig_text(r, WIRE_STREAM_TRAILERS, 2, TRAILERS) > 0);
    CU_ASSERT(rig_frame_in(r, WIRE_EOF, 2, NULL, 0) > 0);
    CU_ASSERT_EQUAL(r->streams[0].trailers, 1);
    CU_ASSERT_EQUAL(r->streams[0].eofs, 1);
    CU_ASSERT_EQUAL(r->streams[0].closes, 0);
    STOP();
}

static void only_an_end_follows_them(void) {
    static const struct {
        uint8_t type;
        const char *payload;
    } bad[] = {
        {WIRE_DATA, "x"}, {WIRE_DATA, ""}, {WIRE_STREAM_TRAILERS, TRAILERS}, {WIRE_STREAM_RESPONSE_HEAD, RIG_HEAD}};
    for (size_t i = 0; i < HT_ARRAY_LEN(bad); i++) {
        START(WIRE_ROLE_KIT, agreed);
        struct rig_stream *t = answered(r);
        CU_ASSERT(rig_text(r, WIRE_STREAM_TRAILERS, 2, TRAILERS) > 0);
        CU_ASSERT(rig_text(r, bad[i].type, 2, bad[i].payload) > 0);
        CU_ASSERT(rig_was_reset(r, 2, WIRE_CODE_PROTOCOL_ERROR));
        CU_ASSERT_EQUAL(t->closes, 1);
        CU_ASSERT_EQUAL(t->trailers, 1);
        STOP();
    }
    START(WIRE_ROLE_KIT, agreed);
    struct rig_stream *t = answered(r);
    CU_ASSERT(rig_text(r, WIRE_STREAM_TRAILERS, 2, TRAILERS) > 0);
    CU_ASSERT(rig_reset(r, 2, WIRE_CODE_INTERNAL_ERROR) > 0);
    CU_ASSERT_EQUAL(t->code, WIRE_CODE_INTERNAL_ERROR);
    STOP();
}

static void they_have_their_place(void) {
    START(WIRE_ROLE_KIT, agreed);
    CU_ASSERT_PTR_NOT_NULL(rig_visit(r, WIRE_KIND_HTTP)); /* 2: no head yet */
    CU_ASSERT_PTR_NOT_NULL(rig_visit(r, WIRE_KIND_TCP));  /* 4 */
    CU_ASSERT_PTR_NOT_NULL(rig_visit(r, WIRE_KIND_HTTP)); /* 6: ended */
    CU_ASSERT_PTR_NOT_NULL(rig_visit(r, WIRE_KIND_HTTP)); /* 8: raw bytes */
    CU_ASSERT_PTR_NOT_NULL(rig_visit(r, WIRE_KIND_HTTP)); /* 10: rubbish */
    rig_pull(r);
    rig_text(r, WIRE_STREAM_RESPONSE_HEAD, 6, RIG_HEAD);
    rig_frame_in(r, WIRE_EOF, 6, NULL, 0);
    rig_text(r, WIRE_STREAM_RESPONSE_HEAD, 8, "{\"status\":101,\"headers\":[],\"final\":true}");
    rig_text(r, WIRE_STREAM_RESPONSE_HEAD, 10, RIG_HEAD);
    static const struct {
        uint32_t id;
        uint16_t code;
        const char *payload;
    } bad[] = {{2, WIRE_CODE_PROTOCOL_ERROR, TRAILERS},
               {4, WIRE_CODE_PROTOCOL_ERROR, TRAILERS},
               {6, WIRE_CODE_STREAM_CLOSED, TRAILERS},
               {8, WIRE_CODE_PROTOCOL_ERROR, TRAILERS},
               {10, WIRE_CODE_PROTOCOL_ERROR, "{\"headers\":7}"}};
    for (size_t i = 0; i < HT_ARRAY_LEN(bad); i++) {
        CU_ASSERT(rig_text(r, WIRE_STREAM_TRAILERS, bad[i].id, bad[i].payload) > 0);
        CU_ASSERT(rig_was_reset(r, bad[i].id, bad[i].code));
    }
    CU_ASSERT(rig_text(r, WIRE_STREAM_TRAILERS, 2, TRAILERS) > 0); /* one that is gone */
    CU_ASSERT_EQUAL(r->overs, 0);
    STOP();
}

static void without_an_agreement_they_are_nothing(void) {
    START(WIRE_ROLE_KIT, NULL);
    struct rig_stream *t = answered(r);
    CU_ASSERT(rig_text(r, WIRE_STREAM_TRAILERS, 2, TRAILERS) > 0);
    CU_ASSERT(rig_text(r, WIRE_STREAM_TRAILERS, 0, TRAILERS) > 0);
    CU_ASSERT(rig_text(r, WIRE_STREAM_TRAILERS, 7, "") > 0);
    CU_ASSERT(rig_frame_in(r, WIRE_DATA, 2, "x", 1) > 0);
    CU_ASSERT_EQUAL(t->trailers, 0);
    CU_ASSERT_EQUAL(t->received, 1);
    struct wire_trailers none = {NULL, 0};
    CU_ASSERT_EQUAL(mux_stream_trailers(t->st, &none), 0);
    rig_write(t, 3, true);
    CU_ASSERT_EQUAL(rig_count(r, WIRE_STREAM_TRAILERS, 2), 0);
    CU_ASSERT_EQUAL(rig_count(r, WIRE_EOF, 2), 1);
    STOP();
}

static int give(struct rig_stream *t, size_t bytes) {
    static char text[60000];
    memset(text, 'v', sizeof text);
    struct wire_header field[2] = {{ht_slice_str("x-sum"), ht_slice_of(text, ht_min(bytes, 49000))},
                                   {ht_slice_str("x-more"), ht_slice_of(text, bytes - ht_min(bytes, 49000))}};
    struct wire_trailers out = {field, 2};
    return mux_stream_trailers(t->st, &out);
}

/* DATA, trailers and EOF of a stream, in the order in which they left. */
static void leaves_in_order(struct rig *r, uint32_t id) {
    unsigned trailers = 0, eofs = 0;
    rig_pull(r);
    for (unsigned i = 0; i < r->n_out; i++) {
        const struct rig_frame *f = &r->out[i];
        if (f->id != id)
            continue;
        CU_ASSERT(!(f->type == WIRE_DATA && (trailers || eofs)));
        trailers += f->type == WIRE_STREAM_TRAILERS;
        eofs += f->type == WIRE_EOF;
        CU_ASSERT(eofs <= trailers);
    }
    CU_ASSERT_EQUAL(trailers, 1);
    CU_ASSERT_EQUAL(eofs, 1);
}

static void they_leave_ahead_of_eof(void) {
    START(WIRE_ROLE_KIT, agreed);
    struct rig_stream *t = rig_visit(r, WIRE_KIND_HTTP);
    CU_ASSERT_PTR_NOT_NULL_FATAL(t);
    rig_write(t, 100000, true);
    CU_ASSERT_EQUAL(give(t, 10), 0);
    CU_ASSERT_EQUAL(give(t, 10), HT_EINVAL);
    leaves_in_order(r, 2);
    CU_ASSERT_EQUAL(give(t, 10), HT_ECLOSED);
    STOP();
}

/* Many that end in one message, with more than it has room for: nothing is lost, and no stream goes twice. */
static void a_full_message_loses_none(void) {
    START(WIRE_ROLE_KIT, agreed);
    struct rig_stream *t[4];
    for (size_t i = 0; i < HT_ARRAY_LEN(t); i++) {
        t[i] = rig_visit(r, WIRE_KIND_HTTP);
        CU_ASSERT_PTR_NOT_NULL_FATAL(t[i]);
    }
    rig_pull(r);
    for (size_t i = 0; i < HT_ARRAY_LEN(t); i++) {
        CU_ASSERT_EQUAL(give(t[i], 60000), 0);
        rig_write(t[i], 20000, true);
    }
    while (rig_pull_one(r, WIRE_LIMIT_HEADER + WIRE_LIMIT_MAX_PAYLOAD))
        ;
    for (uint32_t id = 2; id <= 2 * HT_ARRAY_LEN(t); id += 2)
        leaves_in_order(r, id);
    STOP();
}

static void what_waits_is_bounded(void) {
    START(WIRE_ROLE_KIT, agreed);
    int rc = 0;
    unsigned given = 0;
    for (unsigned i = 0; i < 8 && rc == 0; i++, given++) {
        struct rig_stream *t = rig_visit(r, WIRE_KIND_HTTP);
        CU_ASSERT_PTR_NOT_NULL_FATAL(t);
        rc = give(t, 60000);
    }
    CU_ASSERT_EQUAL(rc, HT_ELIMIT);
    CU_ASSERT(given > 2);
    struct rig_stream *first = &r->streams[0];
    CU_ASSERT_EQUAL(give(&r->streams[given - 1], 70000), HT_ESPACE);
    mux_stream_reset(first->st, WIRE_CODE_CANCEL, ""); /* makes room */
    CU_ASSERT_EQUAL(give(&r->streams[given - 1], 10), 0);
    struct rig_stream *tcp = rig_visit(r, WIRE_KIND_TCP);
    CU_ASSERT_PTR_NOT_NULL_FATAL(tcp);
    CU_ASSERT_EQUAL(give(tcp, 10), HT_EINVAL);
    STOP();
}

static void a_driver_answers_first(void) {
    START(WIRE_ROLE_DRIVER, agreed);
    rig_open(r, 2, RIG_OPEN_HTTP);
    struct rig_stream *t = &r->streams[0];
    CU_ASSERT_EQUAL(give(t, 10), HT_EINVAL);
    struct wire_response_head head = {.status = 200, .final = true};
    CU_ASSERT_EQUAL(mux_stream_respond(t->st, &head), 0);
    CU_ASSERT_EQUAL(give(t, 10), 0);
    rig_write(t, 10, true);
    leaves_in_order(r, 2);
    STOP();
}

int main(void) {
    static const struct tap_test tests[] = {
        {"trailers arrive between DATA and EOF", they_come_between_data_and_eof},
        {"requests have trailers too", requests_have_them_too},
        {"only EOF or RESET may follow trailers", only_an_end_follows_them},
        {"trailers are legal in one place only", they_have_their_place},
        {"trailers without the capability are skipped", without_an_agreement_they_are_nothing},
        {"trailers are sent before EOF", they_leave_ahead_of_eof},
        {"trailers that do not fit a message go with the next one", a_full_message_loses_none},
        {"trailers that wait are bounded", what_waits_is_bounded},
        {"a driver's trailers come behind its head", a_driver_answers_first},
        {NULL, NULL},
    };
    return tap_main("mux trailers", tests);
}
