/* The admin API's answers over a made-up daemon, read back with cJSON. */
#include "admin/admin.h"
#include "base/mem.h"
#include "support/tap.h"

#include <cjson/cJSON.h>
#include <stdio.h>
#include <stdlib.h>
#include <unistd.h>

static struct {
    char killed[64];
    uint64_t grace;
    int snapshot_rc;
    const char *not_ready, *proxy, *ca, *url;
    uint32_t traffic[ADMIN_TRAFFIC_SECONDS];
    struct admin_snapshot wanted;
    bool full;
    struct admin_viewer viewer; /* the last one that was told */
} fake;

static int snapshot(void *ctx, const struct admin_viewer *viewer, struct admin_snapshot *out) {
    (void)ctx;
    fake.viewer = *viewer;
    fake.wanted = *out;
    if (fake.snapshot_rc < 0)
        return fake.snapshot_rc;
    static const struct admin_snap_session sessions[] = {
        {.id = "S-one",
         .peer = "127.0.0.1:4000",
         .protocol = ADMIN_PROTOCOL_V1,
         .granted = 1,
         .streams = 2,
         .first_binding = 0,
         .n_bindings = 2},
        {.id = "S-two",
         .peer = "[::1]:4001",
         .v2 = true,
         .protocol = ADMIN_PROTOCOL_V2,
         .granted = 4,
         .first_binding = 2,
         .n_bindings = 0},
        {.id = "S-old",
         .peer = "127.0.0.1:4002",
         .parked = true,
         .parked_until = 1700000060,
         .protocol = ADMIN_PROTOCOL_V1,
         .granted = 1,
         .first_binding = 2,
         .n_bindings = 1},
    };
    static const struct ht_slice names[] = {{"db.example:5432", 15}, {"*.corp", 6}};
    const struct admin_snap_binding bindings[] = {
        {1, 8080, ADMIN_KIND_HTTP, ADMIN_MODE_EXPOSE, "0.0.0.0", "front \"end\"", NULL, 0, 1700000000, fake.url, NULL,
         0},
        {2, 5432, ADMIN_KIND_TCP, ADMIN_MODE_PULL, "127.0.0.1", "", names, 2, 1700000001, NULL, NULL, 0},
        {7, 9000, ADMIN_KIND_HTTP, ADMIN_MODE_EXPOSE, "127.0.0.1", "", NULL, 0, 1700000002, "", NULL, 0},
    };
    out->sessions = ht_malloc(sizeof sessions);
    out->bindings = ht_malloc(sizeof bindings);
    if (!out->sessions || !out->bindings)
        return HT_ENOMEM;
    memcpy(out->sessions, sessions, sizeof sessions);
    memcpy(out->bindings, bindings, sizeof bindings);
    out->sessions[0].owner = "alice";
    out->sessions[0].links = 1;
    out->sessions[0].rtt_known = true;
    out->sessions[0].rtt_ms = 0.25;
    out->sessions[0].bytes_in = 5000000000;
    out->sessions[0].requests_per_second = 1.5;
    out->sessions[0].traffic = fake.traffic;
    out->sessions[0].oldest = 3;
    out->sessions[1].closing = true;
    out->sessions[2].grace_ms = 4200;
    out->sessions[2].keeps_streams = true;
    out->sessions[2].waiting = 7;
    out->n_sessions = 3;
    out->n_live = 2;
    out->n_bindings = 3;
    out->max_streams = 1024;
    out->fd_permits = 99;
    return 0;
}

static int kill_one(void *ctx, const struct admin_viewer *viewer, const char *id, uint64_t grace_ms) {
    (void)ctx;
    fake.viewer = *viewer;
    if (strcmp(id, "S-one") != 0 || fake.killed[0])
        return HT_EINVAL;
    snprintf(fake.killed, sizeof fake.killed, "%s", id);
    fake.grace = grace_ms;
    return 0;
}

static int metrics(void *ctx, struct ht_buf *out) {
    (void)ctx;
    return ht_buf_append_str(out, "hoody_tunnel_sessions_active 2\n");
}

static int certificates(void *ctx, const struct admin_viewer *viewer, struct ht_buf *out) {
    (void)ctx;
    fake.viewer = *viewer;
    return ht_buf_append_str(out, fake.ca ? fake.ca : "");
}

static int count_fds(void *ctx) {
    (void)ctx;
    return 7;
}

static const char *not_ready(void *ctx) {
    (void)ctx;
    return fake.not_ready;
}

static bool takes_reader(void *ctx, const struct admin_viewer *viewer) {
    (void)viewer;
    (void)ctx;
    return !fake.full;
}

