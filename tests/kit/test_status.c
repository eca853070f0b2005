/* What the status page asks for, and the page itself. The clock is ours: seconds pass when a test says so. */
#include "peer.h"
#include "support/clock_still.h"

#include <cjson/cJSON.h>

#define ASK(path) "GET " path " HTTP/1.1\r\nHost: localhost\r\nConnection: close\r\n\r\n"
#define ME(more) "GET /api/v1/tunnel/me HTTP/1.1\r\nHost: localhost\r\nConnection: close\r\n" more "\r\n"
#define RIGHT "Authorization: Bearer sesame\r\n"
#define WRONG "Authorization: Bearer parsley\r\n"

static void some_turns(void) {
    for (int i = 0; i < 20; i++)
        ready_turn();
}

static void pass_ms(uint64_t ms) {
    ht_clock_skip(ms * 1000);
    some_turns();
}

static cJSON *status(const char *request) {
    struct raw r;
    CU_ASSERT_EQUAL_FATAL(raw_ask(&r, host.port, request), 200);
    cJSON *j = cJSON_Parse(raw_body(&r));
    raw_close(&r);
    CU_ASSERT_PTR_NOT_NULL_FATAL(j);
    return j;
}

static const cJSON *at(const cJSON *j, const char *name) { return cJSON_GetObjectItemCaseSensitive(j, name); }
static double num(const cJSON *j, const char *name) {
    const cJSON *v = at(j, name);
    return cJSON_IsNumber(v) ? v->valuedouble : -1;
}
static const char *str(const cJSON *j, const char *name) {
    const cJSON *v = at(j, name);
    return cJSON_IsString(v) ? v->valuestring : "(none)";
}

/* The first row of /status, which `*all` holds. */
static const cJSON *row(cJSON **all) {
    *all = status(ASK("/api/v1/tunnel/status"));
    const cJSON *one = cJSON_GetArrayItem(at(*all, "sessions"), 0);
    CU_ASSERT_PTR_NOT_NULL_FATAL(one);
    return one;
}

/* ---- the page ---- */

static void the_page_is_served_with_its_policy(void) {
    static const char *const fields[] = {
        "Content-Type: text/html; charset=utf-8\r\n",
        "Content-Security-Policy: default-src 'none'; script-src 'sha256-",
        "; frame-ancestors 'none'\r\n",
        "require-trusted-types-for 'script'; trusted-types 'none'",
        "X-Content-Type-Options: nosniff\r\n",
        "Referrer-Policy: no-referrer\r\n",
        "Cross-Origin-Resource-Policy: same-origin\r\n",
        "Cross-Origin-Opener-Policy: same-origin\r\n",
        "Cache-Control: no-store\r\n",
    };
    setenv("HOODY_TUNNEL_TOKEN", "sesame", 1); /* which the page itself does not want */
    host_start("");
    unsetenv("HOODY_TUNNEL_TOKEN");
    struct raw r, same;
    CU_ASSERT_EQUAL(raw_ask(&r, host.port, ASK("/")), 200);
    for (size_t i = 0; i < HT_ARRAY_LEN(fields); i++)
        CU_ASSERT_PTR_NOT_NULL(strstr(raw_text(&r), fields[i]));
    CU_ASSERT_PTR_NULL(strcasestr(raw_text(&r), "set-cookie"));
    CU_ASSERT_EQUAL(strncmp(raw_body(&r), "<!doctype html>", 15), 0);
    CU_ASSERT_PTR_NULL(strstr(raw_body(&r), "mockSource"));
    CU_ASSERT_EQUAL(raw_ask(&same, host.port, ASK("/status")), 200);
    CU_ASSERT_STRING_EQUAL(raw_body(&r), raw_body(&same));
    raw_close(&same);
    CU_ASSERT_EQUAL(raw_ask(&same, host.port, "POST / HTTP/1.1\r\nHost: localhost\r\nConnection: close\r\n\r\n"), 405);
    raw_close(&same);
    CU_ASSERT_EQUAL(raw_ask(&same, host.port, "GET / HTTP/1.1\r\nHost: evil.example\r\nConnection: close\r\n\r\n"),
                    403);
    raw_close(&same);
    raw_close(&r);
    host_stop();
}

