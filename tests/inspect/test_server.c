/* The inspector's server over a store that is written by hand, and a browser that is a socket. */
#include "web/web_rig.h"

#include "base/clock.h"

#include "inspect/har.h"
#include "inspect/server.h"

#include <arpa/inet.h>
#include <netinet/in.h>

#define TOKEN "0123456789abcdef"

static struct {
    struct inspect_store *store;
    struct inspect_server *server;
    unsigned reconnects;
    char said[1u << 20];
    size_t n;
    int ended, fd;
} w;

/* ---- the driver ---- */

static void link_of(void *ctx, struct inspect_link *out) {
    (void)ctx;
    out->state = INSPECT_API_LINK_STATE_CONNECTED;
    out->rtt_ms = 24.1;
    out->kit = "wss://kit.example";
}

static bool binding_of(void *ctx, unsigned index, struct inspect_binding *out) {
    (void)ctx;
    *out = (struct inspect_binding){
        .number = 1, .name = "web", .port = 3000, .url = "https://web.example", .address = "127.0.0.1:3000"};
    return index == 0;
}

static bool serve(void *ctx, int number, struct mux_stream *st, const struct wire_stream_open *open) {
    (void)ctx, (void)number, (void)st, (void)open;
    return false;
}

static void reconnect(void *ctx) {
    (void)ctx;
    w.reconnects++;
}

static int start(void) {
    const struct inspect_store_config store = {
        .max_exchanges = 100, .max_bytes = 1u << 20, .max_body = 1u << 16, .max_frames = 8, .max_frame = 1024};
    struct ht_errmsg err;
    memset(&w, 0, sizeof w);
    w.fd = -1;
    w.store = inspect_store_create(&store);
    const struct inspect_server_config cfg = {.loop = loop,
                                              .store = w.store,
                                              .host = "127.0.0.1",
                                              .token = TOKEN,
                                              .version = "1.2.3",
                                              .link = link_of,
                                              .binding = binding_of,
                                              .serve = serve,
                                              .reconnect = reconnect};
    return w.store ? inspect_server_start(&w.server, &cfg, &err) : HT_ENOMEM;
}

static void stop(void) {
    if (w.fd >= 0)
        close(w.fd);
    loop_turns(loop, 3);
    inspect_server_stop(&w.server);
    inspect_store_destroy(&w.store);
    loop_turns(loop, 3);
}

static void begin(void) { CU_ASSERT_EQUAL_FATAL(start(), HT_OK); }

/* A whole exchange. */
static struct inspect_exchange *add(const char *request, const char *body, const char *response, const char *answer) {
    struct inspect_exchange *x =
        inspect_begin(w.store,
                      &(struct inspect_begin){
                          .binding = 1, .binding_name = ht_slice_str("web"), .visitor = ht_slice_str("203.0.113.9")},
                      ht_slice_str(request));
    CU_ASSERT_PTR_NOT_NULL_FATAL(x);
    inspect_body(x, false, ht_slice_str(body));
    inspect_body_end(x, false);
    if (response) {
        inspect_response(x, ht_slice_str(response));
        inspect_body(x, true, ht_slice_str(answer));
        inspect_body_end(x, true);
        inspect_end(x, INSPECT_NO_FAULT, ht_slice_of(NULL, 0));
    }
    return x;
}

#define GET_A                                                                                                          \
    "GET /a?token=t0ps3cret HTTP/1.1\r\nHost: x\r\nAuthorization: Bearer s3cret-value\r\nCookie: "                     \
    "sid=c00kie-value\r\n\r\n"
#define OK_JSON                                                                                                        \
    "HTTP/1.1 200 OK\r\nContent-Type: application/json\r\nSet-Cookie: sid=c00kie-value; Path=/; HttpOnly\r\n\r\n"

/* ---- the browser ---- */