static bool proxy(void *ctx, char address[ADMIN_ADDR_TEXT], bool *wants_token) {
    (void)ctx;
    snprintf(address, ADMIN_ADDR_TEXT, "%s", fake.proxy ? fake.proxy : "");
    *wants_token = fake.proxy != NULL;
    return fake.proxy != NULL;
}

static void kit(void *ctx, struct admin_snap_kit *out) {
    (void)ctx;
    *out = (struct admin_snap_kit){.version = "9.9", .max_sessions = 8, .descriptors = {3, 99}, .n_limits = 1};
    out->limits[0] = (struct admin_limit){ht_slice_str("Memory"), 1, 2, ht_slice_str("bytes")};
}

static size_t recent(void *ctx, const struct admin_viewer *viewer, struct admin_event out[ADMIN_EVENTS_KEPT]) {
    (void)ctx, (void)viewer;
    out[0] = (struct admin_event){.event = ADMIN_EVENT_TYPE_BIND, .time = ht_slice_str("2026-01-31T12:00:00Z")};
    return 1;
}

static struct admin admin;

static void start(void) {
    static const struct admin_source source = {.snapshot = snapshot,
                                               .kill = kill_one,
                                               .metrics = metrics,
                                               .certificates = certificates,
                                               .count_fds = count_fds,
                                               .not_ready = not_ready,
                                               .takes_reader = takes_reader,
                                               .proxy = proxy,
                                               .kit = kit,
                                               .recent = recent};
    memset(&fake, 0, sizeof fake);
    admin_init(&admin, &source, "127.0.0.1");
}

/* Asks and returns the parsed body, which is NULL when it is no JSON. */
static cJSON *ask_as(const char *method, const char *target, bool authorized, struct admin_response *res) {
    struct admin_request req = {
        .method = ht_slice_str(method),
        .target = ht_slice_str(target),
        .user_agent = ht_slice_str("test/1"),
        .trusted = true,
        .authorized = authorized,
        .viewer = {.name = "admin", .admin = authorized},
    };
    *res = (struct admin_response){0};
    CU_ASSERT_EQUAL_FATAL(admin_serve(&admin, &req, res), 0);
    return cJSON_ParseWithLength((const char *)ht_buf_head(&res->body), ht_buf_size(&res->body));
}

static cJSON *ask(const char *method, const char *target, int status) {
    struct admin_response res;
    cJSON *json = ask_as(method, target, true, &res);
    CU_ASSERT_EQUAL(res.status, status);
    CU_ASSERT_STRING_EQUAL(res.content_type, "application/json");
    admin_response_free(&res);
    CU_ASSERT_PTR_NOT_NULL_FATAL(json);
    return json;
}

static const cJSON *at(const cJSON *json, const char *name) { return cJSON_GetObjectItemCaseSensitive(json, name); }
static double num(const cJSON *json, const char *name) {
    const cJSON *v = at(json, name);
    return cJSON_IsNumber(v) ? v->valuedouble : -1;
}
static const char *str(const cJSON *json, const char *name) {
    const cJSON *v = at(json, name);
    return cJSON_IsString(v) ? v->valuestring : "(none)";
}

static void health_tells_about_the_process(void) {
    start();
    cJSON *j = ask("GET", "/api/v1/tunnel/health", 200);
    CU_ASSERT_STRING_EQUAL(str(j, "status"), "ok");
    CU_ASSERT_STRING_EQUAL(str(j, "service"), "hoody-tunnel");
    CU_ASSERT_STRING_EQUAL(str(j, "ip"), "127.0.0.1");
    CU_ASSERT_STRING_EQUAL(str(j, "userAgent"), "test/1");
    CU_ASSERT_EQUAL(num(j, "pid"), getpid());
    CU_ASSERT_EQUAL(num(j, "fds"), 7);
    CU_ASSERT(num(at(j, "memory"), "rss") > 100000);
    CU_ASSERT(cJSON_IsNull(at(at(j, "memory"), "heap")));
    unsigned y, mo, d, h, mi, s;
    char z;
    CU_ASSERT_EQUAL(sscanf(str(j, "built"), "%4u-%2u-%2uT%2u:%2u:%2u%c", &y, &mo, &d, &h, &mi, &s, &z), 7);
    CU_ASSERT(y > 2020 && z == 'Z');
    CU_ASSERT_EQUAL(sscanf(str(j, "started"), "%4u-%2u-%2uT%2u:%2u:%2u%c", &y, &mo, &d, &h, &mi, &s, &z), 7);
    cJSON_Delete(j);
}

