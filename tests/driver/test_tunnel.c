/* The client library against a kit that the test plays. */
#include "driver/kit_script.h"
#include "options_gen.h"

#include <pthread.h>

/* ---- getting there ---- */

static void hello_says_who_we_are(void) {
    world_start();
    world_tunnel("s3cret");
    CU_ASSERT_EQUAL(ht_tunnel_connect(w.t), HT_TUNNEL_OK);
    CU_ASSERT_EQUAL(ht_tunnel_connect(w.t), HT_TUNNEL_ESTATE);
    UNTIL(w.connected);
    const char *head = (const char *)ht_buf_head(&w.in);
    CU_ASSERT_EQUAL(strncmp(head, "GET " WIRE_CONNECT_PATH " HTTP/1.1\r\n", 30), 0);
    CU_ASSERT_PTR_NOT_NULL(strstr(head, "Authorization: Bearer s3cret\r\n"));
    CU_ASSERT_STRING_EQUAL(w.hello_token, "s3cret");
    CU_ASSERT_STRING_EQUAL(w.hello_caps,
                           "stream-resume,auto-window,client,trailers,handover,names,hosts,large-window,");
    CU_ASSERT_STRING_EQUAL(w.offered, WIRE_SUBPROTOCOL_V1);
    CU_ASSERT_STRING_EQUAL(w.session_id, "S-1");
    CU_ASSERT_STRING_EQUAL(w.server, "scripted/1");
    world_stop();
}

/* The one that is given, the one that is kept (the same each time), or none. */
static void a_client_id_goes_with_hello(void) {
    static const char *const given[] = {"an-id-that-the-caller-gives", NULL, NULL, ""};
    static const char *const names[] = {"myapp", NULL, "", "myapp"}; /* without an id nobody could own one */
    char kept[132] = "";
    for (size_t i = 0; i < HT_ARRAY_LEN(given); i++) {
        world_start();
        w.client_id = given[i];
        w.client_name = names[i];
        world_tunnel(NULL);
        CU_ASSERT_EQUAL_FATAL(ht_tunnel_connect(w.t), HT_TUNNEL_OK);
        UNTIL(w.connected);
        CU_ASSERT_STRING_EQUAL(w.hello_name, i == 0 ? "myapp" : "");
        if (given[i]) {
            CU_ASSERT_STRING_EQUAL(w.hello_client, given[i]);
            CU_ASSERT_EQUAL(strstr(w.hello_caps, "client,") != NULL, *given[i] != '\0');
        } else {
            CU_ASSERT_EQUAL(strlen(w.hello_client), IDENTITY_LEN);
            CU_ASSERT(!kept[0] || strcmp(kept, w.hello_client) == 0);
            strcpy(kept, w.hello_client);
        }
        world_stop();
    }
}

static void more_headers_on_the_upgrade(void) {
    static const char *const headers[] = {"X-Edge-Key: k1", "cookie:a=b; c=d \t", "X-Edge-Key:  k2", "X-Empty:"};
    struct ht_tunnel_options o = {
        .size = sizeof o, .token = "s3cret", .headers = headers, .n_headers = HT_ARRAY_LEN(headers)};
    world_start();
    o.url = w.url;
    CU_ASSERT_EQUAL_FATAL(driver_create_on(w.loop, &w.t, &o, &calls, NULL), HT_TUNNEL_OK);
    CU_ASSERT_EQUAL(ht_tunnel_connect(w.t), HT_TUNNEL_OK);
    UNTIL(w.connected);
    const char *head = (const char *)ht_buf_head(&w.in);
    CU_ASSERT_PTR_NOT_NULL(strstr(head, "\r\nAuthorization: Bearer s3cret\r\nX-Edge-Key: k1\r\ncookie: a=b; c=d\r\n"
                                        "X-Edge-Key: k2\r\nX-Empty: \r\n\r\n"));
    world_stop();
}

static void headers_that_may_not_be(void) {
    static const struct {
        const char *header, *says;
    } rows[] = {
        {NULL, "no colon"},
        {"", "no colon"},
        {"X-Key", "no colon"},
        {": v", "name"},
        {"X Key: v", "name"},
        {"X-Key : v", "name"},
        {"X\rKey: v", "name"},
        {"X-Key: v\r\nX-Other: w", "X-Key holds a character"},
        {"X-Key: v\nw", "X-Key holds a character"},
        {"X-Key: \x01", "X-Key holds a character"},
        {"host: a", "host belongs"},
        {"CONNECTION: close", "CONNECTION belongs"},
        {"Upgrade: h2c", "belongs"},
        {"Content-Length: 1", "belongs"},
        {"Transfer-Encoding: chunked", "belongs"},
        {"Sec-WebSocket-Protocol: chat", "belongs"},
        {"sec-websocket-anything: chat", "belongs"},
        {"Authorization: Basic YTpi", "carries the token"},
    };
    for (size_t i = 0; i < HT_ARRAY_LEN(rows); i++) {
        struct ht_tunnel_options o = {
            .size = sizeof o, .url = "ws://a", .token = "t", .headers = &rows[i].header, .n_headers = 1};
        struct ht_tunnel *t;
        CU_ASSERT_EQUAL(ht_tunnel_create(&t, &o, NULL, NULL), HT_TUNNEL_EINVAL);
        CU_ASSERT_PTR_NULL(t);
        CU_ASSERT_PTR_NOT_NULL(strstr(ht_tunnel_last_error(), rows[i].says));
    }
    static const char *const basic = "Authorization: Basic YTpi";
    struct ht_tunnel_options o = {.size = sizeof o, .url = "ws://a", .headers = &basic, .n_headers = 1};
    struct ht_tunnel *t;
    CU_ASSERT_EQUAL(ht_tunnel_create(&t, &o, NULL, NULL), HT_TUNNEL_OK); /* without a token it is the caller's */
    ht_tunnel_destroy(&t);
}

