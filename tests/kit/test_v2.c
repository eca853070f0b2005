/* Sessions of several sockets: what is lost with which of them, and how a lost one is replaced. */
#include "peer.h"

#define MAX_SOCKETS 4

/* A v2 session with all of its sockets. */
struct many {
    char id[64];
    char nonce[MAX_SOCKETS][64]; /* the ticket of each secondary */
    struct peer p[MAX_SOCKETS];  /* 0: the primary */
    unsigned n;
};

static const struct ht_slice published[] = {{"multi-ws", 8}};
static const struct ht_slice own[] = {{"multi-ws", 8}, {"shard-map", 9}, {"reissue-tickets", 15}};

static void keep_tickets(struct many *m, const struct wire_join_ticket *t, size_t n) {
    for (size_t i = 0; i < n; i++) {
        CU_ASSERT_FATAL(t[i].index > 0 && t[i].index < MAX_SOCKETS);
        CU_ASSERT(t[i].expires_ms > 1000);
        snprintf(m->nonce[t[i].index], sizeof m->nonce[0], "%.*s", HT_SLICE_ARG(t[i].nonce));
    }
}

static void join_one(struct many *m, unsigned index) {
    peer_join(&m->p[index], m->id, index, m->nonce[index]);
    peer_expect(&m->p[index], WIRE_JOIN_OK);
    CU_ASSERT_EQUAL(m->p[index].any.join_ok.index, index);
}

static void start_many(struct many *m, unsigned n, const struct ht_slice *caps, size_t n_caps, const char *resume) {
    memset(m, 0, sizeof *m);
    m->n = n;
    peer_v2_hello(&m->p[0], n, caps, n_caps, resume);
    const struct wire_hello_ok *ok = &m->p[0].any.hello_ok;
    CU_ASSERT_EQUAL_FATAL(ok->connections_granted, n);
    snprintf(m->id, sizeof m->id, "%.*s", HT_SLICE_ARG(ok->session_id));
    keep_tickets(m, ok->join_tickets, ok->n_join_tickets);
}

static void join_all(struct many *m) {
    for (unsigned i = 1; i < m->n; i++)
        join_one(m, i);
}

/* A port, and the PONG for the PING behind its BIND_OK, until which all streams stay on the primary. */
static uint16_t bind_many(struct many *m, enum wire_kind kind) {
    uint16_t port = peer_bind(&m->p[0], kind, 0);
    const struct got_frame *f = peer_expect(&m->p[0], WIRE_PING);
    peer_add_raw(&m->p[0], WIRE_PONG, 0, m->p[0].bytes.data + f->at, f->len);
    peer_send_text(&m->p[0], WIRE_UNBIND, 0, "{\"bindId\":999}"); /* once that is answered, the PONG was heard */
    peer_expect(&m->p[0], WIRE_UNBIND_ERR);
    return port;
}

/* PONGs for the session's PINGs; other frames are passed over. */
static void answer_pings(struct peer *p) {
    while (p->n_read < p->n_frames) {
        const struct got_frame *f = &p->frames[p->n_read++];
        if (f->type != WIRE_PING)
            continue;
        peer_add_raw(p, WIRE_PONG, 0, p->bytes.data + f->at, f->len);
        ws_conn_want_send(p->ws);
    }
    if (p->n_frames == HT_ARRAY_LEN(p->frames))
        p->n_frames = p->n_read = 0;
}

static void drop_all(struct many *m) {
    for (unsigned i = 0; i < m->n; i++)
        peer_drop(&m->p[i]);
}

/* One request for each socket: they are spread, and each stays where it was opened. */
static void one_request_each(struct many *m, uint16_t port, struct raw *r, uint32_t *ids) {
    for (unsigned i = 0; i < m->n; i++) {
        raw_connect(&r[i], port);
        raw_send(&r[i], GET("/"));
        UNTIL(kit_streams(host.kit) == i + 1);
    }
    for (unsigned i = 0; i < m->n; i++) {
        const struct got_frame *f = peer_expect(&m->p[i], WIRE_STREAM_OPEN);
        ids[i] = f->stream_id;
        f = peer_expect(&m->p[i], WIRE_EOF);
        CU_ASSERT_EQUAL(f->stream_id, ids[i]);
    }
}

