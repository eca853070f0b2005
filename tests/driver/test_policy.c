/* A name with a policy: what the kit is offered, and what the service gets. */
#include "driver/kit_script.h"

#include <ftw.h>
#include <sys/stat.h>
#include <unistd.h>

#define CANARY "canary-77aa01"

static char state[] = P_tmpdir "/ht-policy-XXXXXX";
static const char *said; /* by the program in the container; NULL: all is out */
static char audit[2048];
static int note = 1;

static int on_audit(void *user, const struct ht_audit *a) {
    size_t n = strlen(audit);
    (void)user;
    if (a->over && a->allowed)
        snprintf(audit + n, sizeof audit - n, "over %llu %s %s %d %llu\n", (unsigned long long)a->request, a->name,
                 a->path, a->status, (unsigned long long)a->bytes_out);
    else
        snprintf(audit + n, sizeof audit - n, "%llu %s %s %s %s %s %s %d %d\n", (unsigned long long)a->request, a->name,
                 a->method, a->path, a->query ? a->query : "-", a->reason, a->rule ? a->rule : "-", a->secret,
                 a->status);
    CU_ASSERT_EQUAL(a->binding, 1);
    return note;
}

static ssize_t say(void *ctx, uint8_t *out, size_t cap, unsigned *flags) {
    size_t n = said ? ht_min(cap, strlen(said)) : 0;
    (void)ctx;
    *flags = 0;
    if (n)
        memcpy(out, said, n);
    said = NULL;
    return (ssize_t)n;
}

/* ---- the service ---- */

static struct {
    struct io_listener *l;
    struct io_conn *c;
    char heard[2048];
    size_t n;
    uint16_t port;
} service;

static void service_readable(void *ctx) {
    static char answer[] = "HTTP/1.1 200 OK\r\nContent-Length: 2\r\n\r\nok";
    (void)ctx;
    ssize_t n = io_conn_read(service.c, service.heard + service.n, sizeof service.heard - 1 - service.n);
    if (n <= 0) {
        io_conn_read_on(service.c, false);
        return;
    }
    service.n += (size_t)n;
    service.heard[service.n] = '\0';
    if (strstr(service.heard, "\r\n\r\n"))
        CU_ASSERT(io_conn_write(service.c, &(struct iovec){.iov_base = answer, .iov_len = strlen(answer)}, 1) > 0);
}

static void service_accepted(void *ctx, struct io_conn *c, const struct io_addr *peer) {
    static const struct io_conn_ops ops = {.readable = service_readable};
    (void)ctx, (void)peer;
    service.c = c;
    io_conn_set_ops(c, &ops, NULL);
    io_conn_read_on(c, true);
}

static void service_start(void) {
    static const struct io_listener_ops ops = {.accepted = service_accepted};
    struct io_addr at;
    memset(&service, 0, sizeof service);
    CU_ASSERT_EQUAL_FATAL(io_addr_parse(&at, "127.0.0.1", 0), 0);
    CU_ASSERT_EQUAL_FATAL(io_listen(w.loop, &at, &ops, NULL, &service.l, NULL), 0);
    io_listener_local(service.l, &at);
    service.port = io_addr_port(&at);
}

/* ---- */

static const char *const names[] = {"Authorization"}, *const values[] = {"Bearer ${env:POLICY_CANARY}"},
                         *const allow[] = {"GET /v1/*"};
static const struct ht_policy policy = {
    .size = sizeof policy, .inject_names = names, .inject_values = values, .n_inject = 1, .allow = allow, .n_allow = 1};

static void begin(void) {
    calls.audit = on_audit;
    audit[0] = '\0';
    note = 1;
    setenv("XDG_STATE_HOME", state, 1);
    setenv("POLICY_CANARY", CANARY, 1);
    world_start();
    w.caps = WIRE_CAP_NAMES;
    world_tunnel(NULL);
    CU_ASSERT_EQUAL_FATAL(ht_tunnel_connect(w.t), HT_TUNNEL_OK);
    UNTIL(w.connected);
    service_start();
}

static void end(void) {
    io_conn_close(&service.c);
    io_listener_close(&service.l);
    world_stop();
}

static int bind_name(const char *name, const struct ht_policy *p) {
    const char *list[] = {name};
    return ht_tunnel_bind(w.t, &(struct ht_bind_options){.size = sizeof(struct ht_bind_options),
                                                         .kind = HT_PULL_TCP,
                                                         .portless = 1,
                                                         .names = list,
                                                         .n_names = 1,
                                                         .policy = p});
}

/* The answer to a request of the container's, as its first bytes. */
static void ask(struct play_stream *k, const char *authority, const char *text, const char *until) {
    struct mux_stream_ops ops = play_ops;
    ops.pull = say;
    said = text;
    play_connect(k, 1, authority);
    mux_stream_set_ops(k->st, &ops, k);
    mux_stream_ready(k->st);
    UNTIL(ht_buf_size(&k->body) >= strlen(until) &&
          memmem(ht_buf_head(&k->body), ht_buf_size(&k->body), until, strlen(until)));
    CU_ASSERT_EQUAL(k->connects, 1);
    CU_ASSERT_PTR_NULL(memmem(ht_buf_head(&k->body), ht_buf_size(&k->body), CANARY, strlen(CANARY)));
    mux_stream_reset(k->st, WIRE_CODE_CANCEL, "");
    mux_stream_release(&k->st);
    ht_buf_free(&k->body);
}

