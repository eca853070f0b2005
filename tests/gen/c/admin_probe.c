/* The generated admin API on a command line, for tests/gen/test_gen_openapi.py. */
#include "admin_gen.h"

#include "base/mem.h"

#include <stdio.h>
#include <stdlib.h>

#define S(text) ht_slice_str(text)
#define ID "S-466ab70d-92e8-49b5-95a9-8c0d585dc2b9"

/* Handlers that answer the examples of the spec. */
static int health(void *ctx, const struct admin_request *req, struct admin_response *res) {
    (void)ctx;
    struct admin_health v = {
        .built = S("2026-01-15T08:30:00Z"),
        .started = S("2026-02-01T10:00:11Z"),
        .memory = {.rss = 5242880},
        .fds = 42,
        .has_fds = true,
        .pid = 117,
        .ip = S("127.0.0.1"),
        .user_agent = req->user_agent,
    };
    return admin_reply_health_200(res, &v);
}

static int page(void *ctx, const struct admin_request *req, struct admin_response *res) {
    (void)ctx;
    if (req->route->op == ADMIN_OP_FRONT_PAGE)
        admin_reply_front_page_200(res);
    else
        admin_reply_status_page_200(res);
    return ht_buf_append_str(&res->body, "<!doctype html>");
}

static int me(void *ctx, const struct admin_request *req, struct admin_response *res) {
    (void)ctx, (void)req;
    struct admin_me v = {S("alice"), true};
    return admin_reply_me_200(res, &v);
}

static int status(void *ctx, const struct admin_request *req, struct admin_response *res) {
    (void)ctx, (void)req;
    static const uint64_t traffic[] = {0, 61000, 61400};
    static const struct admin_connection connections[] = {{0}, {1}};
    const struct ht_slice rows[] = {S("f8"), S("88"), S("a8"), S("88"), S("f8")};
    const struct admin_limit limits[] = {{S("Sessions"), 1, 256, {NULL, 0}},
                                         {S("Memory"), 5242880, 536870912, S("bytes")}};
    const struct admin_row_binding bindings[] = {
        {.bind_id = 1,
         .port = 3000,
         .kind = ADMIN_KIND_HTTP,
         .mode = ADMIN_MODE_EXPOSE,
         .label = S("web"),
         .url = S("https://web-3000.tunnel.example.com"),
         .has_qr = true,
         .qr = {5, rows, 5}},
        {.bind_id = 2, .port = 5432, .kind = ADMIN_KIND_TCP, .mode = ADMIN_MODE_PULL},
    };
    const struct admin_session_row session = {
        .session_id = S(ID),
        .owner = S("alice"),
        .peer_addr = S("203.0.113.42:51234"),
        .protocol = ADMIN_PROTOCOL_V2,
        .is_v2 = true,
        .state = ADMIN_SESSION_STATE_LIVE,
        .has_parked = true,
        .connections_granted = 4,
        .connections = connections,
        .n_connections = 2,
        .active_streams = 3,
        .streams = 3,
        .max_streams = 1024,
        .has_rtt_ms = true,
        .rtt_ms = 24.1,
        .age_s = 8040,
        .bytes_in = 81234567,
        .bytes_out = 992345678,
        .requests = 18230,
        .rate = 61400,
        .traffic = traffic,
        .n_traffic = 3,
        .bindings = bindings,
        .n_bindings = 2,
    };
    const struct admin_event event = {
        .event = ADMIN_EVENT_TYPE_BIND,
        .time = S("2026-02-01T10:00:11Z"),
        .owner = S("alice"),
        .session_id = S(ID),
        .has_bind_id = true,
        .bind_id = 1,
        .has_port = true,
        .port = 3000,
        .has_kind = true,
        .kind = ADMIN_KIND_HTTP,
        .has_mode = true,
        .mode = ADMIN_MODE_EXPOSE,
        .url = S("https://web-3000.tunnel.example.com"),
    };
    const struct admin_status v = {
        .kit = {.state = ADMIN_KIT_STATE_OK,
                .url = S("ws://127.0.0.1:50"),
                .version = S("1.0.0"),
                .built = S("2026-01-15T08:30:00Z"),
                .uptime_s = 86400,
                .sessions = {1, 256},
                .bindings = {1, 16384},
                .exposed = 1,
                .streams = {3, 262144},
                .requests_per_second = 4.2,
                .descriptors = {4, 4096},
                .limits = limits,
                .n_limits = 2},
        .sessions = &session,
        .n_sessions = 1,
        .events = &event,
        .n_events = 1,
    };
    return admin_reply_status_200(res, &v);
}