static void without_a_token_nothing_is_shown(void) {
    world_go();
    CU_ASSERT_PTR_NULL(strstr((const char *)ht_buf_head(&w.in), "uthorization"));
    CU_ASSERT_STRING_EQUAL(w.hello_token, "");
    world_stop();
}

static void nobody_listens(void) {
    world_start();
    world_deafens(&w.listener);
    start();
    expect_end(HT_TUNNEL_ECONNECT, "connection refused");
}

static void answers_that_are_no_tunnel(void) {
    static const struct {
        const char *answer, *says;
        int error;
    } rows[] = {
        {"HTTP/1.1 401 Unauthorized\r\nContent-Length: 0\r\n\r\n", "wants a token", HT_TUNNEL_EAUTH},
        {"HTTP/1.1 404 Not Found\r\nContent-Length: 0\r\n\r\n", "404", HT_TUNNEL_EHANDSHAKE},
        {"HTTP/1.1 503 Unavailable\r\nContent-Length: 0\r\n\r\n", "503", HT_TUNNEL_EHANDSHAKE},
        {"HTTP/1.1 200 OK\r\nContent-Length: 0\r\n\r\n", "200", HT_TUNNEL_EHANDSHAKE},
    };
    for (size_t i = 0; i < HT_ARRAY_LEN(rows); i++) {
        world_start();
        w.answer = rows[i].answer;
        start();
        expect_end(rows[i].error, rows[i].says);
    }
}

static void a_wrong_token(void) {
    world_start();
    w.answer = "HTTP/1.1 401 Unauthorized\r\nContent-Length: 0\r\n\r\n";
    world_tunnel("wrong");
    CU_ASSERT_EQUAL(ht_tunnel_connect(w.t), HT_TUNNEL_OK);
    expect_end(HT_TUNNEL_EAUTH, "refused the token");
}

static void something_that_speaks_no_http(void) {
    world_start();
    w.answer = "220 mail.example ESMTP\r\n\r\n";
    start();
    UNTIL(w.ended);
    CU_ASSERT(w.end_error == HT_TUNNEL_ECONNECT || w.end_error == HT_TUNNEL_EHANDSHAKE);
    world_stop();
}

static void no_tls_where_it_should_be(void) {
    char url[80];
    world_start();
    w.blunt = true;
    w.answer = "HTTP/1.1 400 Bad Request\r\n\r\n";
    snprintf(url, sizeof url, "wss%.70s", w.url + 2);
    struct ht_tunnel_options o = {.size = sizeof o, .url = url, .retry_first = 1, .retry_min_ms = 1};
    CU_ASSERT_EQUAL_FATAL(driver_create_on(w.loop, &w.t, &o, &calls, NULL), HT_TUNNEL_OK);
    CU_ASSERT_EQUAL(ht_tunnel_connect(w.t), HT_TUNNEL_OK);
    UNTIL(w.retries >= 2 || w.ended); /* it may be a login page ... */
    CU_ASSERT_EQUAL_FATAL(w.ended, 0);
    w.t->retry_for_ms = 1; /* ... until the time is over */
    UNTIL(w.ended);
    CU_ASSERT_EQUAL(ht_exit_status(w.end_error), OPT_EXIT_CONFIG);
    expect_end(HT_TUNNEL_ETLS, "does not speak TLS");
}

static void a_subprotocol_that_was_not_offered(void) {
    world_start();
    w.subprotocol = "chat";
    start();
    UNTIL(w.ended);
    CU_ASSERT(w.end_error == HT_TUNNEL_ECONNECT || w.end_error == HT_TUNNEL_EHANDSHAKE);
    world_stop();
}