static void times_are_rfc_3339(void) {
    char t[32];
    admin_time_text(0, t);
    CU_ASSERT_STRING_EQUAL(t, "1970-01-01T00:00:00Z");
    admin_time_text(1767225599, t);
    CU_ASSERT_STRING_EQUAL(t, "2025-12-31T23:59:59Z");
}

static void tunnels_hold_the_live_ones_and_totals(void) {
    start();
    cJSON *j = ask("GET", "/api/v1/tunnel/tunnels", 200);
    const cJSON *sessions = at(j, "sessions");
    CU_ASSERT_EQUAL_FATAL(cJSON_GetArraySize(sessions), 2);
    const cJSON *one = cJSON_GetArrayItem(sessions, 0), *two = cJSON_GetArrayItem(sessions, 1);
    CU_ASSERT_STRING_EQUAL(str(one, "sessionId"), "S-one");
    CU_ASSERT_STRING_EQUAL(str(one, "peerAddr"), "127.0.0.1:4000");
    CU_ASSERT_STRING_EQUAL(str(one, "protocol"), "v1");
    CU_ASSERT_EQUAL(num(one, "activeStreams"), 2);
    CU_ASSERT_EQUAL(cJSON_GetArraySize(at(one, "exposeBindings")), 1);
    CU_ASSERT_EQUAL(num(cJSON_GetArrayItem(at(one, "exposeBindings"), 0), "containerPort"), 8080);
    CU_ASSERT_EQUAL(num(cJSON_GetArrayItem(at(one, "pullBindings"), 0), "bindId"), 2);
    CU_ASSERT_STRING_EQUAL(str(two, "protocol"), "v2");
    CU_ASSERT_EQUAL(num(two, "connectionsGranted"), 4);
    CU_ASSERT_EQUAL(cJSON_GetArraySize(at(two, "pullBindings")), 0);
    CU_ASSERT_EQUAL(num(j, "orphanedSessions"), 1);
    CU_ASSERT_EQUAL(num(j, "totalStreams"), 2);
    CU_ASSERT_EQUAL(num(j, "totalBindings"), 3);
    CU_ASSERT_EQUAL(num(j, "fdPermitsAvailable"), 99);
    cJSON_Delete(j);
}

static void sessions_tell_load_and_limits(void) {
    start();
    cJSON *j = ask("GET", "/api/v1/tunnel/sessions", 200);
    CU_ASSERT_EQUAL(num(j, "total"), 3);
    const cJSON *old = cJSON_GetArrayItem(at(j, "sessions"), 2);
    CU_ASSERT(cJSON_IsTrue(at(old, "parked")));
    CU_ASSERT_STRING_EQUAL(str(old, "parkedUntil"), "2023-11-14T22:14:20Z");
    CU_ASSERT(cJSON_IsTrue(at(old, "keepsStreams")));
    CU_ASSERT_EQUAL(num(old, "waiting"), 7);
    const cJSON *one = cJSON_GetArrayItem(at(j, "sessions"), 0);
    CU_ASSERT(cJSON_IsFalse(at(one, "isV2")));
    CU_ASSERT(cJSON_IsFalse(at(one, "keepsStreams")));
    CU_ASSERT_EQUAL(num(one, "maxStreams"), 1024);
    const cJSON *b = cJSON_GetArrayItem(at(one, "bindings"), 1);
    CU_ASSERT_STRING_EQUAL(str(b, "kind"), "tcp");
    CU_ASSERT_STRING_EQUAL(str(b, "mode"), "pull");
    CU_ASSERT_EQUAL(num(b, "containerPort"), 5432);
    CU_ASSERT_PTR_NULL(at(b, "label"));
    CU_ASSERT_EQUAL_FATAL(cJSON_GetArraySize(at(b, "names")), 2);
    CU_ASSERT_STRING_EQUAL(cJSON_GetArrayItem(at(b, "names"), 1)->valuestring, "*.corp");
    CU_ASSERT_PTR_NULL(at(cJSON_GetArrayItem(at(one, "bindings"), 0), "names"));
    CU_ASSERT_STRING_EQUAL(str(cJSON_GetArrayItem(at(one, "bindings"), 0), "label"), "front \"end\"");
    CU_ASSERT(cJSON_IsFalse(at(one, "parked")) && !at(one, "parkedUntil"));
    cJSON_Delete(j);
}

