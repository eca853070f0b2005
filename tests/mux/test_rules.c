/* What a peer may not do, and what it costs: each rule against a scripted peer. */
#include "mux/rig.h"

#define START(role, tune)                                                                                              \
    size_t live = ht_mem_live();                                                                                       \
    struct rig *r = rig_start(role, tune);                                                                             \
    CU_ASSERT_PTR_NOT_NULL_FATAL(r->s)
#define KIT() START(WIRE_ROLE_KIT, NULL)
#define DRIVER() START(WIRE_ROLE_DRIVER, NULL)
#define STOP() rig_stop(r, live)

static void small_windows(struct mux_config *c) {
    c->stream_window = 1000;
    c->session_window = 5000;
}

/* ---- handshake ---- */

static void the_first_frame_is_hello(void) {
    static const struct {
        uint8_t type;
        const char *payload;
    } bad[] = {
        {WIRE_PING, "12345678"},
        {WIRE_BIND, "{}"},
        {WIRE_HELLO, "{\"version\":\"hoody-tunnel.v2\"}"},
        {WIRE_HELLO, "{\"version\":7}"},
        {WIRE_HELLO, "rubbish"},
        {WIRE_JOIN, "{\"sessionId\":\"S-1\",\"index\":1,\"nonce\":\"n\"}"},
        {WIRE_DATA, "abc"},
        {0x6E, "abc"},
        {0xFF, "abc"},
    };
    size_t live = ht_mem_live();
    for (size_t i = 0; i < HT_ARRAY_LEN(bad); i++) {
        static struct rig room;
        struct rig *r = &room;
        memset(r, 0, sizeof *r);
        r->cfg = rig_config(WIRE_ROLE_KIT);
        r->l = mux_link_create(WIRE_ROLE_KIT, WIRE_V1, &rig_link_ops, r);
        CU_ASSERT(rig_text(r, bad[i].type, 0, bad[i].payload) < 0);
        CU_ASSERT_EQUAL(r->closes, 1);
        CU_ASSERT_EQUAL(r->ws_code, 1002);
        CU_ASSERT_EQUAL(r->overs, 0);
        CU_ASSERT_PTR_NULL(r->s);
        CU_ASSERT(!rig_next(r, WIRE_GOAWAY));
        rig_stop(r, live);
    }
}

static void nothing_comes_between_hello_and_its_answer(void) {
    DRIVER();
    CU_ASSERT(rig_text(r, WIRE_HELLO_OK, 0, "{\"sessionId\":\"S-1\"}") < 0); /* a second one */
    CU_ASSERT(rig_went_away(r, 1, 1002));
    STOP();
}

static void a_refusal_says_why(void) {
    size_t live = ht_mem_live();
    static struct rig room;
    struct rig *r = &room;
    memset(r, 0, sizeof *r);
    r->l = mux_link_create(WIRE_ROLE_KIT, WIRE_V1, &rig_link_ops, r);
    struct wire_goaway g = {.code = WIRE_GOAWAY_SESSION_LIMIT_CODE,
                            .message = ht_slice_str(WIRE_GOAWAY_SESSION_LIMIT_MESSAGE)};
    mux_link_refuse(r->l, &g, WIRE_GOAWAY_SESSION_LIMIT_CLOSE, "limit");
    CU_ASSERT_EQUAL(r->ws_code, 1013);
    const struct rig_frame *f = rig_next(r, WIRE_GOAWAY);
    CU_ASSERT_PTR_NOT_NULL_FATAL(f);
    CU_ASSERT(strstr((const char *)f->head, "tunnel session limit reached") != NULL);
    mux_link_refuse(r->l, &g, 1000, "again");
    CU_ASSERT_EQUAL(r->closes, 1);
    rig_stop(r, live);
}

/* ---- flow control ---- */

static void window_of_zero(void) {
    KIT();
    CU_ASSERT(rig_window(r, 0, 0) < 0);
    CU_ASSERT(rig_went_away(r, 1, 1002));
    STOP();
}

static void window_of_zero_on_a_gone_stream(void) {
    KIT();
    CU_ASSERT(rig_window(r, 2, 0) < 0);
    CU_ASSERT(rig_went_away(r, 1, 1002));
    STOP();
}

static void session_window_above_its_size(void) {
    KIT();
    struct rig_stream *t = rig_visit(r, WIRE_KIND_TCP);
    rig_write(t, 100, false);
    rig_pull(r);
    CU_ASSERT(rig_window(r, 0, 100) > 0);
    CU_ASSERT(rig_window(r, 0, 1) < 0);
    CU_ASSERT(rig_went_away(r, 3, 1002));
    CU_ASSERT_EQUAL(t->closes, 1);
    STOP();
}

static void stream_window_above_its_size(void) {
    KIT();
    struct rig_stream *t = rig_visit(r, WIRE_KIND_TCP);
    rig_write(t, 100, false);
    rig_pull(r);
    CU_ASSERT(rig_window(r, 2, 101) < 0);
    CU_ASSERT(rig_went_away(r, 3, 1002));
    STOP();
}

static void grow(struct mux_config *c) { c->caps = WIRE_CAP_AUTO_WINDOW; }

static void auto_windows_end_at_16_mib(void) {
    START(WIRE_ROLE_KIT, grow);
    CU_ASSERT_PTR_NOT_NULL(rig_visit(r, WIRE_KIND_TCP));
    CU_ASSERT(rig_window(r, 2, 15u << 20) > 0);
    CU_ASSERT(rig_window(r, 2, 1) < 0);
    CU_ASSERT(rig_went_away(r, 3, 1002));
    STOP();
}

static void grow_far(struct mux_config *c) { c->caps = WIRE_CAP_AUTO_WINDOW | WIRE_CAP_LARGE_WINDOW; }