static void dial(void) {
    struct sockaddr_in at = {.sin_family = AF_INET,
                             .sin_port = htons(inspect_server_port(w.server)),
                             .sin_addr.s_addr = htonl(INADDR_LOOPBACK)};
    if (w.fd >= 0)
        close(w.fd);
    w.fd = socket(AF_INET, SOCK_STREAM | SOCK_CLOEXEC, 0);
    CU_ASSERT_EQUAL_FATAL(connect(w.fd, (struct sockaddr *)&at, sizeof at), 0);
    w.n = 0;
    w.ended = 0;
    w.said[0] = '\0';
}

static void look(void) { w.n = peer_read(w.fd, w.said, sizeof w.said, w.n, &w.ended); }

/* Waits for a text, or with "" for the end of the connection. */
static void await(const char *text) {
    for (uint64_t end = ht_now_ms() + PATIENCE_MS;
         ht_now_ms() < end && !(*text ? strstr(w.said, text) != NULL : w.ended);) {
        loop_turns(loop, 1);
        look();
    }
}

/* Sends a request and waits for the end of the answer. */
static const char *ask_as(const char *method, const char *path, const char *fields, const char *body) {
    char head[2048];
    dial();
    int n = snprintf(head, sizeof head, "%s %s HTTP/1.1\r\nConnection: close\r\n%s", method, path, fields);
    if (*body)
        n += snprintf(head + n, sizeof head - (size_t)n, "Content-Length: %zu\r\n", strlen(body));
    n += snprintf(head + n, sizeof head - (size_t)n, "\r\n");
    peer_write(w.fd, head, (size_t)n);
    peer_write(w.fd, body, strlen(body));
    await("");
    return w.said;
}

static const char *fields(void) {
    static char text[256];
    snprintf(text, sizeof text, "Host: 127.0.0.1:%u\r\nAuthorization: Bearer " TOKEN "\r\n",
             inspect_server_port(w.server));
    return text;
}

static const char *ask(const char *method, const char *path, const char *body) {
    char whole[512];
    snprintf(whole, sizeof whole, "/api/v1/inspector%s", path);
    return ask_as(method, whole, fields(), body);
}

static bool said(const char *text) { return strstr(w.said, text) != NULL; }

/* ---- tests ---- */

static void who_may_ask(void) {
    static const struct {
        const char *host, *more, *status;
    } rows[] = {
        {"127.0.0.1:%u", "Authorization: Bearer " TOKEN "\r\n", "200"},
        {"LOCALHOST:%u", "Authorization: bearer " TOKEN "\r\n", "200"},
        {"[::1]:%u", "Authorization: Bearer " TOKEN "\r\n", "200"},
        {"127.0.0.1:%u", "Authorization: Bearer " TOKEN "\r\nOrigin: http://127.0.0.1:%u\r\n", "200"},
        {"127.0.0.1:%u", "", "401"},
        {"127.0.0.1:%u", "Authorization: Bearer 0123456789abcdee\r\n", "401"},
        {"127.0.0.1:%u", "Authorization: Bearer " TOKEN "0\r\n", "401"},
        {"127.0.0.1:%u", "Authorization: Basic " TOKEN "\r\n", "401"},
        {"127.0.0.1:%u", "Cookie: token=" TOKEN "\r\n", "401"},
        {"evil.example:%u", "Authorization: Bearer " TOKEN "\r\n", "403"},
        {"127.0.0.1", "Authorization: Bearer " TOKEN "\r\n", "403"},
        {"127.0.0.1:1", "Authorization: Bearer " TOKEN "\r\n", "403"},
        {"localhost.evil.example:%u", "Authorization: Bearer " TOKEN "\r\n", "403"},
        {"127.0.0.1:%u", "Authorization: Bearer " TOKEN "\r\nOrigin: http://evil.example\r\n", "403"},
        {"127.0.0.1:%u", "Authorization: Bearer " TOKEN "\r\nOrigin: null\r\n", "403"},
        {"127.0.0.1:%u", "Authorization: Bearer " TOKEN "\r\nOrigin: https://127.0.0.1:%u\r\n", "403"},
        {"127.0.0.1:%u", "Authorization: Bearer " TOKEN "\r\nOrigin: http://localhost:%u\r\n", "403"},
    };
    begin();
    for (size_t i = 0; i < HT_ARRAY_LEN(rows); i++) {
        char form[512], text[512], status[16];
        unsigned port = inspect_server_port(w.server);
        snprintf(form, sizeof form, "Host: %s\r\n%s", rows[i].host, rows[i].more);
        /* the formats are the test's own */
        char *at = text;
        for (const char *p = form; *p; p++)
            at += p[0] == '%' && p[1] == 'u' ? (p++, sprintf(at, "%u", port)) : (*at = *p, 1);
        *at = '\0';
        snprintf(status, sizeof status, "HTTP/1.1 %s ", rows[i].status);
        ask_as("GET", "/api/v1/inspector/state", text, "");
        CU_ASSERT_NSTRING_EQUAL(w.said, status, strlen(status));
        CU_ASSERT(!said("Access-Control") && said("X-Content-Type-Options: nosniff\r\n") &&
                  said("Cache-Control: no-store\r\n"));
        CU_ASSERT_EQUAL(said("WWW-Authenticate: Bearer"), strcmp(rows[i].status, "401") == 0);
        ask_as("GET", "/", text, ""); /* the page needs no token, but Host and Origin are looked at */
        CU_ASSERT_NSTRING_EQUAL(w.said, strcmp(rows[i].status, "403") == 0 ? "HTTP/1.1 403 " : "HTTP/1.1 200 ", 13);
    }
    CU_ASSERT_EQUAL(ask_as("GET", "/", "Host: evil.example\r\n", "")[9], '4');
    stop();
}