static void bindings_name_their_holders(void) {
    start();
    cJSON *j = ask("GET", "/api/v1/tunnel/bindings", 200);
    const cJSON *rows = at(j, "bindings");
    CU_ASSERT_EQUAL(num(j, "total"), 3);
    CU_ASSERT_EQUAL_FATAL(cJSON_GetArraySize(rows), 3);
    CU_ASSERT_PTR_NULL(at(cJSON_GetArrayItem(rows, 0), "bindAddr"));
    CU_ASSERT_STRING_EQUAL(str(cJSON_GetArrayItem(rows, 1), "bindAddr"), "127.0.0.1");
    CU_ASSERT_EQUAL(cJSON_GetArraySize(at(cJSON_GetArrayItem(rows, 1), "names")), 2);
    CU_ASSERT_PTR_NULL(at(cJSON_GetArrayItem(rows, 0), "names"));
    CU_ASSERT_STRING_EQUAL(str(cJSON_GetArrayItem(rows, 2), "sessionId"), "S-old");
    CU_ASSERT_EQUAL(num(cJSON_GetArrayItem(rows, 2), "port"), 9000);
    CU_ASSERT_STRING_EQUAL(str(cJSON_GetArrayItem(rows, 2), "parkedUntil"), "2023-11-14T22:14:20Z");
    CU_ASSERT_STRING_EQUAL(str(cJSON_GetArrayItem(rows, 0), "label"), "front \"end\"");
    CU_ASSERT_STRING_EQUAL(str(cJSON_GetArrayItem(rows, 0), "since"), "2023-11-14T22:13:20Z");
    CU_ASSERT(cJSON_IsFalse(at(cJSON_GetArrayItem(rows, 0), "parked")));
    cJSON_Delete(j);
}

static void a_kill_works_once(void) {
    start();
    cJSON *j = ask("DELETE", "/api/v1/tunnel/sessions/S-one?grace_ms=200", 202);
    CU_ASSERT_STRING_EQUAL(str(j, "sessionId"), "S-one");
    CU_ASSERT_STRING_EQUAL(str(j, "status"), "closing");
    CU_ASSERT_EQUAL(fake.grace, 200);
    cJSON_Delete(j);
    j = ask("DELETE", "/api/v1/tunnel/sessions/S-one", 404);
    CU_ASSERT_PTR_NOT_NULL(strstr(str(j, "error"), "S-one"));
    cJSON_Delete(j);
    static const char *const bad[] = {"-1", "5001", "x", "", "1.5", "9999999999999999999"};
    for (size_t i = 0; i < HT_ARRAY_LEN(bad); i++) {
        char target[128];
        snprintf(target, sizeof target, "/api/v1/tunnel/sessions/S-one?grace_ms=%s", bad[i]);
        j = ask("DELETE", target, 400);
        CU_ASSERT_PTR_NOT_NULL(strstr(str(j, "error"), "grace_ms"));
        cJSON_Delete(j);
    }
    fake.killed[0] = '\0';
    cJSON_Delete(ask("DELETE", "/api/v1/tunnel/sessions/S-one", 202));
    CU_ASSERT_EQUAL(fake.grace, 50);
}

static void metrics_are_text(void) {
    struct admin_response res;
    start();
    cJSON_Delete(ask_as("GET", "/api/v1/tunnel/metrics", true, &res));
    CU_ASSERT_EQUAL(res.status, 200);
    CU_ASSERT_EQUAL(strncmp(res.content_type, "text/plain", 10), 0);
    CU_ASSERT(ht_slice_is(ht_buf_slice(&res.body), "hoody_tunnel_sessions_active 2\n"));
    admin_response_free(&res);
}

/* Whatever shows what users have asks for those of somebody. */
static void who_asks_is_told(void) {
    static const struct {
        const char *method, *path;
    } all[] = {
        {"GET", "tunnels"}, {"GET", "sessions"}, {"GET", "bindings"}, {"GET", "ca.pem"}, {"DELETE", "sessions/x"}};
    for (size_t i = 0; i < HT_ARRAY_LEN(all); i++) {
        char target[64];
        struct admin_response res = {0};
        start();
        snprintf(target, sizeof target, "/api/v1/tunnel/%s", all[i].path);
        struct admin_request req = {.method = ht_slice_str(all[i].method),
                                    .target = ht_slice_str(target),
                                    .trusted = true,
                                    .authorized = true,
                                    .viewer = {.name = "ann", .user = &req}};
        CU_ASSERT_EQUAL(admin_serve(&admin, &req, &res), 0);
        CU_ASSERT_STRING_EQUAL(fake.viewer.name ? fake.viewer.name : "", "ann");
        CU_ASSERT_PTR_EQUAL(fake.viewer.user, &req);
        admin_response_free(&res);
    }
}

