#include "inspect/decode.h"

#include "base/library.h"
#include "base/mem.h"

#include <brotli/decode.h>
#include <sys/types.h>
#include <zlib.h>
#include <zstd.h>

#define STEP 16384     /* output that is asked for at once */
#define ZSTD_WINDOW 23 /* log2 of a zstd window: what RFC 9659 allows for content */
#define MAX_CODINGS 4

/* ---- the libraries, of which a tunnel without an inspector needs none ---- */

#define ZLIB(X)                                                                                                        \
    X(inflateInit2_)                                                                                                   \
    X(inflate) X(inflateEnd) X(inflateReset) X(inflateReset2) X(inflateGetDictionary) X(inflateSetDictionary)
#define BROTLI_LIB(X)                                                                                                  \
    X(BrotliDecoderCreateInstance)                                                                                     \
    X(BrotliDecoderDestroyInstance) X(BrotliDecoderDecompressStream) X(BrotliDecoderGetErrorCode)
#define ZSTD_LIB(X)                                                                                                    \
    X(ZSTD_createDStream)                                                                                              \
    X(ZSTD_freeDStream) X(ZSTD_sizeof_DStream) X(ZSTD_DCtx_setParameter) X(ZSTD_decompressStream) X(ZSTD_isError)

static struct { ZLIB(HT_LIBRARY_MEMBER) } zlib;
static struct { BROTLI_LIB(HT_LIBRARY_MEMBER) } brotli;
static struct { ZSTD_LIB(HT_LIBRARY_MEMBER) } zstd;

#define ZLIB_ROW(f) HT_LIBRARY_FUNCTION(zlib, f)
#define BROTLI_ROW(f) HT_LIBRARY_FUNCTION(brotli, f)
#define ZSTD_ROW(f) HT_LIBRARY_FUNCTION(zstd, f)
static const struct ht_library_function zlib_rows[] = {ZLIB(ZLIB_ROW)}, brotli_rows[] = {BROTLI_LIB(BROTLI_ROW)},
                                        zstd_rows[] = {ZSTD_LIB(ZSTD_ROW)};
static struct ht_library zlib_file = {{"libz.so.1"}, zlib_rows, HT_ARRAY_LEN(zlib_rows), HT_LIBRARY_UNKNOWN},
                         brotli_file = {{"libbrotlidec.so.1"},
                                        brotli_rows,
                                        HT_ARRAY_LEN(brotli_rows),
                                        HT_LIBRARY_UNKNOWN},
                         zstd_file = {{"libzstd.so.1"}, zstd_rows, HT_ARRAY_LEN(zstd_rows), HT_LIBRARY_UNKNOWN};

enum coding { IDENTITY, GZIP, DEFLATE, RAW, BROTLI, ZSTD, N_CODINGS };

struct inspect_decoder {
    enum coding coding;
    bool over;  /* behind the end; what follows is ignored */
    bool ended; /* of gzip: a member has ended, and another may follow */
    bool begun; /* of deflate: it is known which one it is */
    size_t n_first;
    uint8_t first[2];    /* of deflate: bytes that have come before that */
    uint64_t took, gave; /* bytes that came, and what they were decoded to */
    size_t held;         /* bytes that its library has taken */
    z_stream z;
    BrotliDecoderState *brotli;
    ZSTD_DStream *zstd;
};

static enum coding coding_of(struct ht_slice name) {
    static const struct {
        const char *name;
        enum coding coding;
    } rows[] = {{"identity", IDENTITY}, {"gzip", GZIP}, {"x-gzip", GZIP},
                {"deflate", DEFLATE},   {"br", BROTLI}, {"zstd", ZSTD}};
    for (size_t i = 0; i < HT_ARRAY_LEN(rows); i++)
        if (ht_slice_case_eq(name, ht_slice_str(rows[i].name)))
            return rows[i].coding;
    return N_CODINGS;
}

/* ---- memory: the program's own, so that tests see it, and counted, because a stranger chooses the windows ---- */

union block {
    size_t n;
    max_align_t align;
};

static void *counted_alloc(void *ctx, size_t n) {
    struct inspect_decoder *d = ctx;
    union block *b = ht_malloc(sizeof *b + n);
    if (!b)
        return NULL;
    b->n = n;
    d->held += n;
    return b + 1;
}

static void counted_free(void *ctx, void *p) {
    struct inspect_decoder *d = ctx;
    if (!p)
        return;
    union block *b = (union block *)p - 1;
    d->held -= b->n;
    ht_free(b);
}