static void large_windows_end_at_1_gib(void) {
    for (uint32_t id = 0; id <= 2; id += 2) {
        START(WIRE_ROLE_KIT, grow_far);
        CU_ASSERT_PTR_NOT_NULL(rig_visit(r, WIRE_KIND_TCP));
        CU_ASSERT(
            rig_window(r, id,
                       WIRE_LIMIT_MAX_LARGE_WINDOW - (id ? WIRE_LIMIT_STREAM_WINDOW : WIRE_LIMIT_SESSION_WINDOW)) > 0);
        CU_ASSERT(rig_window(r, id, 1) < 0);
        CU_ASSERT(rig_went_away(r, 3, 1002));
        STOP();
    }
}

static void data_to_the_byte(void) {
    START(WIRE_ROLE_DRIVER, small_windows);
    rig_open(r, 2, RIG_OPEN_TCP);
    rig_open(r, 4, RIG_OPEN_TCP);
    r->streams[0].keep = r->streams[1].keep = true;
    CU_ASSERT(rig_frame_in(r, WIRE_DATA, 2, NULL, 999) > 0);
    CU_ASSERT(rig_frame_in(r, WIRE_DATA, 2, NULL, 0) > 0);
    CU_ASSERT(rig_frame_in(r, WIRE_DATA, 2, NULL, 1) > 0);
    CU_ASSERT_EQUAL(r->streams[0].received, 1000);
    CU_ASSERT(rig_frame_in(r, WIRE_DATA, 2, NULL, 1) > 0); /* one byte over: the stream's fault alone (FLOW-4) */
    CU_ASSERT(rig_was_reset(r, 2, WIRE_CODE_FLOW_CONTROL_ERROR));
    CU_ASSERT_EQUAL(r->streams[0].closes, 1);
    CU_ASSERT_EQUAL(r->streams[0].code, 3);
    CU_ASSERT(!r->streams[0].remote);
    CU_ASSERT_EQUAL(r->streams[0].received, 1000);
    CU_ASSERT(rig_frame_in(r, WIRE_DATA, 4, NULL, 1001) > 0); /* the first DATA over the window */
    CU_ASSERT(rig_was_reset(r, 4, WIRE_CODE_FLOW_CONTROL_ERROR));
    CU_ASSERT_EQUAL(r->overs, 0);
    STOP();
}

static void no_buffer(struct mux_config *c) {
    small_windows(c);
    c->session_buffer = 0;
}

static void data_over_the_session_window(void) {
    START(WIRE_ROLE_DRIVER, no_buffer);
    for (uint32_t id = 2; id <= 12; id += 2) {
        rig_open(r, id, RIG_OPEN_TCP);
        r->streams[r->n_streams - 1].keep = true;
    }
    for (uint32_t id = 2; id <= 10; id += 2)
        CU_ASSERT(rig_frame_in(r, WIRE_DATA, id, NULL, 1000) > 0);
    CU_ASSERT_EQUAL(rig_count(r, WIRE_WINDOW, 0), 0);
    CU_ASSERT(rig_frame_in(r, WIRE_DATA, 12, NULL, 1) < 0);
    CU_ASSERT(rig_went_away(r, 3, 1002));
    STOP();
}

/* DATA for a stream that is gone gives its session credit back, however often (FLOW-5). */
static void data_for_the_dead_is_free(void) {
    START(WIRE_ROLE_DRIVER, no_buffer);
    rig_open(r, 2, RIG_OPEN_TCP);
    mux_stream_reset(r->streams[0].st, WIRE_CODE_CANCEL, "");
    size_t credit = 5000;
    for (int i = 0; i < 200; i++) {
        CU_ASSERT(rig_frame_in(r, WIRE_DATA, 2, NULL, 700) > 0);
        credit -= 700;
        for (const struct rig_frame *f; (f = rig_next(r, WIRE_WINDOW));) {
            CU_ASSERT_EQUAL(f->id, 0);
            credit += wire_get32(f->head);
        }
        CU_ASSERT_EQUAL(credit, 5000);
    }
    CU_ASSERT_EQUAL(r->streams[0].datas, 0);
    CU_ASSERT_EQUAL(r->streams[0].data_ends, 0);
    STOP();
}

/* A RESET in the middle of a frame: the rest goes nowhere, and its credit comes back. */
static void a_reset_inside_a_data_frame(void) {
    START(WIRE_ROLE_DRIVER, no_buffer);
    rig_open(r, 2, RIG_OPEN_TCP);
    r->streams[0].keep = true;
    rig_add(r, WIRE_DATA, 2, NULL, 1000);
    CU_ASSERT_EQUAL(mux_link_message(r->l, r->in, 309, false), 309);
    CU_ASSERT_EQUAL(r->streams[0].received, 300);
    mux_stream_release(&r->streams[0].st);
    CU_ASSERT_EQUAL(mux_link_message(r->l, r->in + 309, 700, true), 700);
    mux_link_fed(r->l);
    const struct rig_frame *f = rig_next(r, WIRE_WINDOW);
    CU_ASSERT_PTR_NOT_NULL_FATAL(f);
    CU_ASSERT_EQUAL(wire_get32(f->head), 1000);
    STOP();
}

static void many_tiny_windows_are_legal(void) {
    KIT();
    struct rig_stream *t = rig_visit(r, WIRE_KIND_TCP);
    rig_write(t, 65000, false);
    rig_pull(r);
    for (int i = 0; i < 65000 / 60; i++) {
        for (int j = 0; j < 60; j++)
            rig_add(r, WIRE_WINDOW, 2, "\0\0\0\1", 4);
        CU_ASSERT(rig_send(r) > 0);
    }
    CU_ASSERT_EQUAL(r->overs, 0);
    CU_ASSERT_EQUAL(t->pulls, 1);
    STOP();
}