static void certificates_or_none(void) {
    struct admin_response res;
    start();
    cJSON *j = ask("GET", "/api/v1/tunnel/ca.pem", 404);
    CU_ASSERT_STRING_EQUAL(str(j, "error"), "no connected driver offers a certificate");
    cJSON_Delete(j);
    fake.ca = "-----BEGIN CERTIFICATE-----\nAAAA\n-----END CERTIFICATE-----\n";
    cJSON_Delete(ask_as("GET", "/api/v1/tunnel/ca.pem", true, &res));
    CU_ASSERT_EQUAL(res.status, 200);
    CU_ASSERT_STRING_EQUAL(res.content_type, "application/x-pem-file");
    CU_ASSERT(ht_slice_is(ht_buf_slice(&res.body), fake.ca));
    admin_response_free(&res);
}

static void a_probe_says_yes_or_why_not(void) {
    start();
    cJSON *j = ask("GET", "/livez", 200);
    CU_ASSERT_STRING_EQUAL(str(j, "status"), "ok");
    cJSON_Delete(j);
    fake.proxy = "127.0.0.1:9090";
    j = ask("GET", "/readyz", 200);
    CU_ASSERT_STRING_EQUAL(str(j, "status"), "ok");
    CU_ASSERT_STRING_EQUAL(str(j, "proxy"), "127.0.0.1:9090");
    cJSON_Delete(j);
    fake.not_ready = "draining";
    j = ask("GET", "/readyz", 503);
    CU_ASSERT_STRING_EQUAL(str(j, "error"), "draining");
    cJSON_Delete(j);
    cJSON_Delete(ask("GET", "/livez", 200));
}

static void events_are_a_stream_of_json(void) {
    struct admin_response res = {0};
    struct admin_request req = {.method = ht_slice_str("GET"),
                                .target = ht_slice_str("/api/v1/tunnel/events"),
                                .trusted = true,
                                .authorized = true,
                                .viewer = {.admin = true}};
    start();
    CU_ASSERT_EQUAL(admin_serve(&admin, &req, &res), 0);
    CU_ASSERT_EQUAL(res.status, 200);
    CU_ASSERT_STRING_EQUAL(res.content_type, "text/event-stream");
    CU_ASSERT(admin_is_stream(&req, &res));
    req.method = ht_slice_str("HEAD");
    CU_ASSERT_FALSE(admin_is_stream(&req, &res));
    admin_response_free(&res);
    fake.full = true;
    cJSON_Delete(ask("GET", "/api/v1/tunnel/events", 503));

    struct ht_buf b = {0};
    struct admin_event e = {
        .event = ADMIN_EVENT_TYPE_GOAWAY,
        .time = ht_slice_str("2026-02-01T10:00:11Z"),
        .session_id = ht_slice_str("S-1"),
        .has_sender = true,
        .sender = ADMIN_SENDER_DRIVER,
        .has_code = true,
        .code = 7,
        .reason = ht_slice_str("two\nlines\n\ndata: forged"),
    };
    CU_ASSERT_EQUAL(admin_event_append(&b, 12, &e), 0);
    CU_ASSERT_EQUAL(ht_buf_append(&b, "", 1), 0);
    const char *text = (const char *)ht_buf_head(&b), *data = strstr(text, "\ndata: ");
    CU_ASSERT_EQUAL(strncmp(text, "id: 12\nevent: goaway\ndata: {", 28), 0);
    CU_ASSERT_PTR_NOT_NULL_FATAL(data);
    CU_ASSERT_PTR_EQUAL(strchr(data + 1, '\n'), text + strlen(text) - 2); /* one line, then an empty one */
    cJSON *j = cJSON_Parse(data + 7);
    CU_ASSERT_STRING_EQUAL(str(j, "event"), "goaway");
    CU_ASSERT_STRING_EQUAL(str(j, "sender"), "driver");
    CU_ASSERT_STRING_EQUAL(str(j, "reason"), "two\nlines\n\ndata: forged");
    CU_ASSERT_EQUAL(num(j, "code"), 7);
    CU_ASSERT_PTR_NULL(at(j, "port"));
    cJSON_Delete(j);
    ht_buf_free(&b);
}

static void only_probes_are_open_to_all(void) {
    static const char *const closed[] = {"metrics", "tunnels",      "sessions", "bindings",
                                         "events",  "openapi.json", "ca.pem"};
    struct admin_response res;
    start();
    for (size_t i = 0; i < HT_ARRAY_LEN(closed); i++) {
        char target[64];
        snprintf(target, sizeof target, "/api/v1/tunnel/%s", closed[i]);
        cJSON *j = ask_as("GET", target, false, &res);
        CU_ASSERT_EQUAL(res.status, 401);
        CU_ASSERT_STRING_EQUAL(res.www_authenticate, "Bearer");
        CU_ASSERT_PTR_NOT_NULL(at(j, "error"));
        cJSON_Delete(j);
        admin_response_free(&res);
    }
    cJSON_Delete(ask_as("DELETE", "/api/v1/tunnel/sessions/S-one", false, &res));
    CU_ASSERT_EQUAL(res.status, 401);
    CU_ASSERT_STRING_EQUAL(fake.killed, "");
    admin_response_free(&res);
    static const char *const open[] = {"/api/v1/tunnel/health", "/livez", "/readyz"};
    for (size_t i = 0; i < HT_ARRAY_LEN(open); i++) {
        cJSON_Delete(ask_as("GET", open[i], false, &res));
        CU_ASSERT_EQUAL(res.status, 200);
        admin_response_free(&res);
    }
}

