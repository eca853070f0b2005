/*
 * After a restart: sessions whose streams the old kit has. Here the other kit is played by hand: first the old one,
 * which gets the sockets of drivers that come back; then the new one, which hands them to the old one.
 */
#include "kit/handoff.h"
#include "kit/kit_priv.h"
#include "kit/records.h"
#include "kit/restart.h"
#include "peer.h"
#include "proc/seal.h"

#include <sys/socket.h>

#define PAST "S-00000000-0000-4000-8000-00000000000a"
#define NOTE "S-00000000-0000-4000-8000-00000000000b"

static int other; /* our end of the conversation */
static struct handoff_got got;

static void say(enum restart_type type, const char *session, const char *token, int fd) {
    uint8_t digest[KIT_DIGEST];
    struct restart_message m = {.type = type, .session = ht_slice_str(session), .format = RESTART_LIMIT_FORMAT};
    if (token) {
        kit_token_digest(ht_slice_str(token), digest);
        m.token = ht_slice_of(digest, sizeof digest);
    }
    CU_ASSERT_EQUAL_FATAL(handoff_send(other, &m, &fd, fd >= 0, PATIENCE_MS), 0);
}

static void some_turns(void) {
    for (int i = 0; i < 5; i++)
        io_loop_turn(host.loop, false);
}

/* The next message of the kit, which plays `sender`, is of this type. */
static void hears(unsigned sender, enum restart_type type) {
    handoff_drop(&got);
    int rc = HT_EAGAIN;
    for (uint64_t until = ht_now_ms() + PATIENCE_MS; rc == HT_EAGAIN && ht_now_ms() < until;) {
        io_loop_turn(host.loop, false);
        rc = handoff_receive(other, sender, &got, 1);
        rc = rc == HT_ETIMEDOUT ? HT_EAGAIN : rc;
    }
    CU_ASSERT_EQUAL_FATAL(rc, 0);
    CU_ASSERT_EQUAL_FATAL(got.m.type, type);
}

static void hears_nothing(unsigned sender) {
    some_turns();
    handoff_drop(&got);
    CU_ASSERT_EQUAL(handoff_receive(other, sender, &got, 0), HT_EAGAIN);
}

#define LOCKED "locked" /* the kit wants the token sesame */

static void start(const char *args) {
    bool locked = strcmp(args, LOCKED) == 0;
    if (locked)
        setenv("HOODY_TUNNEL_TOKEN", "sesame", 1);
    host_start(locked ? "" : args);
    unsetenv("HOODY_TUNNEL_TOKEN");
}

static int conversation(void) {
    int fd[2];
    if (socketpair(AF_UNIX, SOCK_SEQPACKET | SOCK_NONBLOCK | SOCK_CLOEXEC, 0, fd) != 0)
        abort();
    other = fd[0];
    got.n_fds = 0;
    return fd[1];
}

/* ---- the new kit ---- */

static int no_records(void) {
    struct records_writer w = {.lines = 0};
    struct restart_message head = {.seq = 1, .saved = 1, .program = ht_slice_str("test/1")};
    struct ht_buf text = {0};
    struct ht_errmsg err;
    CU_ASSERT_EQUAL_FATAL(records_finish(&w, &head, &text), 0);
    int fd = proc_seal("test", ht_buf_slice(&text), &err);
    CU_ASSERT_FATAL(fd >= 0);
    ht_buf_free(&text);
    return fd;
}

/* A kit that has taken over from one that keeps the streams of PAST, opened with `token`, and of NOTE. */
static void take_over(const char *args, const char *token) {
    struct ht_errmsg err = {""};
    start(args);
    int fd = conversation(), records = no_records();
    say(RESTART_PREPARE, "", NULL, -1);
    struct successor *s = successor_begin(host.loop, fd, PATIENCE_MS, &err);
    CU_ASSERT_PTR_NOT_NULL_FATAL(s);
    say(RESTART_PAST, PAST, token, -1);
    say(RESTART_PAST, NOTE, token, -1);
    say(RESTART_TAKE, "", NULL, records);
    say(RESTART_GO, "", NULL, -1);
    CU_ASSERT_EQUAL_FATAL(successor_take(s, host.kit, &err), 0);
    successor_serving(&s, host.kit);
    hears(RESTART_ROLE_CLIENT, RESTART_HELLO);
    hears(RESTART_ROLE_CLIENT, RESTART_PREPARED);
    hears(RESTART_ROLE_CLIENT, RESTART_TAKEN);
    hears(RESTART_ROLE_CLIENT, RESTART_SERVING);
    close(records);
}

