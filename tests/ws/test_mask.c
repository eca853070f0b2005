#include "base/clock.h"
#include "base/mem.h"
#include "support/tap.h"
#include "ws/ws.h"

#include <stdio.h>
#include <unistd.h>

static void by_bytes(uint8_t *p, size_t n, const uint8_t mask[4], size_t offset) {
    for (size_t i = 0; i < n; i++)
        p[i] ^= mask[(offset + i) & 3];
}

static void equals_the_bytewise_mask(void) {
    static uint8_t a[512], b[512], orig[512];
    const uint8_t mask[4] = {0x37, 0xfa, 0x21, 0x3d};
    ht_random_bytes(orig, sizeof orig);
    bool same = true;
    for (size_t align = 0; align < 17; align++)
        for (size_t n = 0; n <= 300; n++)
            for (size_t offset = 0; offset < 5; offset++) {
                memcpy(a, orig, sizeof a);
                memcpy(b, orig, sizeof b);
                ws_mask(a + align, n, mask, offset);
                by_bytes(b + align, n, mask, offset);
                same = same && memcmp(a, b, sizeof a) == 0; /* nothing around it is touched either */
            }
    CU_ASSERT(same);
    memcpy(a, orig, sizeof a);
    ws_mask(a, 400, mask, (size_t)-3);
    ws_mask(a, 400, mask, (size_t)-3);
    CU_ASSERT(memcmp(a, orig, sizeof a) == 0);
    /* In pieces it is the same as at once. */
    memcpy(b, orig, sizeof b);
    ws_mask(a, 400, mask, 0);
    for (size_t at = 0, k = 1; at < 400; at += k, k = k % 13 + 1)
        ws_mask(b + at, ht_min(k, 400 - at), mask, at);
    CU_ASSERT(memcmp(a, b, sizeof a) == 0);
}

static void is_fast(void) {
    enum { N = 256 * 1024 };
    uint8_t *p = ht_malloc(N + 1);
    CU_ASSERT_FATAL(p != NULL);
    const uint8_t mask[4] = {1, 2, 3, 4};
    memset(p, 7, N + 1);
    for (int shift = 0; shift < 2; shift++) {
        uint64_t begin = ht_now_us(), rounds = 0;
        while (ht_now_us() - begin < 50000) {
            for (int i = 0; i < 20; i++)
                ws_mask(p + shift, N, mask, 0);
            rounds += 20;
        }
        uint64_t us = ht_now_us() - begin;
        printf("# ws_mask, 256 KiB, %s: %.1f GB/s\n", shift ? "unaligned" : "aligned",
               (double)rounds * N / (double)us / 1e3);
    }
    ht_free(p);
}

int main(void) {
    alarm(60);
    static const struct tap_test tests[] = {
        {"masking equals the bytewise mask", equals_the_bytewise_mask},
        {"masking is fast", is_fast},
        {NULL, NULL},
    };
    return tap_main("ws mask", tests);
}