static void *z_alloc(void *ctx, unsigned n, unsigned size) { return counted_alloc(ctx, (size_t)n * size); }

size_t inspect_decoder_bytes(const struct inspect_decoder *d) {
    return d ? sizeof *d + d->held + (d->zstd ? zstd.ZSTD_sizeof_DStream(d->zstd) : 0) : 0;
}

static bool zlib_begin(struct inspect_decoder *d, int window_bits) {
    d->z = (z_stream){.zalloc = z_alloc, .zfree = counted_free, .opaque = d};
    return zlib.inflateInit2_(&d->z, window_bits, ZLIB_VERSION, (int)sizeof d->z) == Z_OK;
}

static bool zstd_begin(struct inspect_decoder *d) {
    d->zstd = zstd.ZSTD_createDStream(); /* its stable API takes no allocator */
    return d->zstd && !zstd.ZSTD_isError(zstd.ZSTD_DCtx_setParameter(d->zstd, ZSTD_d_windowLogMax, ZSTD_WINDOW));
}

/* False: this system lacks its library. */
static bool is_there(enum coding c) {
    return c == BROTLI ? ht_library_need(&brotli_file)
           : c == ZSTD ? ht_library_need(&zstd_file)
                       : c == IDENTITY || ht_library_need(&zlib_file);
}

static bool begin(struct inspect_decoder *d) {
    switch (d->coding) {
    case GZIP:
        return zlib_begin(d, MAX_WBITS + 16);
    case DEFLATE: /* two readings are in use: with a zlib header, as the RFC has it, and without */
        return zlib_begin(d, MAX_WBITS);
    case RAW:
        return zlib_begin(d, -MAX_WBITS);
    case BROTLI:
        return (d->brotli = brotli.BrotliDecoderCreateInstance(counted_alloc, counted_free, d)) != NULL;
    case ZSTD:
        return zstd_begin(d);
    default:
        return true;
    }
}

static struct inspect_decoder *create(enum coding coding) {
    struct inspect_decoder *d = coding < N_CODINGS ? ht_calloc(1, sizeof *d) : NULL;
    if (!d)
        return NULL;
    d->coding = coding;
    if (!is_there(coding) || !begin(d))
        inspect_decoder_destroy(&d);
    return d;
}

struct inspect_decoder *inspect_decoder_create(struct ht_slice coding) {
    return create(coding_of(coding));
}
struct inspect_decoder *inspect_decoder_create_raw(void) {
    return create(RAW);
}

void inspect_decoder_destroy(struct inspect_decoder **dp) {
    struct inspect_decoder *d = *dp;
    if (!d)
        return;
    *dp = NULL;
    if (d->z.state)
        zlib.inflateEnd(&d->z);
    if (d->brotli)
        brotli.BrotliDecoderDestroyInstance(d->brotli);
    if (d->zstd)
        zstd.ZSTD_freeDStream(d->zstd);
    ht_free(d);
}

void inspect_decoder_reset(struct inspect_decoder *d) {
    if (d->coding == GZIP || d->coding == DEFLATE || d->coding == RAW)
        zlib.inflateReset(&d->z);
    d->over = d->ended = false;
}

/* ---- one call of each library: takes of *in, writes to `to`, returns how much or an error ---- */

/* A message may end with a last block (RFC 7692 7.2.3.4); the next one still refers to what came before. */
static void raw_goes_on(z_stream *z) {
    uint8_t window[1u << MAX_WBITS];
    uInt n = sizeof window;
    if (zlib.inflateGetDictionary(z, window, &n) == Z_OK && zlib.inflateReset(z) == Z_OK)
        zlib.inflateSetDictionary(z, window, n);
}

/* Behind a member there is another one (RFC 1952 2.2), or something that is ignored. */
static void next_member(struct inspect_decoder *d, struct ht_slice *in) {
    d->ended = false;
    d->over = (uint8_t)in->p[0] != 0x1f || zlib.inflateReset(&d->z) != Z_OK;
}