/* ---- streams ---- */

static void eof_twice_and_data_after_it(void) {
    KIT();
    rig_visit(r, WIRE_KIND_TCP);
    rig_visit(r, WIRE_KIND_TCP);
    CU_ASSERT(rig_frame_in(r, WIRE_EOF, 2, NULL, 0) > 0);
    CU_ASSERT_EQUAL(r->streams[0].eofs, 1);
    CU_ASSERT(rig_frame_in(r, WIRE_EOF, 2, NULL, 0) > 0);
    CU_ASSERT(rig_was_reset(r, 2, WIRE_CODE_STREAM_CLOSED));
    CU_ASSERT_EQUAL(r->streams[0].eofs, 1);
    CU_ASSERT_EQUAL(r->streams[0].code, 4);
    rig_add(r, WIRE_EOF, 4, NULL, 0);
    rig_add(r, WIRE_DATA, 4, NULL, 0);
    CU_ASSERT(rig_send(r) > 0);
    CU_ASSERT(rig_was_reset(r, 4, WIRE_CODE_STREAM_CLOSED));
    CU_ASSERT_EQUAL(r->overs, 0);
    STOP();
}

/* A message whose second half is late: the 101 overtakes the end of the request, which is still no end of the bytes. */
static void the_101_overtakes_the_end_of_the_request(void) {
    static const struct wire_response_head head = {.status = 101, .final = true};
    DRIVER();
    for (uint32_t id = 2; id <= 4; id += 2) {
        rig_open(
            r, id,
            "{\"kind\":\"http\",\"bindId\":1,\"method\":\"GET\",\"target\":\"/\",\"headers\":[],\"isUpgrade\":true}");
        CU_ASSERT_EQUAL(mux_stream_respond(r->streams[id / 2 - 1].st, &head), 0);
    }
    CU_ASSERT(rig_frame_in(r, WIRE_EOF, 2, NULL, 0) > 0);
    CU_ASSERT_EQUAL(r->streams[0].eofs, 0);
    CU_ASSERT(rig_frame_in(r, WIRE_DATA, 2, "abc", 3) > 0);
    CU_ASSERT_EQUAL(r->streams[0].received, 3);
    CU_ASSERT(rig_frame_in(r, WIRE_EOF, 2, NULL, 0) > 0);
    CU_ASSERT_EQUAL(r->streams[0].eofs, 1);
    /* One that comes behind bytes is theirs. */
    CU_ASSERT(rig_frame_in(r, WIRE_DATA, 4, "abc", 3) > 0);
    CU_ASSERT(rig_frame_in(r, WIRE_EOF, 4, NULL, 0) > 0);
    CU_ASSERT_EQUAL(r->streams[1].eofs, 1);
    STOP();
}

#define OPEN_UPGRADE                                                                                                   \
    "{\"kind\":\"http\",\"bindId\":1,\"method\":\"GET\",\"target\":\"/\",\"headers\":[],\"isUpgrade\":true}"

/* Then the request's EOF was an end like any other, whether it came before the answer or comes behind it. */
static void a_declined_upgrade_ends_by_itself(void) {
    static const struct wire_response_head no = {.status = 403, .final = true};
    DRIVER();
    for (uint32_t id = 2; id <= 4; id += 2) {
        struct rig_stream *t = &r->streams[id / 2 - 1];
        rig_open(r, id, OPEN_UPGRADE);
        if (id == 2)
            CU_ASSERT(rig_frame_in(r, WIRE_EOF, id, NULL, 0) > 0);
        CU_ASSERT_EQUAL(mux_stream_respond(t->st, &no), 0);
        if (id == 4)
            CU_ASSERT(rig_frame_in(r, WIRE_EOF, id, NULL, 0) > 0);
        CU_ASSERT(mux_stream_remote_ended(t->st));
        rig_write(t, 10, true);
        rig_pull(r);
        CU_ASSERT_EQUAL(t->closes, 1);
        CU_ASSERT_EQUAL(t->code, WIRE_CODE_NO_ERROR);
    }
    STOP();
}

static void a_declined_upgrade_is_over_at_the_kit(void) {
    KIT();
    for (unsigned i = 0; i < 2; i++) {
        struct wire_stream_open open = {
            .kind = WIRE_KIND_HTTP, .bind_id = 1, .method = {"GET", 3}, .target = {"/", 1}, .is_upgrade = true};
        struct rig_stream *t = &r->streams[i];
        *t = (struct rig_stream){.rig = r, .then_eof = true};
        CU_ASSERT_EQUAL_FATAL(mux_stream_open(r->s, &open, &rig_stream_ops, t, &t->st), 0);
        uint32_t id = mux_stream_id(t->st);
        if (i == 0) {
            mux_stream_ready(t->st);
            rig_pull(r);
            CU_ASSERT_EQUAL(rig_count(r, WIRE_EOF, id), 1);
            rig_write(t, 10, false); /* bytes too early, which nobody will get */
        }
        CU_ASSERT(rig_text(r, WIRE_STREAM_RESPONSE_HEAD, id, "{\"status\":403,\"headers\":[],\"final\":true}") > 0);
        CU_ASSERT_EQUAL(mux_stream_local_ended(t->st), i == 0);
        if (i == 1) { /* the request's end was still to come */
            mux_stream_ready(t->st);
            rig_pull(r);
            CU_ASSERT_EQUAL(rig_count(r, WIRE_EOF, id), 1);
        }
        CU_ASSERT(rig_frame_in(r, WIRE_EOF, id, NULL, 0) > 0);
        CU_ASSERT_EQUAL(t->closes, 1);
        CU_ASSERT_EQUAL(t->code, WIRE_CODE_NO_ERROR);
        rig_pull(r);
        CU_ASSERT_EQUAL(rig_count(r, WIRE_DATA, id), 0);
    }
    STOP();
}