static void page_and_bodies_have_their_headers(void) {
    begin();
    add(GET_A, "", "HTTP/1.1 200 OK\r\nContent-Type: text/html\r\n\r\n", "<script>alert(1)</script>");
    ask_as("GET", "/", fields(), "");
    CU_ASSERT(said("Content-Type: text/html; charset=utf-8\r\n") && said("frame-ancestors 'none'") &&
              said("script-src 'sha256-") && said("require-trusted-types-for 'script'") &&
              said("Cross-Origin-Opener-Policy: same-origin\r\n") &&
              said("Cross-Origin-Resource-Policy: same-origin\r\n"));
    CU_ASSERT(said("<title>Requests"));
    CU_ASSERT_FALSE(said(TOKEN));
    ask("GET", "/exchanges/1/response/body", "");
    CU_ASSERT(said("Content-Type: application/octet-stream\r\n") && said("Content-Disposition: attachment\r\n") &&
              said("Content-Security-Policy: sandbox\r\n") && said("nosniff") &&
              said("\r\n\r\n<script>alert(1)</script>"));
    CU_ASSERT_FALSE(said("Content-Type: text/html"));
    stop();
}

static void what_there_is_not(void) {
    static const struct {
        const char *method, *path, *status;
    } rows[] = {
        {"GET", "/exchanges/2", "404"},
        {"GET", "/exchanges/01", "404"},
        {"GET", "/exchanges/-1", "404"},
        {"GET", "/exchanges/1x", "404"},
        {"GET", "/exchanges/99999999999999999999", "404"},
        {"GET", "/exchanges/999999999999999999999", "400"},
        {"GET", "/exchanges/1/answers/body", "404"},
        {"GET", "/exchanges/1/response/body", "404"},
        {"POST", "/exchanges/9/replay", "404"},
        {"GET", "/exchanges", "400"},
        {"GET", "/exchanges?body=a&fields=xx", "400"},
        {"GET", "/exchanges/1/frames?after=-1", "400"},
        {"POST", "/state", "405"},
        {"GET", "/har/import", "405"},
        {"GET", "/nothing", "404"},
        {"POST", "/har/export", "200"},
    };
    begin();
    add(GET_A, "", NULL, NULL);
    for (size_t i = 0; i < HT_ARRAY_LEN(rows); i++) {
        ask(rows[i].method, rows[i].path, "");
        CU_ASSERT_NSTRING_EQUAL(w.said + 9, rows[i].status, 3);
    }
    ask("POST", "/har/import", "[]");
    CU_ASSERT(said("HTTP/1.1 400 ") && said("at byte"));
    ask("POST", "/har/import", "{\"log\":{\"entries\":[{}]}}"); /* an entry without a request is left out */
    CU_ASSERT(said("{\"imported\":0}"));
    ask("POST", "/exchanges/1/replay", "{\"method\":\"A B\"}");
    CU_ASSERT(said("HTTP/1.1 400 "));
    ask("POST", "/exchanges/1/replay", "{\"headers\":[{\"name\":\"a\",\"value\":\"x\\r\\ny: z\",\"keep\":false}]}");
    CU_ASSERT(said("HTTP/1.1 400 "));
    ask("POST", "/exchanges/1/replay", "{\"headers\":[{\"name\":\"nope\",\"value\":\"\",\"keep\":true}]}");
    CU_ASSERT(said("HTTP/1.1 400 ") && said("nope"));
    ask("POST", "/exchanges/1/replay", "{\"method\":1}");
    CU_ASSERT(said("HTTP/1.1 400 "));
    ask("POST", "/exchanges/1/replay", "");
    CU_ASSERT(said("HTTP/1.1 409 ") && said("there is no service that it could go to"));
    ask("POST", "/link/reconnect", "{}");
    CU_ASSERT(said("HTTP/1.1 202 ") && w.reconnects == 1);
    stop();
}

