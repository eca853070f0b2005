/* Checks first, secrets afterwards; and where secrets come from. */
#include "base/clock.h"
#include "base/mem.h"
#include "guard/locked.h"
#include "guard/policy.h"
#include "guard/value.h"
#include "support/tap.h"

#include <fcntl.h>
#include <stdio.h>
#include <stdlib.h>
#include <sys/prctl.h>
#include <sys/stat.h>
#include <unistd.h>

#define CANARY "canary-3f9a"

static struct io_loop *loop;
#define TEST_LOOP loop
#include "support/turns.h"

/* Commands that have ended, and why the last one has failed. */
static unsigned n_ready;
static int parsed; /* what became of the last value that was read */
static char ready_why[512];

static void on_ready(void *ctx, const char *why) {
    (void)ctx;
    n_ready++;
    snprintf(ready_why, sizeof ready_why, "%s", why ? why : "");
}

/* Sanitizers make mlock() do nothing. */
#ifdef HT_SANITIZED
#define UNLOCKED true
#else
#define UNLOCKED false
#endif

static char folder[64], path[96];

static void write_file(const char *text) {
    FILE *f = fopen(path, "w");
    CU_ASSERT_PTR_NOT_NULL_FATAL(f);
    fputs(text, f);
    fclose(f);
}

static void begin(const char *text) {
    snprintf(folder, sizeof folder, "/tmp/guard-XXXXXX");
    CU_ASSERT_PTR_NOT_NULL_FATAL(mkdtemp(folder));
    snprintf(path, sizeof path, "%s/secret", folder);
    write_file(text);
    setenv("GUARD_TEST", CANARY, 1);
    loop = io_loop_create();
    CU_ASSERT_PTR_NOT_NULL_FATAL(loop);
    n_ready = 0;
}

static void end(void) {
    io_loop_destroy(&loop);
    unlink(path);
    rmdir(folder);
    unsetenv("GUARD_TEST");
}

#define H(n, v)                                                                                                        \
    {                                                                                                                  \
        .name = {n, sizeof n - 1}, .value = { v, sizeof v - 1 }                                                        \
    }

static struct guard_request request(const char *method, const char *target, const struct wire_header *h, size_t n) {
    return (struct guard_request){.method = ht_slice_str(method),
                                  .target = ht_slice_str(target),
                                  .headers = h,
                                  .n_headers = n,
                                  .port = 443,
                                  .secure = true};
}

/* A policy for api.test with one header. */
static struct guard_policy *policy(const char *name, const char *value, const char *user, const char *placeholder) {
    struct ht_errmsg err;
    int rc;
    struct guard_policy_config cfg = {.host = "api.test",
                                      .header_names = &name,
                                      .header_values = &value,
                                      .n_headers = name ? 1 : 0,
                                      .user = user,
                                      .placeholder = placeholder};
    struct guard_policy *p = guard_policy_create(&cfg, &rc, &err);
    if (!p)
        printf("# %s\n", err.text);
    CU_ASSERT_PTR_NOT_NULL_FATAL(p);
    return p;
}

/* The fields that go out, as "name: value, ..". */
static const char *fields(struct guard_policy *p, const struct guard_request *r) {
    static char text[4096];
    struct wire_header out[32];
    struct ht_errmsg err = {""};
    size_t n = 0;
    text[0] = '\0';
    guard_policy_run_in(p, loop, on_ready, NULL);
    int rc = guard_policy_load(p, 1000, true, &err);
    while (rc == HT_EAGAIN) {
        UNTIL(n_ready);
        n_ready = 0;
        rc = guard_policy_load(p, 1000, true, &err);
    }
    if (rc < 0)
        return strcpy(text, err.text);
    ssize_t all = guard_policy_headers(p, r, out, HT_ARRAY_LEN(out));
    for (ssize_t i = 0; i < all; i++)
        n += (size_t)snprintf(text + n, sizeof text - n, "%s%.*s: %.*s", i ? ", " : "", HT_SLICE_ARG(out[i].name),
                              HT_SLICE_ARG(out[i].value));
    return text;
}

static enum guard_reason check(struct guard_policy *p, const struct guard_request *r) {
    struct guard_decision d;
    guard_policy_check(p, r, 1000, &d);
    return d.reason;
}