static void response_heads_in_order(void) {
    KIT();
    for (int i = 0; i < 8; i++)
        rig_visit(r, i == 4 ? WIRE_KIND_TCP : WIRE_KIND_HTTP);
    CU_ASSERT(rig_text(r, WIRE_STREAM_RESPONSE_HEAD, 2, "{\"status\":103,\"headers\":[],\"final\":false}") > 0);
    CU_ASSERT(rig_text(r, WIRE_STREAM_RESPONSE_HEAD, 2, RIG_HEAD) > 0);
    CU_ASSERT_EQUAL(r->streams[0].interims, 1);
    CU_ASSERT_EQUAL(r->streams[0].heads, 1);
    CU_ASSERT(rig_text(r, WIRE_STREAM_RESPONSE_HEAD, 2, RIG_HEAD) > 0); /* HTTP-7 */
    CU_ASSERT(rig_was_reset(r, 2, 1));
    CU_ASSERT_EQUAL(r->streams[0].heads, 1);
    CU_ASSERT(rig_text(r, WIRE_STREAM_RESPONSE_HEAD, 4, "{\"status\":\"x\"}") > 0); /* bad JSON costs the stream */
    CU_ASSERT(rig_was_reset(r, 4, 1));
    CU_ASSERT(rig_frame_in(r, WIRE_DATA, 6, NULL, 10) > 0); /* DATA before the head */
    CU_ASSERT(rig_was_reset(r, 6, 1));
    CU_ASSERT_EQUAL(r->streams[2].received, 0);
    CU_ASSERT(rig_frame_in(r, WIRE_EOF, 8, NULL, 0) > 0); /* EOF before the head */
    CU_ASSERT(rig_was_reset(r, 8, 1));
    CU_ASSERT(rig_text(r, WIRE_STREAM_RESPONSE_HEAD, 10, RIG_HEAD) > 0); /* on a TCP stream */
    CU_ASSERT(rig_was_reset(r, 10, 1));
    CU_ASSERT(rig_text(r, WIRE_STREAM_RESPONSE_HEAD, 12, "{\"status\":200,\"headers\":[],\"final\":false}") > 0);
    CU_ASSERT(rig_was_reset(r, 12, 1));
    CU_ASSERT(rig_text(r, WIRE_STREAM_RESPONSE_HEAD, 14, "{\"status\":100,\"headers\":[],\"final\":true}") > 0);
    CU_ASSERT(rig_was_reset(r, 14, 1));
    for (int i = 0; i < 33; i++)
        CU_ASSERT(rig_text(r, WIRE_STREAM_RESPONSE_HEAD, 16, "{\"status\":102,\"headers\":[],\"final\":false}") > 0);
    CU_ASSERT(rig_was_reset(r, 16, 8));
    CU_ASSERT_EQUAL(r->overs, 0);
    STOP();
}

static void late_frames_are_ignored(void) {
    KIT();
    struct rig_stream *t = rig_visit(r, WIRE_KIND_HTTP);
    mux_stream_reset(t->st, WIRE_CODE_CANCEL, "gone");
    CU_ASSERT(mux_stream_is_over(t->st));
    for (int i = 0; i < 3000; i++) {
        rig_add(r, WIRE_WINDOW, 2, "\0\0\0\7", 4);
        rig_add(r, WIRE_EOF, 2, NULL, 0);
        rig_add(r, WIRE_RESET, 2, "\0\7", 2);
        rig_add(r, WIRE_STREAM_RESPONSE_HEAD, 2, "rubbish", 7);
        CU_ASSERT(rig_send(r) > 0);
    }
    CU_ASSERT_EQUAL(t->closes + t->eofs + t->heads, 0);
    CU_ASSERT_EQUAL(r->overs, 0);
    CU_ASSERT_EQUAL(rig_count(r, WIRE_RESET, 2), 1);
    STOP();
}

static void stray_frames_have_a_budget(void) {
    KIT();
    for (unsigned i = 0; i < WIRE_LIMIT_MAX_STRAY_FRAMES; i++)
        CU_ASSERT(rig_frame_in(r, i % 2 ? WIRE_DATA : WIRE_EOF, i % 3 ? 7 : 100, NULL, 0) > 0);
    CU_ASSERT_EQUAL(r->overs, 0);
    CU_ASSERT(rig_reset(r, 9, 7) < 0);
    CU_ASSERT(rig_went_away(r, 8, 1002));
    STOP();
}

static void stream_ids_grow(void) {
    DRIVER();
    CU_ASSERT(rig_open(r, 2, RIG_OPEN_TCP) > 0);
    CU_ASSERT(rig_open(r, 10, RIG_OPEN_HTTP) > 0);
    CU_ASSERT_EQUAL(r->n_streams, 2);
    CU_ASSERT(rig_open(r, 4, RIG_OPEN_TCP) > 0);
    CU_ASSERT(rig_was_reset(r, 4, 1));
    CU_ASSERT(rig_open(r, 13, RIG_OPEN_TCP) > 0);
    CU_ASSERT(rig_was_reset(r, 13, 1));
    CU_ASSERT(rig_open(r, 2, RIG_OPEN_TCP) > 0); /* one that lives: it is no longer clear whose bytes are whose */
    CU_ASSERT(rig_was_reset(r, 2, 1));
    CU_ASSERT_EQUAL(r->streams[0].closes, 1);
    CU_ASSERT(rig_open(r, 12, "{\"kind\":\"smtp\",\"bindId\":1}") > 0);
    CU_ASSERT(rig_was_reset(r, 12, 1));
    CU_ASSERT(rig_open(r, 12, RIG_OPEN_TCP) > 0); /* used up all the same */
    CU_ASSERT(rig_was_reset(r, 12, 1));
    CU_ASSERT(rig_open(r, 0xFFFFFFFE, RIG_OPEN_TCP) > 0);
    CU_ASSERT_EQUAL(r->n_streams, 3);
    CU_ASSERT(rig_frame_in(r, WIRE_DATA, 0xFFFFFFFE, NULL, 5) > 0);
    CU_ASSERT_EQUAL(r->streams[2].received, 5);
    CU_ASSERT(rig_open(r, 0xFFFFFFFE, RIG_OPEN_TCP) > 0);
    CU_ASSERT(rig_was_reset(r, 0xFFFFFFFE, 1));
    CU_ASSERT(rig_open(r, 14, RIG_OPEN_TCP) > 0);
    CU_ASSERT(rig_was_reset(r, 14, 1));
    CU_ASSERT_EQUAL(r->overs, 0);
    CU_ASSERT(rig_open(r, 0, RIG_OPEN_TCP) < 0); /* FRAME-8 */
    CU_ASSERT(rig_went_away(r, 1, 1002));
    STOP();
}