static void bodies_that_are_too_long(void) {
    begin();
    add(GET_A, "", NULL, NULL);
    char head[512];
    dial();
    snprintf(head, sizeof head, "POST /api/v1/inspector/har/import HTTP/1.1\r\n%sContent-Length: 67108865\r\n\r\n",
             fields());
    peer_write(w.fd, head, strlen(head));
    await("");
    CU_ASSERT(said("HTTP/1.1 413 ") && said("{\"error\":"));
    dial(); /* nothing of it is read without the token */
    peer_write(w.fd, "POST /api/v1/inspector/har/import HTTP/1.1\r\nHost: x\r\nContent-Length: 67108864\r\n\r\n", 82);
    await("");
    CU_ASSERT(said("HTTP/1.1 403 "));
    stop();
}

static void secrets_are_masked_until_asked_for(void) {
    begin();
    add(GET_A, "{\"password\":\"pass-w0rd\",\"a\":1}", OK_JSON,
        "{\"echo\":\"s3cret-value\",\"api_key\":\"k3y-value\"}");
    ask("GET", "/exchanges/1", "");
    CU_ASSERT(said("\"Bearer " INSPECT_DOTS "\"") && !said("s3cret-value") && !said("c00kie-value"));
    ask("POST", "/exchanges/1/request/reveal", "{}");
    CU_ASSERT(said("\"Bearer s3cret-value\"") && said("sid=c00kie-value"));
    ask("POST", "/har/export", "{}");
    CU_ASSERT(said("\"version\":\"1.2\"") && said("1.2.3") && said("\"entries\":["));
    CU_ASSERT(!said("s3cret-value") && !said("c00kie-value") && !said("t0ps3cret") && !said("pass-w0rd") &&
              !said("k3y-value"));
    ask("POST", "/har/export", "{\"ids\":[\"1\"],\"secrets\":true}");
    CU_ASSERT(said("s3cret-value") && said("c00kie-value") && said("t0ps3cret") && said("pass-w0rd") &&
              said("k3y-value"));
    ask("POST", "/har/export", "{\"ids\":[\"7\"]}");
    CU_ASSERT(said("\"entries\":[") && !said("startedDateTime"));
    stop();
}

static void searching(void) {
    begin();
    add(GET_A, "one", OK_JSON, "Invoice PAID");
    add("POST /b HTTP/1.1\r\nHost: y\r\nX-Kind: hook\r\n\r\n", "an invoice", OK_JSON, "{}");
    CU_ASSERT_PTR_NOT_NULL(strstr(ask("GET", "/exchanges?fields=id&body=invoice", ""), "{\"ids\":[\"1\",\"2\"]}"));
    CU_ASSERT_PTR_NOT_NULL(strstr(ask("GET", "/exchanges?body=invoice+paid", ""), "{\"ids\":[\"1\"]}"));
    CU_ASSERT_PTR_NOT_NULL(strstr(ask("GET", "/exchanges?header=hook", ""), "{\"ids\":[\"2\"]}"));
    CU_ASSERT_PTR_NOT_NULL(strstr(ask("GET", "/exchanges?header=x-kind%3A%20HOO", ""), "{\"ids\":[\"2\"]}"));
    CU_ASSERT_PTR_NOT_NULL(strstr(ask("GET", "/exchanges?header=x-kind%3A%20json", ""), "{\"ids\":[]}"));
    CU_ASSERT_PTR_NOT_NULL(strstr(ask("GET", "/exchanges?header=json&body=one", ""), "{\"ids\":[\"1\"]}"));
    ask("DELETE", "/exchanges", "");
    CU_ASSERT(said("HTTP/1.1 204 ") && inspect_store_count(w.store) == 0);
    stop();
}