static ssize_t zlib_step(struct inspect_decoder *d, struct ht_slice *in, uint8_t *to, size_t cap) {
    if (d->ended && in->n)
        next_member(d, in);
    if (d->over)
        return 0;
    d->z.next_in = (Bytef *)(uintptr_t)in->p;
    d->z.avail_in = (uInt)ht_min(in->n, 1u << 30);
    d->z.next_out = to;
    d->z.avail_out = (uInt)cap;
    size_t given = d->z.avail_in;
    int rc = zlib.inflate(&d->z, Z_SYNC_FLUSH);
    *in = ht_slice_of(in->p + (given - d->z.avail_in), in->n - (given - d->z.avail_in));
    d->ended = rc == Z_STREAM_END && d->coding == GZIP;
    d->over = rc == Z_STREAM_END && d->coding == DEFLATE;
    if (rc == Z_STREAM_END && d->coding == RAW)
        raw_goes_on(&d->z);
    else if (rc == Z_MEM_ERROR)
        return HT_ENOMEM;
    else if (rc != Z_OK && rc != Z_BUF_ERROR && rc != Z_STREAM_END)
        return HT_EPROTO;
    return (ssize_t)(cap - d->z.avail_out);
}

static ssize_t brotli_step(struct inspect_decoder *d, struct ht_slice *in, uint8_t *to, size_t cap) {
    const uint8_t *from = (const uint8_t *)in->p;
    size_t n = in->n, left = cap;
    BrotliDecoderResult rc = brotli.BrotliDecoderDecompressStream(d->brotli, &n, &from, &left, &to, NULL);
    *in = ht_slice_of(from, n);
    d->over = rc == BROTLI_DECODER_RESULT_SUCCESS;
    if (rc == BROTLI_DECODER_RESULT_ERROR) {
        BrotliDecoderErrorCode code = brotli.BrotliDecoderGetErrorCode(d->brotli);
        return code <= BROTLI_DECODER_ERROR_ALLOC_CONTEXT_MODES && code >= BROTLI_DECODER_ERROR_ALLOC_BLOCK_TYPE_TREES
                   ? HT_ENOMEM
                   : HT_EPROTO;
    }
    return (ssize_t)(cap - left);
}

static ssize_t zstd_step(struct inspect_decoder *d, struct ht_slice *in, uint8_t *to, size_t cap) {
    ZSTD_inBuffer from = {in->p, in->n, 0};
    ZSTD_outBuffer out = {to, cap, 0};
    size_t rc = zstd.ZSTD_decompressStream(d->zstd, &out, &from);
    *in = ht_slice_of(in->p + from.pos, in->n - from.pos);
    if (zstd.ZSTD_isError(rc))
        return HT_EPROTO;
    return (ssize_t)out.pos;
}

static ssize_t copy_step(struct ht_slice *in, uint8_t *to, size_t cap) {
    size_t n = ht_min(in->n, cap);
    memcpy(to, in->p, n);
    *in = ht_slice_of(in->p + n, in->n - n);
    return (ssize_t)n;
}

static ssize_t step(struct inspect_decoder *d, struct ht_slice *in, uint8_t *to, size_t cap) {
    switch (d->coding) {
    case GZIP:
    case DEFLATE:
    case RAW:
        return zlib_step(d, in, to, cap);
    case BROTLI:
        return brotli_step(d, in, to, cap);
    case ZSTD:
        return zstd_step(d, in, to, cap);
    default:
        return copy_step(in, to, cap);
    }
}

/* ---- pieces ---- */

/* Where decoded bytes go. */
struct sink {
    struct ht_buf *out;
    size_t keep; /* `out` holds at most so many */
    size_t max;  /* more than these must not come */
    uint64_t total;
};

/* Room for the next bytes: in `out`, or where they are lost. With no byte allowed, room for one tells whether there
 * would be more. NULL: out of memory. */
static uint8_t *room(struct sink *s, uint8_t lost[STEP], size_t *n) {
    size_t have = ht_buf_size(s->out);
    *n = have < s->keep ? ht_min(STEP, s->keep - have) : STEP;
    *n = ht_min(*n, ht_max(s->max, 1));
    return have < s->keep && s->max ? ht_buf_reserve(s->out, *n) : lost;
}

static int feed(struct inspect_decoder *d, struct ht_slice piece, struct sink *s) {
    uint8_t lost[STEP];
    bool full = true;
    while (!d->over && (piece.n || full)) {
        size_t want, before = piece.n;
        uint8_t *to = room(s, lost, &want);
        if (!to)
            return HT_ENOMEM;
        ssize_t n = step(d, &piece, to, want);
        if (n < 0)
            return (int)n;
        if (s->max == 0 && n > 0)
            return HT_ELIMIT;
        if (to != lost)
            ht_buf_commit(s->out, (size_t)n);
        s->max -= (size_t)n;
        s->total += (uint64_t)n;
        full = (size_t)n == want;
        if (n == 0 && piece.n == before)
            break;
    }
    return HT_OK;
}