static void few(struct mux_config *c) { c->max_streams = 3; }

/* The next RESET is for this one, and its reason is a word for the kit. */
static bool refused_as(struct rig *r, uint32_t id, const char *word) {
    const struct rig_frame *f = rig_next(r, WIRE_RESET);
    return f && f->id == id && wire_get16(f->head) == WIRE_CODE_REFUSED_STREAM &&
           strncmp((const char *)f->head + 2, word, strlen(word)) == 0;
}

static void too_many_streams(void) {
    START(WIRE_ROLE_DRIVER, few);
    for (uint32_t id = 2; id <= 6; id += 2)
        rig_open(r, id, RIG_OPEN_TCP);
    CU_ASSERT(rig_open(r, 8, RIG_OPEN_TCP) > 0);
    CU_ASSERT(refused_as(r, 8, "too-many: "));
    CU_ASSERT(rig_reset(r, 2, 7) > 0); /* the slot stays taken until its work is undone */
    CU_ASSERT(rig_open(r, 10, RIG_OPEN_TCP) > 0);
    CU_ASSERT(rig_was_reset(r, 10, WIRE_CODE_REFUSED_STREAM));
    mux_stream_release(&r->streams[0].st);
    CU_ASSERT(rig_open(r, 12, RIG_OPEN_TCP) > 0);
    CU_ASSERT_EQUAL(r->n_streams, 4);
    CU_ASSERT_EQUAL(mux_session_streams(r->s), 3);
    STOP();
}

static void the_kit_has_a_cap_and_runs_out_of_ids(void) {
    START(WIRE_ROLE_KIT, few);
    for (int i = 0; i < 3; i++)
        CU_ASSERT_PTR_NOT_NULL(rig_visit(r, WIRE_KIND_TCP));
    struct wire_stream_open open = {.kind = WIRE_KIND_TCP, .bind_id = 1};
    struct mux_stream *st;
    CU_ASSERT_EQUAL(mux_stream_open(r->s, &open, &rig_stream_ops, &r->streams[9], &st), HT_ELIMIT);
    CU_ASSERT_PTR_NULL(st);
    STOP();
}

static void late_ids(struct mux_config *c) { c->first_stream_id = 0xFFFFFFFC; }

static void ids_are_used_once(void) {
    START(WIRE_ROLE_KIT, late_ids);
    CU_ASSERT_EQUAL(mux_stream_id(rig_visit(r, WIRE_KIND_TCP)->st), 0xFFFFFFFC);
    CU_ASSERT_EQUAL(mux_stream_id(rig_visit(r, WIRE_KIND_TCP)->st), 0xFFFFFFFE);
    CU_ASSERT_PTR_NULL(rig_visit(r, WIRE_KIND_TCP));
    CU_ASSERT(rig_frame_in(r, WIRE_DATA, 0xFFFFFFFE, NULL, 3) > 0);
    CU_ASSERT_EQUAL(r->streams[1].received, 3);
    STOP();
}

static void few_ids(struct mux_config *c) { c->last_stream_id = 4; }

static void the_last_id_is_told(void) {
    START(WIRE_ROLE_KIT, few_ids);
    CU_ASSERT_PTR_NOT_NULL(rig_visit(r, WIRE_KIND_TCP));
    CU_ASSERT_EQUAL(r->used_up, 0);
    CU_ASSERT_EQUAL(mux_stream_id(rig_visit(r, WIRE_KIND_TCP)->st), 4);
    CU_ASSERT_EQUAL(r->used_up, 1);
    CU_ASSERT_PTR_NULL(rig_visit(r, WIRE_KIND_TCP));
    CU_ASSERT_EQUAL(r->used_up, 1);
    CU_ASSERT_EQUAL(mux_session_next_id(r->s), 6);
    CU_ASSERT(rig_frame_in(r, WIRE_DATA, 4, NULL, 3) > 0); /* what is open goes on */
    CU_ASSERT_EQUAL(r->streams[1].received, 3);
    STOP();
}

static void a_head_that_fits_no_frame(void) {
    KIT();
    static char big[17000];
    memset(big, 'a', sizeof big);
    struct wire_header h[8];
    for (int i = 0; i < 8; i++)
        h[i] = (struct wire_header){ht_slice_str("x"), ht_slice_of(big, 16000)};
    struct wire_stream_open open = {.kind = WIRE_KIND_HTTP,
                                    .bind_id = 1,
                                    .method = ht_slice_str("GET"),
                                    .target = ht_slice_str("/"),
                                    .headers = h,
                                    .n_headers = 8};
    struct mux_stream *st;
    CU_ASSERT_EQUAL(mux_stream_open(r->s, &open, &rig_stream_ops, NULL, &st), HT_ESPACE);
    CU_ASSERT_EQUAL(mux_session_streams(r->s), 0);
    CU_ASSERT_EQUAL(mux_session_next_id(r->s), 2);
    open.n_headers = 3;
    r->streams[0] = (struct rig_stream){.rig = r};
    CU_ASSERT_EQUAL(mux_stream_open(r->s, &open, &rig_stream_ops, &r->streams[0], &r->streams[0].st), 0);
    CU_ASSERT_EQUAL(rig_count(r, WIRE_STREAM_OPEN, 2), 1);
    CU_ASSERT_EQUAL(rig_count(r, WIRE_RESET, 2), 0);
    STOP();
}