static void the_page_is_compressed_for_who_takes_that(void) {
    static const struct {
        const char *field;
        bool packed;
    } rows[] = {
        {"", false},
        {"Accept-Encoding: gzip\r\n", true},
        {"Accept-Encoding: br , GZIP;q=0.5\r\n", true},
        {"Accept-Encoding: gzip;q=0\r\n", false},
        {"Accept-Encoding: gzip; q=0.000, br\r\n", false},
        {"Accept-Encoding: gzip; q=0.001\r\n", true},
        {"Accept-Encoding: xgzip, *\r\n", false},
    };
    host_start("");
    for (size_t i = 0; i < HT_ARRAY_LEN(rows); i++) {
        char request[256];
        struct raw r;
        snprintf(request, sizeof request, "GET / HTTP/1.1\r\nHost: localhost\r\nConnection: close\r\n%s\r\n",
                 rows[i].field);
        CU_ASSERT_EQUAL(raw_ask(&r, host.port, request), 200);
        CU_ASSERT_EQUAL(strstr(raw_text(&r), "Content-Encoding: gzip\r\n") != NULL, rows[i].packed);
        CU_ASSERT_EQUAL(memcmp(raw_body(&r), "\x1f\x8b", 2) == 0, rows[i].packed);
        CU_ASSERT_PTR_NOT_NULL(strstr(raw_text(&r), "Vary: Accept-Encoding\r\n"));
        raw_close(&r);
    }
    host_stop();
}

/* ---- whose token it is ---- */

static int ask(const char *request) {
    struct raw r;
    int answer = raw_ask(&r, host.port, request);
    raw_close(&r);
    return answer;
}

static void the_eleventh_wrong_token_of_a_minute_waits(void) {
    setenv("HOODY_TUNNEL_TOKEN", "sesame", 1);
    host_start("");
    unsetenv("HOODY_TUNNEL_TOKEN");
    struct raw r;
    CU_ASSERT_EQUAL(raw_ask(&r, host.port, ME(RIGHT)), 200);
    CU_ASSERT_STRING_EQUAL(raw_body(&r), "{\"name\":\"admin\",\"admin\":true}");
    raw_close(&r);
    for (int i = 0; i < 20; i++) /* who shows none has tried none */
        CU_ASSERT_EQUAL(ask(ME("")), 401);
    for (int i = 0; i < 10; i++)
        CU_ASSERT_EQUAL(ask(ME(WRONG)), 401);
    CU_ASSERT_EQUAL(raw_ask(&r, host.port, ME(WRONG)), 429);
    CU_ASSERT_PTR_NOT_NULL(strstr(raw_text(&r), "\r\nRetry-After: "));
    raw_close(&r);
    CU_ASSERT_EQUAL(ask(ME(RIGHT)), 429);
    /* Drivers and operators behind the same address are not kept out. */
    CU_ASSERT_EQUAL(ask("GET /api/v1/tunnel/tunnels HTTP/1.1\r\nHost: localhost\r\nConnection: close\r\n" RIGHT "\r\n"),
                    200);
    pass_ms(59000);
    CU_ASSERT_EQUAL(ask(ME(RIGHT)), 429);
    pass_ms(1001);
    CU_ASSERT_EQUAL(ask(ME(RIGHT)), 200);
    CU_ASSERT_EQUAL(ask(ME(WRONG)), 401);
    host_stop();
}

/* Behind a proxy everybody has the proxy's address: then the one that the proxy tells counts, and no other one. */
static void who_waits_is_known_behind_a_proxy(void) {
#define FROM(list) "X-Forwarded-For: " list "\r\n"
    setenv("HOODY_TUNNEL_TOKEN", "sesame", 1);
    host_start("--trusted-proxy 127.0.0.0/8");
    unsetenv("HOODY_TUNNEL_TOKEN");
    for (int i = 0; i < 10; i++) {
        char request[512];
        snprintf(request, sizeof request, ME(WRONG FROM("10.0.0.%d") FROM("192.0.2.%d, 203.0.113.7 , 127.0.0.9")), i,
                 i);
        CU_ASSERT_EQUAL(ask(request), 401);
    }
    CU_ASSERT_EQUAL(ask(ME(RIGHT FROM("203.0.113.7"))), 429);
    CU_ASSERT_EQUAL(ask(ME(RIGHT FROM("203.0.113.7, 203.0.113.8"))), 200);
    CU_ASSERT_EQUAL(ask(ME(RIGHT FROM("nonsense"))), 200);
    CU_ASSERT_EQUAL(ask(ME(RIGHT)), 200);
    host_stop();
    setenv("HOODY_TUNNEL_TOKEN", "sesame", 1);
    host_start(""); /* nobody's word is trusted */
    unsetenv("HOODY_TUNNEL_TOKEN");
    for (int i = 0; i < 10; i++) {
        char request[512];
        snprintf(request, sizeof request, ME(WRONG FROM("192.0.2.%d")), i);
        CU_ASSERT_EQUAL(ask(request), 401);
    }
    CU_ASSERT_EQUAL(ask(ME(RIGHT FROM("192.0.2.77"))), 429);
    host_stop();
}