static void a_field_is_set_and_not_added(void) {
    static const struct wire_header h[] = {H("host", "api.test"), H("authorization", "Bearer mine"), H("x-a", "1"),
                                           H("authorization", "twice")};
    static const struct wire_header odd[] = {H("host", "api.test:443"), H("x_api_key", "mine"),
                                             H("x-api-key", "me too")};
    begin(CANARY "\r\n\n");
    char value[128];
    snprintf(value, sizeof value, "Bearer ${file:%s}", path);
    struct guard_policy *p = policy("Authorization", value, NULL, NULL);
    struct guard_request r = request("GET", "/", h, HT_ARRAY_LEN(h));
    CU_ASSERT_EQUAL(check(p, &r), GUARD_ALLOWED);
    CU_ASSERT_STRING_EQUAL(fields(p, &r), "host: api.test, x-a: 1, authorization: Bearer " CANARY);
    CU_ASSERT(guard_policy_is_secret(p, ht_slice_str("you sent " CANARY "!")));
    CU_ASSERT(!guard_policy_is_secret(p, ht_slice_str("you sent canary-3f9")));
    guard_policy_destroy(&p);
    p = policy("X-API-Key", "${env:GUARD_TEST}", NULL, NULL);
    r = request("GET", "/", odd, HT_ARRAY_LEN(odd));
    CU_ASSERT_EQUAL(check(p, &r), GUARD_ALLOWED);
    CU_ASSERT_STRING_EQUAL(fields(p, &r), "host: api.test:443, x-api-key: " CANARY);
    guard_policy_destroy(&p);
    p = policy("Authorization", "${command:printf %s " CANARY "}", "git", NULL);
    r = request("GET", "/", h, 1);
    CU_ASSERT_STRING_EQUAL(fields(p, &r), "host: api.test, authorization: Basic Z2l0OmNhbmFyeS0zZjlh");
    CU_ASSERT(guard_policy_is_secret(p, ht_slice_str("Z2l0OmNhbmFyeS0zZjlh")));
    guard_policy_destroy(&p);
    end();
}

static void a_changed_file_is_read_anew(void) {
    static const struct wire_header h[] = {H("host", "api.test")};
    begin("one\n");
    char value[128];
    snprintf(value, sizeof value, "${file:%s}", path);
    struct guard_policy *p = policy("x-key", value, NULL, NULL);
    struct guard_request r = request("GET", "/", h, 1);
    CU_ASSERT_STRING_EQUAL(fields(p, &r), "host: api.test, x-key: one");
    write_file("another");
    CU_ASSERT_STRING_EQUAL(fields(p, &r), "host: api.test, x-key: another");
    write_file("two\nlines");
    CU_ASSERT(strstr(fields(p, &r), "more than one line") != NULL);
    CU_ASSERT_PTR_NULL(strstr(fields(p, &r), "two"));
    write_file("back");
    CU_ASSERT_STRING_EQUAL(fields(p, &r), "host: api.test, x-key: back");
    unlink(path);
    CU_ASSERT(strstr(fields(p, &r), "No such file") != NULL);
    guard_policy_destroy(&p);
    end();
}