static void stop(void) {
    handoff_drop(&got);
    if (other >= 0)
        close(other);
    other = -1;
    host_stop();
}

/* As peer_expect(), between ACKs. */
static void expect(struct peer *p, uint8_t type) {
    UNTIL(p->n_read < p->n_frames || p->closed);
    while (p->n_read < p->n_frames && p->frames[p->n_read].type == WIRE_ACK) {
        p->n_read++;
        UNTIL(p->n_read < p->n_frames || p->closed);
    }
    peer_expect(p, type);
}

static const struct ht_slice resumes[] = {{"stream-resume", 13}, {"handover", 8}};

/* `received` -1: HELLO does not say that. */
static void come_back(struct peer *p, const char *id, int64_t received, const char *token) {
    struct wire_hello h = {
        .version = WIRE_V1,
        .capabilities = resumes,
        .n_capabilities = HT_ARRAY_LEN(resumes),
        .has_client = true,
        .client = {.id = ht_slice_str(PEER_CLIENT)},
        .has_auth = token != NULL,
        .auth = {.kind = ht_slice_str("bearer"), .token = ht_slice_str(token)},
        .has_resume = true,
        .resume = {.session_id = ht_slice_str(id), .has_received = received >= 0, .received = (uint64_t)received},
    };
    peer_connect(p);
    CU_ASSERT_FATAL(p->open);
    peer_hello(p, &h);
}

/* What was read of the WebSocket that was handed over: one frame, whose mask is zero. Appends its payload. */
static void read_said(struct ht_buf *out) {
    struct ht_buf said = {0};
    struct ht_errmsg err;
    CU_ASSERT_EQUAL_FATAL(got.n_fds, 2);
    CU_ASSERT_EQUAL_FATAL(proc_seal_read(got.fds[1], RESTART_LIMIT_MAX_SAID, &said, &err), 0);
    const uint8_t *p = said.data;
    size_t n = p[1] & 0x7f, at = 2;
    if (n == 126) {
        n = (size_t)p[2] << 8 | p[3];
        at = 4;
    }
    CU_ASSERT_EQUAL(p[0], 0x82);
    CU_ASSERT(p[1] & 0x80);
    CU_ASSERT_EQUAL_FATAL(said.len, at + 4 + n);
    CU_ASSERT_EQUAL(memcmp(p + at, "\0\0\0\0", 4), 0);
    CU_ASSERT_EQUAL_FATAL(ht_buf_append(out, p + at + 4, n), 0);
    ht_buf_free(&said);
}

static void a_hello_goes_where_the_streams_are(void) {
    struct peer p;
    union wire_any any;
    struct wire_error err;
    struct ht_buf said = {0};
    take_over(LOCKED, "sesame");
    come_back(&p, PAST, 7, "sesame");
    hears(RESTART_ROLE_CLIENT, RESTART_HAND);
    CU_ASSERT(ht_slice_is(got.m.session, PAST));
    CU_ASSERT(ht_slice_is(got.m.address, "127.0.0.1"));
    CU_ASSERT(got.m.port > 0);
    CU_ASSERT_EQUAL(got.m.version, WIRE_V1);
    CU_ASSERT_EQUAL(got.m.token.n, KIT_DIGEST);
    read_said(&said);
    CU_ASSERT_EQUAL(said.data[0], WIRE_HELLO);
    CU_ASSERT_EQUAL_FATAL(
        wire_decode_any(WIRE_HELLO, said.data + WIRE_LIMIT_HEADER, said.len - WIRE_LIMIT_HEADER, p.scratch, &any, &err),
        0);
    CU_ASSERT(any.hello.resume.has_received && any.hello.resume.received == 7);
    CU_ASSERT(ht_slice_is(any.hello.client.id, PEER_CLIENT));
    CU_ASSERT_FALSE(any.hello.has_auth); /* its digest is beside it */
    CU_ASSERT_PTR_NULL(memmem(said.data, said.len, "sesame", 6));
    UNTIL(kit_websockets(host.kit) == 0);
    CU_ASSERT_EQUAL(kit_sessions_live(host.kit), 0);
    CU_ASSERT_EQUAL(kit_metrics(host.kit)->handed_connections_total, 1);
    CU_ASSERT_FALSE(p.closed); /* the socket lives on, in other hands */
    static const uint8_t word[] = {0x82, 2, 'h', 'i'};
    CU_ASSERT_EQUAL(write(got.fds[0], word, sizeof word), (ssize_t)sizeof word);
    UNTIL(p.bytes.len == 2);
    handoff_drop(&got);
    UNTIL(p.closed);
    peer_drop(&p);
    ht_buf_free(&said);
    stop();
}