static unsigned count(const char *text) {
    unsigned n = 0;
    for (const char *p = w.said; (p = strstr(p, text)) != NULL; p++)
        n++;
    return n;
}

static void open_feed(void) {
    char head[512];
    dial();
    snprintf(head, sizeof head, "GET /api/v1/inspector/feed HTTP/1.1\r\n%s\r\n", fields());
    peer_write(w.fd, head, strlen(head));
    await("event: snapshot\ndata: {\"link\":{\"state\":\"connected\"");
}

static void the_feed(void) {
    begin();
    add(GET_A, "", OK_JSON, "{}");
    open_feed();
    CU_ASSERT(said("Content-Type: text/event-stream\r\n") && count("event: snapshot") == 1 && said("\"id\":\"1\""));
    struct inspect_exchange *x = add("GET /live HTTP/1.1\r\nHost: x\r\n\r\n", "", NULL, NULL);
    uint64_t begun = ht_now_ms();
    await("\"target\":\"/live\"");
    inspect_response(x, ht_slice_str(OK_JSON));
    for (unsigned i = 0; i < 200; i++) {
        inspect_body(x, true, ht_slice_str("0123456789"));
        loop_turns(loop, 1);
    }
    await("\"responseBytes\":2000");
    /* At most four in a second, and those at its beginning and its end. */
    CU_ASSERT(count("\"target\":\"/live\"") >= 2 && count("\"target\":\"/live\"") <= 3 + (ht_now_ms() - begun) / 250);
    inspect_body_end(x, true);
    inspect_end(x, INSPECT_NO_FAULT, ht_slice_of(NULL, 0));
    await("\"id\":\"2\",\"startedAt\"");
    inspect_server_link_changed(w.server);
    inspect_server_bindings_changed(w.server);
    await("event: bindings\ndata: [{\"id\":\"1\",\"name\":\"web\"");
    CU_ASSERT(said("event: link\ndata: {\"state\":\"connected\""));
    await("event: traffic");
    inspect_store_clear(w.store);
    await("event: cleared\ndata: {}");
    CU_ASSERT(said("event: cleared"));
    stop();
}

static void frames_are_told_while_somebody_looks(void) {
    begin();
    struct inspect_exchange *x =
        add("GET /ws HTTP/1.1\r\nHost: x\r\nUpgrade: websocket\r\nConnection: Upgrade\r\n\r\n", "", NULL, NULL);
    struct inspect_frame f = {.opcode = INSPECT_TEXT, .data = ht_slice_str("hello"), .size = 5};
    inspect_add_frame(x, &f);
    CU_ASSERT_PTR_NOT_NULL(
        strstr(ask("GET", "/exchanges/1/frames", ""), "\"opcode\":\"text\",\"size\":5,\"text\":\"hello\""));
    CU_ASSERT_PTR_NOT_NULL(strstr(ask("GET", "/exchanges/1/frames?after=1", ""), "{\"frames\":[],\"dropped\":0}"));
    open_feed();
    f = (struct inspect_frame){.opcode = INSPECT_BINARY, .down = true, .data = ht_slice_of("\0\1\2", 3), .size = 3};
    inspect_add_frame(x, &f);
    await("event: frame");
    CU_ASSERT(said("\"dir\":\"down\",\"opcode\":\"binary\",\"size\":3,\"text\":null,\"base64\":\"AAEC\""));
    inspect_end(x, INSPECT_NO_FAULT, ht_slice_of(NULL, 0));
    stop();
}