/* The first two bytes say which deflate it is (RFC 1950 2.2). */
static int feed_deflate(struct inspect_decoder *d, struct ht_slice piece, struct sink *s) {
    while (!d->begun && piece.n && d->n_first < 2) {
        d->first[d->n_first++] = (uint8_t)*piece.p;
        piece = ht_slice_of(piece.p + 1, piece.n - 1);
    }
    if (!d->begun && d->n_first < 2)
        return HT_OK;
    if (!d->begun) {
        bool header = (d->first[0] & 0x0f) == Z_DEFLATED && (d->first[0] << 8 | d->first[1]) % 31 == 0;
        if (!header && zlib.inflateReset2(&d->z, -MAX_WBITS) != Z_OK)
            return HT_ENOMEM;
        d->begun = true;
        int rc = feed(d, ht_slice_of(d->first, 2), s);
        if (rc < 0)
            return rc;
    }
    return feed(d, piece, s);
}

int inspect_decoder_count(struct inspect_decoder *d, struct ht_slice piece, size_t keep, size_t max, struct ht_buf *out,
                          uint64_t *total) {
    struct sink s = {.out = out, .keep = keep, .max = max};
    if (piece.n == 0)
        return HT_OK;
    int rc = d->coding == DEFLATE ? feed_deflate(d, piece, &s) : feed(d, piece, &s);
    *total += s.total;
    d->took += piece.n;
    d->gave += s.total;
    return rc;
}

size_t inspect_decoder_allowance(const struct inspect_decoder *d, size_t n) {
    uint64_t all = INSPECT_DECODE_AHEAD + INSPECT_DECODE_RATIO * (d->took + n);
    return (size_t)(all - ht_min64(all, d->gave));
}

int inspect_decoder_feed(struct inspect_decoder *d, struct ht_slice piece, size_t max, struct ht_buf *out) {
    uint64_t total = 0;
    return inspect_decoder_count(d, piece, SIZE_MAX, max, out, &total);
}

/* ---- whole bodies ---- */

static struct ht_slice trim(struct ht_slice s) {
    for (; s.n && (s.p[0] == ' ' || s.p[0] == '\t'); s.n--)
        s.p++;
    while (s.n && (s.p[s.n - 1] == ' ' || s.p[s.n - 1] == '\t'))
        s.n--;
    return s;
}

/* Reads the list, which is in the order in which the codings were applied. Returns their number, or -1. */
static int read_list(struct ht_slice list, enum coding to[MAX_CODINGS]) {
    int n = 0;
    while (list.n) {
        const char *comma = memchr(list.p, ',', list.n);
        size_t len = comma ? (size_t)(comma - list.p) : list.n;
        struct ht_slice name = trim(ht_slice_of(list.p, len));
        list = ht_slice_of(list.p + len + (comma != NULL), list.n - len - (comma != NULL));
        if (name.n == 0)
            continue;
        enum coding c = coding_of(name);
        if (c == N_CODINGS || n == MAX_CODINGS || !is_there(c))
            return -1;
        to[n++] = c;
    }
    return n;
}

bool inspect_can_decode(struct ht_slice coding) {
    enum coding list[MAX_CODINGS];
    return read_list(coding, list) >= 0;
}

static int undo(enum coding coding, struct ht_slice body, size_t max, struct ht_buf *out) {
    struct inspect_decoder *d = create(coding);
    if (!d)
        return HT_ENOMEM;
    int rc = inspect_decoder_feed(d, body, max, out);
    inspect_decoder_destroy(&d);
    return rc == HT_ELIMIT ? HT_OK : rc;
}

int inspect_decode(struct ht_slice coding, struct ht_slice body, size_t max, struct ht_buf *out) {
    enum coding list[MAX_CODINGS];
    struct ht_buf between = {0};
    int n = read_list(coding, list), rc = HT_OK;
    if (n < 0)
        return HT_EINVAL;
    for (; rc == HT_OK && n > 1; n--) {
        struct ht_buf next = {0};
        rc = undo(list[n - 1], body, INSPECT_DECODE_BETWEEN, &next);
        ht_buf_free(&between);
        between = next;
        body = ht_buf_slice(&between);
    }
    if (rc == HT_OK)
        rc = undo(n ? list[0] : IDENTITY, body, max, out);
    ht_buf_free(&between);
    return rc;
}