/* Whoever may not have them learns what it would learn if there was no such session. */
static void others_get_an_answer_as_always(void) {
    static const struct {
        const char *what, *args, *past, *id, *token;
        int64_t received;
    } rows[] = {
        {"nothing of streams", LOCKED, "sesame", PAST, "sesame", -1},
        {"another token", LOCKED, "other", PAST, "sesame", 3},
        {"a past one without a token", LOCKED, NULL, PAST, "sesame", 3},
        {"an id of nobody", "", NULL, "S-00000000-0000-4000-8000-00000000000c", NULL, 3},
    };
    for (size_t i = 0; i < HT_ARRAY_LEN(rows); i++) {
        struct peer p;
        take_over(rows[i].args, rows[i].past);
        come_back(&p, rows[i].id, rows[i].received, rows[i].token);
        expect(&p, WIRE_HELLO_OK);
        CU_ASSERT_FALSE(p.any.hello_ok.resumed);
        CU_ASSERT_FALSE(p.any.hello_ok.has_received);
        CU_ASSERT_FALSE(ht_slice_is(p.any.hello_ok.session_id, PAST));
        hears_nothing(RESTART_ROLE_CLIENT);
        peer_bye(&p);
        stop();
    }
    struct peer p;
    take_over(LOCKED, "sesame");
    come_back(&p, PAST, 3, "wrong");
    expect(&p, WIRE_GOAWAY);
    CU_ASSERT_EQUAL(p.any.goaway.code, WIRE_GOAWAY_AUTH_CODE);
    hears_nothing(RESTART_ROLE_CLIENT);
    UNTIL(p.closed);
    peer_drop(&p);
    stop();
}

static void it_is_over(void) {
    struct peer p;
    take_over("", NULL);
    say(RESTART_OVER, PAST, NULL, -1);
    some_turns();
    come_back(&p, PAST, 0, NULL);
    expect(&p, WIRE_HELLO_OK);
    CU_ASSERT_FALSE(p.any.hello_ok.resumed);
    peer_bye(&p);
    come_back(&p, NOTE, 0, NULL);
    hears(RESTART_ROLE_CLIENT, RESTART_HAND);
    handoff_drop(&got);
    UNTIL(p.closed);
    peer_drop(&p);
    close(other); /* the old program is gone, and the rest with it */
    other = -1;
    UNTIL(ht_list_empty(&host.kit->elders));
    CU_ASSERT_EQUAL(host.kit->n_pasts, 0);
    come_back(&p, NOTE, 0, NULL);
    expect(&p, WIRE_HELLO_OK);
    CU_ASSERT_FALSE(p.any.hello_ok.resumed);
    peer_bye(&p);
    stop();
}

static void one_that_takes_nothing(void) {
    struct peer p;
    unsigned handed = 0;
    take_over("", NULL);
    HT_LIST_FOR (it, &host.kit->elders)
        CU_ASSERT_EQUAL(setsockopt(HT_LIST_ENTRY(it, struct kit_elder, node)->fd, SOL_SOCKET, SO_SNDBUF, &(int){1}, 4),
                        0);
    for (;; handed++) { /* it does not read */
        CU_ASSERT_FATAL(handed < 500);
        come_back(&p, PAST, 0, NULL);
        UNTIL(p.n_frames > 0 || kit_websockets(host.kit) == 0);
        if (p.n_frames > 0)
            break;
        peer_drop(&p);
    }
    expect(&p, WIRE_GOAWAY);
    CU_ASSERT_EQUAL(p.any.goaway.code, WIRE_CODE_RESOURCE_EXHAUSTED);
    UNTIL(p.closed);
    CU_ASSERT_EQUAL(p.close_code, WIRE_GOAWAY_SESSION_LIMIT_CLOSE);
    CU_ASSERT_EQUAL(kit_metrics(host.kit)->handed_connections_total, handed);
    peer_drop(&p);
    for (; handed > 0; handed--)
        hears(RESTART_ROLE_CLIENT, RESTART_HAND);
    come_back(&p, PAST, 0, NULL); /* now it does */
    hears(RESTART_ROLE_CLIENT, RESTART_HAND);
    peer_drop(&p);
    stop();
}