static void a_lost_secondary_resets_only_its_own_streams(void) {
    host_start("");
    struct many m;
    struct raw r[3];
    uint32_t ids[3];
    start_many(&m, 3, published, HT_ARRAY_LEN(published), NULL);
    uint16_t port = bind_many(&m, WIRE_KIND_HTTP);
    join_all(&m);
    one_request_each(&m, port, r, ids);
    peer_drop(&m.p[1]);
    UNTIL(kit_streams(host.kit) == 2);
    UNTIL(raw_ended(&r[0]) + raw_ended(&r[1]) + raw_ended(&r[2]) == 1);
    for (unsigned i = 0; i < 3; i++)
        if (r[i].eof)
            CU_ASSERT_EQUAL(strncmp(raw_text(&r[i]), "HTTP/1.1 503 ", 13), 0);
    CU_ASSERT_EQUAL(kit_sessions_live(host.kit), 1);
    CU_ASSERT_EQUAL(kit_websockets(host.kit), 2);
    /* Each of the others is answered on its own socket. */
    answer_stream(&m.p[0], ids[0], "from the primary");
    answer_stream(&m.p[2], ids[2], "from the second");
    unsigned standing = 0;
    for (unsigned i = 0; i < 3; i++) {
        UNTIL(raw_ended(&r[i]));
        standing += strncmp(raw_text(&r[i]), "HTTP/1.1 200 ", 13) == 0;
        raw_close(&r[i]);
    }
    CU_ASSERT_EQUAL(standing, 2);
    CU_ASSERT_EQUAL(kit_sessions_parked(host.kit), 0);
    peer_bye(&m.p[0]);
    UNTIL(m.p[2].closed);
    peer_drop(&m.p[2]);
    host_stop();
}

/* Published drivers forget where a stream came from and answer on the primary. */
static void an_answer_may_come_on_the_primary(void) {
    host_start("");
    struct many m;
    struct raw r[2];
    uint32_t ids[2];
    start_many(&m, 2, published, HT_ARRAY_LEN(published), NULL);
    uint16_t port = bind_many(&m, WIRE_KIND_HTTP);
    join_all(&m);
    one_request_each(&m, port, r, ids);
    answer_stream(&m.p[0], ids[1], "here");
    answer_stream(&m.p[0], ids[0], "here");
    for (unsigned i = 0; i < 2; i++) {
        UNTIL(raw_ended(&r[i]));
        CU_ASSERT_STRING_EQUAL(raw_body(&r[i]), "here");
        raw_close(&r[i]);
    }
    peer_bye(&m.p[0]);
    UNTIL(m.p[1].closed);
    peer_drop(&m.p[1]);
    host_stop();
}

/* Rule FLOW-1: the credit of a session is one for all of its sockets. */
static void session_credit_is_shared(void) {
    host_start("--stream-initial-window 64K --session-initial-window 96K");
    struct many m;
    struct raw a, b;
    start_many(&m, 2, published, HT_ARRAY_LEN(published), NULL);
    uint16_t port = bind_many(&m, WIRE_KIND_TCP);
    join_all(&m);
    raw_connect(&a, port);
    UNTIL(kit_streams(host.kit) == 1);
    raw_connect(&b, port);
    UNTIL(kit_streams(host.kit) == 2);
    fill(&a, 128 * 1024);
    fill(&b, 128 * 1024);
    UNTIL(data_bytes(&m.p[0], 0) + data_bytes(&m.p[1], 0) == 96 * 1024);
    for (int turns = 0; turns < 5; turns++)
        ready_turn();
    CU_ASSERT_EQUAL(data_bytes(&m.p[0], 0) + data_bytes(&m.p[1], 0), 96 * 1024);
    CU_ASSERT(data_bytes(&m.p[0], 0) >= 32 * 1024 && data_bytes(&m.p[1], 0) >= 32 * 1024);
    /* Credit for either of them is given on the primary. */
    uint32_t waiting = data_bytes(&m.p[0], 0) < 64 * 1024 ? 0 : 1;
    uint64_t before = data_bytes(&m.p[waiting], 0);
    struct wire_window w = {.increment = 500};
    peer_send(&m.p[0], WIRE_WINDOW, 0, &w);
    UNTIL(data_bytes(&m.p[waiting], 0) == before + 500);
    raw_close(&a);
    raw_close(&b);
    peer_bye(&m.p[0]);
    UNTIL(m.p[1].closed);
    peer_drop(&m.p[1]);
    host_stop();
}