static int metrics(void *ctx, const struct admin_request *req, struct admin_response *res) {
    (void)ctx, (void)req;
    admin_reply_metrics_200(res);
    return ht_buf_append_str(&res->body, "# HELP hoody_tunnel_sessions_active Live sessions.\n"
                                         "# TYPE hoody_tunnel_sessions_active gauge\n"
                                         "hoody_tunnel_sessions_active 1\n");
}

static int certificates(void *ctx, const struct admin_request *req, struct admin_response *res) {
    (void)ctx, (void)req;
    admin_reply_certificates_200(res);
    return ht_buf_append_str(&res->body, "-----BEGIN CERTIFICATE-----\n"
                                         "MIIBpDCCAUqgAwIBAgIQ\n"
                                         "-----END CERTIFICATE-----\n");
}

static int proxy(void *ctx, const struct admin_request *req, struct admin_response *res) {
    (void)ctx, (void)req;
    struct admin_proxy v = {.address = S("127.0.0.1:9090")};
    return admin_reply_proxy_200(res, &v);
}

static int list_tunnels(void *ctx, const struct admin_request *req, struct admin_response *res) {
    (void)ctx, (void)req;
    struct admin_binding_port expose = {.bind_id = 1, .container_port = 3000},
                              pull = {.bind_id = 2, .container_port = 5432};
    struct admin_tunnel one = {.session_id = S(ID),
                               .peer_addr = S("203.0.113.42:51234"),
                               .protocol = ADMIN_PROTOCOL_V1,
                               .connections_granted = 1,
                               .active_streams = 3,
                               .expose_bindings = &expose,
                               .n_expose_bindings = 1,
                               .pull_bindings = &pull,
                               .n_pull_bindings = 1};
    struct admin_tunnels v = {&one, 1, .total_streams = 3, .total_bindings = 2, .fd_permits_available = 4094};
    return admin_reply_list_tunnels_200(res, &v);
}

static int list_sessions(void *ctx, const struct admin_request *req, struct admin_response *res) {
    (void)ctx, (void)req;
    struct admin_session_binding b = {
        .bind_id = 1, .container_port = 3000, .kind = ADMIN_KIND_HTTP, .mode = ADMIN_MODE_EXPOSE, .label = S("web")};
    struct admin_session one = {.session_id = S(ID),
                                .peer_addr = S("203.0.113.42:51234"),
                                .connections_granted = 1,
                                .active_streams = 3,
                                .max_streams = 1024,
                                .has_parked = true,
                                .has_keeps_streams = true,
                                .keeps_streams = true,
                                .has_waiting = true,
                                .bindings = &b,
                                .n_bindings = 1};
    struct admin_sessions v = {&one, 1, 1};
    return admin_reply_list_sessions_200(res, &v);
}

static int list_bindings(void *ctx, const struct admin_request *req, struct admin_response *res) {
    (void)ctx, (void)req;
    struct admin_binding rows[] = {
        {.session_id = S(ID),
         .bind_id = 1,
         .port = 3000,
         .kind = ADMIN_KIND_HTTP,
         .mode = ADMIN_MODE_EXPOSE,
         .label = S("web"),
         .since = S("2026-02-01T10:00:11Z"),
         .has_parked = true},
        {.session_id = S(ID),
         .bind_id = 2,
         .port = 5432,
         .kind = ADMIN_KIND_TCP,
         .mode = ADMIN_MODE_PULL,
         .bind_addr = S("127.0.0.1"),
         .since = S("2026-02-01T10:00:12Z"),
         .has_parked = true},
    };
    struct admin_bindings v = {rows, 2, 2};
    return admin_reply_list_bindings_200(res, &v);
}