/* Several sockets are asked for, and the kit knows only one. */
static void a_kit_of_version_1(void) {
    world_start();
    w.connections = 4;
    start();
    UNTIL(w.connected);
    CU_ASSERT_STRING_EQUAL(w.offered, WIRE_SUBPROTOCOL_V2 ", " WIRE_SUBPROTOCOL_V1);
    CU_ASSERT_STRING_EQUAL(w.hello_caps,
                           "stream-resume,auto-window,client,trailers,handover,names,hosts,large-window,");
    CU_ASSERT_EQUAL(w.asked, 0);
    settle();
    CU_ASSERT_EQUAL(w.upgrades, 1);
    world_stop();
    /* and one that takes no list */
    world_start();
    w.connections = 4;
    w.answer = "HTTP/1.1 400 Bad Request\r\nContent-Length: 0\r\n\r\n";
    start();
    UNTIL(w.upgrades == 2);
    CU_ASSERT_PTR_NOT_NULL(
        strstr((const char *)ht_buf_head(&w.in), "Sec-WebSocket-Protocol: " WIRE_SUBPROTOCOL_V1 "\r\n"));
    expect_end(HT_TUNNEL_EHANDSHAKE, "400");
}

/* Rule JOIN-3: without reissue-tickets a session that does not get all of its sockets is given up, and with a goodbye.
 */
static void a_secondary_that_cannot_be_opened(void) {
    world_start();
    w.connections = 4;
    w.subprotocol = WIRE_SUBPROTOCOL_V2;
    start();
    UNTIL(w.connected);
    w.answer = "HTTP/1.1 503 Unavailable\r\nContent-Length: 0\r\n\r\n";
    CU_ASSERT_EQUAL(w.asked, 4);
    CU_ASSERT_STRING_EQUAL(w.hello_caps, "multi-ws,stream-resume,shard-map,reissue-tickets,auto-window,client,trailers,"
                                         "handover,names,hosts,large-window,");
    UNTIL(w.ws_closed);
    CU_ASSERT_EQUAL(w.close_code, 1005);
    expect_end(HT_TUNNEL_ELOST, "connection 2 of the 2");
}

static void nobody_answers_hello(void) {
    struct ht_tunnel_options o = {.size = sizeof o, .connect_timeout_ms = 100};
    world_start();
    w.no_hello_ok = true;
    o.url = w.url;
    CU_ASSERT_EQUAL_FATAL(driver_create_on(w.loop, &w.t, &o, &calls, NULL), HT_TUNNEL_OK);
    CU_ASSERT_EQUAL(ht_tunnel_connect(w.t), HT_TUNNEL_OK);
    expect_end(HT_TUNNEL_EHANDSHAKE, "HELLO in time");
}

static void nobody_answers_the_upgrade(void) {
    struct ht_tunnel_options o = {.size = sizeof o, .connect_timeout_ms = 100};
    world_start();
    w.answer = "";
    o.url = w.url;
    CU_ASSERT_EQUAL_FATAL(driver_create_on(w.loop, &w.t, &o, &calls, NULL), HT_TUNNEL_OK);
    CU_ASSERT_EQUAL(ht_tunnel_connect(w.t), HT_TUNNEL_OK);
    UNTIL(w.ended);
    CU_ASSERT(w.end_error == HT_TUNNEL_ECONNECT || w.end_error == HT_TUNNEL_EHANDSHAKE);
    world_stop();
}

static void refused_with_goaway(void) {
    static const struct {
        struct wire_goaway goaway;
        int error;
        const char *says;
    } rows[] = {
        {{.code = WIRE_CODE_AUTH_ERROR, .message = {"go away", 7}}, HT_TUNNEL_EAUTH, "go away"},
        {{.code = WIRE_CODE_RESOURCE_EXHAUSTED, .message = {"full", 4}}, HT_TUNNEL_ELIMIT, "full"},
        {{.code = WIRE_CODE_PROTOCOL_ERROR, .message = {"what?", 5}}, HT_TUNNEL_EHANDSHAKE, "what?"},
        {{.code = WIRE_CODE_NO_ERROR, .message = {"later", 5}}, HT_TUNNEL_EGOAWAY, "later"},
    };
    for (size_t i = 0; i < HT_ARRAY_LEN(rows); i++) {
        world_start();
        w.refuse = &rows[i].goaway;
        start();
        UNTIL(w.ended);
        CU_ASSERT_EQUAL(w.connected, 0);
        CU_ASSERT_EQUAL(w.disconnected, 0);
        expect_end(rows[i].error, rows[i].says);
    }
}

static void closed_before_hello_ok(void) {
    world_start();
    w.no_hello_ok = true;
    start();
    UNTIL(w.hellos);
    ws_conn_close(w.ws, 1013, "not now");
    expect_end(HT_TUNNEL_EHANDSHAKE, "not now");
}

/* ---- bindings ---- */

