/*
 * Every frame that a driver can send for a stream, in every state that the stream can be in at the kit (hardening case
 * 16): each cell has one answer, and but for the frames that end a session everything else goes on.
 *
 * To see it fail: let out_of_order() in src/mux/in.c return NULL, or not_open() count nothing.
 */
#include "peer.h"

enum what { DATA, EOF_, RESET, WINDOW, HEAD, OPEN, N_WHAT };
static const char *const what_names[] = {"DATA", "EOF", "RESET", "WINDOW", "RESPONSE_HEAD", "STREAM_OPEN"};

enum state {
    ZERO,        /* the session's own id */
    ODD,         /* nobody opens those */
    AHEAD,       /* even, and not opened yet */
    LAST_ID,     /* 0xFFFFFFFE */
    WAITS,       /* http: before the response head */
    ANSWERS,     /* http: behind it */
    DEAD,        /* http: answered, over */
    RESET_BY_US, /* http: the visitor hung up */
    RAW,         /* tcp: both directions open */
    RAW_ENDED,   /* tcp: the driver has sent its EOF */
    RAW_HALF,    /* tcp: the visitor has sent its EOF */
    N_STATES
};
static const char *const state_names[] = {"0",    "odd",         "ahead", "last id",   "waits",   "answers",
                                          "dead", "reset by us", "raw",   "raw ended", "raw half"};

/* What comes of it: nothing, the stream's RESET with a code, or (negative) the session's end with a close code. */
#define NOTHING 0
#define ENDS (-WIRE_CLOSE_PROTOCOL_ERROR)

static const int answers[N_STATES][N_WHAT] = {
    /*                DATA                      EOF                       RESET    WINDOW   HEAD OPEN */
    [ZERO] = {ENDS, ENDS, ENDS, NOTHING, ENDS, ENDS},
    [ODD] = {NOTHING, NOTHING, NOTHING, NOTHING, NOTHING, ENDS},
    [AHEAD] = {NOTHING, NOTHING, NOTHING, NOTHING, NOTHING, ENDS},
    [LAST_ID] = {NOTHING, NOTHING, NOTHING, NOTHING, NOTHING, ENDS},
    [WAITS] = {WIRE_CODE_PROTOCOL_ERROR, WIRE_CODE_PROTOCOL_ERROR, NOTHING, NOTHING, NOTHING, ENDS},
    [ANSWERS] = {NOTHING, NOTHING, NOTHING, NOTHING, WIRE_CODE_PROTOCOL_ERROR, ENDS},
    [DEAD] = {NOTHING, NOTHING, NOTHING, NOTHING, NOTHING, ENDS},
    [RESET_BY_US] = {NOTHING, NOTHING, NOTHING, NOTHING, NOTHING, ENDS},
    [RAW] = {NOTHING, NOTHING, NOTHING, NOTHING, WIRE_CODE_PROTOCOL_ERROR, ENDS},
    [RAW_ENDED] = {WIRE_CODE_STREAM_CLOSED, WIRE_CODE_STREAM_CLOSED, NOTHING, NOTHING, WIRE_CODE_STREAM_CLOSED, ENDS},
    [RAW_HALF] = {NOTHING, NOTHING, NOTHING, NOTHING, WIRE_CODE_PROTOCOL_ERROR, ENDS},
};

static void send_one(struct peer *p, enum what what, uint32_t id) {
    static const char head[] = "{\"status\":200,\"headers\":[],\"final\":true}";
    switch (what) {
    case DATA:
        peer_add_raw(p, WIRE_DATA, id, "data", 4);
        break;
    case EOF_:
        peer_add_raw(p, WIRE_EOF, id, NULL, 0);
        break;
    case RESET:
        peer_add_raw(p, WIRE_RESET, id, "\0\7", 2); /* CANCEL */
        break;
    case WINDOW:
        peer_add_raw(p, WIRE_WINDOW, id, "\0\0\0\1", 4);
        break;
    case HEAD:
        peer_add_raw(p, WIRE_STREAM_RESPONSE_HEAD, id, head, sizeof head - 1);
        break;
    default:
        peer_add_raw(p, WIRE_STREAM_OPEN, id, "{}", 2);
    }
    peer_flush(p);
}