static int livez(void *ctx, const struct admin_request *req, struct admin_response *res) {
    (void)ctx, (void)req;
    struct admin_probe v = {S("2026-02-01T10:00:11Z")};
    return admin_reply_livez_200(res, &v);
}

static int readyz(void *ctx, const struct admin_request *req, struct admin_response *res) {
    (void)ctx, (void)req;
    struct admin_ready v = {.started = S("2026-02-01T10:00:11Z"), .proxy = S("127.0.0.1:9090")};
    return admin_reply_readyz_200(res, &v);
}

static int events(void *ctx, const struct admin_request *req, struct admin_response *res) {
    (void)ctx, (void)req;
    struct admin_event v = {
        .event = ADMIN_EVENT_TYPE_BIND,
        .time = S("2026-02-01T10:00:11Z"),
        .session_id = S(ID),
        .bind_id = 1,
        .has_bind_id = true,
        .port = 3000,
        .has_port = true,
        .kind = ADMIN_KIND_HTTP,
        .has_kind = true,
        .mode = ADMIN_MODE_EXPOSE,
        .has_mode = true,
    };
    admin_reply_events_200(res);
    int rc = ht_buf_append_str(&res->body, "id: 7\nevent: bind\ndata: ");
    if (rc == HT_OK)
        rc = admin_write_event(&res->body, &v);
    return rc == HT_OK ? ht_buf_append_str(&res->body, "\n") : rc;
}

/* Ids with a meaning of their own: "gone" is a 404, "broken" fails, "half" writes a bit and then changes its mind. */
static int kill_session(void *ctx, const struct admin_request *req, struct admin_response *res) {
    (void)ctx;
    const char *id = req->params.session_id;
    if (strcmp(id, "gone") == 0)
        return admin_reply_error(res, 404, "no such session");
    if (strcmp(id, "broken") == 0)
        return HT_EIO;
    struct admin_closing v = {S(id)};
    int rc = admin_reply_kill_session_202(res, &v);
    if (rc == HT_OK && strcmp(id, "half") == 0)
        rc = admin_reply_error(res, 404, "no such session");
    return rc;
}

static const struct admin_handlers handlers = {
    .front_page = page,
    .status_page = page,
    .me = me,
    .status = status,
    .health = health,
    .livez = livez,
    .readyz = readyz,
    .events = events,
    .metrics = metrics,
    .certificates = certificates,
    .proxy = proxy,
    .list_tunnels = list_tunnels,
    .list_sessions = list_sessions,
    .list_bindings = list_bindings,
    .kill_session = kill_session,
};

/* match METHOD TARGET */
static void match(char **argv) {
    struct admin_params p;
    int status = -1;
    const struct admin_route *r = admin_route_match(S(argv[0]), S(argv[1]), &p, &status);
    printf("status=%d\n", status);
    if (r)
        printf("route=%s %s auth=%d upgrade=%d\n", r->method, r->path, r->auth, r->upgrade);
    if (r && r->op == ADMIN_OP_KILL_SESSION)
        printf("session_id=%s\ngrace_ms=%lld set=%d\n", p.session_id, (long long)p.grace_ms, p.set_grace_ms);
    if (p.allow)
        printf("allow=%s\n", p.allow);
    if (*p.error)
        printf("error=%s\n", p.error);
}