static void bindings_before_and_after(void) {
    world_start();
    world_tunnel(NULL);
    struct ht_bind_options o = {
        .size = sizeof o, .kind = HT_EXPOSE_HTTP, .target = "3000", .label = "mine", .takeover = 1};
    CU_ASSERT_EQUAL(ht_tunnel_bind(w.t, &o), 1);
    CU_ASSERT_EQUAL(ht_tunnel_connect(w.t), HT_TUNNEL_OK);
    UNTIL(w.bound == 1);
    CU_ASSERT_STRING_EQUAL(w.bound_url, "http://127.0.0.1:20001");
    CU_ASSERT_EQUAL(w.binds[0].kind, WIRE_KIND_HTTP);
    CU_ASSERT_EQUAL(w.binds[0].mode, WIRE_MODE_EXPOSE);
    CU_ASSERT_EQUAL(w.binds[0].container_port, 0);
    CU_ASSERT(w.binds[0].takeover);
    CU_ASSERT_STRING_EQUAL(w.bind_label, "mine");
    struct ht_bind_options p = {
        .size = sizeof p, .kind = HT_PULL_TCP, .target = "db:5432", .container_port = 5433, .pull_host = "::1"};
    CU_ASSERT_EQUAL(ht_tunnel_bind(w.t, &p), 2);
    UNTIL(w.bound == 2);
    CU_ASSERT_STRING_EQUAL(w.bound_url, "[::1]:5433");
    CU_ASSERT_EQUAL(w.binds[1].kind, WIRE_KIND_TCP);
    CU_ASSERT_EQUAL(w.binds[1].mode, WIRE_MODE_PULL);
    CU_ASSERT_EQUAL(w.binds[1].container_port, 5433);
    CU_ASSERT_STRING_EQUAL(w.bind_host, "::1");
    world_stop();
}

static void bindings_that_make_no_sense(void) {
    world_go();
    CU_ASSERT_EQUAL(bind_one((enum ht_bind_kind)9, "3000", 1), HT_TUNNEL_EINVAL);
    CU_ASSERT_EQUAL(bind_one(HT_EXPOSE_HTTP, "nonsense", 1), HT_TUNNEL_EINVAL);
    CU_ASSERT_PTR_NOT_NULL(strstr(ht_tunnel_last_error(), "port is missing"));
    CU_ASSERT_EQUAL(bind_one(HT_EXPOSE_HTTP, "8080:3000", 1), HT_TUNNEL_EINVAL);
    CU_ASSERT_PTR_NOT_NULL(strstr(ht_tunnel_last_error(), "8080 is not a host; the target is 3000"));
    CU_ASSERT_EQUAL(bind_one(HT_EXPOSE_HTTP, NULL, 1), HT_TUNNEL_EINVAL);
    struct ht_bind_options o = {.size = sizeof o, .kind = HT_PULL_TCP, .target = "1", .takeover = 1};
    CU_ASSERT_EQUAL(ht_tunnel_bind(w.t, &o), HT_TUNNEL_EINVAL);
    o.size = 0;
    CU_ASSERT_EQUAL(ht_tunnel_bind(w.t, &o), HT_TUNNEL_EINVAL);
    CU_ASSERT_EQUAL(ht_tunnel_bind(w.t, NULL), HT_TUNNEL_EINVAL);
    CU_ASSERT_EQUAL(ht_tunnel_unbind(w.t, 77), HT_TUNNEL_EINVAL);
    CU_ASSERT_EQUAL(ht_tunnel_unbind(w.t, -1), HT_TUNNEL_EINVAL);
    CU_ASSERT_EQUAL(w.n_binds, 0);
    world_stop();
}

static void a_public_url_goes_first(void) {
    world_go();
    w.no_bind_answers = true;
    bind_one(HT_EXPOSE_HTTP, "3000", 3000);
    UNTIL(w.n_binds);
    struct wire_bind_ok ok = {.client_bind_ref = 1,
                              .bind_id = 1,
                              .container_port = 3000,
                              .has_public_url = true,
                              .public_url = ht_slice_str("https://x-3000.example")};
    CU_ASSERT_EQUAL(mux_session_send(w.s, WIRE_BIND_OK, &ok), 0);
    UNTIL(w.bound);
    CU_ASSERT_STRING_EQUAL(w.bound_url, "https://x-3000.example");
    world_stop();
}

/* A URL is for visitors of an exposed port; a kit with a pattern sends one for pulled ports as well. */
static void a_pulled_port_has_no_public_url(void) {
    world_go();
    w.no_bind_answers = true;
    bind_one(HT_PULL_TCP, "5432", 5432);
    UNTIL(w.n_binds);
    struct wire_bind_ok ok = {.client_bind_ref = 1,
                              .bind_id = 1,
                              .container_port = 5432,
                              .has_public_url = true,
                              .public_url = ht_slice_str("https://x-5432.example")};
    CU_ASSERT_EQUAL(mux_session_send(w.s, WIRE_BIND_OK, &ok), 0);
    UNTIL(w.bound);
    CU_ASSERT_STRING_EQUAL(w.bound_url, "127.0.0.1:5432");
    world_stop();
}