static void what_may_not_be_a_secret(void) {
    static const char *const bad[] = {CANARY "\r\nx-evil: 1", CANARY "\nx", "\r\n", "", CANARY "\x01", CANARY "\x7f"};
    static const struct wire_header h[] = {H("host", "api.test")};
    begin("");
    char value[128];
    snprintf(value, sizeof value, "${file:%s}", path);
    for (size_t i = 0; i < HT_ARRAY_LEN(bad); i++) {
        struct guard_policy *p = policy("x-key", value, NULL, NULL);
        struct guard_request r = request("GET", "/", h, 1);
        write_file(bad[i]);
        const char *said = fields(p, &r);
        CU_ASSERT(strstr(said, "the secret of the file") != NULL);
        CU_ASSERT_PTR_NULL(strstr(said, CANARY));
        guard_policy_destroy(&p);
    }
    static const char *const sources[] = {"${file:relative}", "${" CANARY "}", "${env:}", "${file:/x", ""};
    for (size_t i = 0; i < HT_ARRAY_LEN(sources); i++) {
        struct ht_errmsg err = {""};
        struct guard_value *v = guard_value_parse(sources[i], NULL, &parsed, &err);
        CU_ASSERT_PTR_NULL(v);
        CU_ASSERT(err.text[0] && !strstr(err.text, CANARY));
    }
    static const char *const fail[] = {"${command:exit 1}", "${command:true}",
                                       "${env:GUARD_NONE}", "${command:head -c 9000 /dev/zero | tr '\\0' a}",
                                       "${file:/dev/zero}", "${file:/tmp}"};
    for (size_t i = 0; i < HT_ARRAY_LEN(fail); i++) {
        struct ht_errmsg err = {""};
        struct guard_value *v = guard_value_parse(fail[i], NULL, &parsed, NULL);
        CU_ASSERT_PTR_NOT_NULL_FATAL(v);
        guard_value_run_in(v, loop, on_ready, NULL);
        int rc = guard_value_load(v, 1, true, &err);
        if (rc == HT_EAGAIN) {
            UNTIL(n_ready);
            n_ready = 0;
            rc = guard_value_load(v, 1, true, &err);
        }
        CU_ASSERT(rc < 0 && rc != HT_EAGAIN);
        CU_ASSERT(err.text[0] != '\0');
        CU_ASSERT_EQUAL(guard_value_text(v).n, 0);
        guard_value_free(&v);
    }
    struct guard_value *v = guard_value_parse("a $${x} ${env:GUARD_TEST}", NULL, &parsed, NULL);
    CU_ASSERT_EQUAL(guard_value_load(v, 1, true, NULL), HT_OK);
    CU_ASSERT(ht_slice_is(guard_value_text(v), "a ${x} " CANARY));
    guard_value_free(&v);
    end();
}

/* Its answer is awaited the first time and after a refusal; one that is only old is used until the next one is here. */
static void a_command(void) {
    struct ht_errmsg err = {""};
    char text[256];
    begin("one");
    snprintf(text, sizeof text, "${command:cat %s; echo >> %s}", path, path);
    struct guard_value *v = guard_value_parse(text, NULL, &parsed, NULL);
    CU_ASSERT_PTR_NOT_NULL_FATAL(v);
    CU_ASSERT_EQUAL(guard_value_load(v, io_now_ms(loop), true, &err), HT_EIO); /* nothing runs it */
    guard_value_free(&v);
    v = guard_value_parse(text, NULL, &parsed, NULL);
    CU_ASSERT_PTR_NOT_NULL_FATAL(v);
    guard_value_run_in(v, loop, on_ready, NULL);
    CU_ASSERT_EQUAL(guard_value_load(v, io_now_ms(loop), false, &err), HT_EAGAIN);
    settle();
    CU_ASSERT_EQUAL(n_ready, 0); /* it was not to be started */
    CU_ASSERT_EQUAL(guard_value_load(v, io_now_ms(loop), true, &err), HT_EAGAIN);
    CU_ASSERT_EQUAL(guard_value_load(v, io_now_ms(loop), true, &err), HT_EAGAIN);
    UNTIL(n_ready == 1);
    uint64_t now = io_now_ms(loop);
    CU_ASSERT_EQUAL(guard_value_load(v, now, true, &err), HT_OK);
    CU_ASSERT(ht_slice_is(guard_value_text(v), "one"));
    CU_ASSERT_EQUAL(guard_value_load(v, now + GUARD_COMMAND_MS - 1, true, &err), HT_OK);
    settle();
    CU_ASSERT_EQUAL(n_ready, 1);
    /* Old: the next one is on its way. */
    write_file("two");
    CU_ASSERT_EQUAL(guard_value_load(v, now + GUARD_COMMAND_MS + 1000, true, &err), HT_OK);
    CU_ASSERT(ht_slice_is(guard_value_text(v), "one"));
    UNTIL(n_ready == 2);
    CU_ASSERT_EQUAL(guard_value_load(v, io_now_ms(loop), true, &err), HT_OK);
    CU_ASSERT(ht_slice_is(guard_value_text(v), "two"));
    /* Refused: awaited, but not run twice in a moment. */
    write_file("three");
    guard_value_stale(v);
    CU_ASSERT_EQUAL(guard_value_load(v, io_now_ms(loop), true, &err), HT_OK);
    CU_ASSERT_EQUAL(guard_value_load(v, io_now_ms(loop) + GUARD_COMMAND_PAUSE_MS, true, &err), HT_EAGAIN);
    UNTIL(n_ready == 3);
    CU_ASSERT_EQUAL(guard_value_load(v, io_now_ms(loop), true, &err), HT_OK);
    CU_ASSERT(ht_slice_is(guard_value_text(v), "three"));
    /* One that fails later leaves what it had said; when that was refused, nothing is left. */
    unlink(path);
    CU_ASSERT_EQUAL(mkdir(path, 0700), 0);
    CU_ASSERT_EQUAL(guard_value_load(v, io_now_ms(loop) + GUARD_COMMAND_MS, true, &err), HT_OK);
    UNTIL(n_ready == 4);
    CU_ASSERT(strstr(ready_why, "the secret of the command") && strstr(ready_why, "it ended with status"));
    CU_ASSERT_EQUAL(guard_value_load(v, io_now_ms(loop), true, &err), HT_OK);
    CU_ASSERT(ht_slice_is(guard_value_text(v), "three"));
    guard_value_stale(v);
    CU_ASSERT_EQUAL(guard_value_load(v, io_now_ms(loop) + GUARD_COMMAND_PAUSE_MS, true, &err), HT_EAGAIN);
    UNTIL(n_ready == 5);
    CU_ASSERT_EQUAL(guard_value_load(v, io_now_ms(loop), true, &err), HT_EIO);
    CU_ASSERT_EQUAL(guard_value_text(v).n, 0);
    CU_ASSERT(!guard_value_is_in(v, ht_slice_str("three")));
    /* And when it is well again. */
    rmdir(path);
    write_file("four");
    CU_ASSERT_EQUAL(guard_value_load(v, io_now_ms(loop), true, &err), HT_EIO);
    CU_ASSERT_EQUAL(guard_value_load(v, io_now_ms(loop) + GUARD_COMMAND_PAUSE_MS, true, &err), HT_EAGAIN);
    UNTIL(n_ready == 6);
    CU_ASSERT_EQUAL(guard_value_load(v, io_now_ms(loop), true, &err), HT_OK);
    CU_ASSERT(ht_slice_is(guard_value_text(v), "four"));
    guard_value_free(&v);
    end();
}