/* A reader that stops reading loses events and gets a snapshot; nothing piles up for it. */
static void a_slow_reader(void) {
    begin();
    open_feed();
    char big[4000];
    memset(big, 'a', sizeof big);
    struct ht_buf head = {0};
    CU_ASSERT_EQUAL_FATAL(ht_buf_printf(&head, "GET /%.*s HTTP/1.1\r\nHost: x\r\n\r\n", (int)sizeof big, big), 0);
    for (unsigned i = 0; i < 6000; i++) {
        struct inspect_exchange *x = inspect_begin(w.store, &(struct inspect_begin){.binding = 1}, ht_buf_slice(&head));
        CU_ASSERT_PTR_NOT_NULL_FATAL(x);
        inspect_end(x, INSPECT_NO_FAULT, ht_slice_of(NULL, 0));
        if (i % 20 == 0) {
            ht_clock_skip(60000);
            loop_turns(loop, 1);
        }
    }
    ht_buf_free(&head);
    size_t all = 0;
    w.n = 0;
    w.said[0] = '\0';
    for (uint64_t end = ht_now_ms() + PATIENCE_MS; count("event: snapshot") == 0 && ht_now_ms() < end;) {
        size_t keep = ht_min(w.n, (size_t)64);
        memmove(w.said, w.said + w.n - keep, keep);
        w.n = keep;
        loop_turns(loop, 1);
        look();
        all += w.n - keep;
        CU_ASSERT_FALSE_FATAL(w.ended);
    }
    CU_ASSERT(count("event: snapshot") == 1 && all < 12u << 20); /* half of what was told to nobody */
    stop();
}

/* ---- HAR ---- */

static int import(const char *text, size_t n, uint64_t *count_out) {
    struct har_in *h = har_in_create(w.store, ht_slice_of(text, n));
    int rc = h ? har_in_read(h, UINT64_MAX) : HT_ENOMEM;
    if (h)
        *count_out = har_in_count(h);
    har_in_destroy(&h);
    return rc;
}

static void what_was_exported_is_imported(void) {
    uint64_t n;
    begin();
    add("POST /a?x=1&y=%20 HTTP/1.1\r\nHost: h.example:8080\r\nX-Two: 1\r\nx-two: 2\r\nContent-Length: 3\r\n\r\n",
        "a\xff"
        "b",
        OK_JSON, "{\"a\":\"\xe2\x82\xac\"}");
    struct inspect_exchange *x = add("GET /ws HTTP/1.1\r\nHost: x\r\nUpgrade: websocket\r\nConnection: "
                                     "Upgrade\r\nSec-WebSocket-Key: dGhlIHNhbXBsZSBub25jZQ==\r\n\r\n",
                                     "", NULL, NULL);
    inspect_response(
        x, ht_slice_str("HTTP/1.1 101 Switching Protocols\r\nUpgrade: websocket\r\nConnection: Upgrade\r\n\r\n"));
    inspect_add_frame(x,
                      &(struct inspect_frame){
                          .at_us = 1764338591000500, .opcode = INSPECT_TEXT, .data = ht_slice_str("hello"), .size = 5});
    inspect_add_frame(x, &(struct inspect_frame){.at_us = 1764338591000501,
                                                 .opcode = INSPECT_BINARY,
                                                 .down = true,
                                                 .data = ht_slice_of("\0\1", 2),
                                                 .size = 2});
    inspect_end(x, INSPECT_NO_FAULT, ht_slice_of(NULL, 0));
    ask("POST", "/har/export", "{\"secrets\":true}");
    const char *file = strstr(w.said, "\r\n\r\n") + 4;
    CU_ASSERT_EQUAL_FATAL(import(file, strlen(file), &n), HT_OK);
    CU_ASSERT_EQUAL_FATAL(n, 2);
    const struct inspect_exchange *was = inspect_store_get(w.store, 1), *is = inspect_store_get(w.store, 3);
    CU_ASSERT(is && is->imported && is->status == 200 && is->at_us / 1000 == was->at_us / 1000);
    struct ht_slice a = ht_buf_slice(&was->request.head), b = ht_buf_slice(&is->request.head);
    CU_ASSERT_PTR_NOT_NULL(strstr(file, "http://h.example:8080/a?x=1&y=%20"));
    CU_ASSERT(memmem(b.p, b.n, "X-Two: 1\r\nx-two: 2\r\n", 20) != NULL && memcmp(a.p, b.p, 28) == 0);
    CU_ASSERT(ht_buf_size(&is->request.body) == 3 && memcmp(ht_buf_head(&is->request.body),
                                                            "a\xff"
                                                            "b",
                                                            3) == 0);
    CU_ASSERT(ht_buf_size(&is->response.body) == ht_buf_size(&was->response.body));
    is = inspect_store_get(w.store, 4);
    CU_ASSERT(is && is->kind == INSPECT_WEBSOCKET && is->n_frames == 2);
    const struct inspect_frame *f = HT_LIST_ENTRY(is->frames.prev, struct inspect_frame, node);
    CU_ASSERT(f->down && f->opcode == INSPECT_BINARY && f->data.n == 2 && f->at_us == 1764338591000501);
    stop();
}