static void a_refused_binding(void) {
    world_go();
    w.no_bind_answers = true;
    bind_one(HT_EXPOSE_HTTP, "3000", 3000);
    UNTIL(w.n_binds);
    struct wire_bind_err err = {.has_client_bind_ref = true,
                                .client_bind_ref = 1,
                                .code = WIRE_BIND_ERROR_ALREADY_BOUND,
                                .message = ht_slice_str("port 3000\nis taken")};
    CU_ASSERT_EQUAL(mux_session_send(w.s, WIRE_BIND_ERR, &err), 0);
    UNTIL(w.failed);
    CU_ASSERT_STRING_EQUAL(w.fail_code, "ALREADY_BOUND");
    CU_ASSERT_STRING_EQUAL(w.fail_message, "port 3000\\x0ais taken");
    CU_ASSERT_EQUAL(w.ended, 0);
    err.client_bind_ref = 55; /* answers to nothing are no harm */
    CU_ASSERT_EQUAL(mux_session_send(w.s, WIRE_BIND_ERR, &err), 0);
    settle();
    CU_ASSERT_EQUAL(w.failed, 1);
    CU_ASSERT_EQUAL(w.ended, 0);
    world_stop();
}

static void a_refusal_that_ends_it(void) {
    static const struct wire_bind_err refusal = {.code = WIRE_BIND_ERROR_RESERVED_PORT,
                                                 .message = {"not that one", 12}};
    struct ht_tunnel_options o = {.size = sizeof o, .strict_bindings = 1};
    world_start();
    o.url = w.url;
    w.refuse_bind = &refusal;
    w.n_refusals = 1;
    CU_ASSERT_EQUAL_FATAL(driver_create_on(w.loop, &w.t, &o, &calls, NULL), HT_TUNNEL_OK);
    bind_one(HT_EXPOSE_HTTP, "3000", 0);
    bind_one(HT_EXPOSE_HTTP, "3001", 0);
    CU_ASSERT_EQUAL(ht_tunnel_connect(w.t), HT_TUNNEL_OK);
    UNTIL(w.ended);
    CU_ASSERT_EQUAL(w.failed, 1);
    CU_ASSERT_EQUAL(w.retries, 0);
    CU_ASSERT_EQUAL(ht_exit_status(w.end_error), OPT_EXIT_BIND);
    UNTIL(w.ws_closed);
    CU_ASSERT_EQUAL(w.close_code, 1005); /* a goodbye */
    expect_end(HT_TUNNEL_EBIND, "127.0.0.1:3000: RESERVED_PORT: not that one");
}

static void more_bindings_than_the_kit_gives(void) {
    for (int strict = 0; strict < 2; strict++)
        for (unsigned max = 1; max < 4; max++) {
            struct ht_tunnel_options o = {.size = sizeof o, .strict_bindings = strict};
            world_start();
            o.url = w.url;
            w.max_bindings = max;
            CU_ASSERT_EQUAL_FATAL(driver_create_on(w.loop, &w.t, &o, &calls, NULL), HT_TUNNEL_OK);
            for (int i = 0; i < 3; i++)
                bind_one(HT_EXPOSE_HTTP, "3000", 0);
            bind_one(HT_EXPOSE_HTTP, "3000", 0);
            CU_ASSERT_EQUAL(ht_tunnel_unbind(w.t, 4), HT_TUNNEL_OK); /* this one is not asked for */
            CU_ASSERT_EQUAL(ht_tunnel_connect(w.t), HT_TUNNEL_OK);
            if (strict && max < 3) {
                char number[32];
                snprintf(number, sizeof number, "gives a session %u ", max);
                UNTIL(w.ended);
                UNTIL(w.ws_closed);
                CU_ASSERT_EQUAL(w.close_code, 1005);
                CU_ASSERT_EQUAL(w.n_binds, 0);
                CU_ASSERT_EQUAL(w.failed, 0);
                CU_ASSERT_EQUAL(w.retries, 0);
                CU_ASSERT_PTR_NOT_NULL(strstr(w.end_text, "3 ports are asked for"));
                CU_ASSERT_PTR_NOT_NULL(strstr(w.end_text, number));
                expect_end(HT_TUNNEL_EBIND, "--max-bindings-per-session");
            } else {
                UNTIL(w.bound == 3); /* the kit's own answer is what counts */
                world_stop();
            }
        }
}

static void close_on_failure(void *user, const struct ht_bind_failure *f) {
    on_bind_failed(user, f);
    ht_tunnel_close(w.t);
}

static void a_callback_may_close_the_tunnel(void) {
    calls.bind_failed = close_on_failure;
    world_go();
    w.no_bind_answers = true;
    bind_one(HT_EXPOSE_HTTP, "3000", 3000);
    bind_one(HT_EXPOSE_HTTP, "3001", 3001);
    UNTIL(w.n_binds == 2);
    struct wire_bind_err err = {.has_client_bind_ref = true, .client_bind_ref = 1, .code = WIRE_BIND_ERROR_INTERNAL};
    CU_ASSERT_EQUAL(mux_session_send(w.s, WIRE_BIND_ERR, &err), 0);
    UNTIL(w.ended);
    UNTIL(w.ws_closed);
    CU_ASSERT_EQUAL(w.close_code, 1005);
    CU_ASSERT_EQUAL(w.failed, 1);
    CU_ASSERT_EQUAL(w.end_error, HT_TUNNEL_OK);
    calls.bind_failed = on_bind_failed;
    world_stop();
}

