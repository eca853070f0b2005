/* Content codings: whole, piece by piece, cut, wrong, and larger than anybody wants. */
#include "base/mem.h"
#include "inspect/decode.h"
#include "support/tap.h"

#include <brotli/encode.h>
#include <stdio.h>
#include <stdlib.h>
#include <zlib.h>
#include <zstd.h>

static const char text[] = "hello hello hello, tunnel; hello hello hello, inspector";

static size_t deflated(int window_bits, const void *from, size_t n, uint8_t *to, size_t cap) {
    z_stream z = {.next_in = (Bytef *)(uintptr_t)from, .avail_in = (uInt)n, .next_out = to, .avail_out = (uInt)cap};
    CU_ASSERT_EQUAL_FATAL(deflateInit2(&z, 9, Z_DEFLATED, window_bits, 8, Z_DEFAULT_STRATEGY), Z_OK);
    CU_ASSERT_EQUAL_FATAL(deflate(&z, Z_FINISH), Z_STREAM_END);
    deflateEnd(&z);
    return cap - z.avail_out;
}

/* Row `i` of the codings: its name, and `from` in it. NULL: there is none. */
static const char *coded(size_t i, const void *from, size_t n, uint8_t *to, size_t *cap) {
    static const char *const names[] = {"gzip", "X-GZip", "deflate", "deflate", "br", "zstd", "identity", NULL};
    static const int windows[] = {31, 31, 15, -15};
    size_t room = *cap;
    if (i < 4) {
        *cap = deflated(windows[i], from, n, to, room);
    } else if (i == 4) {
        CU_ASSERT_FATAL(BrotliEncoderCompress(9, 22, BROTLI_MODE_TEXT, n, from, cap, to));
    } else if (i == 5) {
        *cap = ZSTD_compress(to, room, from, n, 3);
    } else if (i == 6) {
        memcpy(to, from, n);
        *cap = n;
    }
    return names[i];
}

static void whole(void) {
    const char *name;
    uint8_t buf[400];
    for (size_t i = 0, n = sizeof buf; (name = coded(i, text, sizeof text, buf, &n)) != NULL; i++, n = sizeof buf) {
        struct ht_buf out = {0};
        CU_ASSERT(inspect_can_decode(ht_slice_str(name)));
        CU_ASSERT_EQUAL(inspect_decode(ht_slice_str(name), ht_slice_of(buf, n), 1000, &out), HT_OK);
        CU_ASSERT(ht_slice_eq(ht_buf_slice(&out), ht_slice_of(text, sizeof text)));
        ht_buf_free(&out);
        CU_ASSERT_EQUAL(inspect_decode(ht_slice_str(name), ht_slice_of(buf, n), 7, &out), HT_OK);
        CU_ASSERT(ht_slice_eq(ht_buf_slice(&out), ht_slice_of(text, 7)));
        ht_buf_free(&out);
    }
}

/* Byte by byte, split at each position, and cut at each position: what comes out is always a beginning. */
static void pieces(void) {
    const char *name;
    uint8_t buf[400];
    for (size_t i = 0, n = sizeof buf; (name = coded(i, text, sizeof text, buf, &n)) != NULL; i++, n = sizeof buf) {
        for (size_t at = 0; at <= n; at++) {
            struct inspect_decoder *d = inspect_decoder_create(ht_slice_str(name));
            struct ht_buf out = {0};
            CU_ASSERT_PTR_NOT_NULL_FATAL(d);
            CU_ASSERT_EQUAL(inspect_decoder_feed(d, ht_slice_of(buf, at), 1000, &out), HT_OK);
            CU_ASSERT_EQUAL(memcmp(out.data ? out.data : buf, out.data ? text : (char *)buf, out.len), 0);
            CU_ASSERT_EQUAL(inspect_decoder_feed(d, ht_slice_of(buf + at, n - at), 1000, &out), HT_OK);
            CU_ASSERT(ht_slice_eq(ht_buf_slice(&out), ht_slice_of(text, sizeof text)));
            inspect_decoder_destroy(&d);
            ht_buf_free(&out);
        }
        struct inspect_decoder *d = inspect_decoder_create(ht_slice_str(name));
        struct ht_buf out = {0};
        for (size_t at = 0; at < n; at++)
            CU_ASSERT_EQUAL(inspect_decoder_feed(d, ht_slice_of(buf + at, 1), 1000, &out), HT_OK);
        CU_ASSERT(ht_slice_eq(ht_buf_slice(&out), ht_slice_of(text, sizeof text)));
        inspect_decoder_destroy(&d);
        ht_buf_free(&out);
    }
}

static void lists(void) {
    uint8_t one[400], two[400];
    size_t n = deflated(31, text, sizeof text, one, sizeof one), m = deflated(15, one, n, two, sizeof two);
    struct ht_buf out = {0};
    CU_ASSERT_EQUAL(inspect_decode(ht_slice_str("gzip ,, deflate"), ht_slice_of(two, m), 1000, &out), HT_OK);
    CU_ASSERT(ht_slice_eq(ht_buf_slice(&out), ht_slice_of(text, sizeof text)));
    ht_buf_free(&out);
    CU_ASSERT_EQUAL(inspect_decode(ht_slice_str(""), ht_slice_of(text, 5), 1000, &out), HT_OK);
    CU_ASSERT(ht_slice_is(ht_buf_slice(&out), "hello"));
    ht_buf_free(&out);
    CU_ASSERT_EQUAL(inspect_decode(ht_slice_str("gzip, lzma"), ht_slice_of(two, m), 1000, &out), HT_EINVAL);
    CU_ASSERT_EQUAL(inspect_decode(ht_slice_str("br,br,br,br,br"), ht_slice_of(two, m), 1000, &out), HT_EINVAL);
    CU_ASSERT(!inspect_can_decode(ht_slice_str("lzma")));
}

