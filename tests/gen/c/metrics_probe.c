/* The exposition of a registry, for tests/gen/test_gen_metrics.py: `zero`, `some`, or `fail` (allocations). */
#include "metrics_gen.h"

#include "base/mem.h"
#include "wire_gen.h"

#include <stdio.h>

static int print(const struct ht_metrics *m) {
    struct ht_buf out = {0};
    int rc = ht_metrics_write(m, &out);
    fwrite(ht_buf_head(&out), 1, ht_buf_size(&out), stdout);
    ht_buf_free(&out);
    return rc != HT_OK || ht_mem_live() != 0;
}

static void fill(struct ht_metrics *m) {
    m->build_info = "1.0 \"x\\y\"\nz";
    m->sessions_active = 2;
    m->bindings_active[HT_METRIC_KIND_HTTP][HT_METRIC_MODE_EXPOSE] = 3;
    m->bindings_active[ht_metric_kind_of(WIRE_KIND_TCP)][ht_metric_mode_of(WIRE_MODE_PULL)] = 4;
    m->fd_permits_available = -1;
    m->bytes_total[HT_METRIC_MODE_PULL][HT_METRIC_DIRECTION_SENT] = (uint64_t)INT64_MAX;
    m->resets_total[ht_metric_code_of(WIRE_CODE_BIND_TAKEOVER)][HT_METRIC_DIRECTION_RECEIVED] = 7;
    m->resets_total[ht_metric_code_of(4711)][HT_METRIC_DIRECTION_SENT] = 8;
    m->bind_errors_total[ht_metric_bind_error_of(WIRE_BIND_ERROR_ALREADY_BOUND)] = 9;
    m->visitor_responses_total[HT_METRIC_CLASS_2XX] = 10;
    m->visitor_responses_total[HT_METRIC_CLASS_STREAM_CAP] = 11;
    static const uint64_t rtts[] = {0, 1000, 1001, 2500, 9999999, 10000000, 10000001, 3600000000u};
    for (size_t i = 0; i < HT_ARRAY_LEN(rtts); i++)
        ht_metrics_observe_ping_rtt_seconds(m, rtts[i]);
}

/* With each allocation failing in turn: an error, and what was in the buffer before is all that is in it. */
static int fail(const struct ht_metrics *m) {
    for (long index = 0;; index++) {
        struct ht_buf out = {0};
        if (ht_buf_append_str(&out, "before") != HT_OK)
            return 1;
        ht_buf_consume(&out, 2);
        ht_mem_fail_at(index);
        int rc = ht_metrics_write(m, &out);
        ht_mem_fail_at(-1);
        bool same = ht_slice_is(ht_buf_slice(&out), "fore");
        ht_buf_free(&out);
        if (ht_mem_live() != 0 || (rc != HT_OK && (rc != HT_ENOMEM || !same)))
            return 1;
        if (rc == HT_OK) {
            printf("failed=%ld\n", index);
            return same;
        }
    }
}

int main(int argc, char **argv) {
    static struct ht_metrics m;
    const char *what = argc > 1 ? argv[1] : "zero";
    if (strcmp(what, "zero") != 0)
        fill(&m);
    return strcmp(what, "fail") == 0 ? fail(&m) : print(&m);
}
