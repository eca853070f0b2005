/*
 * The admin API behind the HTTP parser: any method and target get one of the answers that the description promises, and
 * every body of JSON is strict JSON, whatever the sessions' names are made of.
 *
 * Input: who asks and how the daemon is (one byte), the method's length and the method, the target's length (two bytes)
 * and the target, then bytes for the User-Agent and for the texts of the sessions.
 */
#include "admin/admin.h"
#include "fuzz.h"
#include "json/json.h"

static uint8_t asked_by;
static char texts[4][40]; /* of the made-up sessions; no NUL inside */

static int snapshot(void *ctx, const struct admin_viewer *viewer, struct admin_snapshot *out) {
    (void)ctx, (void)viewer;
    out->sessions = ht_calloc(2, sizeof *out->sessions);
    out->bindings = ht_calloc(2, sizeof *out->bindings);
    if (!out->sessions || !out->bindings)
        return HT_ENOMEM;
    out->n_sessions = 2;
    out->n_live = out->n_bindings = 1;
    out->sessions[0] = (struct admin_snap_session){
        .id = texts[0], .peer = texts[1], .protocol = ADMIN_PROTOCOL_V1, .granted = 1, .n_bindings = 1};
    out->sessions[1] = (struct admin_snap_session){
        .id = texts[2], .peer = texts[3], .parked = true, .protocol = ADMIN_PROTOCOL_V2, .first_binding = 1};
    out->bindings[0] = (struct admin_snap_binding){.bind_id = 1,
                                                   .port = 5432,
                                                   .kind = ADMIN_KIND_TCP,
                                                   .mode = ADMIN_MODE_PULL,
                                                   .label = texts[2],
                                                   .url = texts[2]};
    memcpy(out->bindings[0].bind_addr, texts[1], sizeof texts[1]);
    return HT_OK;
}

static int kill_one(void *ctx, const struct admin_viewer *viewer, const char *id, uint64_t grace_ms) {
    (void)ctx, (void)viewer;
    FUZZ_CHECK(id[0] && strlen(id) <= 128 && grace_ms <= 5000);
    return strcmp(id, texts[0]) == 0 ? HT_OK : HT_EINVAL;
}

static int metrics(void *ctx, struct ht_buf *out) {
    (void)ctx;
    return ht_buf_append_str(out, "a 1\n");
}

static int certificates(void *ctx, const struct admin_viewer *viewer, struct ht_buf *out) {
    (void)ctx, (void)viewer;
    return asked_by & 32 ? ht_buf_append_str(out, "a certificate\n") : HT_OK;
}

static bool proxy(void *ctx, char address[ADMIN_ADDR_TEXT], bool *wants_token) {
    (void)ctx;
    memcpy(address, "127.0.0.1:9090", sizeof "127.0.0.1:9090");
    *wants_token = asked_by & 4;
    return asked_by & 32;
}

static int count_fds(void *ctx) {
    (void)ctx;
    return -1;
}

static const char *not_ready(void *ctx) {
    (void)ctx;
    return asked_by & 8 ? "draining" : NULL;
}

static bool takes_reader(void *ctx, const struct admin_viewer *viewer) {
    (void)viewer;
    (void)ctx;
    return !(asked_by & 16);
}

static void kit(void *ctx, struct admin_snap_kit *out) {
    (void)ctx;
    *out = (struct admin_snap_kit){.version = texts[3], .draining = asked_by & 8, .n_limits = 1};
    out->limits[0] = (struct admin_limit){.name = ht_slice_str(texts[1]), .used = 1, .max = 2};
}

static size_t recent(void *ctx, const struct admin_viewer *viewer, struct admin_event out[ADMIN_EVENTS_KEPT]) {
    (void)ctx, (void)viewer;
    for (size_t i = 0; i < ADMIN_EVENTS_KEPT; i++)
        out[i] = (struct admin_event){.event = ADMIN_EVENT_TYPE_GOAWAY,
                                      .time = ht_slice_str(texts[0]),
                                      .owner = ht_slice_str(texts[1]),
                                      .reason = ht_slice_str(texts[3])};
    return ADMIN_EVENTS_KEPT;
}

static const struct admin_source source = {
    .snapshot = snapshot,
    .kill = kill_one,
    .metrics = metrics,
    .certificates = certificates,
    .proxy = proxy,
    .count_fds = count_fds,
    .not_ready = not_ready,
    .takes_reader = takes_reader,
    .kit = kit,
    .recent = recent,
};

static void check(const struct admin_request *req, const struct admin_response *res) {
    static const int statuses[] = {200, 202, 400, 401, 403, 404, 405, 426, 503};
    bool known = false;
    for (size_t i = 0; i < HT_ARRAY_LEN(statuses); i++)
        known = known || res->status == statuses[i];
    FUZZ_CHECK(known);
    FUZZ_CHECK(res->content_type || ht_buf_size(&res->body) == 0);
    FUZZ_CHECK((res->status == 405) == (res->allow != NULL));
    FUZZ_CHECK((res->status == 401) == (res->www_authenticate != NULL));
    FUZZ_CHECK(req->trusted || res->status == 403);
    if (res->content_type && strcmp(res->content_type, "application/json") == 0)
        FUZZ_CHECK(json_validate((const char *)ht_buf_head(&res->body), ht_buf_size(&res->body), NULL, NULL) == 0);
    if (!req->authorized && res->status == 200)
        FUZZ_CHECK(req->route && req->route->auth != ADMIN_AUTH_TOKEN);
}

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size) {
    static struct admin admin;
    struct fuzz_in in = {data, data + size};
    size_t live = ht_mem_live();
    uint8_t how = asked_by = fuzz_u8(&in);
    struct ht_slice method = fuzz_take(&in, fuzz_u8(&in)), target = fuzz_take(&in, fuzz_u16(&in));
    char *m = fuzz_copy(method.p, method.n), *t = fuzz_copy(target.p, target.n);
    struct ht_slice agent = fuzz_take(&in, fuzz_u8(&in));
    memset(texts, 0, sizeof texts);
    for (size_t i = 0; i < HT_ARRAY_LEN(texts); i++) {
        struct ht_slice s = fuzz_take(&in, fuzz_u8(&in) % (sizeof texts[0] - 1));
        for (size_t j = 0; j < s.n; j++)
            texts[i][j] = s.p[j] ? s.p[j] : '?';
    }
    if (!texts[0][0])
        memcpy(texts[0], "S-1", 4);
    struct admin_request req = {
        .method = ht_slice_of(m, method.n),
        .target = ht_slice_of(t, target.n),
        .user_agent = how & 4 ? agent : ht_slice_of(NULL, 0),
        .trusted = !(how & 1),
        .authorized = !(how & 2),
        .viewer = {.name = texts[3], .admin = how & 64},
        .url = ht_slice_str(texts[1]),
    };
    struct admin_response res = {0};
    admin_init(&admin, &source, "127.0.0.1");
    FUZZ_CHECK(admin_serve(&admin, &req, &res) == 0);
    check(&req, &res);
    admin_response_free(&res);
    admin_free(&admin);
    free(m);
    free(t);
    FUZZ_CHECK(ht_mem_live() == live);
    return 0;
}