static void gzip_members(void) {
    uint8_t buf[800];
    size_t n = deflated(31, "one ", 4, buf, 400);
    n += deflated(31, "two", 3, buf + n, 400);
    memcpy(buf + n, "garbage", 7);
    for (size_t at = 0; at <= n + 7; at++) {
        struct inspect_decoder *d = inspect_decoder_create(ht_slice_str("gzip"));
        struct ht_buf out = {0};
        CU_ASSERT_EQUAL(inspect_decoder_feed(d, ht_slice_of(buf, at), 1000, &out), HT_OK);
        CU_ASSERT_EQUAL(inspect_decoder_feed(d, ht_slice_of(buf + at, n + 7 - at), 1000, &out), HT_OK);
        CU_ASSERT(ht_slice_is(ht_buf_slice(&out), "one two"));
        inspect_decoder_destroy(&d);
        ht_buf_free(&out);
    }
}

static void wrong_bytes(void) {
    static const char *const names[] = {"gzip", "deflate", "br", "zstd"};
    for (size_t i = 0; i < HT_ARRAY_LEN(names); i++) {
        struct ht_buf out = {0};
        CU_ASSERT_EQUAL(
            inspect_decode(ht_slice_str(names[i]), ht_slice_str("\xff\xffthis is something else"), 1000, &out),
            HT_EPROTO);
        ht_buf_free(&out);
    }
}

/* 64 MiB of zeros in a few bytes: no more comes out than is asked for, and no more memory is taken. */
static void bombs(void) {
    enum { SIZE = 64 << 20 };
    static uint8_t buf[1 << 20];
    uint8_t *zeros = calloc(1, SIZE);
    const char *name;
    CU_ASSERT_PTR_NOT_NULL_FATAL(zeros);
    for (size_t i = 0, n = sizeof buf; i < 6 && (name = coded(i, zeros, SIZE, buf, &n)) != NULL;
         i += 2, n = sizeof buf) {
        struct ht_buf out = {0};
        CU_ASSERT_EQUAL(inspect_decode(ht_slice_str(name), ht_slice_of(buf, n), 100000, &out), HT_OK);
        CU_ASSERT_EQUAL(ht_buf_size(&out), 100000);
        CU_ASSERT(out.cap < 400000);
        ht_buf_free(&out);
        struct inspect_decoder *d = inspect_decoder_create(ht_slice_str(name));
        CU_ASSERT_EQUAL(inspect_decoder_feed(d, ht_slice_of(buf, n), 100000, &out), HT_ELIMIT);
        inspect_decoder_destroy(&d);
        ht_buf_free(&out);
    }
    size_t n = deflated(31, zeros, SIZE, buf, sizeof buf);
    uint8_t twice[2000];
    size_t m = deflated(31, buf, n, twice, sizeof twice);
    struct ht_buf out = {0};
    CU_ASSERT_EQUAL(inspect_decode(ht_slice_str("gzip, gzip"), ht_slice_of(twice, m), 1000, &out), HT_OK);
    CU_ASSERT_EQUAL(ht_buf_size(&out), 1000);
    ht_buf_free(&out);
    free(zeros);
}

/* zstd with a window larger than what content may have (RFC 9659). */
static void large_windows(void) {
    ZSTD_CCtx *c = ZSTD_createCCtx();
    static uint8_t in[1000], to[2000];
    ZSTD_CCtx_setParameter(c, ZSTD_c_windowLog, 27);
    ZSTD_inBuffer from = {in, sizeof in, 0};
    ZSTD_outBuffer out = {to, sizeof to, 0};
    ZSTD_compressStream2(c, &out, &from, ZSTD_e_flush); /* of unknown size, so the window is as asked */
    ZSTD_compressStream2(c, &out, &from, ZSTD_e_end);
    ZSTD_freeCCtx(c);
    struct ht_buf got = {0};
    CU_ASSERT_EQUAL(inspect_decode(ht_slice_str("zstd"), ht_slice_of(to, out.pos), 1000, &got), HT_EPROTO);
    ht_buf_free(&got);
}

static void each_allocation_fails(void) {
    uint8_t buf[400];
    const char *name;
    size_t blocks = ht_mem_live();
    for (size_t i = 0, n = sizeof buf; (name = coded(i, text, sizeof text, buf, &n)) != NULL; i++, n = sizeof buf) {
        for (long k = 0;; k++) {
            struct ht_buf out = {0};
            ht_mem_fail_at(k);
            int rc = inspect_decode(ht_slice_str(name), ht_slice_of(buf, n), 1000, &out);
            bool over = ht_mem_fail_pending();
            ht_mem_fail_at(-1);
            CU_ASSERT_EQUAL(rc, over ? HT_OK : HT_ENOMEM);
            ht_buf_free(&out);
            CU_ASSERT_EQUAL(ht_mem_live(), blocks);
            if (over)
                break;
        }
    }
}

int main(void) {
    static const struct tap_test tests[] = {
        {"whole bodies", whole},
        {"pieces", pieces},
        {"lists of codings", lists},
        {"members of gzip, and what follows them", gzip_members},
        {"bytes that are not the coding", wrong_bytes},
        {"bombs", bombs},
        {"large windows of zstd", large_windows},
        {"each allocation fails", each_allocation_fails},
        {NULL, NULL},
    };
    return tap_main("inspect decode", tests);
}