static int dispatch(const char *method, const char *target, const char *flags, struct admin_response *res,
                    const struct admin_handlers *h) {
    struct admin_request req = {
        .method = S(method),
        .target = S(target),
        .trusted = !strchr(flags, 't'),
        .authorized = !strchr(flags, 'a'),
        .user_agent = strchr(flags, 'u') ? ht_slice_of(NULL, 0) : S("curl/8.5.0"),
    };
    return admin_dispatch(h, NULL, &req, res);
}

/* dispatch METHOD TARGET [FLAGS: t not trusted, a not authorized, u no User-Agent, n no handlers] */
static void print_dispatch(char **argv, const char *flags) {
    static const struct admin_handlers none;
    struct admin_response res = {0};
    int rc = dispatch(argv[0], argv[1], flags, &res, strchr(flags, 'n') ? &none : &handlers);
    printf("rc=%d status=%d type=%s allow=%s auth=%s\n", rc, res.status, res.content_type ? res.content_type : "-",
           res.allow ? res.allow : "-", res.www_authenticate ? res.www_authenticate : "-");
    printf("%.*s", HT_SLICE_ARG(ht_buf_slice(&res.body)));
    admin_response_free(&res);
}

/* fail METHOD TARGET: every allocation fails once; each answer is whole, a 500, or HT_ENOMEM. */
static void print_failures(char **argv) {
    for (long index = 0;; index++) {
        struct admin_response res = {0};
        ht_mem_fail_at(index);
        int rc = dispatch(argv[0], argv[1], "", &res, &handlers);
        ht_mem_fail_at(-1);
        int status = res.status;
        admin_response_free(&res);
        if (ht_mem_live() != 0)
            printf("leak at %ld\n", index);
        if (rc == HT_OK && status != 500) {
            printf("failed=%ld status=%d\n", index, status);
            return;
        }
        if (rc != HT_OK && rc != HT_ENOMEM)
            printf("allocation %ld: %d\n", index, rc);
    }
}

/* text HEX: the bytes as a JSON string, in an error object. */
static void print_text(const char *hex) {
    char bytes[512];
    size_t n = strlen(hex) / 2;
    for (size_t i = 0; i < n && i < sizeof bytes; i++)
        bytes[i] = (char)strtol((char[]){hex[2 * i], hex[2 * i + 1], 0}, NULL, 16);
    struct ht_buf out = {0};
    struct admin_error v = {ht_slice_of(bytes, n)};
    if (admin_write_error(&out, &v) == HT_OK)
        fwrite(ht_buf_head(&out), 1, ht_buf_size(&out), stdout);
    ht_buf_free(&out);
}

/* A value that is no enumerator must not become JSON. */
static void print_number(const char *text) {
    struct ht_buf out = {0};
    struct admin_session_sample v = {.session_id = S(""), .has_rtt_ms = true, .rtt_ms = strtod(text, NULL)};
    if (admin_write_session_sample(&out, &v) == 0)
        printf("%.*s", (int)ht_buf_size(&out), (const char *)ht_buf_head(&out));
    ht_buf_free(&out);
}

static void print_bad_enum(void) {
    struct ht_buf out = {0};
    struct admin_session_binding b = {.kind = (enum admin_kind)0, .mode = ADMIN_MODE_PULL};
    printf("%d\n", admin_write_session_binding(&out, &b));
    ht_buf_free(&out);
}

int main(int argc, char **argv) {
    const char *what = argc > 1 ? argv[1] : "";
    if (argc == 4 && strcmp(what, "match") == 0)
        match(argv + 2);
    else if (argc >= 4 && strcmp(what, "dispatch") == 0)
        print_dispatch(argv + 2, argc > 4 ? argv[4] : "");
    else if (argc == 4 && strcmp(what, "fail") == 0)
        print_failures(argv + 2);
    else if (argc == 3 && strcmp(what, "text") == 0)
        print_text(argv[2]);
    else if (argc == 3 && strcmp(what, "number") == 0)
        print_number(argv[2]);
    else if (strcmp(what, "bad-enum") == 0)
        print_bad_enum();
    else
        return 2;
    return ht_mem_live() != 0;
}