static void a_name_with_a_policy(void) {
    char name[64];
    struct play_stream k;
    begin();
    snprintf(name, sizeof name, "api.test:80=127.0.0.1:%u", service.port);
    CU_ASSERT_EQUAL(bind_name(name, &policy), 1);
    UNTIL(w.bound);
    CU_ASSERT_STRING_EQUAL(w.bind_names, "api.test:80 ");
    CU_ASSERT_NSTRING_EQUAL(w.bind_ca, "-----BEGIN CERTIFICATE-----", 27);
    ask(&k, "api.test:80", "GET /v1/a?b=c HTTP/1.1\r\nHost: api.test\r\n\r\n", "ok");
    CU_ASSERT(strstr(service.heard, "authorization: Bearer " CANARY "\r\n") != NULL);
    ask(&k, "api.test:80", "GET /v2 HTTP/1.1\r\nHost: api.test\r\n\r\n", "403");
    UNTIL(strstr(audit, "over 1"));
    CU_ASSERT(strstr(audit, "1 api.test:80 GET /v1/a b=c allowed GET /v1/* 1 0\n") != NULL);
    CU_ASSERT(strstr(audit, "over 1 api.test:80 /v1/a 200 2\n") != NULL);
    CU_ASSERT(strstr(audit, "2 api.test:80 GET /v2 - no-rule-allows-it - 0 403\n") != NULL);
    CU_ASSERT_PTR_NULL(strstr(audit, CANARY));
    note = 0;
    ask(&k, "api.test:80", "GET /v1/a HTTP/1.1\r\nHost: api.test\r\n\r\n", "503");
    CU_ASSERT(strstr(audit, "3 api.test:80 GET /v1/a - audit-unwritable - 0 503\n") != NULL);
    end();
}

/* One key for this machine and user, which nobody else may read. */
static int look(const char *path, const struct stat *st, int type, struct FTW *ftw) {
    (void)ftw;
    if (type == FTW_F && strstr(path, "ca-key-")) {
        CU_ASSERT_EQUAL(st->st_mode & 0777, 0600);
        snprintf(audit, sizeof audit, "%s", path);
    }
    return 0;
}

static void the_key_stays(void) {
    char first[sizeof w.bind_ca];
    begin();
    CU_ASSERT_EQUAL(bind_name("api.test", &policy), 1);
    UNTIL(w.bound);
    snprintf(first, sizeof first, "%s", w.bind_ca);
    end();
    CU_ASSERT_EQUAL(nftw(state, look, 8, FTW_PHYS), 0);
    CU_ASSERT(strstr(audit, "ca-key-") != NULL);
    /* Another one would take the trust of every container away: the file is read again. */
    struct stat before, after;
    CU_ASSERT_EQUAL(stat(audit, &before), 0);
    char path[sizeof audit];
    snprintf(path, sizeof path, "%s", audit);
    begin();
    CU_ASSERT_EQUAL(bind_name("api.test", &policy), 1);
    UNTIL(w.bound);
    end();
    CU_ASSERT_EQUAL(stat(path, &after), 0);
    CU_ASSERT(before.st_ino == after.st_ino && before.st_mtime == after.st_mtime);
}

static void policies_that_are_refused(void) {
    static const char *const bad_rule[] = {"/v1"}, *const missing[] = {"${env:POLICY_NOT_SET}"};
    static const struct {
        const char *name;
        struct ht_policy p;
        const char *says;
    } rows[] = {
        {"*.api.test", {.size = sizeof policy}, "many hosts"},
        {"api.test=tls+insecure://127.0.0.1:1", {.size = sizeof policy}, "verified"},
        {"api.test", {.size = 1}, "size"},
        {"api.test", {.size = sizeof policy, .allow = bad_rule, .n_allow = 1}, "GET /v1/models"},
        {"api.test",
         {.size = sizeof policy, .inject_names = names, .inject_values = missing, .n_inject = 1},
         "POLICY_NOT_SET: it is not set"},
    };
    begin();
    for (size_t i = 0; i < HT_ARRAY_LEN(rows); i++) {
        CU_ASSERT_EQUAL(bind_name(rows[i].name, &rows[i].p), HT_TUNNEL_EINVAL);
        CU_ASSERT(strstr(ht_tunnel_last_error(), rows[i].says) != NULL);
        if (!strstr(ht_tunnel_last_error(), rows[i].says))
            printf("# %s\n", ht_tunnel_last_error());
    }
    const char *two[] = {"a.test", "b.test"};
    CU_ASSERT_EQUAL(ht_tunnel_bind(w.t, &(struct ht_bind_options){.size = sizeof(struct ht_bind_options),
                                                                  .kind = HT_PULL_TCP,
                                                                  .portless = 1,
                                                                  .names = two,
                                                                  .n_names = 2,
                                                                  .policy = &policy}),
                    HT_TUNNEL_EINVAL);
    end();
}

static int wipe(const char *path, const struct stat *st, int type, struct FTW *ftw) {
    (void)st, (void)type, (void)ftw;
    return remove(path);
}

int main(void) {
    static const struct tap_test tests[] = {
        {"a name with a policy gets its secrets", a_name_with_a_policy},
        {"the authority's key is kept for the next process", the_key_stays},
        {"impossible policies are refused", policies_that_are_refused},
        {NULL, NULL},
    };
    if (!mkdtemp(state))
        return 1;
    int rc = tap_main("driver policy", tests);
    nftw(state, wipe, 8, FTW_DEPTH | FTW_PHYS);
    return rc;
}