static void roomy(struct mux_config *c) { c->max_streams = 5000; }

/* A stream that is opened and reset at once, as by a visitor who leaves. */
static void churn_once(struct rig *r, uint32_t id) {
    rig_add(r, WIRE_STREAM_OPEN, id, RIG_OPEN_TCP, strlen(RIG_OPEN_TCP));
    rig_add(r, WIRE_RESET, id, "\0\7", 2);
    rig_send(r);
}

static void churn_of_visitors_ends_no_session(void) {
    START(WIRE_ROLE_DRIVER, roomy);
    uint32_t id = 2;
    for (unsigned n = 0; n < 50000 && r->overs == 0; n++, id += 2) {
        churn_once(r, id);
        if (n % 1000 == 999) { /* what is refused meanwhile is all that goes out */
            rig_pull(r);
            r->n_out = r->read = 0;
        }
    }
    CU_ASSERT_EQUAL_FATAL(r->overs, 0);
    unsigned taken = r->n_streams;
    CU_ASSERT(taken >= 10000 && taken < 10100);
    /* Refused until time has passed, and served again then. */
    rig_frame_in(r, WIRE_STREAM_OPEN, id, RIG_OPEN_TCP, strlen(RIG_OPEN_TCP));
    CU_ASSERT(refused_as(r, id, "too-many: "));
    CU_ASSERT_EQUAL(r->n_streams, taken);
    rig_tick(r, 1000);
    rig_frame_in(r, WIRE_STREAM_OPEN, id + 2, RIG_OPEN_TCP, strlen(RIG_OPEN_TCP));
    CU_ASSERT_EQUAL(r->n_streams, taken + 1);
    CU_ASSERT_EQUAL(rig_count(r, WIRE_RESET, id + 2), 0);
    STOP();
}

/* What only a kit can do wrong: ids that were used before. */
static void broken_streams_have_a_budget(void) {
    START(WIRE_ROLE_DRIVER, roomy);
    unsigned n = 0;
    churn_once(r, 50000);
    while (r->overs == 0 && n < 50000) {
        rig_frame_in(r, WIRE_STREAM_OPEN, 2, RIG_OPEN_TCP, strlen(RIG_OPEN_TCP));
        r->n_out = r->read = 0;
        if (++n == 5000)
            rig_tick(r, 1000); /* time gives some of it back */
    }
    CU_ASSERT(n > 11000 && n < 13000);
    CU_ASSERT_EQUAL(r->why, MUX_END_VIOLATION);
    STOP();
}

static void resets_end_streams(void) {
    KIT();
    struct rig_stream *t = rig_visit(r, WIRE_KIND_TCP), *u = rig_visit(r, WIRE_KIND_TCP);
    CU_ASSERT(rig_frame_in(r, WIRE_RESET, 2, "\0\6no route", 10) > 0);
    CU_ASSERT_EQUAL(t->code, 6);
    CU_ASSERT(t->remote);
    CU_ASSERT(rig_frame_in(r, WIRE_RESET, 4, "\7\7", 2) > 0); /* an unknown code counts as CANCEL */
    CU_ASSERT_EQUAL(u->code, 7);
    CU_ASSERT_EQUAL(rig_count(r, WIRE_RESET, 2) + rig_count(r, WIRE_RESET, 4), 0);
    CU_ASSERT_PTR_NOT_NULL(rig_visit(r, WIRE_KIND_TCP));
    CU_ASSERT(rig_frame_in(r, WIRE_RESET, 6, "\0\6\xFF", 3) > 0); /* bad text ends it all the same */
    CU_ASSERT_EQUAL(r->streams[2].closes, 1);
    CU_ASSERT_EQUAL(r->overs, 0);
    CU_ASSERT(rig_frame_in(r, WIRE_RESET, 6, "\0", 1) < 0); /* FRAME-3 */
    CU_ASSERT(rig_went_away(r, 5, 1002));
    STOP();
}

/* ---- the session ---- */

static void session_frames_that_end_it(void) {
    static const struct {
        uint8_t type;
        uint32_t id;
        const char *payload;
        unsigned code;
    } bad[] = {
        {WIRE_UNBIND, 0, "{}", 1},
        {WIRE_GOAWAY, 0, "[]", 1},
        {WIRE_PING, 0, "1234567", 5},
        {WIRE_PING, 2, "12345678", 1},
        {WIRE_HELLO, 0, "{\"version\":\"hoody-tunnel.v1\"}", 1},
        {WIRE_STREAM_OPEN, 2, RIG_OPEN_TCP, 1}, /* the kit opens, not the driver */
        {WIRE_BIND_OK, 0, "{}", 1},
        {WIRE_EOF, 2, "x", 5},
        {0x11, 0, "", 1},
        {0x17, 2, "", 1},
        {0x80, 0, "", 1},
        {0xFF, 2, "abc", 1},
    };
    for (size_t i = 0; i < HT_ARRAY_LEN(bad); i++) {
        KIT();
        rig_visit(r, WIRE_KIND_TCP);
        CU_ASSERT(rig_text(r, bad[i].type, bad[i].id, bad[i].payload) < 0);
        if (!rig_went_away(r, bad[i].code, 1002)) {
            fprintf(stderr, "# row %zu\n", i);
            CU_FAIL("no GOAWAY or another one");
        }
        STOP();
    }
}