static void secondaries_as_well(void) {
    struct wire_join join = {.session_id = ht_slice_str(PAST), .index = 1, .nonce = ht_slice_str("n")};
    struct ht_buf said = {0};
    struct peer p;
    take_over(LOCKED, "sesame");
    peer_connect_as(&p, WIRE_SUBPROTOCOLS, NULL);
    peer_send(&p, WIRE_JOIN, 0, &join);
    hears(RESTART_ROLE_CLIENT, RESTART_HAND);
    CU_ASSERT_EQUAL(got.m.version, WIRE_V2);
    CU_ASSERT_EQUAL(got.m.token.n, 0);
    read_said(&said);
    CU_ASSERT_EQUAL(said.data[0], WIRE_JOIN);
    ht_buf_free(&said);
    peer_drop(&p);
    stop();
    take_over(LOCKED, "other"); /* a JOIN with the token of somebody else */
    peer_connect_as(&p, WIRE_SUBPROTOCOLS, "Authorization: Bearer sesame\r\n");
    peer_send(&p, WIRE_JOIN, 0, &join);
    expect(&p, WIRE_JOIN_ERR);
    CU_ASSERT_EQUAL(p.any.join_err.code, WIRE_JOIN_ERROR_UNKNOWN_SESSION);
    hears_nothing(RESTART_ROLE_CLIENT);
    UNTIL(p.closed);
    peer_drop(&p);
    stop();
}

/* Whichever allocation fails meanwhile: the WebSocket is handed over, or its driver finds it closed and tries again. */
static void memory_runs_out(void) {
    struct wire_hello h = {
        .version = WIRE_V1,
        .capabilities = resumes,
        .n_capabilities = HT_ARRAY_LEN(resumes),
        .has_resume = true,
        .resume = {.session_id = ht_slice_str(PAST), .has_received = true},
    };
    unsigned handed = 0;
    const long most = 40;
    for (long n = 0; n < most; n++) {
        struct peer p;
        take_over("", NULL);
        peer_connect(&p);
        peer_add(&p, WIRE_HELLO, 0, &h);
        ht_mem_fail_at(n);
        ws_conn_want_send(p.ws);
        some_turns();
        some_turns();
        ht_mem_fail_at(-1);
        some_turns();
        handoff_drop(&got);
        bool came = handoff_receive(other, RESTART_ROLE_CLIENT, &got, 0) == 0;
        CU_ASSERT(!came || (got.m.type == RESTART_HAND && got.n_fds == 2));
        handed += came;
        peer_drop(&p);
        stop();
    }
    CU_ASSERT(handed > 0 && handed < most);
    printf("# %u of %ld were handed over\n", handed, most);
}

/* However many an old program names. */
static void they_are_bounded(void) {
    char id[KIT_ID_LEN + 1];
    take_over("--max-sessions 2", NULL);
    for (unsigned i = 0; i < 100; i++) {
        snprintf(id, sizeof id, "S-00000000-0000-4000-8000-%012u", i);
        past_add(host.kit, &(struct restart_message){.type = RESTART_PAST, .session = ht_slice_str(id)});
    }
    CU_ASSERT_EQUAL(host.kit->n_pasts, 8);
    CU_ASSERT_PTR_NOT_NULL(past_find(host.kit, ht_slice_str(id)));
    CU_ASSERT_PTR_NULL(past_find(host.kit, ht_slice_str(PAST)));
    static const char *const bad[] = {"", "S-1", "S-00000000-0000-4000-8000-00000000000ab"};
    for (size_t i = 0; i < HT_ARRAY_LEN(bad); i++)
        past_add(host.kit, &(struct restart_message){.type = RESTART_PAST, .session = ht_slice_str(bad[i])});
    CU_ASSERT_EQUAL(host.kit->n_pasts, 8);
    past_forget(host.kit, NULL);
    stop();
}

/* ---- the old kit ---- */

static bool finished;

static void on_finished(void *ctx) {
    (void)ctx;
    finished = true;
}

static char id[64];