static void the_description_is_served(void) {
    start();
    cJSON *j = ask("GET", "/api/v1/tunnel/openapi.json", 200);
    CU_ASSERT_EQUAL(strncmp(str(j, "openapi"), "3.1", 3), 0);
    cJSON_Delete(j);
}

static void the_proxy_or_that_there_is_none(void) {
    start();
    cJSON *j = ask("GET", "/api/v1/tunnel/proxy", 200);
    CU_ASSERT(cJSON_IsNull(at(j, "address")) && cJSON_IsFalse(at(j, "wantsToken")));
    cJSON_Delete(j);
    fake.proxy = "127.0.0.1:9090";
    j = ask("GET", "/api/v1/tunnel/proxy", 200);
    CU_ASSERT_STRING_EQUAL(str(j, "address"), "127.0.0.1:9090");
    CU_ASSERT(cJSON_IsTrue(at(j, "wantsToken")));
    cJSON_Delete(j);
}

static void a_failing_source_is_a_500(void) {
    start();
    fake.snapshot_rc = HT_ENOMEM;
    cJSON_Delete(ask("GET", "/api/v1/tunnel/tunnels", 500));
}

/* Each allocation fails once: the answer is whole, a 500, or HT_ENOMEM, and nothing leaks. */
static void every_allocation_may_fail(void) {
    static const char *const paths[] = {"health", "metrics", "proxy", "tunnels", "sessions", "bindings"};
    start();
    size_t before = ht_mem_live();
    for (size_t i = 0; i < HT_ARRAY_LEN(paths); i++) {
        char target[64];
        snprintf(target, sizeof target, "/api/v1/tunnel/%s", paths[i]);
        bool whole = false;
        for (long index = 0; index < 1000 && !whole; index++) {
            struct admin_request req = {.method = ht_slice_str("GET"),
                                        .target = ht_slice_str(target),
                                        .trusted = true,
                                        .authorized = true,
                                        .viewer = {.admin = true}};
            struct admin_response res = {0};
            ht_mem_fail_at(index);
            int rc = admin_serve(&admin, &req, &res);
            ht_mem_fail_at(-1);
            CU_ASSERT(rc == HT_ENOMEM || (rc == 0 && (res.status == 200 || res.status == 500)));
            whole = rc == 0 && res.status == 200;
            admin_response_free(&res);
            CU_ASSERT_EQUAL(ht_mem_live(), before);
        }
        CU_ASSERT(whole);
    }
}

/* Asks for /status as a user or an admin. */
static cJSON *status_as(bool is_admin) {
    struct admin_request req = {
        .method = ht_slice_str("GET"),
        .target = ht_slice_str("/api/v1/tunnel/status"),
        .url = ht_slice_str("ws://here"),
        .trusted = true,
        .authorized = true,
        .viewer = {.name = "alice", .admin = is_admin},
    };
    struct admin_response res = {0};
    CU_ASSERT_EQUAL_FATAL(admin_serve(&admin, &req, &res), 0);
    CU_ASSERT_EQUAL_FATAL(res.status, 200);
    cJSON *j = cJSON_ParseWithLength((const char *)ht_buf_head(&res.body), ht_buf_size(&res.body));
    CU_ASSERT_PTR_NOT_NULL_FATAL(j);
    admin_response_free(&res);
    return j;
}