static void the_primarys_fate_is_the_sessions(void) {
    host_start("");
    struct many m, again;
    struct raw r;
    start_many(&m, 3, published, HT_ARRAY_LEN(published), NULL);
    uint16_t port = bind_many(&m, WIRE_KIND_HTTP);
    join_all(&m);
    peer_drop(&m.p[0]);
    UNTIL(kit_sessions_parked(host.kit) == 1);
    UNTIL(m.p[1].closed && m.p[2].closed);
    CU_ASSERT_EQUAL(m.p[1].close_code, WIRE_CLOSE_GOING_AWAY);
    CU_ASSERT_EQUAL(raw_ask(&r, port, GET("/")), 503);
    raw_close(&r);
    peer_drop(&m.p[1]);
    peer_drop(&m.p[2]);
    /* The ticket of a session that is parked, or of its life before, opens nothing. */
    struct peer late;
    peer_join(&late, m.id, 1, m.nonce[1]);
    peer_expect_join_err(&late, WIRE_JOIN_ERROR_UNKNOWN_SESSION);
    start_many(&again, 3, published, HT_ARRAY_LEN(published), m.id);
    CU_ASSERT_STRING_EQUAL(again.id, m.id);
    CU_ASSERT(again.p[0].any.hello_ok.resumed);
    CU_ASSERT_EQUAL(again.p[0].any.hello_ok.n_resumed_binds, 1);
    peer_join(&late, m.id, 1, m.nonce[1]);
    peer_expect_join_err(&late, WIRE_JOIN_ERROR_INVALID_TICKET);
    join_one(&again, 2);
    /* A goodbye on the primary ends it for good. */
    peer_bye(&again.p[0]);
    UNTIL(kit_sessions_live(host.kit) == 0 && again.p[2].closed);
    CU_ASSERT_EQUAL(kit_sessions_parked(host.kit), 0);
    peer_drop(&again.p[2]);
    host_stop();
}

/* Even a clean close of a secondary is only its own end. */
static void a_secondary_cannot_end_the_session(void) {
    host_start("");
    struct many m;
    start_many(&m, 2, published, HT_ARRAY_LEN(published), NULL);
    join_all(&m);
    peer_bye(&m.p[1]);
    UNTIL(kit_websockets(host.kit) == 1);
    CU_ASSERT_EQUAL(kit_sessions_live(host.kit), 1);
    peer_bye(&m.p[0]);
    host_stop();
}

static void a_resume_takes_all_sockets_from_the_old_driver(void) {
    host_start("");
    struct many m, q;
    start_many(&m, 3, published, HT_ARRAY_LEN(published), NULL);
    join_all(&m);
    start_many(&q, 3, published, HT_ARRAY_LEN(published), m.id);
    CU_ASSERT(q.p[0].any.hello_ok.resumed);
    peer_expect(&m.p[0], WIRE_GOAWAY);
    CU_ASSERT_EQUAL(m.p[0].any.goaway.code, WIRE_GOAWAY_SUPERSEDED_CODE);
    UNTIL(m.p[0].closed && m.p[1].closed && m.p[2].closed);
    drop_all(&m);
    join_all(&q);
    UNTIL(kit_websockets(host.kit) == 3);
    CU_ASSERT_EQUAL(kit_sessions_live(host.kit), 1);
    peer_bye(&q.p[0]);
    UNTIL(q.p[1].closed && q.p[2].closed);
    peer_drop(&q.p[1]);
    peer_drop(&q.p[2]);
    host_stop();
}

/* ---- our own extensions ---- */

static uint64_t expect_map(struct many *m, uint64_t above, const char *up) {
    peer_expect(&m->p[0], WIRE_SHARD_MAP);
    const struct wire_shard_map *map = &m->p[0].any.shard_map;
    CU_ASSERT(map->epoch > above);
    CU_ASSERT_EQUAL_FATAL(map->n_shards, strlen(up));
    for (size_t i = 0; i < map->n_shards; i++) {
        CU_ASSERT_EQUAL(map->shards[i].index, i);
        CU_ASSERT_EQUAL(map->shards[i].up, up[i] == '1');
    }
    return map->epoch;
}

static void ask_tickets(struct many *m, const uint16_t *indexes, size_t n) {
    struct wire_reissue ask = {.indexes = indexes, .n_indexes = n};
    peer_send(&m->p[0], WIRE_REISSUE_JOIN_TICKETS, 0, &ask);
}

/* The other end of an idle secondary is gone and says nothing, nor does its machine: the kit asks, and lets go of it.
 */
static void a_silent_secondary_is_noticed(void) {
    struct many m;
    host_start("--max-connections 3 --ping-interval 100ms --pong-timeout 300ms");
    start_many(&m, 3, own, 3, NULL);
    join_all(&m);
    ws_conn_pause(m.p[2].ws, true); /* it answers no PING of the WebSocket any more */
    UNTIL((answer_pings(&m.p[0]), kit_websockets(host.kit) == 2));
    for (uint64_t end = ht_now_ms() + 500; ht_now_ms() < end; answer_pings(&m.p[0]))
        one_turn();
    CU_ASSERT_EQUAL(kit_websockets(host.kit), 2); /* those that answer stay */
    CU_ASSERT_EQUAL(kit_sessions_live(host.kit), 1);
    drop_all(&m);
    host_stop();
}

