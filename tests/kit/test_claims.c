/*
 * Who gets a port that another session holds (rules CLIENT-1 to CLIENT-5): the same client's next process when the
 * first one is gone or silent, nobody while its driver answers, and never a stranger. The clock stands still, so who
 * answers has answered in time.
 */
#include "peer.h"
#include "support/clock_still.h"

#define ME PEER_CLIENT
#define ALMOST "0123456789abcdef0123456789abcdee"
#define LONGER ME "0"

static const struct ht_slice client_cap = {"client", 6};

static void say_hello_as(struct peer *p, const char *client, const char *resume) {
    peer_hello_as(p, &client_cap, client != NULL, client, resume);
}

/* A session of a client; NULL: of nobody. */
static void start_as(struct peer *p, const char *client) {
    say_hello_as(p, client, NULL);
    const struct got_frame *f = peer_expect(p, WIRE_HELLO_OK);
    CU_ASSERT_EQUAL(p->any.hello_ok.n_capabilities, client != NULL);
    if (client) /* CLIENT-5 */
        CU_ASSERT_PTR_NULL(memmem(p->bytes.data + f->at, f->len, client, strlen(client)));
}

static void ask(struct peer *p, enum wire_kind kind, uint16_t port, const char *label, const char *on) {
    struct wire_bind b = {
        .has_client_bind_ref = true,
        .client_bind_ref = port,
        .kind = kind,
        .mode = kind == WIRE_KIND_HTTP ? WIRE_MODE_EXPOSE : WIRE_MODE_PULL,
        .container_port = port,
        .has_label = label != NULL,
        .label = ht_slice_str(label),
        .has_host = on != NULL,
        .host = ht_slice_str(on),
    };
    peer_send(p, WIRE_BIND, 0, &b);
}

static void gets(struct peer *p, uint16_t port) {
    peer_expect(p, WIRE_BIND_OK);
    CU_ASSERT_EQUAL(p->any.bind_ok.container_port, port);
}

/* `says`: pieces of the message, up to NULL. No message has an id in it (CLIENT-5). */
static void is_told(struct peer *p, const char *const *says) {
    char text[1100];
    peer_expect(p, WIRE_BIND_ERR);
    CU_ASSERT_EQUAL(p->any.bind_err.code, WIRE_BIND_ERROR_ALREADY_BOUND);
    snprintf(text, sizeof text, "%.*s", HT_SLICE_ARG(p->any.bind_err.message));
    for (; *says; says++) {
        if (!strstr(text, *says))
            printf("# no '%s' in: %s\n", *says, text);
        CU_ASSERT_PTR_NOT_NULL(strstr(text, *says));
    }
    CU_ASSERT_PTR_NULL(strstr(text, "0123456789abcdef"));
}

static uint16_t bound(struct peer *p, enum wire_kind kind, const char *label) {
    struct wire_bind b = {.has_client_bind_ref = true,
                          .kind = kind,
                          .mode = kind == WIRE_KIND_HTTP ? WIRE_MODE_EXPOSE : WIRE_MODE_PULL,
                          .has_label = label != NULL,
                          .label = ht_slice_str(label)};
    peer_send(p, WIRE_BIND, 0, &b);
    peer_expect(p, WIRE_BIND_OK);
    return p->any.bind_ok.container_port;
}

/* What a silence is: the last millisecond of it, and what the kit may have said before that is not there. */
static void silence(struct peer *waits) {
    ht_clock_skip((WIRE_LIMIT_CLIENT_SILENCE - 1) * UINT64_C(1000));
    settle();
    CU_ASSERT_EQUAL(waits->n_read, waits->n_frames);
    CU_ASSERT_FALSE(waits->closed);
    ht_clock_skip(1000);
}

static const enum wire_kind kinds[] = {WIRE_KIND_HTTP, WIRE_KIND_TCP};

static void what_is_parked_changes_hands_at_once(void) {
    for (size_t i = 0; i < HT_ARRAY_LEN(kinds); i++) {
        host_start("");
        struct peer old, new;
        struct raw r;
        start_as(&old, ME);
        uint16_t port = bound(&old, kinds[i], NULL), other = bound(&old, kinds[i], NULL);
        peer_drop(&old);
        UNTIL(kit_sessions_parked(host.kit) == 1);
        start_as(&new, ME);
        ask(&new, kinds[i], port, NULL, NULL);
        gets(&new, port);
        CU_ASSERT_EQUAL(kit_sessions_parked(host.kit), 1); /* it has a port left */
        raw_connect(&r, port);
        if (kinds[i] == WIRE_KIND_HTTP)
            raw_send(&r, GET("/"));
        uint32_t stream = peer_expect(&new, WIRE_STREAM_OPEN)->stream_id;
        if (kinds[i] == WIRE_KIND_HTTP)
            peer_expect(&new, WIRE_EOF);
        peer_send(&new, WIRE_RESET, stream, &(struct wire_reset){.code = WIRE_CODE_REFUSED_STREAM});
        UNTIL(raw_ended(&r) || strstr(raw_text(&r), "502"));
        raw_close(&r);
        ask(&new, kinds[i], other, NULL, NULL);
        gets(&new, other);
        UNTIL(kit_sessions_parked(host.kit) == 0);
        CU_ASSERT_EQUAL(kit_metrics(host.kit)->takeovers_total, 2);
        peer_bye(&new);
        host_stop();
    }
}