static void many_addresses_have_a_bound(void) {
    setenv("HOODY_TUNNEL_TOKEN", "sesame", 1);
    host_start("--trusted-proxy 127.0.0.0/8");
    unsetenv("HOODY_TUNNEL_TOKEN");
    char request[512];
    for (int i = 0; i < 300; i++) {
        snprintf(request, sizeof request, ME(WRONG FROM("198.18.%d.%d")), i / 250, i % 250);
        CU_ASSERT_EQUAL(ask(request), 401);
    }
    CU_ASSERT_EQUAL(ask(ME(RIGHT FROM("198.18.0.1"))), 200);
    host_stop();
}

/* ---- the load ---- */

static void status_tells_what_a_session_carries(void) {
    host_start("--takeover-grace 60s");
    struct peer p;
    char id[64];
    cJSON *all;
    peer_start(&p, id);
    uint16_t http = peer_bind(&p, WIRE_KIND_HTTP, 0);
    get_through(&p, http);
    const cJSON *one = row(&all);
    CU_ASSERT_STRING_EQUAL(str(one, "sessionId"), id);
    CU_ASSERT_STRING_EQUAL(str(one, "owner"), "admin");
    CU_ASSERT_STRING_EQUAL(str(one, "state"), "live");
    CU_ASSERT_EQUAL(num(one, "bytesIn"), 8); /* "good day" */
    CU_ASSERT_EQUAL(num(one, "bytesOut"), 0);
    CU_ASSERT_EQUAL(num(one, "requests"), 1);
    CU_ASSERT_EQUAL(cJSON_GetArraySize(at(one, "connections")), 1);
    CU_ASSERT_EQUAL(cJSON_GetArraySize(at(one, "bindings")), 1);
    CU_ASSERT_EQUAL(num(one, "rate"), 0); /* the second is not over */
    cJSON_Delete(all);
    pass_ms(1000);
    one = row(&all);
    CU_ASSERT_EQUAL(num(one, "rate"), 8);
    CU_ASSERT(num(at(all, "kit"), "requestsPerSecond") > 0);
    CU_ASSERT_EQUAL(cJSON_GetArrayItem(at(one, "traffic"), 59)->valuedouble, 8);
    cJSON_Delete(all);
    pass_ms(1000);
    one = row(&all);
    CU_ASSERT_EQUAL(num(one, "rate"), 0);
    CU_ASSERT_EQUAL(cJSON_GetArrayItem(at(one, "traffic"), 58)->valuedouble, 8);
    cJSON_Delete(all);
    /* Parked, and back: what it has carried stays. */
    peer_drop(&p);
    UNTIL(kit_sessions_parked(host.kit) == 1);
    one = row(&all);
    CU_ASSERT_STRING_EQUAL(str(one, "state"), "parked");
    CU_ASSERT(num(one, "graceMs") > 0 && num(one, "graceMs") <= 60000);
    CU_ASSERT_EQUAL(num(one, "bytesIn"), 8);
    CU_ASSERT_EQUAL(num(at(all, "kit"), "parked"), 1);
    const cJSON *events = at(all, "events");
    CU_ASSERT_STRING_EQUAL(str(cJSON_GetArrayItem(events, 0), "event"), "session-parked");
    CU_ASSERT_STRING_EQUAL(str(cJSON_GetArrayItem(events, 1), "event"), "bind");
    CU_ASSERT_STRING_EQUAL(str(cJSON_GetArrayItem(events, 2), "event"), "session-opened");
    CU_ASSERT_STRING_EQUAL(str(cJSON_GetArrayItem(events, 0), "owner"), "admin");
    CU_ASSERT_STRING_EQUAL(str(cJSON_GetArrayItem(events, 0), "sessionId"), id);
    cJSON_Delete(all);
    peer_resume(&p, id);
    ht_clock_skip((WIRE_LIMIT_RESUME_SETTLE + 1) * UINT64_C(1000));
    some_turns();
    get_through(&p, http);
    one = row(&all);
    CU_ASSERT_STRING_EQUAL(str(one, "state"), "live");
    CU_ASSERT_EQUAL(num(one, "bytesIn"), 16);
    CU_ASSERT_EQUAL(num(one, "requests"), 2);
    CU_ASSERT(num(one, "ageS") >= 2);
    cJSON_Delete(all);
    peer_bye(&p);
    host_stop();
}