static void files_that_are_none(void) {
    static const char *const rows[] = {"",
                                       "{",
                                       "[]",
                                       "nonsense",
                                       "{\"log\":[]}",
                                       "{\"log\":{\"entries\":{}}}",
                                       "{\"log\":{\"entries\":[}",
                                       "{\"log\":{\"entries\":[{\"request\":{\"method\":\"\xff\"}}]}}",
                                       "{\"log\":{\"entries\":[]}} x"};
    static const char *const odd[] = {
        "{}", "{\"log\":{}}",
        "\xef\xbb\xbf{\"log\":{\"entries\":[1,null,\"x\",{\"request\":7},{\"request\":{\"url\":5,\"headers\":[1,{}]}}]}"
        "}",
        "{\"log\":{\"entries\":[{\"request\":{\"method\":\"GET\",\"url\":\"http://x/\\r\\nA: b\"}}]}}",
        "{\"log\":{\"entries\":[{\"request\":{\"method\":\"G ET\",\"url\":\"http://x/\"}}]}}"};
    uint64_t n;
    begin();
    for (size_t i = 0; i < HT_ARRAY_LEN(rows); i++)
        CU_ASSERT_EQUAL(import(rows[i], strlen(rows[i]), &n), HT_EPROTO);
    for (size_t i = 0; i < HT_ARRAY_LEN(odd); i++)
        CU_ASSERT(import(odd[i], strlen(odd[i]), &n) == HT_OK && n == 0);
    CU_ASSERT_EQUAL(inspect_store_count(w.store), 0);
    static const char lean[] =
        "{\"log\":{\"entries\":[{\"startedDateTime\":\"2026-01-31T13:00:00.25+01:00\",\"time\":12.5,\"request\":{"
        "\"method\":\"GET\",\"url\":\"https://"
        "u:p@h.example?x#f\",\"headers\":[{\"name\":\":authority\",\"value\":\"y\"},{\"name\":\"A\",\"value\":"
        "\"b\\nc\"},{\"name\":\"B\",\"value\":\"1\"}]},\"response\":{\"status\":0}}]}}";
    CU_ASSERT(import(lean, sizeof lean - 1, &n) == HT_OK && n == 1);
    const struct inspect_exchange *x = inspect_store_get(w.store, 1);
    CU_ASSERT_FATAL(x != NULL);
    struct ht_slice head = ht_buf_slice(&x->request.head);
    static const char want[] = "GET /?x HTTP/1.1\r\nHost: h.example\r\nB: 1\r\n\r\n";
    CU_ASSERT(head.n == sizeof want - 1 && memcmp(head.p, want, head.n) == 0);
    CU_ASSERT(x->at_us == 1769860800250000 && x->duration_us == 12500 && x->state == INSPECT_FAILED && x->status == 0);
    stop();
}

