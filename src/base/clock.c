#include "base/clock.h"

#include <errno.h>
#include <stdatomic.h>
#include <stdio.h>
#include <stdlib.h>
#include <sys/random.h>
#include <time.h>

static _Atomic uint64_t skipped_us;

uint64_t ht_now_us(void) {
    struct timespec ts;
    clock_gettime(CLOCK_MONOTONIC, &ts);
    return (uint64_t)ts.tv_sec * 1000000u + (uint64_t)ts.tv_nsec / 1000u +
           atomic_load_explicit(&skipped_us, memory_order_relaxed);
}

static int64_t ms_of(clockid_t which) {
    struct timespec ts;
    clock_gettime(which, &ts);
    return (int64_t)ts.tv_sec * 1000 + ts.tv_nsec / 1000000;
}

int64_t ht_wall_offset_ms(void) { return ms_of(CLOCK_REALTIME) - ms_of(CLOCK_MONOTONIC); }

void ht_clock_skip(uint64_t us) { atomic_fetch_add_explicit(&skipped_us, us, memory_order_relaxed); }

uint64_t ht_now_ms(void) { return ht_now_us() / 1000u; }

char *ht_now_text(char out[HT_TIME_TEXT]) {
    /* Many lines are written in one second, and their dates differ in three digits. */
    static _Thread_local time_t second;
    static _Thread_local char text[HT_TIME_TEXT];
    static _Thread_local size_t len;
    struct timespec ts;
    clock_gettime(CLOCK_REALTIME, &ts);
    if (len == 0 || ts.tv_sec != second) {
        struct tm tm;
        gmtime_r(&ts.tv_sec, &tm);
        len = strftime(text, sizeof text - sizeof ".000Z", "%Y-%m-%dT%H:%M:%S", &tm);
        second = ts.tv_sec;
    }
    unsigned ms = (unsigned)(ts.tv_nsec / 1000000);
    memcpy(out, text, len);
    memcpy(out + len, (char[]){'.', (char)('0' + ms / 100), (char)('0' + ms / 10 % 10), (char)('0' + ms % 10), 'Z', 0},
           6);
    return out;
}

void ht_random_bytes(void *p, size_t n) {
    unsigned char *to = p;
    while (n) {
        ssize_t got = getrandom(to, n, 0);
        if (got < 0 && errno == EINTR)
            continue;
        if (got <= 0)
            abort();
        to += got;
        n -= (size_t)got;
    }
}

void ht_uuid4(char out[37]) {
    unsigned char b[16];
    ht_random_bytes(b, sizeof b);
    b[6] = (unsigned char)((b[6] & 0x0f) | 0x40);
    b[8] = (unsigned char)((b[8] & 0x3f) | 0x80);
    char *o = out;
    for (int i = 0; i < 16; i++) {
        if (i == 4 || i == 6 || i == 8 || i == 10)
            *o++ = '-';
        snprintf(o, 3, "%02x", b[i]);
        o += 2;
    }
}

bool ht_const_time_eq(const void *a, size_t an, const void *b, size_t bn) {
    const volatile unsigned char *x = a, *y = b;
    unsigned char diff = an != bn;
    for (size_t i = 0; i < an && i < bn; i++)
        diff |= (unsigned char)(x[i] ^ y[i]);
    return diff == 0;
}