static void messages_that_end_it(void) {
    KIT();
    CU_ASSERT(rig_send(r) < 0); /* empty: MSG-2 */
    CU_ASSERT(rig_went_away(r, 1, 1002));
    STOP();
    r = rig_start(WIRE_ROLE_KIT, NULL);
    for (int i = 0; i < 63; i++)
        rig_add(r, 0x55, 1234567, "?", 1); /* unknown and skipped, but counted */
    rig_add(r, WIRE_PING, 0, "12345678", 8);
    CU_ASSERT(rig_send(r) > 0);
    CU_ASSERT_PTR_NOT_NULL(rig_next(r, WIRE_PONG));
    for (int i = 0; i < 65; i++)
        rig_add(r, 0x55, 0, "?", 1);
    CU_ASSERT(rig_send(r) < 0);
    CU_ASSERT(rig_went_away(r, 1, 1002));
    STOP();
    r = rig_start(WIRE_ROLE_KIT, NULL);
    rig_raw(r,
            "\x20\0\0\0\0\0\0\0\10"
            "1234",
            13); /* cut: MSG-5 */
    CU_ASSERT(rig_send(r) < 0);
    CU_ASSERT(rig_went_away(r, 1, 1002));
    STOP();
    r = rig_start(WIRE_ROLE_KIT, NULL);
    rig_raw(r, "\x12\0\0\0\2\0\1\0\1", 9); /* 65,537 bytes */
    CU_ASSERT(rig_send(r) < 0);
    CU_ASSERT(rig_went_away(r, 5, 1002));
    STOP();
}

static void a_bad_bind_is_answered(void) {
    KIT();
    CU_ASSERT(rig_text(r, WIRE_BIND, 0,
                       "{\"clientBindRef\":7,\"kind\":\"http\",\"mode\":\"expose\",\"containerPort\":-1}") > 0);
    CU_ASSERT_EQUAL(r->bad_binds, 1);
    const struct rig_frame *f = rig_next(r, WIRE_BIND_ERR);
    CU_ASSERT_PTR_NOT_NULL_FATAL(f);
    CU_ASSERT(strstr((const char *)f->head, "\"clientBindRef\":7") != NULL);
    CU_ASSERT(rig_text(r, WIRE_BIND, 0, "{\"clientBindRef\":8,\"kind\":\"http\",\"mode\":\"expose\"}") > 0);
    CU_ASSERT_EQUAL(r->binds, 2);
    CU_ASSERT_EQUAL(r->bad_binds, 1);
    CU_ASSERT_EQUAL(r->overs, 0);
    STOP();
}

static void answers_that_nobody_reads(void) {
    KIT();
    unsigned n = 0;
    while (r->overs == 0 && n++ < 200000)
        rig_text(r, WIRE_BIND, 0, "{}");
    CU_ASSERT_EQUAL(r->overs, 1);
    CU_ASSERT(mux_link_queued(r->l) < (5u << 20));
    CU_ASSERT_EQUAL(r->why, MUX_END_VIOLATION);
    CU_ASSERT_EQUAL(r->ws_code, 1008);
    STOP();
}

static void ping_floods_cost_nothing(void) {
    KIT();
    char nonce[32];
    for (int i = 0; i < 100000; i++) {
        snprintf(nonce, sizeof nonce, "%08d", i);
        rig_ping(r, nonce);
    }
    CU_ASSERT(mux_link_queued(r->l) < 1000);
    const struct rig_frame *f, *last = NULL;
    unsigned pongs = 0;
    while ((f = rig_next(r, WIRE_PONG))) {
        last = f;
        pongs++;
    }
    CU_ASSERT_EQUAL(pongs, 16);
    CU_ASSERT_PTR_NOT_NULL_FATAL(last);
    CU_ASSERT(memcmp(last->head, "00099999", 8) == 0);
    STOP();
}

static void a_drivers_goaway_is_the_end(void) {
    KIT();
    struct rig_stream *t = rig_visit(r, WIRE_KIND_TCP);
    CU_ASSERT(rig_text(r, WIRE_GOAWAY, 0, "{\"code\":0}") < 0);
    CU_ASSERT_EQUAL(r->goaways, 1);
    CU_ASSERT_EQUAL(r->why, MUX_END_CLEAN);
    CU_ASSERT_EQUAL(r->ws_code, 1000);
    CU_ASSERT_EQUAL(t->closes, 1);
    CU_ASSERT_PTR_NULL(mux_stream_session(t->st));
    CU_ASSERT(mux_stream_is_over(t->st));
    mux_stream_ready(t->st); /* a dead handle does nothing */
    mux_stream_consumed(t->st, 5);
    mux_stream_reset(t->st, 7, "");
    STOP();
}

static void a_kits_goaway_lets_streams_finish(void) {
    DRIVER();
    rig_open(r, 2, RIG_OPEN_TCP);
    CU_ASSERT(rig_text(r, WIRE_GOAWAY, 0, "{\"code\":0}") > 0);
    CU_ASSERT_EQUAL(r->goaways, 1);
    CU_ASSERT_EQUAL(r->overs, 0);
    CU_ASSERT(mux_session_draining(r->s));
    CU_ASSERT(rig_open(r, 4, RIG_OPEN_TCP) > 0);
    CU_ASSERT(refused_as(r, 4, "going-away: "));
    rig_write(&r->streams[0], 10, true);
    CU_ASSERT(rig_frame_in(r, WIRE_EOF, 2, NULL, 0) > 0);
    CU_ASSERT_EQUAL(rig_count(r, WIRE_EOF, 2), 1);
    CU_ASSERT_EQUAL(r->streams[0].closes, 1);
    CU_ASSERT_EQUAL(r->streams[0].code, 0);
    mux_link_closed(r->l, false);
    CU_ASSERT_EQUAL(r->overs, 1);
    CU_ASSERT_EQUAL(r->why, MUX_END_CLEAN);
    STOP();
}