static void a_binding_is_given_back(void) {
    world_go();
    bind_one(HT_EXPOSE_HTTP, "3000", 3000);
    bind_one(HT_EXPOSE_HTTP, "3001", 3001);
    UNTIL(w.bound == 2);
    CU_ASSERT_EQUAL(ht_tunnel_unbind(w.t, 2), HT_TUNNEL_OK);
    CU_ASSERT_EQUAL(ht_tunnel_unbind(w.t, 2), HT_TUNNEL_OK);
    UNTIL(w.unbound == 1);
    CU_ASSERT_EQUAL(w.n_unbinds, 1);
    CU_ASSERT_EQUAL(w.last_unbind, 2);
    CU_ASSERT_EQUAL(w.revoked, 0);
    CU_ASSERT_EQUAL(ht_tunnel_unbind(w.t, 2), HT_TUNNEL_EINVAL);
    CU_ASSERT_EQUAL(ht_tunnel_unbind(w.t, 1), HT_TUNNEL_OK);
    UNTIL(w.unbound == 2);
    CU_ASSERT_EQUAL(w.ended, 0);
    world_stop();
}

static void a_binding_is_given_back_before_it_stands(void) {
    world_go();
    w.no_bind_answers = true;
    bind_one(HT_EXPOSE_HTTP, "3000", 3000);
    UNTIL(w.n_binds);
    CU_ASSERT_EQUAL(ht_tunnel_unbind(w.t, 1), HT_TUNNEL_OK);
    struct wire_bind_ok ok = {.client_bind_ref = 1, .bind_id = 9, .container_port = 3000};
    CU_ASSERT_EQUAL(mux_session_send(w.s, WIRE_BIND_OK, &ok), 0);
    UNTIL(w.unbound == 1);
    CU_ASSERT_EQUAL(w.last_unbind, 9);
    CU_ASSERT_EQUAL(w.bound, 0);
    world_stop();
}

static void the_last_revoked_binding_ends_the_tunnel(void) {
    world_go();
    bind_one(HT_EXPOSE_HTTP, "3000", 3000);
    bind_one(HT_EXPOSE_HTTP, "3001", 3001);
    UNTIL(w.bound == 2);
    struct wire_bind_revoked revoked = {.bind_id = 1, .reason = ht_slice_str("taken over")};
    CU_ASSERT_EQUAL(mux_session_send(w.s, WIRE_BIND_REVOKED, &revoked), 0);
    UNTIL(w.revoked == 1);
    settle();
    CU_ASSERT_EQUAL(w.ended, 0);
    revoked.bind_id = 2;
    CU_ASSERT_EQUAL(mux_session_send(w.s, WIRE_BIND_REVOKED, &revoked), 0);
    UNTIL(w.ws_closed);
    CU_ASSERT_EQUAL(w.close_code, 1005);
    expect_end(HT_TUNNEL_EREVOKED, "another driver");
}

/* ---- streams ---- */

static uint16_t dead_port(void) {
    static const struct io_listener_ops ops = {.accepted = NULL};
    struct io_listener *l;
    struct io_addr at;
    CU_ASSERT_EQUAL_FATAL(io_addr_parse(&at, "127.0.0.1", 0), 0);
    CU_ASSERT_EQUAL_FATAL(io_listen(w.loop, &at, &ops, NULL, &l, NULL), 0);
    io_listener_local(l, &at);
    world_deafens(&l);
    return io_addr_port(&at);
}

static void a_request_that_finds_nobody(void) {
    char target[32];
    struct play_stream k = {.st = NULL};
    world_go();
    snprintf(target, sizeof target, "%u", dead_port());
    bind_one(HT_EXPOSE_HTTP, target, 3000);
    UNTIL(w.bound);
    play_get(&k, 1, "/a\x7f\xc3 b?");
    UNTIL(k.closes && w.requests == 1);
    CU_ASSERT(k.reset == WIRE_CODE_PROTOCOL_ERROR || k.reset == WIRE_CODE_REFUSED_STREAM);
    play_get(&k, 1, "/ab");
    UNTIL(k.closes == 2 && w.requests == 2);
    CU_ASSERT_EQUAL(k.reset, WIRE_CODE_REFUSED_STREAM);
    CU_ASSERT_EQUAL(w.request.status, 502); /* what the visitor gets */
    CU_ASSERT_EQUAL(w.request.reset_code, WIRE_CODE_REFUSED_STREAM);
    CU_ASSERT_PTR_NOT_NULL(strstr(w.request_error, "GET /ab 192.0.2.1:7: "));
    CU_ASSERT_PTR_NOT_NULL(strstr(w.request_error, "connection refused"));
    CU_ASSERT_EQUAL(ht_tunnel_streams(w.t), 0);
    ht_buf_free(&k.body);
    world_stop();
}