static void a_lost_secondary_is_replaced(void) {
    static const uint16_t both[] = {2, 1, 2}, first[] = {1};
    host_start("");
    struct many m;
    start_many(&m, 3, own, HT_ARRAY_LEN(own), NULL);
    const struct wire_hello_ok *ok = &m.p[0].any.hello_ok;
    CU_ASSERT_EQUAL(ok->n_capabilities, 3);
    join_one(&m, 1);
    uint64_t epoch = expect_map(&m, 0, "110");
    join_one(&m, 2);
    epoch = expect_map(&m, epoch, "111");
    peer_drop(&m.p[2]);
    epoch = expect_map(&m, epoch, "110");
    /* One ticket for each socket that is named, also for one that the kit believes to be up. */
    char old[64];
    memcpy(old, m.nonce[2], sizeof old);
    ask_tickets(&m, both, HT_ARRAY_LEN(both));
    peer_expect(&m.p[0], WIRE_REISSUE_JOIN_TICKETS);
    const struct wire_reissue *got = &m.p[0].any.reissue;
    CU_ASSERT_EQUAL_FATAL(got->n_join_tickets, 2);
    CU_ASSERT_EQUAL(got->join_tickets[0].index, 2);
    CU_ASSERT_EQUAL(got->join_tickets[1].index, 1);
    keep_tickets(&m, got->join_tickets, 2);
    CU_ASSERT_STRING_NOT_EQUAL(m.nonce[2], old);
    join_one(&m, 2);
    epoch = expect_map(&m, epoch, "111");
    /* The driver has seen its first secondary go, the kit has not: the new socket replaces it. */
    peer_join(&m.p[3], m.id, 1, m.nonce[1]);
    peer_expect(&m.p[3], WIRE_JOIN_OK);
    expect_map(&m, epoch, "111");
    UNTIL(m.p[1].closed);
    peer_drop(&m.p[1]);
    /* A ticket still works once only. */
    struct peer late;
    peer_join(&late, m.id, 1, m.nonce[1]);
    peer_expect_join_err(&late, WIRE_JOIN_ERROR_INVALID_TICKET);
    ask_tickets(&m, first, 1);
    peer_expect(&m.p[0], WIRE_REISSUE_JOIN_TICKETS);
    CU_ASSERT_EQUAL(kit_sessions_live(host.kit), 1);
    peer_bye(&m.p[0]);
    UNTIL(m.p[2].closed && m.p[3].closed);
    peer_drop(&m.p[2]);
    peer_drop(&m.p[3]);
    host_stop();
}

/* Rules EXT-1 and SHARD-1: who has not named an extension sees nothing of it, and may not use it. */
static void extensions_are_for_those_who_named_them(void) {
    static const uint16_t first[] = {1}, beyond[] = {7};
    host_start("--takeover-grace 0");
    struct many m;
    start_many(&m, 2, published, HT_ARRAY_LEN(published), NULL);
    CU_ASSERT_EQUAL(m.p[0].any.hello_ok.n_capabilities, 1);
    join_all(&m);
    struct wire_ping ping = {{1}};
    peer_send(&m.p[0], WIRE_PING, 0, &ping);
    peer_expect(&m.p[0], WIRE_PONG); /* and no SHARD_MAP before it */
    ask_tickets(&m, first, 1);
    peer_expect(&m.p[0], WIRE_GOAWAY);
    CU_ASSERT_EQUAL(m.p[0].any.goaway.code, WIRE_CODE_PROTOCOL_ERROR);
    UNTIL(m.p[0].closed && m.p[1].closed);
    CU_ASSERT_EQUAL(m.p[0].close_code, WIRE_CLOSE_PROTOCOL_ERROR);
    drop_all(&m);
    start_many(&m, 2, own, HT_ARRAY_LEN(own), NULL);
    ask_tickets(&m, beyond, 1);
    peer_expect(&m.p[0], WIRE_GOAWAY);
    UNTIL(m.p[0].closed);
    peer_drop(&m.p[0]);
    UNTIL(kit_sessions_live(host.kit) == 0);
    host_stop();
}

int main(void) {
    static const struct tap_test tests[] = {
        {"a lost secondary resets only its own streams", a_lost_secondary_resets_only_its_own_streams},
        {"an answer may come on the primary", an_answer_may_come_on_the_primary},
        {"session credit is shared", session_credit_is_shared},
        {"a lost primary parks the session", the_primarys_fate_is_the_sessions},
        {"a secondary cannot end the session", a_secondary_cannot_end_the_session},
        {"a resume takes all sockets from the old driver", a_resume_takes_all_sockets_from_the_old_driver},
        {"a silent secondary is noticed", a_silent_secondary_is_noticed},
        {"a lost secondary is replaced", a_lost_secondary_is_replaced},
        {"extensions are sent only to drivers that named them", extensions_are_for_those_who_named_them},
        {NULL, NULL},
    };
    return tap_main("v2", tests);
}