static void who_answers_keeps_the_port(void) {
    static const char *const says[] = {"another driver of yours, which is alive (\"web\"), since 20", "stop that one",
                                       NULL};
    for (size_t i = 0; i < HT_ARRAY_LEN(kinds); i++) {
        host_start("");
        struct peer old, new;
        start_as(&old, ME);
        uint16_t port = bound(&old, kinds[i], "web");
        start_as(&new, ME);
        uint64_t asked = ht_now_ms();
        ask(&new, kinds[i], port, NULL, NULL);
        peer_expect(&old, WIRE_PING); /* at once, and the BIND waits for what comes of it */
        CU_ASSERT_EQUAL(new.n_read, new.n_frames);
        peer_send(&old, WIRE_PONG, 0, &old.any.ping);
        is_told(&new, says);
        CU_ASSERT_EQUAL(ht_now_ms(), asked); /* as soon as that one has answered */
        /* Side by side with another port; and the next one who asks is told by the next PING. */
        CU_ASSERT(bound(&new, kinds[i], NULL) != port);
        ask(&new, kinds[i], port, NULL, NULL);
        peer_expect(&old, WIRE_PING);
        peer_send(&old, WIRE_PONG, 0, &old.any.ping);
        is_told(&new, says);
        peer_bye(&new);
        peer_bye(&old);
        host_stop();
    }
}

static void who_is_silent_loses_it(void) {
    for (size_t i = 0; i < HT_ARRAY_LEN(kinds); i++) {
        host_start("");
        struct peer old, new;
        struct raw r;
        start_as(&old, ME);
        uint16_t port = bound(&old, kinds[i], NULL), second = bound(&old, kinds[i], NULL);
        raw_connect(&r, port); /* somebody is under way */
        if (kinds[i] == WIRE_KIND_HTTP)
            raw_send(&r, GET("/"));
        uint32_t stream = peer_expect(&old, WIRE_STREAM_OPEN)->stream_id;
        if (kinds[i] == WIRE_KIND_HTTP)
            peer_expect(&old, WIRE_EOF);
        start_as(&new, ME);
        ask(&new, kinds[i], port, NULL, NULL);
        ask(&new, kinds[i], second, NULL, NULL);
        peer_expect(&old, WIRE_PING);
        silence(&new);
        gets(&new, port);
        gets(&new, second);
        peer_expect(&old, WIRE_RESET);
        CU_ASSERT_EQUAL(old.any.reset.code, WIRE_CODE_BIND_TAKEOVER);
        CU_ASSERT_EQUAL(old.frames[old.n_read - 1].stream_id, stream);
        peer_expect(&old, WIRE_BIND_REVOKED);
        peer_expect(&old, WIRE_BIND_REVOKED);
        UNTIL(raw_ended(&r) || kinds[i] == WIRE_KIND_HTTP);
        raw_close(&r);
        peer_drop(&old);
        peer_bye(&new);
        UNTIL(kit_sessions_parked(host.kit) <= 1);
        host_stop();
    }
}

static void a_stranger_gets_nothing(void) {
    static const char *const strangers[] = {ALMOST, LONGER, NULL};
    static const char *const live[] = {"another session (\"web\\x1b[1m\"), since 20", NULL};
    static const char *const parked[] = {"another session (\"web\\x1b[1m\"), since 20", "its driver is away",
                                         "until 20", NULL};
    for (size_t i = 0; i < HT_ARRAY_LEN(strangers); i++) {
        host_start("");
        struct peer old, new;
        start_as(&old, ME);
        uint16_t port = bound(&old, WIRE_KIND_HTTP, "web\x1b[1m");
        start_as(&new, strangers[i]);
        ask(&new, WIRE_KIND_HTTP, port, NULL, NULL);
        is_told(&new, live);
        peer_drop(&old);
        UNTIL(kit_sessions_parked(host.kit) == 1);
        ask(&new, WIRE_KIND_HTTP, port, NULL, NULL);
        is_told(&new, parked);
        CU_ASSERT_EQUAL(kit_metrics(host.kit)->takeovers_total, 0);
        CU_ASSERT_EQUAL(kit_metrics(host.kit)->pings_total[HT_METRIC_DIRECTION_SENT], 0);
        peer_bye(&new);
        host_stop();
    }
}

/* Whatever the next process wants there: the other kind, or another address. */
static void another_use_of_the_port(void) {
    host_start("");
    struct peer old, new;
    start_as(&old, ME);
    uint16_t port = bound(&old, WIRE_KIND_TCP, NULL);
    peer_drop(&old);
    UNTIL(kit_sessions_parked(host.kit) == 1);
    start_as(&new, ME);
    ask(&new, WIRE_KIND_HTTP, port, NULL, NULL);
    gets(&new, port);
    UNTIL(kit_sessions_parked(host.kit) == 0);
    CU_ASSERT_EQUAL(kit_fd_permits_used(host.kit), 1);
    peer_bye(&new);
    host_stop();
}