static void a_stream_for_no_binding(void) {
    struct play_stream k = {.st = NULL};
    world_go();
    play_get(&k, 5, "/");
    UNTIL(k.closes);
    CU_ASSERT_EQUAL(k.reset, WIRE_CODE_BIND_ERROR);
    CU_ASSERT_EQUAL(w.requests, 0);
    world_stop();
}

/* ---- running ---- */

static void *stop_it(void *tunnel) {
    ht_tunnel_stop(tunnel);
    return NULL;
}

static void another_thread_stops_it(void) {
    pthread_t thread;
    world_go();
    CU_ASSERT_EQUAL_FATAL(pthread_create(&thread, NULL, stop_it, w.t), 0);
    CU_ASSERT_EQUAL(ht_tunnel_run(w.t), HT_TUNNEL_STOPPED);
    pthread_join(thread, NULL);
    ht_tunnel_stop(w.t);
    CU_ASSERT_EQUAL(ht_tunnel_run(w.t), HT_TUNNEL_STOPPED); /* one before the run counts too */
    CU_ASSERT_EQUAL(ht_tunnel_turn(w.t, 0), HT_TUNNEL_OK);
    CU_ASSERT(ht_tunnel_fd(w.t) >= 0);
    world_stop();
}

static void a_loop_of_its_own(void) {
    struct ht_tunnel_options o = {.size = sizeof o, .url = "ws://127.0.0.1:1"};
    struct ht_tunnel *t;
    size_t before = ht_mem_live();
    CU_ASSERT_EQUAL_FATAL(ht_tunnel_create(&t, &o, NULL, NULL), HT_TUNNEL_OK);
    CU_ASSERT_EQUAL(ht_tunnel_connect(t), HT_TUNNEL_OK);
    CU_ASSERT_EQUAL(ht_tunnel_run(t), HT_TUNNEL_ECONNECT);
    ht_tunnel_destroy(&t);
    CU_ASSERT_PTR_NULL(t);
    ht_tunnel_destroy(&t);
    CU_ASSERT_EQUAL(ht_mem_live(), before);
}

static void options_that_make_no_sense(void) {
    static const struct {
        struct ht_tunnel_options o;
        int error;
    } rows[] = {
        {{.size = 0, .url = "ws://a"}, HT_TUNNEL_EINVAL},
        {{.size = sizeof(struct ht_tunnel_options)}, HT_TUNNEL_EINVAL},
        {{.size = sizeof(struct ht_tunnel_options), .url = "gopher://a"}, HT_TUNNEL_EURL},
        {{.size = sizeof(struct ht_tunnel_options), .url = "ws://a", .token = "a\r\nb: c"}, HT_TUNNEL_EINVAL},
        {{.size = sizeof(struct ht_tunnel_options), .url = "ws://a", .client_id = "too-short"}, HT_TUNNEL_EINVAL},
        {{.size = sizeof(struct ht_tunnel_options), .url = "ws://a", .client_id = "has a blank, and is long"},
         HT_TUNNEL_EINVAL},
        {{.size = sizeof(struct ht_tunnel_options), .url = "ws://a", .client_name = "My App"}, HT_TUNNEL_EINVAL},
        {{.size = sizeof(struct ht_tunnel_options), .url = "ws://a", .connections = 17}, HT_TUNNEL_EINVAL},
        {{.size = sizeof(struct ht_tunnel_options), .url = "ws://a", .n_headers = 1}, HT_TUNNEL_EINVAL},
        {{.size = sizeof(struct ht_tunnel_options), .url = "wss://a", .ca = "/nonexistent"}, HT_TUNNEL_ETLS},
    };
    for (size_t i = 0; i < HT_ARRAY_LEN(rows); i++) {
        struct ht_tunnel *t;
        size_t before = ht_mem_live();
        CU_ASSERT_EQUAL(ht_tunnel_create(&t, &rows[i].o, NULL, NULL), rows[i].error);
        CU_ASSERT_PTR_NULL(t);
        CU_ASSERT(ht_tunnel_last_error()[0] != '\0');
        CU_ASSERT_EQUAL(ht_mem_live(), before);
    }
    struct ht_tunnel *t;
    CU_ASSERT_EQUAL(ht_tunnel_create(&t, NULL, NULL, NULL), HT_TUNNEL_EINVAL);
}

static void an_older_program_has_smaller_structures(void) {
    struct ht_tunnel_options o = {.url = "ws://127.0.0.1:1", .pool_size = 7, .pool_idle_ms = 9};
    struct ht_tunnel *t;
    o.size = offsetof(struct ht_tunnel_options, pool_size); /* the fields behind did not exist for it */
    CU_ASSERT_EQUAL_FATAL(ht_tunnel_create(&t, &o, NULL, NULL), HT_TUNNEL_OK);
    CU_ASSERT_EQUAL(t->pool_size, 128);
    CU_ASSERT_EQUAL(t->pool_idle_ms, 30000);
    ht_tunnel_destroy(&t);
}