/* The i-th allocation fails, for every i: an error, a 500, or a connection that is closed; nothing is left behind. */
static void without_memory(void) {
    static const struct {
        const char *method, *path, *body;
    } rows[] = {
        {"GET", "/state", ""},
        {"GET", "/exchanges/1", ""},
        {"GET", "/exchanges/1/response/body", ""},
        {"GET", "/exchanges?body=x&header=y", ""},
        {"POST", "/har/export", "{\"ids\":[\"1\"]}"},
        {"POST", "/har/import", "{\"log\":{\"entries\":[{\"request\":{\"method\":\"GET\",\"url\":\"/\"}}]}}"},
        {"POST", "/exchanges/1/replay", "{\"body\":\"x\"}"},
        {"GET", "/feed", NULL},
    };
    for (size_t i = 0; i < HT_ARRAY_LEN(rows); i++) {
        bool failed = true;
        for (int at = 0; failed; at++) {
            size_t live = ht_mem_live();
            begin();
            add(GET_A, "{\"token\":\"abcdefgh\"}", OK_JSON, "{}");
            ht_mem_fail_at(at);
            if (rows[i].body) {
                ask(rows[i].method, rows[i].path, rows[i].body);
            } else {
                char head[512];
                dial();
                snprintf(head, sizeof head, "GET /api/v1/inspector/feed HTTP/1.1\r\n%s\r\n", fields());
                peer_write(w.fd, head, strlen(head));
                for (unsigned k = 0; k < 20 && !w.ended && !said("\n\n"); k++) {
                    loop_turns(loop, 2);
                    look();
                }
            }
            failed = !ht_mem_fail_pending();
            ht_mem_fail_at(-1);
            CU_ASSERT(w.ended || w.n > 0);
            stop();
            CU_ASSERT_EQUAL(ht_mem_live(), live);
        }
    }
}

static void starting(void) {
    struct ht_errmsg err;
    begin();
    struct inspect_server *other = NULL;
    struct inspect_server_config cfg = {.loop = loop,
                                        .store = w.store,
                                        .host = "127.0.0.1",
                                        .port = inspect_server_port(w.server),
                                        .token = TOKEN,
                                        .version = "1",
                                        .link = link_of,
                                        .binding = binding_of,
                                        .serve = serve,
                                        .reconnect = reconnect};
    CU_ASSERT_EQUAL(inspect_server_start(&other, &cfg, &err), HT_EINUSE);
    CU_ASSERT_PTR_NULL(other);
    cfg.host = "not an address";
    CU_ASSERT_EQUAL(inspect_server_start(&other, &cfg, &err), HT_EADDR);
    stop();
    for (int at = 0;; at++) {
        size_t live = ht_mem_live();
        ht_mem_fail_at(at);
        int rc = start();
        bool failed = !ht_mem_fail_pending();
        ht_mem_fail_at(-1);
        CU_ASSERT_EQUAL(rc, failed ? HT_ENOMEM : HT_OK);
        stop();
        CU_ASSERT_EQUAL(ht_mem_live(), live);
        if (!failed)
            break;
    }
}

static const struct tap_test tests[] = {
    {"who may ask: Host, Origin, token", who_may_ask},
    {"the page and bodies have their headers", page_and_bodies_have_their_headers},
    {"what there is not, and what makes no sense", what_there_is_not},
    {"bodies of requests that are too long, or nobody's", bodies_that_are_too_long},
    {"secrets are masked until they are asked for, in files too", secrets_are_masked_until_asked_for},
    {"searching in bodies and header fields", searching},
    {"the feed: a snapshot, then what happens, at a bounded rate", the_feed},
    {"frames are told while somebody looks", frames_are_told_while_somebody_looks},
    {"a reader that does not read gets a snapshot later", a_slow_reader},
    {"what was exported is imported", what_was_exported_is_imported},
    {"files that are no HAR files, and odd ones", files_that_are_none},
    {"each allocation may fail", without_memory},
    {"starting", starting},
    {NULL, NULL},
};

int main(void) {
    io_ignore_sigpipe();
    loop = io_loop_create();
    int rc = loop ? tap_main("inspect, server", tests) : 1;
    io_loop_destroy(&loop);
    return rc;
}