/* Waits for the PONG of a PING; the code of the last RESET of stream `id` before it, NOTHING, or the end. */
static int outcome(struct peer *p, uint32_t id) {
    int code = NOTHING;
    peer_add_raw(p, WIRE_PING, 0, "pingpong", 8);
    ws_conn_want_send(p->ws);
    for (;;) {
        UNTIL(p->n_read < p->n_frames || p->closed);
        if (p->n_read == p->n_frames)
            return -(int)p->close_code;
        const struct got_frame *f = &p->frames[p->n_read++];
        if (f->type == WIRE_RESET && f->stream_id == id)
            code = p->bytes.data[f->at] << 8 | p->bytes.data[f->at + 1];
        else if (f->type == WIRE_RESET)
            CU_FAIL("a RESET of another stream");
        if (f->type == WIRE_PONG)
            return code;
    }
}

/* Brings a stream into the state; its id. The visitor is `r`. */
static uint32_t reach(struct peer *p, enum state state, uint16_t http, uint16_t tcp, struct raw *r) {
    uint32_t id;
    struct wire_window w = {.increment = 4};
    r->fd = -1;
    switch (state) {
    case ZERO:
        raw_connect(r, tcp);
        raw_send(r, "x");
        peer_expect(p, WIRE_STREAM_OPEN);
        peer_expect(p, WIRE_DATA);
        return 0;
    case ODD:
        return 7;
    case AHEAD:
        return 1000;
    case LAST_ID:
        return UINT32_MAX - 1;
    case WAITS:
    case ANSWERS:
    case DEAD:
    case RESET_BY_US:
        raw_connect(r, http);
        raw_send(r, "POST / HTTP/1.1\r\nHost: a\r\nContent-Length: 8\r\n\r\n1234");
        id = peer_expect(p, WIRE_STREAM_OPEN)->stream_id;
        peer_expect(p, WIRE_DATA);
        if (state == ANSWERS)
            send_one(p, HEAD, id);
        if (state == DEAD) {
            raw_send(r, "5678");
            peer_expect(p, WIRE_DATA);
            peer_expect(p, WIRE_EOF);
            answer_stream(p, id, "");
            UNTIL(kit_streams(host.kit) == 0);
        }
        if (state == RESET_BY_US) {
            setsockopt(r->fd, SOL_SOCKET, SO_LINGER, &(struct linger){.l_onoff = 1}, sizeof(struct linger));
            raw_close(r);
            peer_expect(p, WIRE_RESET);
            UNTIL(kit_streams(host.kit) == 0);
        }
        return id;
    default:
        raw_connect(r, tcp);
        raw_send(r, "12345678");
        id = peer_expect(p, WIRE_STREAM_OPEN)->stream_id;
        peer_expect(p, WIRE_DATA);
        peer_send(p, WIRE_WINDOW, id, &w);
        if (state == RAW_ENDED) {
            send_one(p, EOF_, id);
            UNTIL(raw_ended(r));
        }
        if (state == RAW_HALF) {
            send_one(p, DATA, id); /* the driver's local connection stands: an EOF need not wait for it */
            UNTIL(strstr(raw_text(r), "data"));
            shutdown(r->fd, SHUT_WR);
            peer_expect(p, WIRE_EOF);
        }
        return id;
    }
}