static void one_that_is_sent_away_is_shown(void) {
    host_start("");
    struct peer p;
    struct raw v, r;
    char id[64], request[256];
    cJSON *all;
    peer_start(&p, id);
    uint16_t tcp = peer_bind(&p, WIRE_KIND_TCP, 0);
    raw_connect(&v, tcp);
    raw_send(&v, "hello");
    peer_expect(&p, WIRE_STREAM_OPEN);
    peer_expect(&p, WIRE_DATA);
    snprintf(request, sizeof request,
             "DELETE /api/v1/tunnel/sessions/%s?grace_ms=5000 HTTP/1.1\r\nHost: localhost\r\nConnection: close\r\n\r\n",
             id);
    CU_ASSERT_EQUAL(raw_ask(&r, host.port, request), 202);
    raw_close(&r);
    const cJSON *one = row(&all);
    CU_ASSERT_STRING_EQUAL(str(one, "state"), "draining");
    CU_ASSERT_EQUAL(num(one, "streams"), 1);
    CU_ASSERT_EQUAL(num(one, "bytesOut"), 5);
    cJSON_Delete(all);
    raw_close(&v);
    pass_ms(6000);
    UNTIL(p.closed);
    peer_drop(&p);
    host_stop();
}

static void a_round_trip_is_told(void) {
    host_start("--ping-interval 5s");
    struct peer p;
    cJSON *all;
    peer_start(&p, NULL);
    const cJSON *one = row(&all);
    CU_ASSERT(cJSON_IsNull(at(one, "rttMs")));
    cJSON_Delete(all);
    pass_ms(5001);
    const struct got_frame *f = peer_expect(&p, WIRE_PING);
    struct wire_ping pong = {{0}};
    memcpy(pong.nonce, peer_payload(&p, f).p, sizeof pong.nonce);
    peer_send(&p, WIRE_PONG, 0, &pong);
    some_turns();
    one = row(&all);
    CU_ASSERT(num(one, "rttMs") >= 0);
    cJSON_Delete(all);
    peer_bye(&p);
    host_stop();
}

/* ---- samples ---- */

static void reader_begin(struct raw *r, const char *query) {
    char request[256];
    snprintf(request, sizeof request, "GET /api/v1/tunnel/events%s HTTP/1.1\r\nHost: localhost\r\n\r\n", query);
    raw_connect(r, host.port);
    raw_send(r, request);
    UNTIL(strstr(raw_text(r), ": hoody-tunnel events\n\n"));
}

static unsigned samples_in(struct raw *r) {
    unsigned n = 0;
    for (const char *t = raw_text(r); (t = strstr(t, "event: sample\ndata: ")); t++)
        n++;
    return n;
}

static void samples_come_once_a_second_to_who_wants_them(void) {
    host_start("");
    struct raw plain, with, bad;
    struct peer p;
    char id[64];
    reader_begin(&plain, "");
    reader_begin(&with, "?samples=1");
    peer_start(&p, id);
    uint16_t http = peer_bind(&p, WIRE_KIND_HTTP, 0);
    pass_ms(1000);
    UNTIL(samples_in(&with) == 1);
    CU_ASSERT_PTR_NOT_NULL(strstr(raw_text(&with), "\"sessions\":[]}\n\n")); /* nothing moves */
    get_through(&p, http);
    pass_ms(1000);
    UNTIL(samples_in(&with) == 2);
    char want[128];
    snprintf(want, sizeof want, "\"sessions\":[{\"sessionId\":\"%s\",\"rate\":8,\"streams\":0,\"rttMs\":", id);
    CU_ASSERT_PTR_NOT_NULL(strstr(raw_text(&with), want));
    pass_ms(999);
    CU_ASSERT_EQUAL(samples_in(&with), 2);
    for (unsigned i = 0; i < 70; i++) /* they do not stop when nothing moves any more */
        pass_ms(1000);
    UNTIL(samples_in(&with) == 72);
    CU_ASSERT_EQUAL(samples_in(&plain), 0);
    CU_ASSERT_EQUAL(raw_ask(&bad, host.port, ASK("/api/v1/tunnel/events?samples=2")), 400);
    raw_close(&bad);
    raw_close(&plain);
    raw_close(&with);
    peer_bye(&p);
    host_stop();
}