/* A kit that has handed over, while its driver `p` has a visitor `v`. */
static void leave(const char *args, const char *token, struct peer *p, struct raw *v) {
    char line[100];
    start(args);
    struct wire_hello h = {.version = WIRE_V1, .capabilities = resumes, .n_capabilities = HT_ARRAY_LEN(resumes)};
    snprintf(line, sizeof line, "Authorization: Bearer %s\r\n", token ? token : "");
    peer_connect_as(p, WIRE_SUBPROTOCOL_V1, token ? line : NULL);
    peer_hello(p, &h);
    expect(p, WIRE_HELLO_OK);
    snprintf(id, sizeof id, "%.*s", HT_SLICE_ARG(p->any.hello_ok.session_id));
    uint16_t port = peer_bind(p, WIRE_KIND_TCP, 0);
    raw_connect(v, port);
    raw_send(v, "ping");
    expect(p, WIRE_STREAM_OPEN);
    struct kit_session *s = session_find(host.kit, ht_slice_str(id));
    CU_ASSERT_PTR_NOT_NULL_FATAL(s);
    s->handed = true;
    s->past = leave_keeps(s);
    CU_ASSERT_FATAL(s->past);
    finished = false;
    leave_begin(host.kit, conversation(), on_finished, NULL);
}

static void leave_over_with(void) {
    close(host.kit->heir);
    host.kit->heir = -1;
    stop();
}

static void lose(struct peer *p) {
    peer_drop(p);
    UNTIL(kit_sessions_parked(host.kit) == 1);
    CU_ASSERT_FALSE(finished);
    hears(RESTART_ROLE_SERVER, RESTART_YOURS);
    CU_ASSERT(ht_slice_is(got.m.session, id));
}

/* The new kit hands over a WebSocket of the driver. */
static void hand(struct peer *p, int64_t received, const char *token) {
    static const struct ws_limits limits = {1u << 20, 64, WIRE_LIMIT_MAX_MESSAGE};
    uint8_t digest[KIT_DIGEST], frame[1024];
    struct ht_buf said = {0};
    struct ht_errmsg err;
    struct wire_hello h = {
        .version = WIRE_V1,
        .capabilities = resumes,
        .n_capabilities = HT_ARRAY_LEN(resumes),
        .has_resume = true,
        .resume = {.session_id = ht_slice_str(id), .has_received = received >= 0, .received = (uint64_t)received},
    };
    int fd[2], n = wire_encode_hello(frame, sizeof frame, 0, &h);
    CU_ASSERT_FATAL(n > 0 && ws_frame_of_client(&said, frame, (size_t)n) == 0);
    if (socketpair(AF_UNIX, SOCK_STREAM | SOCK_NONBLOCK | SOCK_CLOEXEC, 0, fd) != 0)
        abort();
    struct handoff_got *from = ht_calloc(1, sizeof *from);
    CU_ASSERT_PTR_NOT_NULL_FATAL(from);
    from->m = (struct restart_message){.type = RESTART_HAND,
                                       .session = ht_slice_str(id),
                                       .address = ht_slice_str("127.0.0.1"),
                                       .port = 4000,
                                       .version = WIRE_V1};
    if (token) {
        kit_token_digest(ht_slice_str(token), digest);
        from->m.token = ht_slice_of(digest, sizeof digest);
    }
    from->fds[0] = fd[0];
    from->fds[1] = proc_seal("test", ht_buf_slice(&said), &err);
    from->n_fds = 2;
    memset(p, 0, sizeof *p);
    p->scratch = wire_scratch_create();
    p->ws = ws_conn_create(host.loop, io_conn_adopt(host.loop, fd[1], NULL, NULL), WS_CLIENT, &limits,
                           ht_slice_of(NULL, 0), &peer_ws_ops, p);
    CU_ASSERT_FATAL(p->scratch && p->ws);
    leave_take(host.kit, from);
    handoff_drop(from);
    ht_free(from);
    ht_buf_free(&said);
}