static void who_does_not_pass(void) {
    static const struct wire_header right[] = {H("host", "API.test")}, wrong[] = {H("host", "evil.test")},
                                    port[] = {H("host", "api.test:444")}, none[] = {H("x", "y")},
                                    two[] = {H("host", "api.test"), H("host", "api.test")},
                                    longer[] = {H("host", "api.test.evil.test")};
    begin(CANARY);
    const char *const allow[] = {"GET /v1/*"}, *const name[] = {"x-key"}, *const value[] = {"${env:GUARD_TEST}"};
    struct guard_policy_config cfg = {.host = "api.test",
                                      .header_names = name,
                                      .header_values = value,
                                      .n_headers = 1,
                                      .allow = allow,
                                      .n_allow = 1,
                                      .rate = "2/h"};
    int rc;
    struct guard_policy *p = guard_policy_create(&cfg, &rc, NULL);
    CU_ASSERT_PTR_NOT_NULL_FATAL(p);
    const struct {
        const char *method, *target;
        const struct wire_header *h;
        size_t n;
        bool plain;
        enum guard_reason want;
    } rows[] = {
        {"GET", "/v1/a", wrong, 1, false, GUARD_HOST},
        {"GET", "/v1/a", port, 1, false, GUARD_HOST},
        {"GET", "/v1/a", none, 1, false, GUARD_HOST},
        {"GET", "/v1/a", two, 2, false, GUARD_HOST},
        {"GET", "/v1/a", longer, 1, false, GUARD_HOST},
        {"POST", "/v1/a", right, 1, false, GUARD_UNNAMED},
        {"GET", "/v1/../a", right, 1, false, GUARD_PATH},
        {"TRACE", "/v1/a", right, 1, false, GUARD_METHOD},
        {"GET", "/v1/a", right, 1, true, GUARD_PLAINTEXT},
        {"GET", "/v1/a", right, 1, false, GUARD_ALLOWED},
        {"HEAD", "/v1/a", right, 1, false, GUARD_ALLOWED},
        {"GET", "/v1/a", right, 1, false, GUARD_RATE}, /* those before have not been counted */
    };
    for (size_t i = 0; i < HT_ARRAY_LEN(rows); i++) {
        struct guard_request r = request(rows[i].method, rows[i].target, rows[i].h, rows[i].n);
        struct guard_decision d;
        r.secure = !rows[i].plain;
        guard_policy_check(p, &r, 1000, &d);
        CU_ASSERT_EQUAL(d.reason, rows[i].want);
        CU_ASSERT_EQUAL(d.injects, rows[i].want == GUARD_ALLOWED);
        CU_ASSERT_EQUAL(d.retry_after > 0, rows[i].want == GUARD_RATE);
        CU_ASSERT(guard_reason_status(d.reason) >= (d.reason == GUARD_ALLOWED ? 200 : 400));
        CU_ASSERT(guard_reason_word(d.reason)[0] != '\0');
    }
    guard_policy_destroy(&p);
    end();
}