static void every_frame_in_every_state(void) {
    unsigned wrong = 0;
    host_start("--takeover-grace 0");
    for (int state = 0; state < N_STATES; state++) {
        for (int what = 0; what < N_WHAT; what++) {
            struct peer p;
            struct raw r;
            peer_start(&p, NULL);
            uint16_t http = peer_bind(&p, WIRE_KIND_HTTP, 0), tcp = peer_bind(&p, WIRE_KIND_TCP, 0);
            uint32_t id = reach(&p, (enum state)state, http, tcp, &r);
            send_one(&p, (enum what)what, id);
            int got = outcome(&p, id), want = answers[state][what];
            /* Our side of a WebSocket that was closed for a violation reports 1006; the code is in the frame. */
            if (got != want)
                printf("# %s in state %s: %d instead of %d\n", what_names[what], state_names[state], got, want);
            wrong += got != want;
            if (got >= 0) {
                /* Nobody else has noticed. */
                struct raw other;
                raw_connect(&other, tcp);
                raw_send(&other, "y");
                const struct got_frame *f = peer_expect(&p, WIRE_STREAM_OPEN);
                CU_ASSERT(f->stream_id != id);
                peer_expect(&p, WIRE_DATA);
                raw_close(&other);
                peer_bye(&p);
            } else {
                peer_drop(&p);
            }
            raw_close(&r);
            UNTIL(kit_sessions_live(host.kit) == 0 && kit_visitors(host.kit) == 0);
        }
    }
    CU_ASSERT_EQUAL(wrong, 0);
    host_stop();
}

/* A published driver that may still be dialling gets a visitor's EOF a little later, with nothing else going on. */
static void an_eof_that_waits_leaves_by_itself(void) {
    host_start("");
    struct peer p;
    struct raw r;
    struct wire_window w = {.increment = 1};
    peer_start(&p, NULL);
    uint16_t tcp = peer_bind(&p, WIRE_KIND_TCP, 0);
    raw_connect(&r, tcp);
    raw_send(&r, "x");
    uint32_t id = peer_expect(&p, WIRE_STREAM_OPEN)->stream_id;
    peer_expect(&p, WIRE_DATA);
    peer_send(&p, WIRE_WINDOW, id, &w);
    shutdown(r.fd, SHUT_WR);
    peer_expect(&p, WIRE_EOF);
    raw_close(&r);
    peer_bye(&p);
    host_stop();
}

/* Frames for streams that never were have a budget, to the frame; those for streams that are over have none. */
static void strays_are_counted_to_the_frame(void) {
    host_start("--takeover-grace 0");
    struct peer p;
    struct raw r;
    peer_start(&p, NULL);
    uint16_t http = peer_bind(&p, WIRE_KIND_HTTP, 0), tcp = peer_bind(&p, WIRE_KIND_TCP, 0);
    uint32_t dead = reach(&p, DEAD, http, tcp, &r);
    raw_close(&r);
    for (unsigned i = 0; i < 2 * WIRE_LIMIT_MAX_STRAY_FRAMES; i++) {
        peer_add_raw(&p, WIRE_EOF, dead, NULL, 0);
        if (i % 60 == 59)
            peer_flush(&p);
    }
    peer_flush(&p);
    CU_ASSERT_EQUAL(outcome(&p, dead), NOTHING);
    for (unsigned i = 0; i < WIRE_LIMIT_MAX_STRAY_FRAMES; i++) {
        peer_add_raw(&p, WIRE_EOF, 1000 + 2 * i, NULL, 0);
        if (i % 60 == 59)
            peer_flush(&p);
    }
    peer_flush(&p);
    CU_ASSERT_EQUAL(outcome(&p, 1000), NOTHING);
    peer_add_raw(&p, WIRE_EOF, 7, NULL, 0);
    peer_flush(&p);
    peer_expect(&p, WIRE_GOAWAY);
    CU_ASSERT_EQUAL(p.any.goaway.code, WIRE_CODE_ENHANCE_YOUR_CALM);
    UNTIL(p.closed);
    peer_drop(&p);
    host_stop();
}

int main(void) {
    static const struct tap_test tests[] = {
        {"each frame in each state has its defined effect", every_frame_in_every_state},
        {"an EOF that waits leaves by itself", an_eof_that_waits_leaves_by_itself},
        {"strays are counted to the frame", strays_are_counted_to_the_frame},
        {NULL, NULL},
    };
    return tap_main("stream states", tests);
}
