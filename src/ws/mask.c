#include "ws/ws.h"

#ifdef __SSE2__
#include <emmintrin.h>
#endif

/*
 * The mask repeats every four bytes, so one rotated by the offset fits every step whose width is a multiple of four.
 * The wide steps begin where memory is aligned: steps that cross cache lines cost a third more. Wider ones than these
 * gain nothing, memory is what bounds them.
 */
void ws_mask(uint8_t *p, size_t n, const uint8_t mask[4], size_t offset) {
    uint8_t m[8];
    size_t first = n >= 64 ? -(uintptr_t)p & 15 : 0;
    for (size_t i = 0; i < first; i++)
        p[i] ^= mask[(offset + i) & 3];
    p += first;
    n -= first;
    offset += first;
    for (size_t i = 0; i < sizeof m; i++)
        m[i] = mask[(offset + i) & 3];
    uint64_t m8;
    memcpy(&m8, m, sizeof m8);
#ifdef __SSE2__
    const __m128i v = _mm_set1_epi64x((long long)m8);
    for (; n >= 64; p += 64, n -= 64) {
        __m128i a = _mm_loadu_si128((const __m128i *)(const void *)p);
        __m128i b = _mm_loadu_si128((const __m128i *)(const void *)(p + 16));
        __m128i c = _mm_loadu_si128((const __m128i *)(const void *)(p + 32));
        __m128i d = _mm_loadu_si128((const __m128i *)(const void *)(p + 48));
        _mm_storeu_si128((__m128i *)(void *)p, _mm_xor_si128(a, v));
        _mm_storeu_si128((__m128i *)(void *)(p + 16), _mm_xor_si128(b, v));
        _mm_storeu_si128((__m128i *)(void *)(p + 32), _mm_xor_si128(c, v));
        _mm_storeu_si128((__m128i *)(void *)(p + 48), _mm_xor_si128(d, v));
    }
#endif
    for (; n >= 8; p += 8, n -= 8) {
        uint64_t x;
        memcpy(&x, p, sizeof x);
        x ^= m8;
        memcpy(p, &x, sizeof x);
    }
    for (size_t i = 0; i < n; i++)
        p[i] ^= m[i];
}