static void streams_go_on(void) {
    struct peer p;
    struct raw v;
    leave(LOCKED, "sesame", &p, &v);
    expect(&p, WIRE_DATA);
    expect(&p, WIRE_GOAWAY);
    CU_ASSERT(ht_slice_is(p.any.goaway.message, WIRE_GOAWAY_RESTARTING_MESSAGE));
    lose(&p);
    hand(&p, 0, "sesame");
    expect(&p, WIRE_HELLO_OK);
    CU_ASSERT(p.any.hello_ok.resumed && p.any.hello_ok.has_received);
    CU_ASSERT(ht_slice_is(p.any.hello_ok.session_id, id));
    expect(&p, WIRE_BIND_OK); /* everything again, and at the end: where the next session is */
    expect(&p, WIRE_STREAM_OPEN);
    expect(&p, WIRE_DATA);
    expect(&p, WIRE_GOAWAY);
    expect(&p, WIRE_GOAWAY);
    CU_ASSERT(ht_slice_is(p.any.goaway.message, WIRE_GOAWAY_RESTARTING_MESSAGE));
    struct wire_window credit = {.increment = 4};
    peer_add(&p, WIRE_WINDOW, 2, &credit);
    peer_add_raw(&p, WIRE_DATA, 2, "pong", 4);
    peer_add_raw(&p, WIRE_EOF, 2, NULL, 0);
    peer_flush(&p);
    UNTIL(strcmp(raw_text(&v), "pong") == 0);
    CU_ASSERT_FALSE(finished);
    raw_close(&v);
    expect(&p, WIRE_EOF);
    peer_drop(&p); /* not before the kit knows that everything has come: the session waits once more */
    UNTIL(kit_sessions_parked(host.kit) == 1);
    ht_clock_skip((uint64_t)host.opt.takeover_grace_ms * 1000 + 1000000);
    hears(RESTART_ROLE_SERVER, RESTART_OVER);
    UNTIL(finished);
    leave_over_with();
}

/* It closes the connection without an answer, says that the session is over, and the new kit answers the next HELLO. */
static void what_cannot_go_on(void) {
    static const struct {
        const char *what, *token;
        int64_t received;
        bool lives; /* the session may still be gone on with by who may */
    } rows[] = {
        {"a count that cannot be true", "sesame", 100, false},
        {"no count", "sesame", -1, false},
        {"a token that is not valid here", "wrong", 0, true},
        {"no token", NULL, 0, true},
    };
    for (size_t i = 0; i < HT_ARRAY_LEN(rows); i++) {
        struct peer p;
        struct raw v;
        leave(LOCKED, "sesame", &p, &v);
        lose(&p);
        hand(&p, rows[i].received, rows[i].token);
        UNTIL(p.closed);
        for (size_t f = 0; f < p.n_frames; f++)
            CU_ASSERT_EQUAL(p.frames[f].type, WIRE_GOAWAY);
        peer_drop(&p);
        if (!rows[i].lives)
            UNTIL(raw_ended(&v) && finished);
        CU_ASSERT_EQUAL(kit_sessions_parked(host.kit), rows[i].lives);
        raw_close(&v);
        leave_over_with();
    }
}

static void a_hand_that_is_none(void) {
    struct peer p;
    struct raw v;
    leave("", NULL, &p, &v);
    lose(&p);
    struct handoff_got *from = ht_calloc(1, sizeof *from);
    CU_ASSERT_PTR_NOT_NULL_FATAL(from);
    for (int i = 0; i < 3; i++) {
        int fd[2];
        if (socketpair(AF_UNIX, SOCK_STREAM | SOCK_NONBLOCK | SOCK_CLOEXEC, 0, fd) != 0)
            abort();
        from->m =
            (struct restart_message){.type = RESTART_HAND, .session = ht_slice_str(id), .version = i == 2 ? 9 : 1};
        from->fds[0] = fd[0];
        from->fds[1] = dup(fd[0]); /* no memory file */
        from->n_fds = i == 0 ? 1 : 2;
        if (i == 0)
            close(from->fds[1]);
        leave_take(host.kit, from);
        handoff_drop(from);
        hears(RESTART_ROLE_SERVER, RESTART_OVER);
        char byte;
        CU_ASSERT_EQUAL(recv(fd[1], &byte, 1, 0), 0);
        close(fd[1]);
    }
    ht_free(from);
    CU_ASSERT_EQUAL(kit_sessions_parked(host.kit), 1);
    raw_close(&v);
    leave_over_with();
}

int main(void) {
    static const struct tap_test tests[] = {
        {"a HELLO goes where the streams are", a_hello_goes_where_the_streams_are},
        {"others get an answer as always", others_get_an_answer_as_always},
        {"it is over, or the old program is gone: an answer as always", it_is_over},
        {"an old program that takes nothing: a refusal, until it does", one_that_takes_nothing},
        {"secondaries as well", secondaries_as_well},
        {"each allocation may fail", memory_runs_out},
        {"they are bounded", they_are_bounded},
        {"streams go on over what the new kit hands over", streams_go_on},
        {"what cannot go on is over", what_cannot_go_on},
        {"what was handed over makes no sense", a_hand_that_is_none},
        {NULL, NULL},
    };
    return tap_main("sessions of an old kit", tests);
}