/* Without a reader of samples and without traffic no timer is left that counts seconds. */
static void a_kit_that_rests_counts_no_seconds(void) {
    host_start("--ping-interval 10m");
    struct peer p;
    struct raw with;
    cJSON *all;
    peer_start(&p, NULL);
    uint16_t http = peer_bind(&p, WIRE_KIND_HTTP, 0);
    CU_ASSERT_FALSE(kit_counts_seconds(host.kit));
    get_through(&p, http);
    CU_ASSERT(kit_counts_seconds(host.kit));
    for (unsigned i = 0; i < 60; i++)
        pass_ms(1000);
    CU_ASSERT(kit_counts_seconds(host.kit)); /* the eight bytes are still in its last minute */
    pass_ms(1000);
    CU_ASSERT_FALSE(kit_counts_seconds(host.kit));
    const cJSON *one = row(&all);
    for (int i = 0; i < 60; i++)
        CU_ASSERT_EQUAL(cJSON_GetArrayItem(at(one, "traffic"), i)->valuedouble, 0);
    cJSON_Delete(all);
    reader_begin(&with, "?samples=1");
    CU_ASSERT(kit_counts_seconds(host.kit));
    raw_close(&with);
    for (unsigned i = 0; i < 62; i++)
        pass_ms(1000);
    CU_ASSERT_FALSE(kit_counts_seconds(host.kit));
    peer_bye(&p);
    host_stop();
}

/* ---- the latest events ---- */

static void the_latest_events_have_a_bound(void) {
    host_start("");
    struct peer p;
    static char text[1000];
    memset(text, 'r', sizeof text - 1);
    for (int i = 0; i < 40; i++) { /* opened, goodbye, ended */
        struct wire_goaway bye = {.code = WIRE_CODE_NO_ERROR, .message = ht_slice_str(text)};
        peer_start(&p, NULL);
        peer_send(&p, WIRE_GOAWAY, 0, &bye);
        UNTIL(p.closed);
        peer_drop(&p);
    }
    cJSON *all = status(ASK("/api/v1/tunnel/status"));
    const cJSON *events = at(all, "events"), *e;
    CU_ASSERT_EQUAL(cJSON_GetArraySize(events), 50);
    cJSON_ArrayForEach(e, events) CU_ASSERT(strlen(str(e, "reason")) <= 256);
    CU_ASSERT_STRING_EQUAL(str(cJSON_GetArrayItem(events, 0), "event"), "session-ended");
    CU_ASSERT_STRING_EQUAL(str(cJSON_GetArrayItem(events, 1), "event"), "goaway");
    cJSON_Delete(all);
    host_stop();
}

/* ---- the kit's own name ---- */

static void drivers_are_told_the_name_that_was_asked_for(void) {
    static const struct {
        const char *options, *fields, *url;
    } rows[] = {
        {"", "Host: localhost\r\n", "ws://localhost"},
        {"", "Host: a.localhost:81\r\nX-Forwarded-Proto: https\r\n", "ws://a.localhost:81"},
        {"--trusted-proxy 127.0.0.1", "Host: kit.example\r\nX-Forwarded-Proto: https\r\n", "wss://kit.example"},
        {"--trusted-proxy 127.0.0.1", "Host: kit.example';--\r\n", NULL}, /* nothing that a shell would obey */
    };
    for (size_t i = 0; i < HT_ARRAY_LEN(rows); i++) {
        char request[512], own[64];
        host_start(rows[i].options);
        snprintf(own, sizeof own, "ws://127.0.0.1:%u", host.port);
        snprintf(request, sizeof request, "GET /api/v1/tunnel/status HTTP/1.1\r\nConnection: close\r\n%s\r\n",
                 rows[i].fields);
        cJSON *all = status(request);
        CU_ASSERT_STRING_EQUAL(str(at(all, "kit"), "url"), rows[i].url ? rows[i].url : own);
        cJSON_Delete(all);
        host_stop();
    }
}

int main(void) {
    static const struct tap_test tests[] = {
        {"the page is served with its policy", the_page_is_served_with_its_policy},
        {"the page is compressed if the request accepts gzip", the_page_is_compressed_for_who_takes_that},
        {"after ten wrong tokens in a minute an address must wait", the_eleventh_wrong_token_of_a_minute_waits},
        {"behind a trusted proxy the client's address must wait, and not the proxy's",
         who_waits_is_known_behind_a_proxy},
        {"wrong tokens of many addresses take bounded memory", many_addresses_have_a_bound},
        {"/status shows what a session has carried", status_tells_what_a_session_carries},
        {"/status shows a session that is closing", one_that_is_sent_away_is_shown},
        {"/status shows the round trip", a_round_trip_is_told},
        {"readers that want samples get one each second", samples_come_once_a_second_to_who_wants_them},
        {"an idle kit sets no timer", a_kit_that_rests_counts_no_seconds},
        {"the latest events take bounded memory", the_latest_events_have_a_bound},
        {"the URL for drivers has the host that the request asked for", drivers_are_told_the_name_that_was_asked_for},
        {NULL, NULL},
    };
    return tap_main("status", tests);
}