#define PLACEHOLDER "sk-placeholder"

static void a_placeholder(void) {
    static const struct wire_header bearer[] = {H("host", "api.test"), H("authorization", "Bearer " PLACEHOLDER)},
                                    /* git:sk-placeholder */
        basic[] = {H("host", "api.test"), H("authorization", "Basic Z2l0OnNrLXBsYWNlaG9sZGVy")},
                                    absent[] = {H("host", "api.test"), H("authorization", "Bearer other")},
                                    elsewhere[] = {H("host", "api.test"), H("x-other", PLACEHOLDER)};
    begin(CANARY);
    struct guard_policy *p = policy("authorization", "Bearer ${env:GUARD_TEST}", NULL, PLACEHOLDER);
    struct guard_request r = request("GET", "/", bearer, 2);
    CU_ASSERT_EQUAL(check(p, &r), GUARD_ALLOWED);
    CU_ASSERT(guard_policy_is_mentioned(p, &r));
    CU_ASSERT_STRING_EQUAL(fields(p, &r), "host: api.test, authorization: Bearer " CANARY);
    r = request("GET", "/", basic, 2);
    CU_ASSERT_EQUAL(check(p, &r), GUARD_ALLOWED);
    CU_ASSERT(guard_policy_is_mentioned(p, &r));
    CU_ASSERT_STRING_EQUAL(fields(p, &r), "host: api.test, authorization: Bearer " CANARY);
    r = request("GET", "/", absent, 2); /* nothing to replace: as it is */
    CU_ASSERT_EQUAL(check(p, &r), GUARD_ALLOWED);
    CU_ASSERT(!guard_policy_is_mentioned(p, &r));
    CU_ASSERT_STRING_EQUAL(fields(p, &r), "host: api.test, authorization: Bearer other");
    r.secure = false; /* and over plain HTTP too: there is no secret in it */
    CU_ASSERT_EQUAL(check(p, &r), GUARD_ALLOWED);
    r = request("GET", "/", elsewhere, 2);
    CU_ASSERT_EQUAL(check(p, &r), GUARD_PLACEHOLDER);
    r = request("GET", "/?key=" PLACEHOLDER, bearer, 2);
    CU_ASSERT_EQUAL(check(p, &r), GUARD_PLACEHOLDER);
    r = request("GET", "/?key=%73k-place%68older", absent, 2);
    CU_ASSERT_EQUAL(check(p, &r), GUARD_PLACEHOLDER);
    CU_ASSERT(guard_policy_is_mentioned(p, &r));
    guard_policy_destroy(&p);
    end();
}

static void policies_that_are_none(void) {
    static const char *const names[] = {"Host", "content-length", "a b", "x\r\n", "Transfer_Encoding", "connection"};
    int rc;
    for (size_t i = 0; i < HT_ARRAY_LEN(names); i++) {
        struct ht_errmsg err = {""};
        const char *value = "${env:X}";
        struct guard_policy_config cfg = {
            .host = "a", .header_names = &names[i], .header_values = &value, .n_headers = 1};
        CU_ASSERT_PTR_NULL(guard_policy_create(&cfg, &rc, &err));
        CU_ASSERT_EQUAL(rc, HT_EINVAL);
        CU_ASSERT(err.text[0] != '\0');
    }
    const struct guard_policy_config bad[] = {
        {.host = "*.a"},
        {.host = "a", .user = "git"},
        {.host = "a", .placeholder = PLACEHOLDER},
        {.host = "a", .rate = "fast"},
        {.host = "a", .allow = (const char *const[]){"GET"}, .n_allow = 1},
        {.host = "a", .deny = (const char *const[]){"GET"}, .n_deny = 1},
        {.host = "a",
         .header_names = (const char *const[]){"x-a", "X_A"},
         .header_values = (const char *const[]){"1", "2"},
         .n_headers = 2},
        {.host = "a",
         .header_names = (const char *const[]){"x-a"},
         .header_values = (const char *const[]){"1\r\nx-b: 2"},
         .n_headers = 1},
        {.host = "a",
         .header_names = (const char *const[]){"x-a"},
         .header_values = (const char *const[]){"1"},
         .n_headers = 1,
         .placeholder = "short"},
    };
    for (size_t i = 0; i < HT_ARRAY_LEN(bad); i++) {
        struct ht_errmsg err = {""};
        CU_ASSERT_PTR_NULL(guard_policy_create(&bad[i], &rc, &err));
        CU_ASSERT_EQUAL(rc, HT_EINVAL);
        CU_ASSERT(err.text[0] != '\0');
    }
}