/* On another link they may come behind the GOAWAY. */
static void streams_before_the_goaway_are_taken(void) {
    DRIVER();
    CU_ASSERT(rig_text(r, WIRE_GOAWAY, 0, "{\"code\":0,\"lastStreamId\":4}") > 0);
    CU_ASSERT(rig_open(r, 2, RIG_OPEN_TCP) > 0);
    CU_ASSERT(rig_open(r, 4, RIG_OPEN_TCP) > 0);
    CU_ASSERT(!rig_was_reset(r, 2, WIRE_CODE_REFUSED_STREAM) && !rig_was_reset(r, 4, WIRE_CODE_REFUSED_STREAM));
    CU_ASSERT_EQUAL(mux_session_streams(r->s), 2);
    CU_ASSERT(rig_open(r, 6, RIG_OPEN_TCP) > 0);
    CU_ASSERT(rig_was_reset(r, 6, WIRE_CODE_REFUSED_STREAM));
    STOP();
}

static void lost_and_clean_ends(void) {
    for (int clean = 0; clean < 2; clean++) {
        KIT();
        struct rig_stream *t = rig_visit(r, WIRE_KIND_TCP);
        r->destroy_in_over = true;
        mux_link_closed(r->l, clean);
        CU_ASSERT_EQUAL(r->why, clean ? MUX_END_CLEAN : MUX_END_LOST);
        CU_ASSERT_EQUAL(r->closes, 0);
        CU_ASSERT_EQUAL(t->closes, 1);
        CU_ASSERT_PTR_NULL(r->s);
        mux_link_closed(r->l, clean);
        CU_ASSERT_EQUAL(r->overs, 1);
        STOP();
    }
}

static void good_byes(void) {
    DRIVER();
    rig_open(r, 2, RIG_OPEN_TCP);
    mux_session_close(r->s);
    CU_ASSERT_EQUAL(r->closes, 1);
    CU_ASSERT_EQUAL(r->ws_code, 0);
    CU_ASSERT_EQUAL(r->why, MUX_END_LOCAL);
    CU_ASSERT_EQUAL(r->streams[0].closes, 1);
    CU_ASSERT(!rig_next(r, WIRE_GOAWAY));
    mux_session_close(r->s);
    CU_ASSERT_EQUAL(r->overs, 1);
    STOP();
}

int main(void) {
    static const struct tap_test tests[] = {
        {"the first frame is HELLO", the_first_frame_is_hello},
        {"a second HELLO_OK ends the session", nothing_comes_between_hello_and_its_answer},
        {"a refusal says why", a_refusal_says_why},
        {"a WINDOW of 0 is a violation", window_of_zero},
        {"a WINDOW of 0 on an ended stream is a violation too", window_of_zero_on_a_gone_stream},
        {"a WINDOW above the session's size is a violation", session_window_above_its_size},
        {"a WINDOW above the stream's size is a violation", stream_window_above_its_size},
        {"growing windows end at 16 MiB", auto_windows_end_at_16_mib},
        {"large windows end at 1 GiB", large_windows_end_at_1_gib},
        {"DATA may fill the window, and one byte more is a violation", data_to_the_byte},
        {"DATA over the session window ends the session", data_over_the_session_window},
        {"DATA for a stream that has ended gives its session credit back", data_for_the_dead_is_free},
        {"a stream may be reset inside a DATA frame", a_reset_inside_a_data_frame},
        {"many tiny WINDOWs are legal", many_tiny_windows_are_legal},
        {"a second EOF, or DATA behind EOF, is a violation", eof_twice_and_data_after_it},
        {"the 101 overtakes the end of the request", the_101_overtakes_the_end_of_the_request},
        {"a declined upgrade ends by itself", a_declined_upgrade_ends_by_itself},
        {"a declined upgrade ends at the kit too", a_declined_upgrade_is_over_at_the_kit},
        {"response heads out of order are refused", response_heads_in_order},
        {"late frames are ignored", late_frames_are_ignored},
        {"stray frames have a budget", stray_frames_have_a_budget},
        {"stream ids grow", stream_ids_grow},
        {"streams over the limit are refused", too_many_streams},
        {"the kit keeps to its cap", the_kit_has_a_cap_and_runs_out_of_ids},
        {"a stream id is used once", ids_are_used_once},
        {"a head that fits no frame is refused to the caller", a_head_that_fits_no_frame},
        {"opening and resetting streams ends no session", churn_of_visitors_ends_no_session},
        {"broken streams have a budget", broken_streams_have_a_budget},
        {"resets end streams", resets_end_streams},
        {"malformed session frames end the session", session_frames_that_end_it},
        {"malformed messages end the session", messages_that_end_it},
        {"a bad BIND is answered", a_bad_bind_is_answered},
        {"a peer that reads no answers is given up", answers_that_nobody_reads},
        {"PING floods cost nothing", ping_floods_cost_nothing},
        {"a driver's GOAWAY ends the session for good", a_drivers_goaway_is_the_end},
        {"a kit's GOAWAY lets streams finish", a_kits_goaway_lets_streams_finish},
        {"streams that were opened before the GOAWAY are accepted", streams_before_the_goaway_are_taken},
        {"the use of the last stream id is reported", the_last_id_is_told},
        {"a lost link and a clean close are told apart", lost_and_clean_ends},
        {"a driver can close without GOAWAY", good_byes},
        {NULL, NULL},
    };
    return tap_main("mux rules", tests);
}