/* The one that is waited for goes away by itself, and so does the one that waits. */
static void ends_while_it_waits(void) {
    host_start("");
    struct peer old, new, last;
    start_as(&old, ME);
    uint16_t port = bound(&old, WIRE_KIND_HTTP, NULL);
    start_as(&new, ME);
    ask(&new, WIRE_KIND_HTTP, port, "a label", NULL);
    peer_expect(&old, WIRE_PING);
    start_as(&last, ME);
    ask(&last, WIRE_KIND_HTTP, port, NULL, NULL);
    peer_drop(&last);
    peer_drop(&old);
    gets(&new, port);
    peer_bye(&new);
    host_stop();
}

static void is_refused(struct peer *p) {
    peer_expect(p, WIRE_GOAWAY);
    CU_ASSERT_EQUAL(p->any.goaway.code, WIRE_CODE_RESOURCE_EXHAUSTED);
    UNTIL(p->closed);
    CU_ASSERT_EQUAL(p->close_code, WIRE_GOAWAY_SESSION_LIMIT_CLOSE);
    peer_drop(p);
}

/* HELLO-7: the last place is held by a session of the client's own, and nobody is behind it any more. */
static void a_silent_one_gives_its_place(void) {
    host_start("--max-sessions 1 --hello-timeout 1s");
    struct peer old, new;
    start_as(&old, ME);
    uint16_t port = bound(&old, WIRE_KIND_HTTP, NULL);
    say_hello_as(&new, ME, "S-00000000-0000-4000-8000-000000000000");
    peer_expect(&old, WIRE_PING);
    silence(&new); /* and no stranger's clock ends its wait */
    peer_expect(&new, WIRE_HELLO_OK);
    CU_ASSERT_EQUAL(kit_sessions_parked(host.kit), 1);
    ask(&new, WIRE_KIND_HTTP, port, NULL, NULL);
    gets(&new, port);
    peer_drop(&old);
    peer_bye(&new);
    host_stop();
}

static void one_that_answers_keeps_its_place(void) {
    host_start("--max-sessions 1");
    struct peer old, new, other;
    start_as(&old, ME);
    say_hello_as(&new, ME, NULL);
    peer_expect(&old, WIRE_PING);
    say_hello_as(&other, ME, NULL); /* one PING is enough for both */
    UNTIL(kit_websockets(host.kit) == 3);
    CU_ASSERT_EQUAL(new.n_read, new.n_frames);
    peer_send(&old, WIRE_PONG, 0, &old.any.ping);
    is_refused(&new);
    is_refused(&other);
    say_hello_as(&other, ALMOST, NULL); /* a stranger is no reason to ask */
    is_refused(&other);
    CU_ASSERT_EQUAL(kit_metrics(host.kit)->pings_total[HT_METRIC_DIRECTION_SENT], 1);
    peer_bye(&old);
    host_stop();
}

/* The one that waits goes away; then the one that is asked does, with a reason to be kept, and with none. */
static void ends_at_the_cap(void) {
    host_start("--max-sessions 1");
    struct peer old, new;
    start_as(&old, ME);
    say_hello_as(&new, ME, NULL);
    peer_expect(&old, WIRE_PING);
    peer_drop(&new);
    UNTIL(kit_websockets(host.kit) == 1);
    say_hello_as(&new, ME, NULL);
    UNTIL(kit_websockets(host.kit) == 2);
    peer_drop(&old);
    peer_expect(&new, WIRE_HELLO_OK);
    say_hello_as(&old, ME, NULL);
    peer_expect(&new, WIRE_PING);
    peer_bye(&new);
    peer_expect(&old, WIRE_HELLO_OK);
    say_hello_as(&new, ME, NULL); /* and the kit ends while one waits */
    peer_expect(&old, WIRE_PING);
    peer_drop(&old);
    peer_drop(&new);
    host_stop();
}

int main(void) {
    static const struct tap_test tests[] = {
        {"a parked port goes to its client's next process at once", what_is_parked_changes_hands_at_once},
        {"a driver that answers keeps its port", who_answers_keeps_the_port},
        {"a silent driver loses its port", who_is_silent_loses_it},
        {"a stranger gets nothing, and learns who holds it", a_stranger_gets_nothing},
        {"a claim for another kind or address of the port", another_use_of_the_port},
        {"sessions may end while a BIND waits", ends_while_it_waits},
        {"at the session cap a silent one gives its place", a_silent_one_gives_its_place},
        {"at the session cap one that answers keeps its place", one_that_answers_keeps_its_place},
        {"at the session cap either of two sessions may end", ends_at_the_cap},
        {NULL, NULL},
    };
    return tap_main("kit claims", tests);
}