static void status_holds_what_the_page_shows(void) {
    start();
    fake.url = "https://a.example";
    for (unsigned i = 0; i < ADMIN_TRAFFIC_SECONDS; i++)
        fake.traffic[i] = i;
    cJSON *j = status_as(true);
    CU_ASSERT(fake.wanted.closing && !fake.wanted.no_bindings);
    const cJSON *k = at(j, "kit"), *rows = at(j, "sessions");
    CU_ASSERT_STRING_EQUAL(str(k, "url"), "ws://here");
    CU_ASSERT_STRING_EQUAL(str(k, "version"), "9.9");
    CU_ASSERT_EQUAL(num(at(k, "sessions"), "used"), 2);
    CU_ASSERT_EQUAL(num(at(k, "sessions"), "max"), 8);
    CU_ASSERT_EQUAL(num(k, "parked"), 1);
    CU_ASSERT_EQUAL(num(k, "exposed"), 2);
    CU_ASSERT_EQUAL(num(k, "requestsPerSecond"), 1.5);
    CU_ASSERT_EQUAL(cJSON_GetArraySize(at(k, "limits")), 1);
    CU_ASSERT_EQUAL(cJSON_GetArraySize(at(j, "events")), 1);
    CU_ASSERT_EQUAL_FATAL(cJSON_GetArraySize(rows), 3);
    const cJSON *one = cJSON_GetArrayItem(rows, 0), *two = cJSON_GetArrayItem(rows, 1),
                *old = cJSON_GetArrayItem(rows, 2);
    CU_ASSERT_STRING_EQUAL(str(one, "owner"), "alice");
    CU_ASSERT_STRING_EQUAL(str(one, "state"), "live");
    CU_ASSERT_STRING_EQUAL(str(two, "state"), "draining");
    CU_ASSERT_STRING_EQUAL(str(old, "state"), "parked");
    CU_ASSERT_EQUAL(num(old, "graceMs"), 4200);
    CU_ASSERT(cJSON_IsNull(at(one, "graceMs")) && cJSON_IsNull(at(two, "rttMs")));
    CU_ASSERT_EQUAL(num(one, "rttMs"), 0.25);
    CU_ASSERT_EQUAL(num(one, "bytesIn"), 5e9);
    CU_ASSERT_EQUAL(cJSON_GetArraySize(at(one, "connections")), 1);
    const cJSON *traffic = at(one, "traffic");
    CU_ASSERT_EQUAL_FATAL(cJSON_GetArraySize(traffic), 60);
    CU_ASSERT_EQUAL(cJSON_GetArrayItem(traffic, 0)->valuedouble, 3);
    CU_ASSERT_EQUAL(cJSON_GetArrayItem(traffic, 59)->valuedouble, 2);
    CU_ASSERT_EQUAL(num(one, "rate"), 2);
    const cJSON *b = cJSON_GetArrayItem(at(one, "bindings"), 0), *pull = cJSON_GetArrayItem(at(one, "bindings"), 1);
    CU_ASSERT_STRING_EQUAL(str(b, "url"), "https://a.example");
    CU_ASSERT(cJSON_IsNull(at(pull, "url")) && cJSON_IsNull(at(pull, "qr")));
    cJSON_Delete(j);
    admin_free(&admin);
}

static void a_user_sees_no_limits_of_the_kit(void) {
    start();
    cJSON *j = status_as(false);
    CU_ASSERT_EQUAL(cJSON_GetArraySize(at(at(j, "kit"), "limits")), 0);
    CU_ASSERT_EQUAL(num(at(at(j, "kit"), "descriptors"), "max"), 0);
    cJSON_Delete(j);
    struct ht_buf out = {0};
    CU_ASSERT_EQUAL(admin_sample_append(&admin, &(struct admin_viewer){.name = "alice"}, &out), 0);
    CU_ASSERT_PTR_NULL(memmem(ht_buf_head(&out), ht_buf_size(&out), "Memory", 6));
    ht_buf_free(&out);
}

/* The finder at the upper left corner is the same in every code (ISO/IEC 18004, 6.3.3). */
static void codes_are_rows_of_modules(void) {
    static const uint8_t finder[7] = {0x7f, 0x41, 0x5d, 0x5d, 0x5d, 0x41, 0x7f};
    start();
    fake.url = "https://a.example";
    for (int again = 0; again < 2; again++) { /* made, and kept */
        cJSON *j = status_as(true);
        const cJSON *one = cJSON_GetArrayItem(at(j, "sessions"), 0);
        const cJSON *qr = at(cJSON_GetArrayItem(at(one, "bindings"), 0), "qr"), *rows = at(qr, "rows");
        int size = (int)num(qr, "size");
        CU_ASSERT_EQUAL_FATAL(size, 21); /* version 1: the least that holds it */
        CU_ASSERT_EQUAL_FATAL(cJSON_GetArraySize(rows), size);
        for (int y = 0; y < size; y++) {
            const char *row = cJSON_GetArrayItem(rows, y)->valuestring;
            CU_ASSERT_EQUAL(strlen(row), 6);
            CU_ASSERT_EQUAL(row[5] == '0' || row[5] == '8', 1); /* one module, and three to fill up */
            if (y < 7)
                CU_ASSERT_EQUAL(strtoul(row, NULL, 16) >> 17, finder[y]);
        }
        cJSON_Delete(j);
    }
    admin_free(&admin);
}

