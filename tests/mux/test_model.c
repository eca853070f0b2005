/*
 * Random lives of sessions, held against the model (tests/model/session_model.h).
 *
 *     test_model                 many sequences; a seed from the clock, printed
 *     test_model SEED [COUNT]    the same again; one that fails is told event by event
 */
#include "model/session_rig.h"
#include "support/tap.h"

#include <time.h>

#ifdef HT_SANITIZED
#define COUNT 5000u /* ten times slower */
#else
#define COUNT 30000u
#endif
#define LENGTH 400u /* bytes of a sequence: some sixty events */

static uint64_t seed;
static unsigned long count = COUNT;

/* splitmix64 */
static uint64_t next(uint64_t *x) {
    uint64_t z = *x += 0x9E3779B97F4A7C15u;
    z = (z ^ z >> 30) * 0xBF58476D1CE4E5B9u;
    z = (z ^ z >> 27) * 0x94D049BB133111EBu;
    return z ^ z >> 31;
}

/* The sequence of a number. */
static void make(uint8_t *bytes, uint64_t x) {
    x = next(&x);
    for (unsigned at = 0; at < LENGTH; at += 8) {
        uint64_t v = next(&x);
        memcpy(bytes + at, &v, 8);
    }
}

static void test_sequences(void) {
    uint8_t bytes[LENGTH];
    for (unsigned long i = 0; i < count; i++) {
        make(bytes, seed + i);
        const char *wrong = sr_run(bytes, sizeof bytes, false);
        if (!wrong)
            continue;
        printf("# sequence %lu: %s\n# again: test_model %llu 1\n", i, wrong, (unsigned long long)(seed + i));
        if (count == 1)
            (void)sr_run(bytes, sizeof bytes, true);
        CU_FAIL("the session and the model disagree");
        return;
    }
}

/* A frame that was cut on a secondary, which then was given up, left a hole in a stream of another link. */
static void test_found_before(void) {
    static const uint64_t found[] = {1796065193794336, 1796065233185784, 1796065279103531, 1796065263470176};
    uint8_t bytes[LENGTH];
    for (size_t i = 0; i < HT_ARRAY_LEN(found); i++) {
        make(bytes, found[i]);
        CU_ASSERT_PTR_NULL(sr_run(bytes, sizeof bytes, false));
    }
}

/* What a fuzzer would try first. */
static void test_plain_bytes(void) {
    uint8_t bytes[LENGTH];
    for (unsigned v = 0; v < 256; v++) {
        memset(bytes, (int)v, sizeof bytes);
        for (size_t n = 0; n <= sizeof bytes; n += 50)
            CU_ASSERT_PTR_NULL(sr_run(bytes, n, false));
    }
}

/* ---- what the sequences have found ---- */

/* Version 2 or 1 of a kit; its first link is up and stream 2 was opened by bytes `how`. */
static struct sr *begin_kit(bool v2, uint8_t how) {
    static uint8_t bytes[16];
    memcpy(bytes, (uint8_t[]){(uint8_t)(v2 ? 0xF7 : 0xF5), 0xC2, 3, 0, 0, 0, 0}, 7);
    bytes[7] = 0;   /* the join */
    bytes[8] = how; /* the stream */
    struct sr *r = sr_begin(bytes, 9, false);
    sr_connect(r);
    sr_shake(r);
    sr_join(r);
    sr_pull_all(r);
    sr_app_open(r);
    sr_pull_all(r);
    return r;
}

static void script(struct sr *r, const uint8_t *bytes, size_t n) {
    r->in = bytes;
    r->in_n = n;
    r->in_at = 0;
}

static void end(struct sr *r, size_t live_before) {
    sr_pull_all(r);
    sr_compare(r);
    sr_finish(r, live_before);
    CU_ASSERT_STRING_EQUAL(r->m.failed, "");
}

/* A published driver answers on another socket than the stream's, and that one is lost inside a DATA frame. */
static void test_cut_frame_of_another_link(void) {
    size_t live = ht_mem_live();
    struct sr *r = begin_kit(true, 0);
    CU_ASSERT(r->m.n_st == 1 && r->m.st[0].link == 0 && sm_links_up(&r->m) == 2);
    sr_clear(r);
    sr_put_data(r, 2, 50);
    script(r, (uint8_t[]){4, 0xED}, 2); /* link 1 drops */
    sr_message(r, 1, WIRE_LIMIT_HEADER + 20);
    CU_ASSERT(sm_links_up(&r->m) == 1);
    CU_ASSERT(r->a[0].closes == 1 && r->a[0].code == WIRE_CODE_REFUSED_STREAM);
    end(r, live);
}

/* An upgrade whose source was told to wait hears that it may go on once its request has ended. */
static void test_upgrade_is_told_to_go_on(void) {
    size_t live = ht_mem_live();
    struct sr *r = begin_kit(false, 7);
    CU_ASSERT(r->m.n_st == 1 && r->m.st[0].upgrade);
    for (int i = 0; i < 8; i++) {
        script(r, (uint8_t[]){0, (uint8_t)(i == 7 ? 3 : 0), 0, 0}, 4);
        sr_app_write(r);
    }
    CU_ASSERT(r->m.st[0].told_no);
    sr_pull_all(r);
    CU_ASSERT(!r->m.st[0].told_no && !r->m.st[0].sent_eof);
    end(r, live);
}

static const struct tap_test tests[] = {
    {"random sequences of events do to a session what they do to the model", test_sequences},
    {"sequences that have shown a fault before", test_found_before},
    {"any bytes of the fuzzer are a valid sequence of events", test_plain_bytes},
    {"a DATA frame that was cut on another link ends its stream", test_cut_frame_of_another_link},
    {"an upgrade goes on after the end of its request", test_upgrade_is_told_to_go_on},
    {NULL, NULL},
};

int main(int argc, char **argv) {
    struct timespec now;
    clock_gettime(CLOCK_REALTIME, &now);
    seed = argc > 1 ? strtoull(argv[1], NULL, 10) : (uint64_t)now.tv_sec * 1000000 + (uint64_t)now.tv_nsec / 1000;
    count = argc > 2 ? strtoul(argv[2], NULL, 10) : COUNT;
    printf("# seed %llu, %lu sequences\n", (unsigned long long)seed, count);
    return tap_main("model", tests);
}