static void memory_for_secrets(void) {
    struct guard_locked m = {.p = NULL};
    prctl(PR_SET_DUMPABLE, 1, 0, 0, 0);
    CU_ASSERT_EQUAL_FATAL(guard_locked_take(&m, 10), HT_OK);
    CU_ASSERT_EQUAL(prctl(PR_GET_DUMPABLE, 0, 0, 0, 0), 0);
    CU_ASSERT(m.cap >= 10);
    CU_ASSERT_EQUAL(guard_locked_put(&m, CANARY, sizeof CANARY), HT_OK);
    CU_ASSERT_EQUAL(guard_locked_put(&m, CANARY, m.cap), HT_ESPACE);
    CU_ASSERT_EQUAL(m.n, sizeof CANARY);
    /* The kernel's own list: lo is locked, dd not dumped, wf wiped in a child. */
    char line[512], start[32];
    bool here = false, seen = false;
    snprintf(start, sizeof start, "%lx-", (unsigned long)(uintptr_t)m.p);
    FILE *f = fopen("/proc/self/smaps", "r");
    while (f && fgets(line, sizeof line, f)) {
        char *dash = strchr(line, '-');
        if (dash && dash < line + 20 && strchr(line, ' ') > dash)
            here = strncmp(line, start, strlen(start)) == 0;
        if (here && strncmp(line, "VmFlags:", 8) == 0)
            seen = strstr(line, " dd") && strstr(line, " wf") &&
                   (UNLOCKED || guard_locked_refused() || strstr(line, " lo"));
    }
    if (f)
        fclose(f);
    CU_ASSERT(!f || seen);
    guard_locked_free(&m);
    CU_ASSERT_PTR_NULL(m.p);
}

static void out_of_memory(void) {
    const char *const allow[] = {"GET /v1/*"}, *const name[] = {"x-key"}, *const value[] = {"a ${env:GUARD_TEST}"};
    struct guard_policy_config cfg = {.host = "api.test",
                                      .header_names = name,
                                      .header_values = value,
                                      .n_headers = 1,
                                      .placeholder = PLACEHOLDER,
                                      .allow = allow,
                                      .n_allow = 1,
                                      .deny = allow,
                                      .n_deny = 1};
    size_t live = ht_mem_live();
    bool more = true;
    for (long i = 0; more; i++) {
        int rc;
        ht_mem_fail_at(i);
        struct guard_policy *p = guard_policy_create(&cfg, &rc, NULL);
        more = !ht_mem_fail_pending();
        ht_mem_fail_at(-1);
        CU_ASSERT_EQUAL(p == NULL, more);
        guard_policy_destroy(&p);
        CU_ASSERT_EQUAL(ht_mem_live(), live);
    }
}

int main(void) {
    static const struct tap_test tests[] = {
        {"a field is set and not added", a_field_is_set_and_not_added},
        {"a changed file is read anew", a_changed_file_is_read_anew},
        {"unusable secrets are refused", what_may_not_be_a_secret},
        {"a command's output is used, and renewed", a_command},
        {"requests that the policy forbids are refused", who_does_not_pass},
        {"a placeholder is replaced in its field only", a_placeholder},
        {"impossible policies are refused", policies_that_are_none},
        {"secrets are in locked memory", memory_for_secrets},
        {"each allocation may fail", out_of_memory},
        {NULL, NULL},
    };
    return tap_main("guard policy", tests);
}