/* 64 codes are kept, whatever the URLs are: the work and the memory of an answer are bounded. */
static void codes_have_a_bound(void) {
    char url[64];
    start();
    size_t before = 0;
    for (int i = 0; i < 200; i++) {
        snprintf(url, sizeof url, "https://a-%03d.example", i);
        fake.url = url;
        cJSON_Delete(status_as(true));
        if (i == 99)
            before = ht_mem_live();
    }
    CU_ASSERT_EQUAL(ht_mem_live(), before);
    admin_free(&admin);
}

static void samples_name_those_that_move(void) {
    struct ht_buf out = {0};
    start();
    fake.traffic[2] = 777;
    CU_ASSERT_EQUAL(admin_sample_append(&admin, &(struct admin_viewer){.name = "alice", .admin = true}, &out), 0);
    CU_ASSERT(fake.wanted.closing && fake.wanted.no_bindings);
    static const char begin[] = "event: sample\ndata: ";
    const char *text = (const char *)ht_buf_head(&out);
    size_t n = ht_buf_size(&out);
    CU_ASSERT_FATAL(n > sizeof begin && memcmp(text, begin, sizeof begin - 1) == 0);
    CU_ASSERT(memcmp(text + n - 2, "\n\n", 2) == 0);
    cJSON *j = cJSON_ParseWithLength(text + sizeof begin - 1, n - sizeof begin - 1);
    CU_ASSERT_PTR_NOT_NULL_FATAL(j);
    CU_ASSERT_EQUAL_FATAL(cJSON_GetArraySize(at(j, "sessions")), 1);
    const cJSON *one = cJSON_GetArrayItem(at(j, "sessions"), 0);
    CU_ASSERT_STRING_EQUAL(str(one, "sessionId"), "S-one");
    CU_ASSERT_EQUAL(num(one, "rate"), 777);
    CU_ASSERT_EQUAL(num(one, "streams"), 2);
    CU_ASSERT_EQUAL(num(at(at(j, "kit"), "descriptors"), "used"), 3);
    cJSON_Delete(j);
    ht_buf_free(&out);
    fake.snapshot_rc = HT_ENOMEM;
    CU_ASSERT_EQUAL(admin_sample_append(&admin, &(struct admin_viewer){.name = "alice"}, &out), HT_ENOMEM);
    ht_buf_free(&out);
}

static void me_is_the_viewer(void) {
    start();
    struct admin_request req = {.method = ht_slice_str("GET"),
                                .target = ht_slice_str("/api/v1/tunnel/me"),
                                .trusted = true,
                                .authorized = true,
                                .viewer = {.name = "al\"ice", .admin = true}};
    struct admin_response res = {0};
    CU_ASSERT_EQUAL_FATAL(admin_serve(&admin, &req, &res), 0);
    CU_ASSERT(ht_slice_is(ht_buf_slice(&res.body), "{\"name\":\"al\\\"ice\",\"admin\":true}"));
    admin_response_free(&res);
}

int main(void) {
    static const struct tap_test tests[] = {
        {"health tells about the process", health_tells_about_the_process},
        {"times are RFC 3339", times_are_rfc_3339},
        {"tunnels hold the live ones and totals", tunnels_hold_the_live_ones_and_totals},
        {"sessions tell load and limits", sessions_tell_load_and_limits},
        {"bindings name their holders", bindings_name_their_holders},
        {"a kill works once", a_kill_works_once},
        {"metrics are text", metrics_are_text},
        {"certificates, or none", certificates_or_none},
        {"who asks is told to whoever answers", who_asks_is_told},
        {"a probe answers yes, or the reason", a_probe_says_yes_or_why_not},
        {"events are a stream of JSON", events_are_a_stream_of_json},
        {"only probes are open to all", only_probes_are_open_to_all},
        {"the description is served", the_description_is_served},
        {"the proxy, or that there is none", the_proxy_or_that_there_is_none},
        {"a failing source is a 500", a_failing_source_is_a_500},
        {"every allocation may fail", every_allocation_may_fail},
        {"me is whoever asks", me_is_the_viewer},
        {"status holds what the page shows", status_holds_what_the_page_shows},
        {"a user sees no limits of the kit", a_user_sees_no_limits_of_the_kit},
        {"QR codes are rows of modules", codes_are_rows_of_modules},
        {"QR codes have a bound", codes_have_a_bound},
        {"samples name those that move", samples_name_those_that_move},
        {NULL, NULL},
    };
    return tap_main("admin", tests);
}