static void every_error_has_a_text_and_an_exit_status(void) {
#define CHECK(name, value, text)                                                                                       \
    CU_ASSERT_STRING_EQUAL(ht_strerror(name), text);                                                                   \
    CU_ASSERT(ht_exit_status(name) > 0);
    HT_TUNNEL_ERRORS(CHECK)
#undef CHECK
    CU_ASSERT_EQUAL(ht_exit_status(HT_TUNNEL_OK), OPT_EXIT_OK);
    CU_ASSERT_EQUAL(ht_exit_status(HT_TUNNEL_STOPPED), OPT_EXIT_OK);
    CU_ASSERT_EQUAL(ht_exit_status(HT_TUNNEL_EAUTH), OPT_EXIT_AUTH);
    CU_ASSERT_EQUAL(ht_exit_status(HT_TUNNEL_EBIND), OPT_EXIT_BIND);
    CU_ASSERT_EQUAL(ht_exit_status(HT_TUNNEL_ELOST), OPT_EXIT_GAVE_UP);
    CU_ASSERT_EQUAL(ht_exit_status(HT_TUNNEL_EREVOKED), OPT_EXIT_REVOKED);
    CU_ASSERT_STRING_EQUAL(ht_strerror(-999), "unknown error");
    CU_ASSERT_STRING_EQUAL(ht_version(), HT_VERSION);
}

/* The i-th allocation fails, for every i until none does: an error or an end, never a crash, nothing left behind. */
static void memory_runs_out(void) {
    bool clean = false;
    for (long i = 0; i < 500 && !clean; i++) {
        world_start();
        struct ht_tunnel_options o = {.size = sizeof o, .url = w.url, .token = "t", .connect_timeout_ms = 300};
        struct ht_bind_options b = {.size = sizeof b, .kind = HT_EXPOSE_HTTP, .target = "3000", .label = "l"};
        ht_mem_fail_at(i);
        int rc = driver_create_on(w.loop, &w.t, &o, &calls, NULL);
        if (rc == HT_TUNNEL_OK)
            rc = ht_tunnel_bind(w.t, &b);
        ht_mem_fail_at(-1);
        CU_ASSERT(rc == HT_TUNNEL_ENOMEM || rc == HT_TUNNEL_EINVAL || rc == 1);
        clean = rc == 1;
        world_stop();
    }
    CU_ASSERT(clean);
}

static const struct tap_test tests[] = {
    {"HELLO names the driver", hello_says_who_we_are},
    {"a client id goes with HELLO", a_client_id_goes_with_hello},
    {"the upgrade carries the caller's headers", more_headers_on_the_upgrade},
    {"headers that belong to the handshake are refused", headers_that_may_not_be},
    {"without a token there is no Authorization", without_a_token_nothing_is_shown},
    {"a kit that does not listen is reported", nobody_listens},
    {"an answer that opens no tunnel is explained", answers_that_are_no_tunnel},
    {"a wrong token is reported", a_wrong_token},
    {"a server that speaks no HTTP is reported", something_that_speaks_no_http},
    {"a server without TLS is reported", no_tls_where_it_should_be},
    {"a subprotocol that was not offered is refused", a_subprotocol_that_was_not_offered},
    {"a kit of version 1 works", a_kit_of_version_1},
    {"without reissue-tickets a lost secondary ends the session", a_secondary_that_cannot_be_opened},
    {"a HELLO without an answer times out", nobody_answers_hello},
    {"an upgrade without an answer times out", nobody_answers_the_upgrade},
    {"a GOAWAY before HELLO_OK is reported", refused_with_goaway},
    {"a close before HELLO_OK is reported", closed_before_hello_ok},
    {"bindings can be asked for before and after the connection", bindings_before_and_after},
    {"impossible bindings are refused", bindings_that_make_no_sense},
    {"the public URL is preferred", a_public_url_goes_first},
    {"a pulled port has no public URL", a_pulled_port_has_no_public_url},
    {"a refused binding is reported", a_refused_binding},
    {"with strict_bindings a refusal ends the tunnel", a_refusal_that_ends_it},
    {"with strict_bindings too many bindings end the tunnel", more_bindings_than_the_kit_gives},
    {"a callback may close the tunnel", a_callback_may_close_the_tunnel},
    {"a binding is given back", a_binding_is_given_back},
    {"a binding can be given back before it is answered", a_binding_is_given_back_before_it_stands},
    {"the last revoked binding ends the tunnel", the_last_revoked_binding_ends_the_tunnel},
    {"a request to a service that is down is refused", a_request_that_finds_nobody},
    {"a stream for an unknown binding is refused", a_stream_for_no_binding},
    {"another thread can stop a tunnel", another_thread_stops_it},
    {"a program can run a tunnel in its own loop", a_loop_of_its_own},
    {"impossible options are refused", options_that_make_no_sense},
    {"an older program has smaller structures", an_older_program_has_smaller_structures},
    {"every error has a text and an exit status", every_error_has_a_text_and_an_exit_status},
    {"each allocation may fail", memory_runs_out},
    {NULL, NULL},
};

int main(void) { return tap_main("driver, tunnel", tests); }
